"""Reads the named blocks of a .sql file and marks them as perfloop's own.

A block starts with `-- name: read_settings`, followed by a comment on its purpose. The
mark goes behind the first word of the statement: pg_stat_statements 1.12 cuts comments
off the front, and keeps those inside.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

MARK = "/* perfloop */"
"""Stands in every statement of our own, so that perfloop never counts itself as workload."""

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_FIRST_WORD = re.compile(r"^(\w+)")


@cache
def read_blocks(package: str, file_name: str) -> dict[str, str]:
    """The blocks of a .sql file next to the modules of `package`, by name, with the mark set."""
    _, *parts = _NAME.split(resources.files(package).joinpath(file_name).read_text(encoding="utf-8"))
    return {name: _marked(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _marked(body: str) -> str:
    lines = [line for line in body.strip().splitlines() if not line.startswith("--")]
    return _FIRST_WORD.sub(rf"\1 {MARK}", "\n".join(lines).rstrip("; \n"), count=1)
