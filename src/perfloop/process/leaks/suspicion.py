"""Whether a worker's memory grows without end.

Slope tests alone alarm falsely in 60 to 100 % of healthy workers within 12 h: memory also grows while a
worker warms up, with its load, and in steps when a larger request than ever comes. So a steady growth is only
suspected where, over the last three hours of floors,

- the slope in time is above a rate by several standard errors, in a least-squares fit that has the load
  beside the time (where both rise together the error is large, and the answer waits until they part);
- it has not slowed down: the later half's slope is surely more than half of the earlier one's (a warm-up of
  90 min falls to 0.37), in these hours and, where the worker is older, in twice as many;
- it does not come from single steps: the largest ones, as far as noise does not explain them, are a small
  part;
- and all of that held for several floors in turn.

The standard errors are widened by the residuals' autocorrelation of first order (Bartlett's effective size).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perfloop.model.value import Value, require
from perfloop.process.leaks.floors import Floor

Numbers = NDArray[np.float64]


class LeakPolicy(Value, frozen=True, kw_only=True):
    """When growth is called a leak."""

    window_s: float = 3 * 3600
    warm_up_s: float = 600.0
    """Floors of a worker's first minutes do not count."""
    min_rate_bytes_per_s: float = 1000.0
    """Slower growth is none: 3.6 MB an hour."""
    errors: float = 4.0
    """Standard errors by which the slope has to be above that."""
    min_later_ratio: float = 0.5
    """The later half's slope is above this share of the earlier one's ..."""
    later_errors: float = 2.5
    """... by so many standard errors."""
    max_step_ratio: float = 0.3
    """The three largest steps' share of the growth."""
    times: int = 3
    """How many floors in turn have to say so."""

    def __post_init__(self) -> None:
        require(self.window_s > 0, "window_s: above zero")
        require(self.errors > 0, "errors: above zero")
        require(self.times >= 1, "times: at least one")


class Suspicion(Value, frozen=True, kw_only=True):
    """A worker whose memory grows steadily."""

    at_s: float
    """When it was told, since the worker was started."""
    rate_bytes_per_s: float
    low_bytes_per_s: float
    """The rate less the policy's standard errors."""
    bytes_per_request: float | None
    """None where requests are not counted."""
    in_use_bytes: int
    step_ratio: float
    """The share of single steps in the growth."""

    def full_in_s(self, limit_bytes: int) -> float:
        """Until this much is in use, at this rate."""
        return max(0.0, (limit_bytes - self.in_use_bytes) / self.rate_bytes_per_s)


def suspect(floors: Sequence[Floor], policy: LeakPolicy) -> Suspicion | None:
    """The suspicion that the floors of one worker raise, the oldest first; None where there is none.

    It is raised where the last floors, each as the last of its window, all say so.
    """
    found = None
    for back in range(policy.times):
        found = _at_last(floors[: len(floors) - back], policy)
        if found is None:
            return None
        if back == 0:
            latest = found
    return latest


def growth(floors: Sequence[Floor], policy: LeakPolicy) -> float | None:
    """Bytes a second over the window, whether steady or not; None before there are enough floors."""
    window = _window(floors, policy)
    return _slope(*_columns(window))[0] if window else None


def _window(floors: Sequence[Floor], policy: LeakPolicy) -> list[Floor]:
    """The last floors, if they are of enough of the window."""
    if not floors:
        return []
    end_s = floors[-1].at_s
    window = [each for each in floors if each.at_s > max(policy.warm_up_s, end_s - policy.window_s)]
    return window if window and end_s - window[0].at_s >= 0.8 * policy.window_s else []


def _at_last(floors: Sequence[Floor], policy: LeakPolicy) -> Suspicion | None:
    window = _window(floors, policy)
    if not window:
        return None
    end_s = window[-1].at_s
    times, held, load = _columns(window)
    rate, error = _slope(times, held, load)
    low = rate - policy.errors * error
    if low < policy.min_rate_bytes_per_s:
        return None
    step_ratio = _step_ratio(held)
    if step_ratio > policy.max_step_ratio:
        return None
    long = [each for each in floors if each.at_s > max(policy.warm_up_s, end_s - 2 * policy.window_s)]
    if not _goes_on(window, policy) or (len(long) > len(window) and not _goes_on(long, policy)):
        return None
    served = float(load.mean())
    return Suspicion(
        at_s=end_s,
        rate_bytes_per_s=rate,
        low_bytes_per_s=low,
        bytes_per_request=rate / served if served else None,
        in_use_bytes=int(held[-1]),
        step_ratio=step_ratio,
    )


def _slope(times: Numbers, held: Numbers, load: Numbers) -> tuple[float, float]:
    """Bytes a second at equal load, and the standard error of that."""
    columns = [np.ones_like(times), times]
    if load.std() > 0.02 * load.mean() > 0:
        columns.append(load)
    design = np.stack(columns, axis=1)
    inverse = np.linalg.pinv(design.T @ design)
    fit = inverse @ (design.T @ held)
    residuals = held - design @ fit
    freedom = max(1, len(held) - design.shape[1])
    spread = float(residuals @ residuals) / freedom
    return float(fit[1]), float(np.sqrt(spread * inverse[1, 1] * _inflation(residuals)))


def _inflation(residuals: Numbers) -> float:
    """By how much neighbours that are alike widen a variance: (1 + r) / (1 - r), r from 0 to 0.9."""
    total = float(residuals @ residuals)
    r = float(residuals[1:] @ residuals[:-1]) / total if total else 0.0
    r = min(max(r, 0.0), 0.9)
    return (1 + r) / (1 - r)


def _columns(floors: Sequence[Floor]) -> tuple[Numbers, Numbers, Numbers]:
    """Their times from the first on, what was held, and the load."""
    times = np.array([each.at_s for each in floors]) - floors[0].at_s
    held = np.array([each.in_use_bytes for each in floors], dtype=np.float64)
    return times, held, np.array([each.requests_per_s for each in floors])


def _goes_on(floors: Sequence[Floor], policy: LeakPolicy) -> bool:
    """Whether the growth has surely not slowed down."""
    times, held, load = _columns(floors)
    half = len(times) // 2
    earlier, earlier_error = _slope(times[:half], held[:half], load[:half])
    later, later_error = _slope(times[half:], held[half:], load[half:])
    error = float(np.hypot(later_error, policy.min_later_ratio * earlier_error))
    return later - policy.min_later_ratio * earlier > policy.later_errors * error


def _step_ratio(held: Numbers) -> float:
    """The share of the three largest steps in the growth, as far as they are larger than noise makes them."""
    growth = float(np.median(held[-3:]) - np.median(held[:3]))
    steps = np.diff(held)
    usual = float(np.median(steps))
    noise = 3 * 1.4826 * float(np.median(np.abs(steps - usual)))
    excess = np.maximum(0.0, np.sort(steps)[-3:] - usual - noise)
    return float(excess.sum()) / growth if growth > 0 else 1.0
