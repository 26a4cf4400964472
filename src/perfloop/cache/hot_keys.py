"""The keys with the most hits, in bounded memory. Pure.

Source: Anderson, Bevin, Lang, Liberty, Rhodes, Thaler, "A High-Performance Algorithm for Identifying Frequent
Items in Data Streams", IMC 2017: counters as in Misra and Gries (1982), of which, when they are full, all are
lowered by their median and half go, so that a step costs the same on average however many there are. What was
taken off is kept: a key's true weight lies between its counter and its counter with that, which is at most
2 / SIZE of the stream. The stream is a sample of the hits, each sample standing for the hits since the one
before, so that chance of the sample comes on top.

Rejected: Space-Saving (Metwally, Agrawal, El Abbadi, ICDT 2005), which looks for the least counter at each
new key; a count-min sketch, which needs a heap of candidates beside it.
"""

from __future__ import annotations

from statistics import median_high
from typing import Final, NamedTuple

SIZE: Final = 512
MIN_SAMPLES: Final = 10
"""Of a key that is told: chance may then be off by a third."""


class Heavy(NamedTuple):
    """A key with at least `weight - excess` and at most `weight`, as far as the sample goes."""

    key: str
    group: str
    weight: int
    excess: int
    samples: int


class _Counter:
    __slots__ = ("group", "samples", "weight")

    def __init__(self, group: str) -> None:
        self.group = group
        self.weight = self.samples = 0


class HotKeys:
    """The counters; a key that is asked for by more than 2 / SIZE of the stream has one."""

    def __init__(self) -> None:
        self._counters: dict[str, _Counter] = {}
        self._taken = 0

    def add(self, key: str, group: str, weight: int) -> None:
        """One sample of a key, and what it stands for."""
        counter = self._counters.get(key)
        if counter is None:
            if len(self._counters) >= SIZE:
                self._lower()
            counter = self._counters[key] = _Counter(group)
        counter.weight += weight
        counter.samples += 1

    def heaviest(self, most: int) -> list[Heavy]:
        """Those of which it is sure, the heaviest first."""
        sure = [
            Heavy(key, each.group, each.weight + self._taken, self._taken, each.samples)
            for key, each in self._counters.items()
            if each.weight > self._taken and each.samples >= MIN_SAMPLES
        ]
        return sorted(sure, key=lambda heavy: heavy.weight, reverse=True)[:most]

    def _lower(self) -> None:
        taken = median_high(counter.weight for counter in self._counters.values())
        self._taken += taken
        self._counters = {key: each for key, each in self._counters.items() if each.weight > taken}
        for counter in self._counters.values():
            counter.weight -= taken
