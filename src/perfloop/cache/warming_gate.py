"""Whether the bundles of one template pay, decided from what became of them.

Each row that came in a bundle ends as used, wasted (dropped before anybody asked for it) or late (asked for
while it was on its way). The gate closes when

- the lower bound of Wilson's interval of used among all is below what pays, after `min_outcomes`: half,
  or more where a further row costs the loader more than a call of its own saves;
- wasted rows have used up what is allowed for them, a share of the rows that would have been loaded without
  bundles, after an advance of `min_outcomes` to learn by. This holds for probing, too.

A closed gate still lets a small share of the misses through, so that it can open again. Outcomes fade: they
are halved when twice `min_outcomes` of them are counted, so that the gate follows the present.

Wilson's interval (1927) holds at few outcomes and near 0 and 1, where the normal one does not. It takes
outcomes as independent; those of one bundle are not, so that it is a rule of thumb with a fixed error in
one direction: the lower bound asks for more than half.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from perfloop.model.value import Value, require

_Z_95: Final = 1.6448536269514722
"""One-sided 95 %."""
_JUDGED_EVERY: Final = 16
"""Outcomes between two judgements, which cost more than all else in the gate."""


class GatePolicy(Value, frozen=True, kw_only=True):
    """When bundles are held back; ratios lie between 0 and 1."""

    min_precision_ratio: float = 0.5
    min_outcomes: int = 200
    probe_ratio: float = 0.02
    max_extra_ratio: float = 0.15

    def __post_init__(self) -> None:
        for name in ("min_precision_ratio", "probe_ratio", "max_extra_ratio"):
            ratio = getattr(self, name)
            require(0 <= ratio <= 1, f"{name} is {ratio}; it lies between 0 and 1")
        require(self.min_outcomes >= 1, f"min_outcomes is {self.min_outcomes}; it is at least 1")


class Gate:
    """The gate of one template; `draw` yields numbers from 0 up to 1."""

    def __init__(self, policy: GatePolicy, draw: Callable[[], float]) -> None:
        self._policy = policy
        self._draw = draw
        self._used = 0.0
        self._unused = 0.0
        self._unjudged = 0
        self._allowed = float(policy.min_outcomes)
        self._precise = True

    @property
    def is_open(self) -> bool:
        """Whether bundles are loaded, beyond probing."""
        return self._precise and self._allowed > 0

    def lets_through(self) -> bool:
        """Whether the bundle of this miss is to be loaded."""
        return self._allowed > 0 and (self._precise or self._draw() < self._policy.probe_ratio)

    def needed(self) -> None:
        """A row was missed."""
        self._allow()

    def used(self) -> None:
        """A row of a bundle was asked for in time."""
        self._used += 1
        self._unjudged += 1
        self._allow()

    def wasted(self) -> None:
        """A row of a bundle was dropped before anybody asked for it."""
        self._unused += 1
        self._unjudged += 1
        self._allowed -= 1

    def late(self) -> None:
        """A row of a bundle was asked for while it was on its way: it saved little."""
        self._unused += 1
        self._unjudged += 1

    @property
    def is_due(self) -> bool:
        """Whether enough has come in to `decide` again."""
        return self._unjudged >= _JUDGED_EVERY

    def decide(self, break_even_ratio: float) -> None:
        """Judge the precision of the outcomes so far.

        `break_even_ratio` is the share of a bundle's rows that has to be used for the loader's time to come
        out even.
        """
        self._unjudged = 0
        outcomes = self._used + self._unused
        if outcomes < self._policy.min_outcomes:
            return
        least = max(self._policy.min_precision_ratio, break_even_ratio)
        self._precise = wilson_lower_bound(self._used, outcomes) >= least
        if outcomes >= 2 * self._policy.min_outcomes:
            self._used /= 2
            self._unused /= 2

    def _allow(self) -> None:
        self._allowed = min(self._allowed + self._policy.max_extra_ratio, self._policy.min_outcomes)


def wilson_lower_bound(successes: float, trials: float, z: float = _Z_95) -> float:
    """The lower end of Wilson's score interval of a share; 0 for no trials."""
    if trials <= 0:
        return 0.0
    share, squared = successes / trials, z * z
    middle = share + squared / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + squared / (4 * trials * trials))
    return max(0.0, (middle - reach) / (1 + squared / trials))
