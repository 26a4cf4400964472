# Generated from perfloop/cache/_async/storing.py by tools/make_sync.py; edit that one.
"""Where values go: into both tiers, or into neither."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from perfloop.cache._sync.landing import NOTHING
from perfloop.cache._sync.link import Link
from perfloop.cache.codec import Codec, Rejection, needs_kind
from perfloop.cache.events import CacheEvent, StoreRefused, told
from perfloop.cache.flights import Flight
from perfloop.cache.loaded import Loaded, Request, Terms, unpacked
from perfloop.cache.memory import MemoryTier
from perfloop.cache.policy import CachePolicy, drawn_life_s
from perfloop.cache.remote import Lease, RemoteEntry, StoreOutcome, Write
from perfloop.cache.statistics import Counts
from perfloop.cache.warmed import Ahead

LONGEST_S: Final = 10 * 365 * 86400.0
"""An endless life, as the remote tier has it."""

Landed = tuple[Request, Flight, Lease | None, object]
"""A load that ended: its flight, the lease it held, and what the loader returned."""

_log = logging.getLogger("perfloop.cache")


class Storing:
    """Encodes, stores and decodes for one cache. A fence of either tier keeps a value out of both."""

    def __init__(
        self,
        memory: MemoryTier,
        link: Link | None,
        *,
        codec: Codec,
        terms: Terms,
        lease_s: float,
        rand: Callable[[], float],
        counts: Counts,
        tell: Callable[[CacheEvent], None],
    ) -> None:
        self._memory = memory
        self._link = link
        self._codec = codec
        self._terms = terms
        self.lease_s = lease_s
        self._rand = rand
        self._counts = counts
        self._tell = tell
        self._warned = False

    def keep_batch(self, loads: Sequence[Landed], load_s: float) -> Mapping[str, StoreOutcome]:
        """Keep what loaders returned, where nothing was invalidated meanwhile; what became of it beyond."""
        terms = []
        writes = []
        for request, _, lease, loaded in loads:
            value, policy, tags = unpacked(loaded, request.policy, request.tags, self._terms)
            drawn_s = drawn_life_s(policy, self._rand(), negative=value is None)
            terms.append((value, policy, tags, drawn_s))
            if lease is not None:
                writes.append(self.write(request, value, policy, tags, drawn_s, lease))
        outcomes = self._outcomes(writes)
        self.end_old(
            request.key
            for (request, *_), (*_, drawn_s) in zip(loads, terms, strict=True)
            if drawn_s <= 0 and request.replaces and outcomes.get(request.key) is not StoreOutcome.FENCED
        )
        for (request, flight, _, _), (value, policy, tags, drawn_s) in zip(loads, terms, strict=True):
            # A lease that ran out says nothing of invalidations; the news will tell the memory tier of any.
            if outcomes.get(flight.key) is StoreOutcome.FENCED and load_s < self.lease_s:
                self.refuse(flight)
            else:
                self.keep_in_memory(flight, value, policy, tags, drawn_s, load_s, request.ahead)
        return outcomes

    def _outcomes(self, writes: Sequence[Write]) -> dict[str, StoreOutcome]:
        if not writes or self._link is None:
            return {}
        answer = self._link.store(writes)
        return dict(zip((write.key for write in writes), answer or (), strict=False))

    def end_old(self, keys: Iterable[str]) -> None:
        """Nothing takes the place of what the shared tier has of these: it goes, and all hear of it."""
        ended = tuple(keys)
        if ended and self._link is not None:
            self._link.invalidate(ended, ())

    def bare(self, loaded: Any) -> Any:
        """What callers get of what a loader returned."""
        return loaded.value if isinstance(loaded, Loaded) else loaded

    def refuse(self, flight: Flight) -> None:
        """An invalidation in another process overtook the load."""
        flight.overtaken = True
        self._memory.end(flight)
        self._counts.refused.inc()
        self._tell(StoreRefused(key=flight.key, reason="invalidated while it was loaded"))

    def keep_in_memory(
        self,
        flight: Flight,
        value: object,
        policy: CachePolicy,
        tags: tuple[str, ...],
        drawn_s: float,
        load_s: float,
        ahead: Ahead[Any] | None = None,
    ) -> None:
        """Land in the memory tier, unless it could not hear of invalidations."""
        if self._link is not None and not self._link.may_keep:
            self._memory.end(flight)
            return
        unasked = None if ahead is None or ahead.is_late else ahead
        self._memory.store(
            flight, value, policy=policy, tags=tags, load_s=load_s, life_s=drawn_s, ahead=unasked
        )
        if flight.detached or flight.overtaken:
            self._tell(StoreRefused(key=flight.key, reason="invalidated while it was loaded"))

    def keep_fetched(self, request: Request, flight: Flight, entry: RemoteEntry, value: object) -> None:
        """Land with an entry of the remote tier."""
        if self._link is None or not self._link.may_keep or self.is_bare(request, entry):
            self._memory.end(flight)
            return
        policy = self._terms.fetched(request.policy, entry.stale_for_s, entry.fail_safe_for_s)
        self._memory.store(
            flight, value, policy=policy, tags=entry.tags, age_s=entry.age_s, life_s=entry.ttl_s
        )

    def write(
        self,
        request: Request,
        value: object,
        policy: CachePolicy,
        tags: tuple[str, ...],
        drawn_s: float,
        lease: Lease | None,
    ) -> Write:
        """What the remote tier is to store; without a payload where the value has no life or no bytes.

        Raises:
            InvalidInput: It is a plain set, and no serialiser takes the value; one's own may raise others.
        """
        payload = None
        if drawn_s > 0:
            payload = self._encoded(request, value, must=lease is None)
        return Write(
            key=request.key,
            payload=payload,
            ttl_s=min(drawn_s, LONGEST_S),
            stale_for_s=min(policy.stale_for_s, LONGEST_S),
            fail_safe_for_s=min(policy.fail_safe_for_s, LONGEST_S),
            tags=tags,
            lease=lease,
            renews=request.renews and lease is not None,
        )

    def _encoded(self, request: Request, value: object, *, must: bool) -> bytes | None:
        """None for a value that only this process can keep: its loader's caller is to get it all the same."""
        try:
            return self._codec.encode(request.key, value, request.kind)
        except Exception as error:  # of a serialiser of the user's own, or a value's `__eq__`, any
            if must:
                raise
            reason = told(error, str) or told(error)
            self._counts.unencodable.inc()
            self._tell(StoreRefused(key=request.key, reason=reason))
            if not self._warned:
                self._warned = True
                _log.warning("kept in this process only: %s (said once; statistics() counts)", reason)
            return None

    def decoded(self, request: Request, entry: RemoteEntry) -> Any:
        """The value, or NOTHING where its bytes cannot be read or trusted."""
        value = self._codec.decode(request.key, entry.payload, request.kind)
        if isinstance(value, Rejection):
            self._counts.rejected.inc()
            return NOTHING
        return value

    def is_bare(self, request: Request, entry: RemoteEntry) -> bool:
        """Whether it was read without the type that it needs: enough for who gave none, and nobody else."""
        return request.kind is None and needs_kind(entry.payload)

    def give_back(self, leases: Sequence[Lease]) -> None:
        """End leases without a value, so that others need not wait for their time to pass."""
        if leases and self._link is not None:
            self._link.store([Write(key=lease.key, payload=None, lease=lease) for lease in leases])
