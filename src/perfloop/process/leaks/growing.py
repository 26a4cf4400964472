"""Which lines of a program, and which counts, grew steadily while it was looked at a few times.

A line that allocates much is no leak, nor is one that has allocated once more than before: a leak is larger
at nearly each look than at the one before, and grows as much in the later half as in the earlier one. A
cache that is being filled looks the same until it is full: an answer holds for the time that was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from msgspec import structs

from perfloop.model.value import Value

MIN_LOOKS: Final = 4


class GrowthPolicy(Value, frozen=True, kw_only=True):
    """When it is called growth."""

    min_bytes_per_s: float = 1000.0
    min_bytes: int = 16_384
    """Of one line, grown over all looks."""
    min_total_bytes: int = 131_072
    """Of the whole process."""
    min_count_per_s: float = 0.05
    """Of descriptors and threads."""
    min_count: int = 5
    min_net_ratio: float = 0.8
    """What was grown, as a share of all that went up and down between the looks."""
    min_later_ratio: float = 0.5
    """What grew in the later half is above this share of what grew in the earlier one."""


class Held(Value, frozen=True, kw_only=True):
    """What one line's allocations hold."""

    size_bytes: int
    objects: int


class Place(Value, frozen=True, kw_only=True, order=True):
    """A line of a program."""

    file: str
    line: int


class Look(Value, frozen=True, kw_only=True):
    """All lines at one moment."""

    at_s: float
    lines: Mapping[Place, Held]


class GrowingLine(Value, frozen=True, kw_only=True):
    """A line whose allocations are not given back."""

    place: Place
    bytes_per_s: float
    grown_bytes: int
    grown_objects: int
    called_from: Place | None = None
    """The nearest line of the program's own, where the place is in a library."""
    source: str = ""
    """The text of the program's own line."""


def growing_lines(looks: Sequence[Look], policy: GrowthPolicy) -> list[GrowingLine]:
    """The lines that grew, the fastest first."""
    if len(looks) < MIN_LOOKS:
        return []
    times = [each.at_s for each in looks]
    found = []
    for place, last in looks[-1].lines.items():
        first = looks[0].lines.get(place, _NOTHING)
        grown = last.size_bytes - first.size_bytes
        if grown < policy.min_bytes:
            continue
        rate = grown / (times[-1] - times[0])
        if rate >= policy.min_bytes_per_s and _is_steady(place, looks, times, policy):
            found.append(
                GrowingLine(
                    place=place,
                    bytes_per_s=rate,
                    grown_bytes=grown,
                    grown_objects=last.objects - first.objects,
                )
            )
    return sorted(found, key=lambda each: (-each.bytes_per_s, each.place))


def _is_steady(place: Place, looks: Sequence[Look], times: Sequence[float], policy: GrowthPolicy) -> bool:
    """By size, or by number: a list that several lines fill is always the last one's that made it larger."""
    held = [each.lines.get(place, _NOTHING) for each in looks]
    by_size = steady_rate(times, [each.size_bytes for each in held], policy)
    return by_size is not None or steady_rate(times, [each.objects for each in held], policy) is not None


def merged(lines: Sequence[GrowingLine]) -> list[GrowingLine]:
    """One for each of the program's own lines, whatever libraries allocate for it; the fastest first."""
    by_line: dict[Place, GrowingLine] = {}
    for each in lines:
        own = each.called_from or each.place
        seen = by_line.get(own)
        by_line[own] = each if seen is None else _sum(seen, each)
    return sorted(by_line.values(), key=lambda each: (-each.bytes_per_s, each.place))


def _sum(larger: GrowingLine, other: GrowingLine) -> GrowingLine:
    return structs.replace(
        larger,
        bytes_per_s=larger.bytes_per_s + other.bytes_per_s,
        grown_bytes=larger.grown_bytes + other.grown_bytes,
        grown_objects=larger.grown_objects + other.grown_objects,
    )


def growing_count(times: Sequence[float], counts: Sequence[int], policy: GrowthPolicy) -> float | None:
    """How many more a second there are; None where they do not grow steadily."""
    if len(counts) < MIN_LOOKS or counts[-1] - counts[0] < policy.min_count:
        return None
    rate = steady_rate(times, counts, policy)
    return rate if rate is not None and rate >= policy.min_count_per_s else None


def growing_bytes(times: Sequence[float], sizes: Sequence[int], policy: GrowthPolicy) -> float | None:
    """How many bytes a second more are held; None where that does not grow steadily."""
    if len(sizes) < MIN_LOOKS or sizes[-1] - sizes[0] < policy.min_total_bytes:
        return None
    rate = steady_rate(times, sizes, policy)
    return rate if rate is not None and rate >= policy.min_bytes_per_s else None


def steady_rate(times: Sequence[float], sizes: Sequence[int], policy: GrowthPolicy) -> float | None:
    """The growth a second, where little goes down again and the later half goes on as the earlier one."""
    moved = sum(abs(after - before) for before, after in pairwise(sizes))
    if sizes[-1] - sizes[0] < policy.min_net_ratio * moved:
        return None
    half = len(sizes) // 2
    earlier = (sizes[half] - sizes[0]) / (times[half] - times[0])
    later = (sizes[-1] - sizes[half]) / (times[-1] - times[half])
    if later <= policy.min_later_ratio * earlier:
        return None
    return (sizes[-1] - sizes[0]) / (times[-1] - times[0])


_NOTHING: Final = Held(size_bytes=0, objects=0)
