"""What was found out about a program's memory in the time that it was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from perfloop.model.value import Value
from perfloop.process.leaks.floors import MemorySample
from perfloop.process.leaks.growing import (
    MIN_LOOKS,
    GrowingLine,
    GrowthPolicy,
    Look,
    growing_bytes,
    growing_count,
    growing_lines,
)

FLOORS: Final = 12
"""Into so many parts a time is cut, of each of which the least counts."""


class Examination(Value, frozen=True, kw_only=True):
    """The answer of `perfloop leaks`."""

    took_s: float
    """Without the tracing."""
    is_whole: bool = True
    """Whether the program ran until the end of the time; else it is too little to tell."""
    is_outside: bool = False
    """Whether the process was only seen from outside: its private pages stand for what is in use."""
    in_use_bytes: int
    """At the end of that."""
    rss_bytes: int
    free_bytes: int
    """Kept by malloc: fragmentation, where it is much. It is no leak."""
    bytes_per_s: float | None
    """At which what is in use grows steadily; None where it does not."""
    traced_s: float = 0.0
    lines: tuple[GrowingLine, ...] = ()
    """What grew while it was traced, which makes a program slower; the fastest first."""
    collected_bytes: int = 0
    """What a collection of garbage gave back at the end."""
    is_native: bool = False
    """Whether the growth is of no line: a library allocates it by itself, past Python."""
    descriptors: int = 0
    descriptors_per_s: float | None = None
    threads: int = 0
    threads_per_s: float | None = None

    @property
    def grows(self) -> bool:
        """Whether anything does."""
        rates = (self.bytes_per_s, self.descriptors_per_s, self.threads_per_s)
        return any(each is not None for each in rates)

    def full_in_s(self, limit_bytes: int) -> float | None:
        """Until so much is in use, if it goes on like this."""
        if self.bytes_per_s is None:
            return None
        return max(0.0, (limit_bytes - self.in_use_bytes) / self.bytes_per_s)


def watched(samples: Sequence[MemorySample], policy: GrowthPolicy) -> Examination:
    """What the samples of one process show, before any line is named; one sample at least."""
    times = [each.at_s for each in samples]
    last = samples[-1]
    return Examination(
        took_s=last.at_s - samples[0].at_s,
        is_whole=len(samples) >= FLOORS,
        in_use_bytes=last.in_use_bytes,
        rss_bytes=last.rss_bytes,
        free_bytes=last.free_bytes,
        bytes_per_s=growing_bytes(times, [each.in_use_bytes for each in samples], policy),
        descriptors=last.descriptors,
        descriptors_per_s=growing_count(times, [each.descriptors for each in samples], policy),
        threads=last.threads,
        threads_per_s=growing_count(times, [each.threads for each in samples], policy),
    )


def traced(found: Examination, looks: Sequence[Look], policy: GrowthPolicy) -> Examination:
    """The same with the lines that grew meanwhile.

    Only for a process that grows: where a full cache exchanges what it holds, tracing that began later sees
    the new and not the old, and would take the cache's line for a leak.
    """
    are_counts = found.descriptors_per_s is not None or found.threads_per_s is not None
    lines = growing_lines(looks, _SMALL if are_counts else policy)
    return structs.replace(
        found,
        traced_s=looks[-1].at_s - looks[0].at_s,
        lines=tuple(lines),
        is_native=len(looks) >= MIN_LOOKS and not lines and _is_untraced(found, looks),
    )


def _is_untraced(found: Examination, looks: Sequence[Look]) -> bool:
    """Whether all lines together grew by less than even a program that tracing makes slow would."""
    first, last = (sum(held.size_bytes for held in look.lines.values()) for look in (looks[0], looks[-1]))
    expected = (found.bytes_per_s or 0.0) * (looks[-1].at_s - looks[0].at_s)
    return last - first < _SLOWED_RATIO * expected


_SLOWED_RATIO: Final = 0.1
_SMALL: Final = GrowthPolicy(min_bytes_per_s=20.0, min_bytes=500)
"""The objects behind a descriptor or a thread are small."""
