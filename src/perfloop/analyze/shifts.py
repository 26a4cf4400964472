"""How the statements of two windows differ, per call: time with its interval, and work.

Work is counted and no neighbour can move it, so it comes first. Time follows the machine: where most
statements take longer by the same factor while their work is the same, that factor is the machine's (the
drift), and is taken out before a statement is blamed for its time alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from statistics import median

from perfloop.model.snapshot import StatementCounters
from perfloop.model.value import Value
from perfloop.stats.interval import RatioInterval
from perfloop.stats.means import MeanOf, ratio_of_means

CONFIDENCE = 0.999
"""Of each interval of times: hundreds of statements are judged at once."""
_LEAST_FOR_DRIFT = 3
_PARAMETERS = re.compile(r"\$\d+(?:\s*/\*, \.\.\. \*/)?")
_LISTS = re.compile(r"\(\s*\$(?:\s*,\s*\$)*\s*\)")
_WORK: tuple[tuple[str, Callable[[StatementCounters], int]], ...] = (
    ("blocks", lambda each: each.hit_blocks + each.read_blocks),
    ("temporary blocks", lambda each: each.temp_blocks),
    ("WAL records", lambda each: each.wal_records),
)


class RegressionPolicy(Value, frozen=True, kw_only=True):
    """What counts as worse. Ratios are now over before, per call."""

    worse_ratio: float = 1.3
    """Of work, and of time where the work has grown too."""
    time_alone_ratio: float = 2.0
    """Of time without more work, the drift taken out."""
    calls_min: int = 20
    """In each window; statements with fewer calls are not judged."""
    felt_share: float = 0.01
    """Time that a statement loses, as a share of all statements' time now."""


class WorkShift(Value, frozen=True, kw_only=True):
    """One kind of work per call, before and now."""

    label: str
    before: float
    now: float

    @property
    def ratio(self) -> float:
        """Now over before; one unit is added to both, so that little things do not count."""
        return (self.now + 1) / (self.before + 1)


class Shift(Value, frozen=True, kw_only=True):
    """A statement with enough calls in both windows."""

    before: StatementCounters
    now: StatementCounters
    time: RatioInterval
    work: tuple[WorkShift, ...]

    @property
    def most_work(self) -> WorkShift:
        """The kind of work that grew most."""
        return max(self.work, key=lambda each: each.ratio)

    @property
    def lost_s(self) -> float:
        """Seconds that its calls of now took above what they took before."""
        return (self.now.mean_s - self.before.mean_s) * self.now.calls

    def has_more_work(self, policy: RegressionPolicy) -> bool:
        """Whether it does more. The spread of the times stands for that of the work, which nobody keeps."""
        doubt = self.time.low / self.time.estimate
        return self.most_work.ratio >= policy.worse_ratio and self.most_work.ratio * doubt > 1

    def is_slower(self, policy: RegressionPolicy, *, drift: float) -> bool:
        """Whether its time per call has grown beyond noise: with its work, or far more than others'."""
        if self.has_more_work(policy):
            return self.time.estimate >= policy.worse_ratio and self.time.low > 1
        return (
            self.time.estimate >= policy.time_alone_ratio * drift
            and self.time.low >= policy.worse_ratio * drift
        )


def normalised(text: str) -> str:
    """The text by which a statement is known again where its query id has changed.

    >>> normalised("SELECT a FROM t  WHERE b IN ($1, $2)")
    'SELECT a FROM t WHERE b IN ($)'
    >>> normalised("SELECT a FROM t WHERE b IN ($1 /*, ... */)")
    'SELECT a FROM t WHERE b IN ($)'
    """
    return " ".join(_LISTS.sub("($)", _PARAMETERS.sub("$", text)).split())


def counterparts(
    before: Iterable[StatementCounters], now: Iterable[StatementCounters]
) -> tuple[tuple[StatementCounters | None, StatementCounters], ...]:
    """Each statement of now with its earlier counters: by query id, else by its normalised text, else None.

    Query ids change with the server's major version, and when a table is made anew.
    """
    earlier = tuple(before)
    by_id = {each.statement.query_id: each for each in earlier}
    by_text = {normalised(each.statement.text): each for each in sorted(earlier, key=lambda one: one.total_s)}
    return tuple(
        (by_id.get(each.statement.query_id) or by_text.get(normalised(each.statement.text)), each)
        for each in now
    )


def shifts(
    before: Iterable[StatementCounters], now: Iterable[StatementCounters], policy: RegressionPolicy
) -> tuple[Shift, ...]:
    """The statements that were called often enough in both windows."""
    return tuple(
        _shift(then, each)
        for then, each in counterparts(before, now)
        if then is not None
        and min(then.calls, each.calls) >= policy.calls_min
        and then.mean_s > 0
        and each.mean_s > 0
    )


def drift_of(found: Iterable[Shift], policy: RegressionPolicy) -> float:
    """By how much the machine slows all statements down, at least 1; 1 where too few are judged."""
    ratios = [each.time.estimate for each in found if not each.has_more_work(policy)]
    return max(1.0, median(ratios)) if len(ratios) >= _LEAST_FOR_DRIFT else 1.0


def _shift(before: StatementCounters, now: StatementCounters) -> Shift:
    return Shift(
        before=before,
        now=now,
        time=ratio_of_means(_mean_of(before), _mean_of(now), confidence=CONFIDENCE),
        work=tuple(
            WorkShift(label=label, before=count(before) / before.calls, now=count(now) / now.calls)
            for label, count in _WORK
        ),
    )


def _mean_of(each: StatementCounters) -> MeanOf:
    """Where nobody kept the spread, the times are taken to spread as widely as an exponential's."""
    deviation = each.mean_s if each.deviation_s is None else each.deviation_s
    return MeanOf(mean=each.mean_s, deviation=deviation, count=each.calls)
