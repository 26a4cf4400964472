"""Ratios of costs on the log scale, where a doubling and a halving cancel."""

from __future__ import annotations

import math

from perfloop.errors import InvalidValue


def log_ratio(control: float, treatment: float) -> float:
    """Return ln(control) - ln(treatment); where more is better, give the arms the other way round.

    Raises:
        InvalidValue: a value is not positive and finite.
    """
    for cost in (control, treatment):
        if not 0.0 < cost < math.inf:
            raise InvalidValue(
                f"a ratio needs positive finite values, not {cost}; compare counts with counter_change"
            )
    return math.log(control) - math.log(treatment)


def cost_ratio(shift: float) -> float:
    """Return treatment over control for a log ratio."""
    try:
        return math.exp(-shift)
    except OverflowError:
        return math.inf
