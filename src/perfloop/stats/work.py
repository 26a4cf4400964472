"""Comparison of work counters that hardly vary: buffers, WAL bytes, temporary bytes, rows.

Source: none needed; the counters are read from the server, not sampled. Assumption: both arms did the
same operations on the same rows, so that a difference is the change's doing. What little varies (hint
bits, a page split, the visibility map) is covered by two tolerances, and a difference must clear both:
the ratio alone would report 3 buffers instead of 2, the absolute one alone 1 000 bytes of a gigabyte.

Rejected: testing counters for significance. With no noise any difference is significant; whether it
matters is a question of size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from perfloop.errors import InvalidValue


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterChange:
    """How a counter moved. `ratio` is treatment over control: 1 when both are zero, infinite from zero."""

    ratio: float
    changed: bool


def counter_change(
    control: float, treatment: float, *, tolerance_ratio: float = 0.0, tolerance_abs: float = 0.0
) -> CounterChange:
    """Compare one counter per operation in both arms.

    Args:
        control: zero or more.
        treatment: zero or more, in the control's unit.
        tolerance_ratio: share of the larger value that a change must exceed; the arms may be swapped.
        tolerance_abs: amount that a change must exceed as well, in the counter's unit.

    Raises:
        InvalidValue: a value or tolerance is negative or not finite.
    """
    for number in (control, treatment, tolerance_ratio, tolerance_abs):
        if not 0.0 <= number < math.inf:
            raise InvalidValue(f"counters and tolerances are finite and not negative, this one is {number}")
    gap = abs(treatment - control)
    changed = gap > tolerance_abs and gap > tolerance_ratio * max(control, treatment)
    if control > 0.0:
        return CounterChange(ratio=treatment / control, changed=changed)
    return CounterChange(ratio=math.inf if treatment > 0.0 else 1.0, changed=changed)
