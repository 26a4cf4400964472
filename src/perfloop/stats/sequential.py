"""The group-sequential paired test that decides whether a treatment is cheaper than its control.

The unit is the pair: one short slot of each arm, side by side in time, in an order drawn by a fair coin.
Its value is the log ratio ln(control) - ln(treatment), positive where the treatment is cheaper. After 10,
14, 20, 28 and 40 pairs the exact signed-rank bounds are looked at:

- keep, when the lower bound is above zero and the estimate reaches the smallest effect that is worth
  keeping;
- drop, when the upper bound is below that smallest effect (stopping for futility);
- else go on, and end undecided at the last look. Undecided is not kept.

Source: the signed-rank bounds of `signed_rank`; group-sequential looks at a constant nominal level after
Pocock (1977). Simulation (`benchmarks/decision_simulation.py`, 300 000 trials) puts the chance of keeping a
change without effect at 1.0 % in all for 0.0030 at each of five looks, and at 1.05 % for 0.0023 at seven.

Assumptions: a fair coin per pair, and pairs voided without regard to the arm. Then every single look is
exact whatever drifts, and the chance of keeping a change without effect is below the sum of the levels,
1.6 %, under any drift. The bounds read the effect as a constant factor; a treatment that helps in half of
the slots only is judged by its pseudo-median.

Regimes: with a pair noise of 2 % an effect of 5 % needs 10 to 14 pairs; at 7 % about 30; at 15 % it
cannot be seen in 40. `resolvable_effect` says so beforehand, from pairs of control against control. With
two primary metrics halve `lower_level` (10 pairs reach 0.00098). The estimate of a change that was
selected for looking good looks too good: quote numbers from fresh pairs only.

Rejected: all of A, then all of B, with Welch or Mann-Whitney (noise is slow here, so 8 to 17 % of A/A
comparisons are "significant" at 1 %, and more data makes it worse); looking after each pair (5 % false
keeps at a nominal 1 %); duet, both arms at once on one server (they share the bottleneck, so a 10 %
effect shows as 4 %); an e-process (valid at any time, but 10 to 25 points less power in noise);
Brunner-Munzel, the paired t-test and the bootstrap of medians (see `signed_rank`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import NormalDist, median

from perfloop.errors import InvalidValue
from perfloop.stats.ratio import cost_ratio
from perfloop.stats.signed_rank import cut_count, shift_bounds, upper_bound

_NORMAL = NormalDist()

# Pairs that the signed-rank test needs, over those of a z-test, under normal noise: pi / 3 = 1.05 in the
# limit, 1.1 in simulation at 40 pairs and these levels.
_RANK_COST = 1.1

# The median absolute deviation of a normal variable is its standard deviation times the upper quartile.
_MAD_TO_SD = 1.0 / _NORMAL.inv_cdf(0.75)


class Answer(StrEnum):
    """What a look says about the treatment."""

    KEEP = "keep"
    DROP = "drop"
    CONTINUE = "continue"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialPolicy:
    """When to look and how sure to be. `min_effect_ratio` is the share of the cost that must be saved.

    Raises:
        InvalidValue: looks that do not ascend or start too early for the level; a number out of range.
    """

    looks: tuple[int, ...] = (10, 14, 20, 28, 40)
    lower_level: float = 0.0030
    upper_level: float = 0.0167
    min_effect_ratio: float = 0.03

    def __post_init__(self) -> None:
        if not self.looks or any(later <= earlier for earlier, later in pairwise(self.looks)):
            raise InvalidValue(f"looks must ascend, and there must be one: {self.looks}")
        if not 0.0 < self.min_effect_ratio < 1.0:
            raise InvalidValue(f"min_effect_ratio lies between 0 and 1, not at {self.min_effect_ratio}")
        for level in (self.lower_level, self.upper_level):
            if not all(cut_count(pairs, level) for pairs in self.looks):
                enough = math.ceil(-math.log2(level))
                raise InvalidValue(
                    f"{self.looks[0]} pairs cannot reach level {level}; first look at {enough}"
                )

    @property
    def max_pairs(self) -> int:
        return self.looks[-1]

    @property
    def min_effect(self) -> float:
        """The smallest effect worth keeping, as a log ratio."""
        return -math.log1p(-self.min_effect_ratio)

    def next_look(self, pairs: int) -> int | None:
        """Return how many pairs the next look after `pairs` needs; None after the last."""
        return next((look_at for look_at in self.looks if look_at > pairs), None)


STANDARD_POLICY = SequentialPolicy()
LONG_POLICY = SequentialPolicy(looks=(10, 14, 20, 28, 40, 56, 80), lower_level=0.0023)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The state after some pairs. `estimate`, `low` and `high` are log ratios, positive = treatment cheaper.

    The ratios are treatment over control: below 1 is better. A bound is infinite with too few pairs.
    """

    pairs: int
    estimate: float
    low: float
    high: float
    answer: Answer

    @property
    def ratio(self) -> float:
        return cost_ratio(self.estimate)

    @property
    def ratio_low(self) -> float:
        return cost_ratio(self.high)

    @property
    def ratio_high(self) -> float:
        return cost_ratio(self.low)


def look(log_ratios: Sequence[float], policy: SequentialPolicy) -> Look:
    """Judge the pairs so far. Between the planned looks the answer is always `continue`.

    Raises:
        InvalidValue: no pairs, more than planned, or one that is not finite.
    """
    pairs = len(log_ratios)
    if pairs > policy.max_pairs:
        raise InvalidValue(
            f"{pairs} pairs given, {policy.max_pairs} planned; the levels hold for the planned looks only"
        )
    bounds = shift_bounds(log_ratios, lower_level=policy.lower_level, upper_level=policy.upper_level)
    answer = Answer.CONTINUE
    if pairs in policy.looks:
        answer = _answer(bounds.low, bounds.estimate, bounds.high, policy)
        if answer is Answer.CONTINUE and pairs == policy.max_pairs:
            answer = Answer.UNDECIDED
    return Look(pairs=pairs, estimate=bounds.estimate, low=bounds.low, high=bounds.high, answer=answer)


def replay(log_ratios: Sequence[float], policy: SequentialPolicy) -> Look:
    """Return the first look that ends the test over recorded pairs; the last possible one if none does.

    Pairs after the deciding look are ignored.

    Raises:
        InvalidValue: no pairs, or one that is not finite.
    """
    planned = [look_at for look_at in policy.looks if look_at <= len(log_ratios)]
    for look_at in planned:
        seen = look(log_ratios[:look_at], policy)
        if seen.answer is not Answer.CONTINUE:
            return seen
    return look(log_ratios, policy)


def exceeds(log_ratios: Sequence[float], *, margin_ratio: float, level: float) -> bool:
    """Say whether the treatment is proven to cost more than `1 + margin_ratio` times the control.

    Raises:
        InvalidValue: a negative margin, a level outside 0 to 0.5, or unusable pairs.
    """
    if not margin_ratio >= 0.0:
        raise InvalidValue(f"a guardrail's margin is zero or more, not {margin_ratio}")
    return upper_bound(log_ratios, level) < -math.log1p(margin_ratio)


def robust_sd(log_ratios: Sequence[float]) -> float:
    """Return the standard deviation of the pairs, estimated from their median absolute deviation.

    Outliers hardly move it. Few values make it too small; n / (n - 0.8) corrects that from about 10 on (Croux
    and Rousseeuw, 1992).

    Raises:
        InvalidValue: fewer than two pairs.
    """
    pairs = len(log_ratios)
    if pairs < 2:
        raise InvalidValue(f"{pairs} pairs have no spread; measure at least two")
    centre = median(log_ratios)
    deviation = median(abs(ratio - centre) for ratio in log_ratios)
    return deviation * _MAD_TO_SD * pairs / (pairs - 0.8)


def resolvable_effect(
    log_ratios: Sequence[float], policy: SequentialPolicy = STANDARD_POLICY, *, power: float = 0.8
) -> float:
    """Predict the smallest saving, as a share of the control's cost, that is kept with probability `power`.

    Two conditions, the larger counts: the lower bound must clear zero, n = 14 s^2 / ln(1 - e)^2 at
    level 0.0030 and power 0.8, and the estimate must clear the smallest effect worth keeping. In quiet
    noise the earlier looks add power, which is left as a margin.

    Args:
        log_ratios: pairs of control against control, 10 or more; their mean does not matter.
        policy: gives the number of pairs and the level.
        power: probability, between 0 and 1.

    Raises:
        InvalidValue: fewer than two pairs.
    """
    error = robust_sd(log_ratios) * math.sqrt(_RANK_COST / policy.max_pairs)
    by_power = _NORMAL.inv_cdf(power) * error
    by_level = _NORMAL.inv_cdf(1.0 - policy.lower_level) * error
    return -math.expm1(-(max(by_level, policy.min_effect) + by_power))


def _answer(low: float, estimate: float, high: float, policy: SequentialPolicy) -> Answer:
    if low > 0.0 and estimate >= policy.min_effect:
        return Answer.KEEP
    if high < policy.min_effect:
        return Answer.DROP
    return Answer.CONTINUE
