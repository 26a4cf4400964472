"""What a worker held at least: its memory without the peaks of single requests."""

from __future__ import annotations

from collections.abc import Iterable

from perfloop.model.value import Value, require

FLOOR_S = 300.0
"""Length of the time over which a floor is taken."""


class MemorySample(Value, frozen=True, kw_only=True):
    """One worker's memory at one moment."""

    at_s: float
    """Since the worker was started."""
    in_use_bytes: int
    """What the program holds: by malloc and by Python's own allocator, without what they keep free."""
    rss_bytes: int
    requests: int = 0
    """Done since the worker was started."""
    free_bytes: int = 0
    """Resident, and kept by malloc for later: fragmentation, where it is much."""
    descriptors: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        require(self.at_s >= 0, "at_s: not before the worker's start")


class Floor(Value, frozen=True, kw_only=True):
    """The least that a worker held during five minutes, and how busy it was in them."""

    at_s: float
    """The middle of the time, since the worker was started."""
    in_use_bytes: int
    requests_per_s: float


def floors(samples: Iterable[MemorySample], *, floor_s: float = FLOOR_S) -> list[Floor]:
    """The floors of one worker's samples, in the order of time; a time that has not ended gives none.

    Spikes of single requests and short caches are gone from a minimum, whereas a leak lifts it.
    """
    found: list[Floor] = []
    group: list[MemorySample] = []
    for sample in samples:
        if group and int(sample.at_s // floor_s) != int(group[0].at_s // floor_s):
            found.append(_floor(group, sample, floor_s))
            group = []
        group.append(sample)
    return found


def _floor(group: list[MemorySample], after: MemorySample, floor_s: float) -> Floor:
    first = group[0]
    return Floor(
        at_s=(first.at_s // floor_s + 0.5) * floor_s,
        in_use_bytes=min(each.in_use_bytes for each in group),
        requests_per_s=(after.requests - first.requests) / (after.at_s - first.at_s),
    )
