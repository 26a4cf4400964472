"""What a cache counts, as metrics for scrapers. Pure.

The names follow Prometheus' practice and the words of the cache; those for OpenTelemetry follow its naming
rules, since it has no conventions for caches yet (open-telemetry/semantic-conventions, issue 1747).
Each request is in one series of `perfloop_cache_requests`, so that ratios are the scraper's to make, over the
time it likes. How far the values may lie behind a database stands beside it:
`perfloop_cache_invalidation_behind_seconds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from perfloop.cache.breaker import BreakerState
from perfloop.cache.statistics import CacheStatistics
from perfloop.cache.usage import TemplateUsage
from perfloop.metrics.exposition import Kind, Reading, Series

Row = tuple[tuple[str, ...], float]
"""Values of the labels after the cache's name, and what was counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One metric of a cache, in both worlds."""

    name: str
    """Without `_total`, as a registry has it."""
    kind: Kind
    help_text: str
    otel_name: str
    otel_unit: str
    otel_kind: Literal["counter", "up_down_counter", "gauge"]
    """Of the gauges, those of a unit that adds up over processes are up-and-down counters."""
    labels: tuple[str, ...] = ()
    read: Callable[[CacheStatistics], Iterable[Row]] | None = None
    read_template: Callable[[TemplateUsage], Iterable[Row]] | None = None

    def rows(
        self,
        statistics: Callable[[], CacheStatistics],
        templates: Callable[[], Sequence[TemplateUsage]],
    ) -> list[Row]:
        """One for each set of label values; asks for no more than it needs."""
        if self.read is not None:
            return list(self.read(statistics()))
        if self.read_template is None:
            return []
        told = [(usage.template, self.read_template(usage)) for usage in templates()]
        return [((template, *values), value) for template, rows in told for values, value in rows]


class Steady:
    """Never lets a counter go down, which scrapers would take for a restart.

    A request that waits for the shared tier is a miss until it is known to be a hit.
    """

    def __init__(self) -> None:
        self._shown: dict[tuple[str, tuple[str, ...]], float] = {}

    def rows(self, export: Export, rows: Iterable[Row]) -> list[Row]:
        """What to show of these."""
        if export.kind != "counter":
            return list(rows)
        steady = []
        for values, value in rows:
            series = export.name, values
            shown = self._shown[series] = max(value, self._shown.get(series, 0.0))
            steady.append((values, shown))
        return steady


def readings(
    cache: str, statistics: CacheStatistics, templates: Sequence[TemplateUsage], steady: Steady
) -> tuple[Reading, ...]:
    """What a registry shows of a cache; of templates only where its usage is counted."""
    return tuple(
        Reading(
            name=export.name,
            kind=export.kind,
            help_text=export.help_text,
            label_names=("cache", *export.labels),
            series=tuple(
                Series(label_values=(cache, *values), value=value)
                for values, value in steady.rows(export, export.rows(lambda: statistics, lambda: templates))
            ),
        )
        for export in EXPORTS
        if templates or export.read is not None
    )


def _requests(told: CacheStatistics) -> Iterable[Row]:
    memory = told.memory.hits + told.unchecked_hits
    missed = told.asked - memory - told.remote_hits - told.stale_hits
    return (
        (("memory", "hit"), memory),
        (("shared", "hit"), told.remote_hits),
        (("any", "stale"), told.stale_hits),
        (("any", "miss"), max(0, missed)),
    )


def _removals(told: CacheStatistics) -> Iterable[Row]:
    return (
        (("evicted",), told.memory.evictions),
        (("expired",), told.memory.expirations),
        (("invalidated",), told.memory.invalidated),
    )


def _shared_tier_is_up(told: CacheStatistics) -> Iterable[Row]:
    return () if told.breaker is None else (((), float(told.breaker is BreakerState.CLOSED)),)


def _template_requests(usage: TemplateUsage) -> Iterable[Row]:
    return (
        (("memory", "hit"), usage.hits),
        (("shared", "hit"), usage.remote_hits),
        (("any", "stale"), usage.stale_hits),
        (("any", "miss"), usage.misses),
    )


def _export(
    name: str,
    kind: Kind,
    help_text: str,
    otel: tuple[str, str],
    read: Callable[[CacheStatistics], float] | None = None,
    *,
    read_template: Callable[[TemplateUsage], float] | None = None,
    rows: Callable[[CacheStatistics], Iterable[Row]] | None = None,
    rows_of_template: Callable[[TemplateUsage], Iterable[Row]] | None = None,
    labels: tuple[str, ...] = (),
) -> Export:
    if read is not None:
        rows = _one(read)
    if read_template is not None:
        rows_of_template = _one_of_template(read_template)
    return Export(
        name=f"perfloop_cache_{name}",
        kind=kind,
        help_text=help_text,
        otel_name=f"perfloop.cache.{otel[0]}",
        otel_unit=otel[1],
        otel_kind="counter" if kind == "counter" else "gauge" if otel[1] == "1" else "up_down_counter",
        labels=("template", *labels) if rows_of_template is not None else labels,
        read=rows,
        read_template=rows_of_template,
    )


def _one(read: Callable[[CacheStatistics], float]) -> Callable[[CacheStatistics], Iterable[Row]]:
    return lambda told: (((), read(told)),)


def _one_of_template(read: Callable[[TemplateUsage], float]) -> Callable[[TemplateUsage], Iterable[Row]]:
    return lambda usage: (((), read(usage)),)


_ANSWER: Final = ("tier", "outcome")

EXPORTS: Final = (
    _export(
        "requests",
        "counter",
        "Requests by the tier and by how they were answered; each key of a batch is one",
        ("requests", "{request}"),
        rows=_requests,
        labels=_ANSWER,
    ),
    _export(
        "hit_ratio",
        "gauge",
        "Share of the requests since the start that waited for no loader",
        ("hit_ratio", "1"),
        lambda told: told.hit_ratio or 0.0,
    ),
    _export("loads", "counter", "Calls of loaders", ("loads", "{load}"), lambda told: told.loads),
    _export(
        "loaded_keys",
        "counter",
        "Keys that loaders were called for",
        ("loaded_keys", "{key}"),
        lambda told: told.loaded_keys,
    ),
    _export(
        "load_seconds", "counter", "Time that loaders took", ("load.time", "s"), lambda told: told.load_s
    ),
    _export(
        "load_failures",
        "counter",
        "Loaders failed",
        ("load.failures", "{load}"),
        lambda told: told.load_failures,
    ),
    _export(
        "removals",
        "counter",
        "Entries that left the process's memory",
        ("removals", "{entry}"),
        rows=_removals,
        labels=("reason",),
    ),
    _export(
        "refused_stores",
        "counter",
        "Loaded values that an invalidation overtook",
        ("refused_stores", "{value}"),
        lambda told: told.refused_stores,
    ),
    _export(
        "unreadable",
        "counter",
        "Values of the shared tier that could not be read or trusted",
        ("unreadable", "{value}"),
        lambda told: told.unreadable,
    ),
    _export(
        "entries",
        "gauge",
        "Entries in the process's memory",
        ("entry.count", "{entry}"),
        lambda told: told.memory.entries,
    ),
    _export(
        "size_bytes", "gauge", "What these take", ("memory.usage", "By"), lambda told: told.memory.size_bytes
    ),
    _export(
        "shared_tier_up",
        "gauge",
        "Whether the shared tier is asked: 0 while it is away",
        ("shared_tier.up", "1"),
        rows=_shared_tier_is_up,
    ),
    _export(
        "pending_invalidations",
        "gauge",
        "Invalidations to be sent when the shared tier is back",
        ("pending_invalidation.count", "{invalidation}"),
        lambda told: told.pending_invalidations,
    ),
    _export(
        "template_requests",
        "counter",
        "Requests by template",
        ("template.requests", "{request}"),
        rows_of_template=_template_requests,
        labels=_ANSWER,
    ),
    _export(
        "template_load_seconds",
        "counter",
        "Time that loaders took, by template",
        ("template.load.time", "s"),
        read_template=lambda usage: usage.load_s,
    ),
    _export(
        "template_saved_seconds",
        "gauge",
        "Loader time that hits spared, minus the cache's own; below 0 where it does not pay",
        ("template.saved_time", "s"),
        read_template=lambda usage: usage.saved_s or 0.0,
    ),
    _export(
        "template_entries",
        "gauge",
        "Entries by template",
        ("template.entry.count", "{entry}"),
        read_template=lambda usage: usage.entries,
    ),
    _export(
        "template_size_bytes",
        "gauge",
        "What these take, by template",
        ("template.memory.usage", "By"),
        read_template=lambda usage: usage.size_bytes,
    ),
)
