# Generated from perfloop/cache/_async/parts.py by tools/make_sync.py; edit that one.
"""What a cache is made of, put together: each part knows those before it, and nobody else's insides."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from perfloop.cache._sync.batch import Batch
from perfloop.cache._sync.key_listing import KeyListing
from perfloop.cache._sync.link import Link
from perfloop.cache._sync.loading import Loading
from perfloop.cache._sync.plain import Plain
from perfloop.cache._sync.storing import Storing
from perfloop.cache.breaker import BreakerPolicy
from perfloop.cache.codec import Codec
from perfloop.cache.events import CacheEvent
from perfloop.cache.functions import Templates
from perfloop.cache.key_list import KeyListPolicy
from perfloop.cache.loaded import Terms
from perfloop.cache.memory import MemoryTier
from perfloop.cache.observing import Observed
from perfloop.cache.policy import CachePolicy
from perfloop.cache.remote import RemoteTier
from perfloop.cache.statistics import CacheStatistics, Counts
from perfloop.cache.usage import UsageProfile
from perfloop.cache.usage_counts import UsageCounts, tallies_of
from perfloop.cache.warmed import Warmed
from perfloop.errors import InvalidInput
from perfloop.metrics.fork import restart_in_child
from perfloop.metrics.registry import Registry
from perfloop.model.value import require

CAPACITY: Final = 100_000
"""Entries, where nothing is said."""


class Surroundings(NamedTuple):
    """What a cache takes from without."""

    clock: Callable[[], float]
    rand: Callable[[], float]
    tell: Callable[[CacheEvent], None]


def memory_of(
    capacity: int | None,
    max_bytes: int | None,
    usage: UsageCounts | None,
    *,
    clock: Callable[[], float],
    rand: Callable[[], float],
) -> MemoryTier:
    """The process's own tier.

    Raises:
        InvalidInput: It has two bounds.
    """
    require(capacity is None or max_bytes is None, "capacity and max_bytes are two bounds; give one")
    entries = CAPACITY if capacity is None else capacity
    return MemoryTier(entries, max_bytes=max_bytes, clock=clock, rand=rand, tallies=tallies_of(usage))


class Parts:
    """The parts of one cache, for its own face and for the functions that it decorates."""

    def __init__(
        self,
        memory: MemoryTier,
        remote: RemoteTier | None,
        around: Surroundings,
        codec: Codec,
        *,
        policy: CachePolicy | None,
        lease_s: float,
        breaker: BreakerPolicy | None,
        usage: UsageCounts | None,
    ) -> None:
        clock, rand, tell = around
        self.memory = memory
        self.rand = rand
        self.terms = terms = Terms(policy)
        self.counts = counts = Counts(usage)
        self.templates = Templates(usage)
        self.warmed: dict[str, Warmed[Any]] = {}
        self.key_listing: KeyListing | None = None
        self.link = link = None
        if remote is not None:
            way = breaker or BreakerPolicy()
            self.link = link = Link(remote, memory, policy=way, clock=clock, tell=tell)
        self.storing = storing = Storing(
            memory, link, codec=codec, terms=terms, lease_s=lease_s, rand=rand, counts=counts, tell=tell
        )
        self.loading = Loading(memory, link, storing=storing, counts=counts, clock=clock, tell=tell)
        self.plain = Plain(
            memory, link, self.loading, storing, terms=terms, counts=counts, rand=rand, tell=tell
        )
        self.batch = Batch(memory, link, self.loading, storing)
        restart_in_child(self)

    def observe(self, name: str, registry: Registry | None) -> None:
        """Have it shown while the cache is open, in the registry if there is one."""
        self.observed = Observed(name, self.statistics, self.counts.usage, registry)

    def keep_key_list(self, path: str | Path, policy: KeyListPolicy | None, capacity: int | None) -> None:
        """Have the list of keys written while the cache is open."""
        listing = KeyListing(
            path, policy or KeyListPolicy(), self.memory, self.batch, capacity=capacity, rand=self.rand
        )
        self.loading.tell_missed = listing.missed
        self.key_listing = listing

    def open(self) -> None:
        """Begin to listen, and to load what is listed; where that is cancelled, nothing is left open."""
        if self.link is not None:
            self.link.open()
        try:
            if self.key_listing is not None:
                self.key_listing.open(self.loading.crew)
            self.observed.open()
        except BaseException:  # a cancelled one, too: who did not get in will not go out
            self.close()
            raise

    def close(self) -> None:
        """Close one after the other, whatever fails on the way."""
        self.observed.close()
        if self.link is not None:
            self.link.retire()
        try:
            if self.key_listing is not None:
                self.key_listing.close()
        finally:
            try:
                self.loading.crew.stop()
                self.loading.crew.join()
            finally:
                if self.link is not None:
                    self.link.close()

    def restart(self) -> None:
        """In a forked child: the parent's loads, threads, connections and list of keys are not ours."""
        self.loading.restart()
        if self.key_listing is not None:
            self.key_listing.restart()
        if self.link is not None:
            self.link.restart()

    def invalidate(self, keys: tuple[str, ...], tags: tuple[str, ...]) -> None:
        """Make keys and tags invalid, in all processes."""
        link = self.link
        if link is None:
            self._drop(keys, tags)
            return
        link.require_open()
        self._drop(keys, tags)
        try:
            link.invalidate(keys, tags)
        finally:  # what was fetched from the remote tier meanwhile is older than the invalidation
            self._drop(keys, tags)

    def _drop(self, keys: tuple[str, ...], tags: tuple[str, ...]) -> None:
        if keys:
            self.memory.invalidate(keys)
        if tags:
            self.memory.invalidate_tags(tags)

    @property
    def is_alone(self) -> bool:
        """Whether the shared tier is away."""
        return self.link is not None and self.link.is_away

    def usage(self) -> UsageProfile:
        """What is counted by template."""
        if self.counts.usage is None:
            raise InvalidInput("this cache does not count by template; make it with usage=True")
        return self.counts.usage.profile(
            capacity=self.memory.capacity,
            capacity_estimates=self.memory.capacity_estimates(),
            has_shared_tier=self.link is not None,
            saved_unix_s=time.time(),
        )

    def statistics(self) -> CacheStatistics:
        warming = {template: warmed.statistics() for template, warmed in self.warmed.items()}
        key_list = None if self.key_listing is None else self.key_listing.statistics()
        return self.counts.summed(self.memory.statistics(), self.link, warming, key_list)
