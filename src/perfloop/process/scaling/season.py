"""What will arrive soon, where each day (or hour) is like the one before.

The seasonal naive forecast (Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd edition,
section 5.2): the next is what came at the same time of the period before, here times how this period has been
to the last one of late. It is hard to beat on counts of arrivals, has nothing to fit, and is silent until
one period is full. Its use is bounded: by how well it would have told the last hour.
"""

from __future__ import annotations

from collections import deque

from perfloop.model.value import Value, require


class SeasonPolicy(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The period, and how far the forecast is trusted."""

    period_s: float = 86_400.0
    bins: int = 288
    """Parts of a period that are told apart."""
    recent: int = 12
    """So many parts tell how this period is to the last one."""
    max_error_ratio: float = 0.3
    """Mean error over the recent parts, as a share of what came; above it nothing is forecast."""

    def __post_init__(self) -> None:
        require(self.period_s > 0, "period_s: above zero")
        require(2 <= self.recent < self.bins, "recent: at least 2, and fewer than bins")

    @property
    def bin_s(self) -> float:
        """Length of a part."""
        return self.period_s / self.bins


class Season:
    """The arrivals of two periods; deterministic, time comes with what arrives."""

    def __init__(self, policy: SeasonPolicy) -> None:
        self._policy = policy
        self._full: deque[float] = deque(maxlen=2 * policy.bins)
        """Arrivals a second in each part that is over, the newest last."""
        self._bin: int | None = None
        self._arrived = self._seen_s = 0.0

    def add(self, ended_at_s: float, length_s: float, rate_per_s: float) -> None:
        """What arrived in the time before this moment; times follow one another."""
        number = int(ended_at_s // self._policy.bin_s)
        if self._bin is not None and number != self._bin:
            rate = self._arrived / self._seen_s if self._seen_s else 0.0
            self._full.extend([rate] * min(number - self._bin, 2 * self._policy.bins))
            self._arrived = self._seen_s = 0.0
        self._bin = number
        self._arrived += rate_per_s * length_s
        self._seen_s += length_s

    def highest_per_s(self, ahead_s: float) -> float | None:
        """The most that will arrive within this time from now; None where nothing can be said."""
        policy = self._policy
        if len(self._full) < policy.bins + policy.recent:
            return None
        rates = list(self._full)
        recent = rates[-policy.recent :]
        before = rates[-policy.recent - policy.bins : -policy.bins]
        if not sum(before) or not sum(recent):
            return None
        level = sum(recent) / sum(before)
        error = sum(abs(now - level * then) for now, then in zip(recent, before, strict=True)) / sum(recent)
        if error > policy.max_error_ratio:
            return None
        parts = min(policy.bins, int(ahead_s // policy.bin_s) + 2)
        first = len(rates) - policy.bins
        return level * max(rates[first : first + parts])
