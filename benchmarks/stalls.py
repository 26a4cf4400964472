"""Moments in which nothing runs: what a loaded host does to a process, all its calls at once.

Two kinds, drawn from a seed. *Rare* stalls come every two seconds on average and last 50 to 500 ms, as when a
virtual machine is taken off its processor. *Crowded* ones come 30 ms after the last and take 20 to 150 ms, as
where others want the processors all the time: seven tenths of it nothing runs.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Final

import numpy as np

KINDS: Final = {"rare": (2.0, 0.05, 0.5), "crowded": (0.03, 0.02, 0.15)}
"""Seconds to the next stall on average, of the shortest, and of the longest."""


class Stalls:
    """When the process is stopped, in seconds of the clock on the wall."""

    def __init__(self, kind: str, seed: int, length_s: float) -> None:
        random = np.random.default_rng(1_000_000 + seed)
        gap_s, shortest_s, longest_s = KINDS[kind]
        self._begins_s: list[float] = []
        self._ends_s: list[float] = []
        now_s = 0.0
        while now_s < length_s:
            begin_s = now_s + random.exponential(gap_s)
            now_s = begin_s + math.exp(random.uniform(math.log(shortest_s), math.log(longest_s)))
            self._begins_s.append(begin_s)
            self._ends_s.append(now_s)

    def resumed_s(self, at_s: float) -> float:
        """When what falls due at `at_s` takes place: then, or once the process runs again."""
        last = bisect_right(self._begins_s, at_s) - 1
        return max(at_s, self._ends_s[last]) if last >= 0 else at_s

    def ended_s(self, begun_at_s: float, taken_s: float) -> float:
        """When something ends that begins at `begun_at_s` and takes `taken_s` of running."""
        ended_s = begun_at_s + taken_s
        position = bisect_right(self._begins_s, begun_at_s)
        while position < len(self._begins_s) and self._begins_s[position] < ended_s:
            ended_s += self._ends_s[position] - self._begins_s[position]
            position += 1
        return ended_s
