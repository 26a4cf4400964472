"""How fresh a cache is that a database invalidates: read beside its hit ratio, which alone says nothing."""

from __future__ import annotations

from dataclasses import dataclass

from perfloop.metrics import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidationStatistics:
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
    """The same as metrics, for a scrape; made in the registry that is given."""

    def __init__(self, registry: Registry) -> None:
        prefix = "perfloop_cache_invalidation"
        self._changes = registry.counter(f"{prefix}_changes", "Changes of watched tables that were heard of")
        self._doubts = registry.counter(f"{prefix}_doubts", "Times whole tables were invalidated in doubt")
        self._faults = registry.counter(f"{prefix}_faults", "Times the listener had to begin anew")
        self._rate = registry.gauge(f"{prefix}_changes_per_second", "Changes heard of, lately")
        self._oldest = registry.gauge(
            f"{prefix}_oldest_change_seconds", "Age of the oldest unprocessed change"
        )
        self._behind = registry.gauge(f"{prefix}_behind_seconds", "All committed longer ago is invalidated")
        self._kept = registry.gauge(f"{prefix}_kept_bytes", "Kept by the database for the listener")
        self._over = registry.gauge(f"{prefix}_over_limit", "1 while the slot keeps more than it may")
        self._seen = (0, 0, 0)

    def publish(self, now: InvalidationStatistics) -> None:
        counted = (now.changes, now.doubts, now.faults)
        for metric, new, old in zip(
            (self._changes, self._doubts, self._faults), counted, self._seen, strict=True
        ):
            metric.inc(new - old)
        self._seen = counted
        self._rate.set(now.changes_per_s)
        self._oldest.set(now.oldest_change_s)
        self._behind.set(now.behind_s or 0.0)
        self._kept.set(now.kept_bytes)
        self._over.set(now.is_over_limit)
