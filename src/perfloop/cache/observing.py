"""A cache's numbers where others read them: in a registry of perfloop, or with OpenTelemetry."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from perfloop.adapters.open_telemetry import Instrument, observe
from perfloop.cache.exporting import EXPORTS, Export, Steady, readings
from perfloop.cache.statistics import CacheStatistics
from perfloop.cache.usage import TemplateUsage
from perfloop.cache.usage_counts import UsageCounts
from perfloop.metrics.exposition import Reading
from perfloop.metrics.registry import Registry

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter


class Observed:
    """What one cache shows; in a registry from its opening to its close.

    Args:
        cache: what it is called there; one open cache of a registry has the name.
        statistics: what it did so far.
        usage: the same by template, where that is counted.
        registry: where it is shown, if anywhere.
    """

    def __init__(
        self,
        cache: str,
        statistics: Callable[[], CacheStatistics],
        usage: UsageCounts | None,
        registry: Registry | None,
    ) -> None:
        self.cache = cache
        self.statistics = statistics
        self._usage = usage
        self._registry = registry
        self._is_open = False
        self.steady = Steady()

    def open(self) -> None:
        """Show it.

        Raises:
            InvalidInput: another open cache has the same prefix.
        """
        if self._registry is not None and not self._is_open:
            self._registry.attach(f"cache {self.cache!r}", self.readings)
            self._is_open = True

    def close(self) -> None:
        if self._registry is not None and self._is_open:
            self._registry.detach(f"cache {self.cache!r}")
            self._is_open = False

    def readings(self) -> tuple[Reading, ...]:
        return readings(self.cache, self.statistics(), self.templates(), self.steady)

    def templates(self) -> tuple[TemplateUsage, ...]:
        """None where they are not counted."""
        return () if self._usage is None else self._usage.templates()


class _Parts(Protocol):
    observed: Observed


class ObservedCache(Protocol):
    """A `TieredCache` or an `AsyncTieredCache`."""

    @property
    def _parts(self) -> _Parts: ...


def observe_cache(meter: Meter, cache: ObservedCache) -> None:
    """Show a cache by observable instruments of this meter, as long as the cache is there.

    The names are in docs/how-to/cache-usage.md; templates are told where the cache was made with `usage`.

    Raises:
        InvalidInput: OpenTelemetry is not installed.
    """
    held = weakref.ref(cache._parts.observed)
    instruments = [
        Instrument(
            name=export.otel_name,
            unit=export.otel_unit,
            description=export.help_text,
            kind=export.otel_kind,
            read=_reader(held, export),
        )
        for export in EXPORTS
    ]
    observe(meter, instruments)


def _reader(
    held: weakref.ref[Observed], export: Export
) -> Callable[[], Iterator[tuple[float, Mapping[str, str]]]]:
    labels = [f"perfloop.cache.{label}" for label in export.labels]

    def read() -> Iterator[tuple[float, Mapping[str, str]]]:
        observed = held()
        if observed is None:
            return
        named = {"perfloop.cache.name": observed.cache}
        rows = export.rows(observed.statistics, observed.templates)
        for values, value in observed.steady.rows(export, rows):
            yield value, {**named, **dict(zip(labels, values, strict=True))}

    return read
