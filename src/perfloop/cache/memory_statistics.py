"""What the tier in the process tells of itself."""

from __future__ import annotations

from typing import Final

from perfloop.cache.entry import Entry, entry_bytes
from perfloop.cache.object_size import object_bytes
from perfloop.model.value import Value

MEASURED_ENTRIES: Final = 100
"""Where entries bound the tier, the statistics measure so many of them and take the others to be alike."""


class MemoryStatistics(Value, frozen=True, kw_only=True):
    """What one tier did since it was made, and what it holds."""

    hits: int
    misses: int
    stale: int
    """Found past its life or unchecked: neither a hit nor a miss."""
    evictions: int
    expirations: int
    invalidated: int
    """Entries that went because their key or a tag of them was invalidated."""
    refused: int
    """Stores that an invalidation during the load overtook."""
    too_large: int
    """Stores of a value that is larger than the whole tier."""
    entries: int
    size_bytes: int
    """Of the entries with their keys, tags and ghosts; from a sample where entries bound the tier."""
    tags: int
    ghosts: int
    flights: int


def estimated_bytes(entries: list[Entry]) -> int:
    """Of all entries, from the sizes of some that stand apart."""
    if not entries:
        return 0
    sample = entries[:: max(1, len(entries) // MEASURED_ENTRIES)]
    sizes = [entry_bytes(entry.key, object_bytes(entry.value), entry.tags) for entry in sample]
    return sum(sizes) * len(entries) // len(sizes)
