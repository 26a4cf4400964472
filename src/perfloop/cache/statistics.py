"""What a cache did, in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from perfloop.cache.breaker import Breaker, BreakerState
from perfloop.cache.key_list import KeyListStatistics
from perfloop.cache.loaded import Source
from perfloop.cache.memory_statistics import MemoryStatistics
from perfloop.cache.usage_counts import UsageCounts
from perfloop.cache.warming import WarmingStatistics
from perfloop.metrics.counter import Counter
from perfloop.model.value import Value


class SharedTier(Protocol):
    """What a cache knows of the way to its shared tier."""

    breaker: Breaker

    @property
    def is_deaf(self) -> bool: ...

    @property
    def pending(self) -> int: ...


class Counts:
    """What the cache counts above its tiers; none of it on a hit of the memory tier."""

    __slots__ = (
        "background_loads",
        "load_failures",
        "load_s",
        "loaded_keys",
        "loads",
        "refused",
        "rejected",
        "remote_hits",
        "stale",
        "unchecked",
        "unencodable",
        "usage",
    )

    def __init__(self, usage: UsageCounts | None = None) -> None:
        self.usage = usage
        """Counts the same by template, where that is asked for."""
        self.remote_hits = Counter()
        self.stale = Counter()
        self.unchecked = Counter()
        self.loads = Counter()
        self.loaded_keys = Counter()
        self.background_loads = Counter()
        self.load_s = Counter()
        self.load_failures = Counter()
        self.refused = Counter()
        self.rejected = Counter()
        self.unencodable = Counter()

    def served(self, source: Source, key: str) -> None:
        """One request got a value that this process did not have, or an old one."""
        if source is Source.REMOTE:
            self.remote_hits.inc()
        elif source is Source.UNCHECKED:
            self.unchecked.inc()
        elif source is Source.STALE:
            self.stale.inc()
        if self.usage is not None:
            self.usage.served(source, key)

    def loaded(self, load_s: float, *, keys: Sequence[str], is_background: bool) -> None:
        load_s = max(0.0, load_s)
        self.loads.inc()
        self.loaded_keys.inc(len(keys))
        if is_background:
            self.background_loads.inc()
        self.load_s.inc(load_s)
        if self.usage is not None:
            self.usage.loaded(load_s, keys)

    def summed(
        self,
        memory: MemoryStatistics,
        link: SharedTier | None,
        warming: Mapping[str, WarmingStatistics],
        key_list: KeyListStatistics | None,
    ) -> CacheStatistics:
        """All that one cache counts."""
        return CacheStatistics(
            memory=memory,
            remote_hits=int(self.remote_hits.value),
            stale_hits=int(self.stale.value),
            unchecked_hits=int(self.unchecked.value),
            loads=int(self.loads.value),
            loaded_keys=int(self.loaded_keys.value),
            background_loads=int(self.background_loads.value),
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
            key_list=key_list,
        )


class CacheStatistics(Value, frozen=True, kw_only=True):
    """One cache since it was made, in this process."""

    memory: MemoryStatistics
    remote_hits: int
    """Requests that got a fresh value of the remote tier."""
    stale_hits: int
    """Requests that got a value past its life, a spare one for a failed loader included."""
    unchecked_hits: int
    """Requests that got a fresh value unchecked, since the remote tier went away when it was asked."""
    loads: int
    """Calls of loaders that returned."""
    loaded_keys: int
    """Keys that these were called for: a batch counts each."""
    background_loads: int
    """Those of `loads` that nobody waited for."""
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
    key_list: KeyListStatistics | None = None
    """None without a list of keys."""

    @property
    def hits(self) -> int:
        """Requests that got a fresh value of either tier."""
        return self.memory.hits + self.remote_hits + self.unchecked_hits

    @property
    def asked(self) -> int:
        """Requests, each key of a batch for itself; refreshes in the background are none."""
        return self.memory.hits + self.memory.misses + self.memory.stale

    @property
    def hit_ratio(self) -> float | None:
        """The share of the requests that got a fresh or an old value of a tier; None before the first."""
        return (self.hits + self.stale_hits) / self.asked if self.asked else None
