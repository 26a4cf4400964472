"""How fresh a cache is that a database invalidates: read beside its hit ratio, which alone says nothing."""

from __future__ import annotations

from math import nan
from typing import Final

from perfloop.metrics import Counter, Gauge, Registry
from perfloop.model.value import Value

_PREFIX: Final = "perfloop_cache_invalidation"
_LABELS: Final = ("source",)


class InvalidationStatistics(Value, frozen=True, kw_only=True):
    """What a listener has done since it was made, and how far behind it is now."""

    is_reading: bool
    """False while another process reads for all, and while there is no connection."""

    changes: int
    tags: int
    """Invalidated; equal ones of one look count once."""

    changes_per_s: float
    """Over the last ten seconds or so."""

    doubts: int
    """How often whole tables were invalidated because it was not known which rows had changed."""

    faults: int
    last_fault: str | None

    oldest_change_s: float
    """The age of the oldest change that was read and is not invalidated yet; 0 without one."""

    behind_s: float | None
    """All that was committed longer ago is invalidated; it grows while the database is away.

    None before the first look, and in a process that does not read.
    """

    kept_bytes: int
    """What the database keeps on disk for the reader: the outbox, or log behind the slot."""

    is_over_limit: bool
    """Whether that is more than the policy of the slot allows; an alarm."""


class FreshnessMetrics:
    """The same as metrics, for a scrape; in the registry that is given, under the name of the source."""

    def __init__(self, registry: Registry, source: str) -> None:
        def counter(name: str, help_text: str) -> Counter:
            return registry.counter(f"{_PREFIX}_{name}", help_text, _LABELS)[source]

        def gauge(name: str, help_text: str) -> Gauge:
            return registry.gauge(f"{_PREFIX}_{name}", help_text, _LABELS)[source]

        self._changes = counter("changes", "Changes of watched tables that were heard of")
        self._doubts = counter("doubts", "Times whole tables were invalidated in doubt")
        self._faults = counter("faults", "Times the listener had to begin anew")
        self._oldest = gauge("oldest_change_seconds", "Age of the oldest unprocessed change")
        self._behind = gauge("behind_seconds", "All committed longer ago is invalidated")
        self._kept = gauge("kept_bytes", "Kept by the database for the listener")
        self._over = gauge("over_limit", "1 while the slot keeps more than it may")
        self._seen = (0, 0, 0)

    def publish(self, now: InvalidationStatistics, behind_s: float) -> None:
        """`behind_s` is NaN where another process reads; before the first look it counts from the opening."""
        counted = (now.changes, now.doubts, now.faults)
        for metric, new, old in zip(
            (self._changes, self._doubts, self._faults), counted, self._seen, strict=True
        ):
            metric.inc(new - old)
        self._seen = counted
        self._oldest.set(now.oldest_change_s)
        self._behind.set(behind_s)
        self._kept.set(now.kept_bytes)
        self._over.set(now.is_over_limit)

    def retire(self) -> None:
        """A listener that is closed knows nothing of now; its counters stay."""
        for gauge in (self._oldest, self._behind, self._kept, self._over):
            gauge.set(nan)
