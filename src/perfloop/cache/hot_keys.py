"""The keys with the most hits, in bounded memory. Pure.

Source: Metwally, Agrawal, El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams",
ICDT 2005 (Space-Saving), with weights. Of a stream of weight N, with m counters, a key's count is too high by
at most N / m, never too low, and each key with more than N / m is held. The stream is a sample of the hits,
each sample standing for the hits since the one before, so that chance of the sample comes on top.

Rejected: a count-min sketch, which needs a heap of candidates beside it, and decides nothing better here.
"""

from __future__ import annotations

from typing import NamedTuple


class Heavy(NamedTuple):
    """A key that is held. `weight - excess` is the least that it can have."""

    key: str
    group: str
    weight: int
    excess: int
    samples: int


class HotKeys:
    """Holds `size` counters, more than will be asked for: N / size is what they may be wrong by."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: dict[str, Heavy] = {}

    def add(self, key: str, group: str, weight: int) -> None:
        """One sample of a key, and what it stands for."""
        held = self._held.get(key)
        if held is not None:
            self._held[key] = held._replace(weight=held.weight + weight, samples=held.samples + 1)
            return
        excess = 0
        if len(self._held) >= self._size:
            least = min(self._held.values(), key=_weight)
            del self._held[least.key]
            excess = least.weight
        self._held[key] = Heavy(key, group, excess + weight, excess, 1)

    def heaviest(self, most: int) -> list[Heavy]:
        """Those that surely have more than chance gave them, the heaviest first."""
        known = [held for held in self._held.values() if held.weight - held.excess > held.excess]
        return sorted(known, key=_weight, reverse=True)[:most]


def _weight(held: Heavy) -> int:
    return held.weight
