"""How the readers of job queues look at a Redis that may hold millions of other keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

SCAN_COUNT = 1000
MOST_SCANS = 200
"""Calls of SCAN for one pattern: each looks at SCAN_COUNT keys and stops the server for less than a ms."""


def matching_keys(client: Any, pattern: str) -> tuple[list[str], bool]:
    """The keys that match, sorted, and whether all keys were looked at."""
    found: set[str] = set()
    cursor = 0
    for _ in range(MOST_SCANS):
        cursor, keys = client.scan(cursor, match=pattern, count=SCAN_COUNT)
        found.update(map(text_of, keys))
        if cursor == 0:
            break
    return sorted(found), cursor == 0


def text_of(name: bytes) -> str:
    """A name as people read it."""
    return name.decode("utf-8", "replace")


def unix_s(written: bytes | str | None) -> float | None:
    """A time in ISO 8601 as Unix time; None where there is none."""
    if not written:
        return None
    try:
        return datetime.fromisoformat(written if isinstance(written, str) else written.decode()).timestamp()
    except ValueError:
        return None


def document(message: bytes | None) -> Mapping[str, Any]:
    """A message's JSON; empty where it is gone, or of another encoding."""
    try:
        decoded = json.loads(message) if message else {}
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}
