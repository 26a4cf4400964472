"""What warming gains, measured: a few members are never warmed, and all others are compared with those.

Which members are held back is drawn once, by a salted hash into buckets: a fixed share of the buckets is
never loaded ahead. Warmed and held-back buckets see the same traffic at the same time, so that the misses
of an average bucket of each kind differ by what warming does and by chance. The interval comes from the
spread between buckets, so that a few members that are missed often widen it as they should.

Source: a randomised trial by clusters, with the delta method on the ratio (`stats.means`).

Assumes that rows loaded ahead push nothing out that would have been wanted: both kinds share one capacity,
and would lose alike. Entries loaded ahead enter the probationary queue, and replays of long traces show the
claimed gain within three points of the true one (docs/explain/warming.md).

Rejected: holding back whole execution contexts (many programs have one; and the held-back ones live on what
the others loaded), counting used rows alone (assumes what is to be shown), times with and without
(traffic changes more than warming does).
"""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Final

from perfloop.stats.interval import RatioInterval
from perfloop.stats.means import MeanOf, ratio_of_means

_BUCKETS: Final = 400
_NORMAL_CONFIDENCE: Final = 0.97
"""What the normal interval is made at to hold 95 % where 20 buckets are held back, with misses as skewed as
those of web07, web12 and nasa; at 0.95 it held 92.5 to 93.5 %."""
LEAST_HELD_MISSES: Final = 50
"""Of members that are held back, before anything is said about them."""


class HeldBack:
    """The members that are never warmed, and the misses of all, by bucket."""

    def __init__(self, held_ratio: float, salt: int) -> None:
        self._held_buckets = round(held_ratio * _BUCKETS)
        self._salt = salt
        self._misses = [0] * _BUCKETS

    def holds(self, member: Hashable) -> bool:
        """Whether this member is never to be warmed."""
        return self._bucket(member) < self._held_buckets

    def missed(self, member: Hashable) -> None:
        """Count a miss, while bundles are loaded."""
        self._misses[self._bucket(member)] += 1

    def misses_ratio(self) -> RatioInterval | None:
        """Misses with warming over misses without; None while there are too few to say."""
        held, warmed = self._misses[: self._held_buckets], self._misses[self._held_buckets :]
        if sum(held) < LEAST_HELD_MISSES or not any(warmed):
            return None
        found = ratio_of_means(_mean_of(held), _mean_of(warmed), confidence=_NORMAL_CONFIDENCE)
        return replace(found, confidence=0.95)

    def warmed_misses(self) -> int:
        """Misses of the members that may be warmed."""
        return sum(self._misses[self._held_buckets :])

    def held_misses(self) -> int:
        """Misses of those that never are."""
        return sum(self._misses[: self._held_buckets])

    @property
    def held_ratio(self) -> float:
        """The share of all members that is held back, to a whole bucket."""
        return self._held_buckets / _BUCKETS

    def _bucket(self, member: Hashable) -> int:
        return hash((self._salt, member)) % _BUCKETS


def _mean_of(counts: Sequence[int]) -> MeanOf:
    return MeanOf(mean=statistics.fmean(counts), deviation=statistics.stdev(counts), count=len(counts))
