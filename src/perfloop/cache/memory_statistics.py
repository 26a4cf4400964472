"""What the tier in the process tells of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from perfloop.cache.entry import Entry, entry_bytes
from perfloop.cache.object_size import object_bytes
from perfloop.cache.policy import Freshness
from perfloop.cache.shelf import Shelf
from perfloop.cache.tallies import Tallies
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


def count(tallies: Tallies, key: str, freshness: Freshness, entry: Entry | None) -> None:
    """Count one request by what was found for it."""
    if entry is None:
        tallies.of(key).misses.inc()
    elif freshness is Freshness.FRESH or freshness is Freshness.DUE:
        for _ in entry.tally.hits:
            break
        else:
            tallies.sampled(entry)
    else:
        entry.tally.stale.inc()


def memory_statistics(shelf: Shelf, *, refused: int, flights: int) -> MemoryStatistics:
    """What was counted, with what the shelf holds now."""
    entries = list(shelf.queues.nodes.values())
    tallies = list(shelf.tallies.every())
    return MemoryStatistics(
        hits=sum(tally.hit_count for tally in tallies),
        misses=int(sum(tally.misses.value for tally in tallies)),
        stale=int(sum(tally.stale.value for tally in tallies)),
        evictions=sum(tally.evictions for tally in tallies),
        expirations=sum(tally.expirations for tally in tallies),
        invalidated=sum(tally.invalidated for tally in tallies),
        refused=refused,
        too_large=shelf.too_large,
        entries=len(entries),
        size_bytes=shelf.queues.cost if shelf.by_bytes else _estimated_bytes(entries),
        tags=len(shelf.cells),
        ghosts=shelf.queues.ghosts,
        flights=flights,
    )


def _estimated_bytes(entries: Sequence[Entry]) -> int:
    if not entries:
        return 0
    sample = entries[:: max(1, len(entries) // MEASURED_ENTRIES)]
    sizes = [entry_bytes(entry.key, object_bytes(entry.value), entry.tags) for entry in sample]
    return sum(sizes) * len(entries) // len(sizes)
