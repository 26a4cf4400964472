"""Named SQL blocks: a file is split at its `-- name:` lines."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def blocks(file_name: str) -> dict[str, str]:
    """The blocks of one of feedshop's .sql files by name, in the order of the file."""
    parts = _NAME.split((HERE / file_name).read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], (body.strip() for body in parts[2::2]), strict=True))
