"""Which keys to load first after a restart: those that were kept and asked for lately.

Once a minute the keys that the memory tier holds are looked at. A key gains one point for being held, which
S3-FIFO grants to what is asked for, and one for each visit on its counter; points fade with a half-life that
is counted in requests. Nothing is counted on a hit. Keys that expired lately keep their points for a while,
so that a short time to live does not empty the list.

Assumes that the next hour is like the last. Replayed in docs/explain/warming.md: the points regain at least
as much as frequencies that count every request. Rejected: recency (a scan before the restart fills the
list), a half-life below a few capacities (quiet keys of a busy day fade).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

from perfloop.cache.s3fifo import SMALL_RATIO
from perfloop.errors import InvalidValue

_FORGOTTEN_BELOW: Final = 0.05
_ROOM_RATIO: Final = 1.25
"""The list may grow by this before it is cut to its bound, so that cutting is rare."""


class KeyRanks:
    """Points of keys that fade; bounded by `max_keys`. Not safe for threads.

    The unit of points grows instead of all points shrinking: one number changes where requests pass.
    """

    def __init__(self, *, max_keys: int) -> None:
        if max_keys < 1:
            raise InvalidValue(f"max_keys is {max_keys}; it is at least 1")
        self._max_keys = max_keys
        self._points: dict[str, float] = {}
        self._unit = 1.0

    def __len__(self) -> int:
        return len(self._points)

    def fade(self, half_lives: float) -> None:
        """Let points fade by so many half-lives; before the keys of the next look are added."""
        self._unit *= 2.0 ** min(half_lives, 500.0)
        if self._unit > 2.0**400:
            self._points = {key: points / self._unit for key, points in self._points.items()}
            self._unit = 1.0
        self._cut()

    def resume(self, listed: Iterable[tuple[str, float]]) -> None:
        """Go on from the points of an earlier process: another restart soon after forgets nothing."""
        for key, points in listed:
            self._points[key] = self._points.get(key, 0.0) + points * self._unit

    def add(self, held: Iterable[tuple[str, int]]) -> None:
        """Keys that are held now, with their visits; may be called in parts."""
        points, unit = self._points, self._unit
        for key, visits in held:
            points[key] = points.get(key, 0.0) + unit * (1 + visits)

    def ranked(self) -> list[tuple[str, float]]:
        """The keys with most points first, at most `max_keys`."""
        best = heapq.nlargest(self._max_keys, self._points.items(), key=lambda item: item[1])
        return [(key, points / self._unit) for key, points in best]

    def _cut(self) -> None:
        if len(self._points) <= self._max_keys * _ROOM_RATIO:
            return
        forgotten = _FORGOTTEN_BELOW * self._unit
        best = heapq.nlargest(self._max_keys, self._points.items(), key=lambda item: item[1])
        self._points = {key: points for key, points in best if points >= forgotten}


def load_order(ranked: list[str], capacity: int) -> list[str]:
    """The order in which to load ranked keys into an empty tier of that capacity.

    The first tenth to come ends in S3-FIFO's probationary queue: the least of the keys, then the best first.
    """
    chosen = ranked[:capacity]
    probationers = max(1, int(capacity * SMALL_RATIO)) if len(chosen) > 1 else 0
    return chosen[len(chosen) - probationers :] + chosen[: len(chosen) - probationers]
