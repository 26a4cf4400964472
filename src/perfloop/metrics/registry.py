"""The metrics of one process by name, and what reads them all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import urandom
from threading import RLock
from time import time
from typing import Any, Final, TypeVar, cast, overload

from perfloop.errors import InvalidInput
from perfloop.metrics import exposition
from perfloop.metrics.counter import Counter
from perfloop.metrics.exposition import DEFAULT_BUCKET_SCALE, Kind, Reading, Series
from perfloop.metrics.family import DEFAULT_MAX_LABEL_SETS, Family
from perfloop.metrics.fork import restart_in_child
from perfloop.metrics.gauge import Gauge
from perfloop.metrics.histogram import Histogram
from perfloop.metrics.timer import Timer

Metric = Counter | Gauge | Histogram
M = TypeVar("M", Counter, Gauge, Histogram)

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_SUFFIXES: Final[dict[Kind, tuple[str, ...]]] = {
    "counter": ("_total", "_created"),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
}
_DROPPED: Final = "perfloop_meter_dropped_observations"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryStatistics:
    """What a registry holds and what it has cost so far."""

    instance_id: str
    """Unique to this registry in this process; a forked child has another."""
    started_s: float
    """When everything stood at zero, in seconds since the epoch."""
    metrics: int
    series: int
    """Metrics without labels and children of families together."""
    overflowed: tuple[str, ...]
    """Names of the families whose seal has kept label sets out."""
    buffered: int
    """Observations not yet drained."""
    dropped: int
    """Observations lost because a buffer was over its limit."""
    drain_s: float
    """Time spent in drains, all threads together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Registered:
    name: str
    kind: Kind
    help_text: str
    label_names: tuple[str, ...]
    metric: Metric | Family[Any]

    def series(self) -> tuple[tuple[tuple[str, ...], Metric], ...]:
        if isinstance(self.metric, Family):
            return self.metric.children()
        return (((), self.metric),)


class Registry:
    """Makes metrics, one for each name, and reads them all.

    Asking again for a name gives the same metric; asking for it with another kind or other labels is an
    error. In a forked child everything starts from zero, under a new `instance_id`.
    """

    def __init__(self, *, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._registered: dict[str, _Registered] = {}
        self._claimed: dict[str, str] = {}
        self._sources: dict[str, Callable[[], Iterable[Reading]]] = {}
        self._claim("counter", _DROPPED)
        self._begin()
        restart_in_child(self)

    def _begin(self) -> None:
        self._lock = RLock()
        self._instance_id = urandom(16).hex()
        self._started_s = self._clock()

    def restart(self) -> None:
        """Start everything from zero under a new identity; in a forked child only."""
        self._begin()
        for registered in self._registered.values():
            registered.metric.restart()

    @overload
    def counter(self, name: str, help_text: str = ...) -> Counter: ...
    @overload
    def counter(
        self, name: str, help_text: str, labels: Sequence[str], *, max_label_sets: int = ...
    ) -> Family[Counter]: ...
    @overload
    def counter(
        self, name: str, help_text: str = ..., *, labels: Sequence[str], max_label_sets: int = ...
    ) -> Family[Counter]: ...
    def counter(
        self,
        name: str,
        help_text: str = "",
        labels: Sequence[str] | None = None,
        *,
        max_label_sets: int = DEFAULT_MAX_LABEL_SETS,
    ) -> Counter | Family[Counter]:
        """Something that only goes up. `_total` is added to the name where it is exposed.

        Raises:
            InvalidInput: the name or a label cannot be exposed, or the name is in use for something else.
        """
        return self._metric(
            "counter", name.removesuffix("_total"), help_text, labels, max_label_sets, Counter
        )

    @overload
    def gauge(self, name: str, help_text: str = ...) -> Gauge: ...
    @overload
    def gauge(
        self, name: str, help_text: str, labels: Sequence[str], *, max_label_sets: int = ...
    ) -> Family[Gauge]: ...
    @overload
    def gauge(
        self, name: str, help_text: str = ..., *, labels: Sequence[str], max_label_sets: int = ...
    ) -> Family[Gauge]: ...
    def gauge(
        self,
        name: str,
        help_text: str = "",
        labels: Sequence[str] | None = None,
        *,
        max_label_sets: int = DEFAULT_MAX_LABEL_SETS,
    ) -> Gauge | Family[Gauge]:
        """Something that goes up and down.

        Raises:
            InvalidInput: as for `counter`.
        """
        return self._metric("gauge", name, help_text, labels, max_label_sets, Gauge)

    @overload
    def histogram(self, name: str, help_text: str = ...) -> Histogram: ...
    @overload
    def histogram(
        self, name: str, help_text: str, labels: Sequence[str], *, max_label_sets: int = ...
    ) -> Family[Histogram]: ...
    @overload
    def histogram(
        self, name: str, help_text: str = ..., *, labels: Sequence[str], max_label_sets: int = ...
    ) -> Family[Histogram]: ...
    def histogram(
        self,
        name: str,
        help_text: str = "",
        labels: Sequence[str] | None = None,
        *,
        max_label_sets: int = DEFAULT_MAX_LABEL_SETS,
    ) -> Histogram | Family[Histogram]:
        """Something whose distribution matters. Name its base unit last: `request_seconds`, `response_bytes`.

        Raises:
            InvalidInput: as for `counter`.
        """
        return self._metric("histogram", name, help_text, labels, max_label_sets, Histogram)

    def timed(self, name: str, help_text: str = "") -> Timer:
        """A timer over the histogram of that name, with `_seconds` added where it is missing.

        Use it as a decorator, of a function or a coroutine function, or for one `with` block.

        Raises:
            InvalidInput: as for `counter`.
        """
        return self.histogram(name if name.endswith("_seconds") else f"{name}_seconds", help_text).time()

    def _metric(
        self,
        kind: Kind,
        name: str,
        help_text: str,
        labels: Sequence[str] | None,
        max_label_sets: int,
        make: Callable[[], M],
    ) -> M | Family[M]:
        label_names = None if labels is None else tuple(labels)
        known = self._registered.get(name)
        if known is None:
            with self._lock:
                known = self._registered.get(name)
                if known is None:
                    known = self._register(kind, name, help_text, label_names, max_label_sets, make)
        if known.kind != kind or known.label_names != (label_names or ()):
            raise InvalidInput(
                f"{name} is already a {known.kind} with labels {known.label_names}; "
                "ask for it the same way or choose another name"
            )
        return cast("M | Family[M]", known.metric)

    def _register(
        self,
        kind: Kind,
        name: str,
        help_text: str,
        label_names: tuple[str, ...] | None,
        max_label_sets: int,
        make: Callable[[], M],
    ) -> _Registered:
        _check_names(kind, name, label_names)
        self._claim(kind, name)
        metric: Metric | Family[Any]
        if label_names is None:
            metric = make()
        else:
            relieve = Histogram.relieve if kind == "histogram" else None
            metric = Family(label_names, make, max_label_sets=max_label_sets, relieve=relieve)
        registered = _Registered(
            name=name, kind=kind, help_text=help_text, label_names=label_names or (), metric=metric
        )
        self._registered[name] = registered
        return registered

    def _claim(self, kind: Kind, name: str) -> None:
        """Refuse a name whose series would mix with another metric's: a gauge `x_count`, a histogram `x`."""
        series = {name, *(name + suffix for suffix in _SUFFIXES[kind])}
        taken = sorted(series & self._claimed.keys())
        if taken:
            raise InvalidInput(
                f"{name} would write the series {taken[0]}, which belongs to {self._claimed[taken[0]]}; "
                "choose another name"
            )
        self._claimed.update(dict.fromkeys(series, name))

    def attach(self, name: str, read: Callable[[], Iterable[Reading]]) -> None:
        """Have `read` asked at each `collect`, for what is counted elsewhere, until `detach`.

        Raises:
            InvalidInput: something is attached under this name.
        """
        if self._sources.setdefault(name, read) != read:
            raise InvalidInput(f"{name} is attached to this registry already; give one of them another name")

    def detach(self, name: str) -> None:
        self._sources.pop(name, None)

    def drain(self) -> None:
        """Drain every histogram, however little it holds."""
        for histogram in self._histograms():
            histogram.drain()

    def relieve(self) -> None:
        """Drain the histograms whose buffers have grown long."""
        for histogram in self._histograms():
            histogram.relieve()

    def _histograms(self) -> Iterator[Histogram]:
        for registered in self._all():
            if registered.kind == "histogram":
                for _, metric in registered.series():
                    yield cast("Histogram", metric)

    def _all(self) -> tuple[_Registered, ...]:
        with self._lock:
            return tuple(self._registered.values())

    def collect(self) -> tuple[Reading, ...]:
        """Every metric as it stands, drained, what sources tell, and the count of dropped observations."""
        readings = [
            Reading(
                name=registered.name,
                kind=registered.kind,
                help_text=registered.help_text,
                label_names=registered.label_names,
                series=tuple(
                    Series(label_values=values, value=_value(metric))
                    for values, metric in registered.series()
                ),
            )
            for registered in self._all()
        ]
        dropped = sum(histogram.dropped for histogram in self._histograms())
        readings.append(
            Reading(
                name=_DROPPED,
                kind="counter",
                help_text="Observations lost because a buffer was over its limit.",
                series=(Series(value=dropped),),
            )
        )
        told = [reading for read in tuple(self._sources.values()) for reading in read()]
        return exposition.joined([*readings, *told])

    def prometheus_text(self, *, bucket_scale: int = DEFAULT_BUCKET_SCALE) -> str:
        """The text format 0.0.4. Serve it as `text/plain; version=0.0.4; charset=utf-8`.

        There are `2**bucket_scale` classic buckets for each octave of a histogram.
        """
        return exposition.prometheus_text(self.collect(), bucket_scale=bucket_scale)

    def openmetrics_text(self, *, bucket_scale: int = DEFAULT_BUCKET_SCALE) -> str:
        """OpenMetrics 1.0. Serve it as `application/openmetrics-text; version=1.0.0; charset=utf-8`."""
        return exposition.openmetrics_text(
            self.collect(), created_s=self._started_s, bucket_scale=bucket_scale
        )

    def statistics(self) -> RegistryStatistics:
        """What this registry holds and has cost. Reads without draining."""
        registered = self._all()
        histograms = tuple(self._histograms())
        return RegistryStatistics(
            instance_id=self._instance_id,
            started_s=self._started_s,
            metrics=len(registered),
            series=sum(len(one.series()) for one in registered),
            overflowed=tuple(
                one.name for one in registered if isinstance(one.metric, Family) and one.metric.overflowed
            ),
            buffered=sum(histogram.buffered for histogram in histograms),
            dropped=sum(histogram.dropped for histogram in histograms),
            drain_s=sum(histogram.drain_s for histogram in histograms),
        )


def _value(metric: Metric) -> Any:
    return metric.snapshot() if isinstance(metric, Histogram) else metric.value


def _check_names(kind: Kind, name: str, label_names: tuple[str, ...] | None) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} cannot name a metric; use letters, digits, _ and :, no digit first")
    if label_names is None:
        return
    if not label_names or len(set(label_names)) < len(label_names):
        raise InvalidInput(f"{name} needs distinct label names, not {label_names}; leave them out for none")
    for label in label_names:
        if not _LABEL.fullmatch(label) or (kind == "histogram" and label == "le"):
            raise InvalidInput(f"{label!r} cannot label {name}; use letters, digits and _, and not le or __")
