"""One limit against another, by visits in turn, so that what befalls both is not put down to either.

A host that stalls, or a sink that is slow for a second, changes all limits alike. Seen from one visit to the
next it looks like a gain in one order and like a loss in the other: only what shows in both orders counts.
"""

from __future__ import annotations

from typing import Final

from perfloop.control.bracket import KNEE, STRAIGHT
from perfloop.control.estimate import Estimate, elasticity, elasticity_error
from perfloop.control.window import Window

LEAST_WINDOWS: Final = 3
"""Of a visit before anything is made of it: the least of which one that stalled can be left out."""
LEAST_PLAIN: Final = 2
"""The same where the gain is such as no stall looks like."""
LONGEST_VISIT: Final = 6
"""Windows after which the other limit has its turn at the latest."""
LONGEST_TRIAL: Final = 30
"""Windows after which it is decided all the same, by whichever is likelier."""
SURE: Final = 2.5
"""Standard errors that lie between an elasticity and the knee before the matter is decided early."""
INDIFFERENT: Final = 0.12
"""Error of the elasticity at which it is decided all the same: so near to the knee either will do."""
REVISIT: Final = 0.7
"""A limit is visited until its error is this share of the other's; then the other has its turn."""
LIKELY: Final = 1.3
"""More than this for each per cent of calls no sink gives: what it was held against had stalled."""


class Trial:
    """`limit` on trial against the one of `anchor`, from whose last visit it begins."""

    __slots__ = ("_spent", "_visits", "anchor_limit", "limit")

    def __init__(self, anchor: Estimate, limit: int) -> None:
        self.anchor_limit = anchor.limit
        self.limit = limit
        self._visits = [anchor, Estimate(limit)]
        self._spent = 0

    def begin_anew(self) -> None:
        """Something else was moved: what was seen holds no longer. The visit goes on."""
        self._visits = [Estimate(self._visits[-1].limit)]

    def change_over(self) -> int:
        """Visit the other limit, which is returned."""
        self._visits.append(Estimate(self._other_limit()))
        return self._visits[-1].limit

    def add(self, window: Window) -> None:
        """Take a telling Window of the limit that is visited."""
        self._visits[-1].add(window)
        self._spent += 1

    def last_visit(self, limit: int) -> Estimate:
        """What is known of a limit from its last visit."""
        return next(visit for visit in reversed(self._visits) if visit.limit == limit)

    def decide(self) -> float | None:
        """The elasticity between the two limits; None while its side of the knee is not sure."""
        gain = self._sure_gain(LEAST_PLAIN)
        if gain is not None and self._is_plain(gain):
            return gain
        gain = self._sure_gain(LEAST_WINDOWS)
        if gain is None or self._spent >= LONGEST_TRIAL:
            return gain
        sides = [elasticity(one, other) >= KNEE for one, other in self._pairs()[-2:]]
        return gain if sides == [gain >= KNEE] * 2 else None

    def is_visit_over(self) -> bool:
        """Whether the other limit is to be visited before anything is decided."""
        current = self._visits[-1]
        if len(current) < LEAST_WINDOWS:
            return False
        if len(current) >= LONGEST_VISIT or self._sure_gain(LEAST_WINDOWS) is not None:
            return True
        return current.error <= REVISIT * self._all_of(self._other_limit()).error

    def change(self) -> float:
        """By what the logarithm of the rate on trial lies above that of the anchor."""
        return self._all_of(self.limit).value - self._all_of(self.anchor_limit).value

    def _other_limit(self) -> int:
        return self.anchor_limit if self._visits[-1].limit == self.limit else self.limit

    def _sure_gain(self, windows: int) -> float | None:
        one, other = self._all_of(self.limit), self._all_of(self.anchor_limit)
        if min(len(one), len(other), len(self._visits[-1])) < windows:
            return None
        gain, error = elasticity(one, other), elasticity_error(one, other)
        is_sure = abs(gain - KNEE) >= SURE * error or error <= INDIFFERENT
        return gain if is_sure or self._spent >= LONGEST_TRIAL else None

    def _is_plain(self, gain: float) -> bool:
        """Below the knee, where every sink gives what calls are added: no stall looks like it."""
        return self.limit > self.anchor_limit and STRAIGHT <= gain <= LIKELY

    def _pairs(self) -> list[tuple[Estimate, Estimate]]:
        return [pair for pair in zip(self._visits, self._visits[1:], strict=False) if min(map(len, pair))]

    def _all_of(self, limit: int) -> Estimate:
        total = Estimate(limit)
        for visit in self._visits:
            if visit.limit == limit:
                total = total.joined(visit)
        return total
