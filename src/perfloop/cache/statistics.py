"""What a cache did, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from perfloop.cache.breaker import Breaker, BreakerState
from perfloop.cache.memory_statistics import MemoryStatistics
from perfloop.cache.restart import RestartStatistics
from perfloop.cache.warming import WarmingStatistics
from perfloop.metrics.counter import Counter
from perfloop.model.value import Value


class SharedTier(Protocol):
    """What a cache knows of the way to its shared tier."""

    breaker: Breaker
    is_deaf: bool

    @property
    def pending(self) -> int: ...


class Counts:
    """What the cache counts above its tiers; none of it on a hit of the memory tier."""

    __slots__ = (
        "load_failures",
        "load_s",
        "loads",
        "refused",
        "rejected",
        "remote_hits",
        "stale",
        "unencodable",
    )

    def __init__(self) -> None:
        self.remote_hits = Counter()
        self.stale = Counter()
        self.loads = Counter()
        self.load_s = Counter()
        self.load_failures = Counter()
        self.refused = Counter()
        self.rejected = Counter()
        self.unencodable = Counter()

    def loaded(self, load_s: float) -> None:
        self.loads.inc()
        self.load_s.inc(max(0.0, load_s))

    def summed(
        self,
        memory: MemoryStatistics,
        link: SharedTier | None,
        warming: Mapping[str, WarmingStatistics],
        restart: RestartStatistics | None,
    ) -> CacheStatistics:
        """All that one cache counts."""
        return CacheStatistics(
            memory=memory,
            remote_hits=int(self.remote_hits.value),
            stale_hits=int(self.stale.value),
            loads=int(self.loads.value),
            load_s=self.load_s.value,
            load_failures=int(self.load_failures.value),
            refused_stores=memory.refused + int(self.refused.value),
            unreadable=int(self.rejected.value),
            unencodable=int(self.unencodable.value),
            breaker=None if link is None else link.breaker.state,
            breaker_openings=0 if link is None else link.breaker.openings,
            pending_invalidations=0 if link is None else link.pending,
            hears_news=link is None or not link.is_deaf,
            warming=warming,
            restart=restart,
        )


class CacheStatistics(Value, frozen=True, kw_only=True):
    """One cache since it was made, in this process."""

    memory: MemoryStatistics
    remote_hits: int
    """Fresh values that the remote tier had."""
    stale_hits: int
    """Values past their life that were served, spare ones for failed loaders included."""
    loads: int
    """Loaders that returned."""
    load_s: float
    """What they took together."""
    load_failures: int
    refused_stores: int
    """Loaded values that an invalidation overtook, and which were therefore kept nowhere."""
    unreadable: int
    """Values of the remote tier that could not be read, or whose signature was wrong."""
    unencodable: int
    """Values that no serialiser took, so that this process alone keeps them."""
    breaker: BreakerState | None
    """None without a remote tier."""
    breaker_openings: int
    pending_invalidations: int
    """To be sent when the remote tier is back."""
    hears_news: bool
    """Whether invalidations of other processes are heard; True without a remote tier."""
    warming: Mapping[str, WarmingStatistics] = {}
    """By template, of those that are warmed."""
    restart: RestartStatistics | None = None
    """None without a list of keys for restarts."""

    @property
    def hits(self) -> int:
        """Fresh values served, from either tier."""
        return self.memory.hits + self.remote_hits

    @property
    def hit_ratio(self) -> float | None:
        """Fresh and stale hits of all that were asked for; None before the first."""
        served = self.hits + self.stale_hits
        asked = served + self.loads + self.load_failures
        return served / asked if asked else None
