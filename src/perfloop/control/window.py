"""What a Limiter saw between two looks: the only thing that a law is told, time included."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from perfloop.model.value import Value, require

TRIMMED_SHARE: Final = 0.3
"""Left out at either end for the typical latency: on a loaded host a fifth of the calls meet a stall."""

LARGEST_SEAM: Final = 0.01
"""Of a Window's length: what lies between it and the last one, up to which one follows the other."""
MOST_GAPS: Final = 3
"""Between the Windows of one search, for which a law forgets what it saw; where more come it would never end
otherwise."""


class CallSizes(Value, frozen=True, kw_only=True):
    """How latency went with the items of a call: all that a straight line is fitted from."""

    mean: float
    variance: float
    covariance_s: float
    """Of size and latency; over the variance it is the slope, in seconds an item."""


class Latencies(Value, frozen=True, kw_only=True):
    """The latencies of the calls that ended in a Window."""

    mean_s: float
    p50_s: float
    p99_s: float
    typical_s: float
    """Geometric mean of the central 40 %: a median that wastes less, in which a stall weighs nothing."""
    typical_error: float
    """Standard error of the logarithm of `typical_s`: 0.05 says that it is known to about 5 %."""


class Window(Value, frozen=True, kw_only=True):
    """What ended, and what was under way, from `started_at_s` to `ended_at_s`."""

    started_at_s: float
    ended_at_s: float
    limit: int
    completions: int
    """Calls that ended well."""
    failures: int = 0
    items: int
    """In the calls that ended well."""
    in_flight_mean: float
    """Weighted by time, so that it is Little's L."""
    latencies: Latencies | None
    """None where no call ended well."""
    sizes: CallSizes | None = None
    """None where all calls were of one size."""
    queue_length: int | None = None
    """What waits for a slot; None where nobody counts it."""
    is_saturated: bool
    """Whether the limit was reached with work waiting. Otherwise the Window says nothing of the limit."""

    def __post_init__(self) -> None:
        require(self.ended_at_s >= self.started_at_s, "a Window may not end before it began")
        require(self.limit >= 1, f"a limit of {self.limit} lets nothing through; the least is 1")

    def follows(self, last: Window) -> bool:
        """Whether nothing lies between the two; clocks that are added up are not exact."""
        return self.started_at_s - last.ended_at_s <= LARGEST_SEAM * self.elapsed_s

    @property
    def elapsed_s(self) -> float:
        return self.ended_at_s - self.started_at_s

    @property
    def calls_per_s(self) -> float:
        """Counted; 0 in a Window without length."""
        return self.completions / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def items_per_s(self) -> float:
        return self.items / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def latency_p50_s(self) -> float:
        """0 where no call ended well."""
        return self.latencies.p50_s if self.latencies else 0.0

    @property
    def latency_p99_s(self) -> float:
        """0 where no call ended well."""
        return self.latencies.p99_s if self.latencies else 0.0

    @property
    def throughput_per_s(self) -> float:
        """Calls per second by Little's law, from the typical latency: far steadier than counting ends."""
        return self.in_flight_mean / self.latencies.typical_s if self.latencies else 0.0


def summarise(latencies_s: Sequence[float]) -> Latencies | None:
    """The Latencies of a Window; in any order, each above 0. None for no latencies."""
    if not latencies_s:
        return None
    import numpy as np  # a fifth of a second that a supervisor has no use for

    ordered = np.sort(np.asarray(latencies_s, dtype=np.float64))
    count = len(ordered)
    logs = np.log(np.maximum(ordered, 1e-9))
    trimmed = int(count * TRIMMED_SHARE)
    central = logs[trimmed : count - trimmed]
    # The standard error of a trimmed mean, from the winsorised variance (Tukey and McLaughlin 1963).
    winsorised = np.clip(logs, central[0], central[-1])
    error = float(winsorised.std()) / ((1 - 2 * trimmed / count) * math.sqrt(count))
    return Latencies(
        mean_s=float(ordered.mean()),
        p50_s=float(ordered[count // 2]),
        p99_s=float(ordered[min(count - 1, int(count * 0.99))]),
        typical_s=float(math.exp(central.mean())),
        typical_error=error,
    )


def relate(sizes: Sequence[int], latencies_s: Sequence[float]) -> CallSizes | None:
    """How latency went with size; latencies above their 99th percentile count as that. None for one size."""
    if len(sizes) < 2:
        return None
    import numpy as np  # as above

    size = np.asarray(sizes, dtype=np.float64)
    variance = float(size.var())
    if variance == 0.0:
        return None
    latency = np.asarray(latencies_s, dtype=np.float64)
    latency = np.minimum(latency, np.quantile(latency, 0.99))
    covariance = float(((size - size.mean()) * latency).mean())
    return CallSizes(mean=float(size.mean()), variance=variance, covariance_s=covariance)
