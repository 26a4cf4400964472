"""The exact signed-rank interval of the typical treatment/control ratio, from the pairs of a trial.

Source and assumptions: see `signed_rank`.
"""

from __future__ import annotations

from collections.abc import Sequence

from perfloop.stats.interval import RatioInterval
from perfloop.stats.ratio import cost_ratio
from perfloop.stats.signed_rank import shift_bounds


def paired_interval(log_ratios: Sequence[float], *, confidence: float = 0.95) -> RatioInterval:
    """Return the exact interval of the pseudo-median treatment/control ratio.

    Args:
        log_ratios: ln(control) - ln(treatment), one per pair.
        confidence: two-sided; it needs 6 pairs at 0.95, with fewer the interval is infinite.

    Raises:
        InvalidValue: unusable pairs, or a confidence outside 0 to 1.
    """
    level = (1.0 - confidence) / 2.0
    bounds = shift_bounds(log_ratios, lower_level=level, upper_level=level)
    return RatioInterval(
        estimate=cost_ratio(bounds.estimate),
        low=cost_ratio(bounds.high),
        high=cost_ratio(bounds.low),
        confidence=confidence,
    )
