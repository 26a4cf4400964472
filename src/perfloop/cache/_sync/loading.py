# Generated from perfloop/cache/_async/loading.py by tools/make_sync.py; edit that one.
"""What happens when the memory tier has no value to serve at once: one load for all who ask."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from perfloop.cache._sync.callers import Callers
from perfloop.cache._sync.landing import NOTHING, Landing
from perfloop.cache._sync.link import Link
from perfloop.cache._sync.storing import Storing
from perfloop.cache.entry import Entry
from perfloop.cache.events import CacheEvent, LoadEnded, LoadFailed, Missed, told
from perfloop.cache.flights import Flight
from perfloop.cache.loaded import Request, Source
from perfloop.cache.memory import MemoryTier
from perfloop.cache.policy import Freshness
from perfloop.cache.remote import Fetched, Lease, RemoteEntry
from perfloop.cache.statistics import Counts
from perfloop.cache.waiting import Crew, Loaders, Runner, Work
from perfloop.errors import LoadTimedOut

SERVED: Final = (Freshness.FRESH, Freshness.DUE, Freshness.STALE)
"""What a caller gets at once."""
SLACK_RATIO: Final = 0.02
"""Two tiers measure one life a little differently: what has so much more of it left is another value."""


def _ignore(key: str) -> None:
    """Nobody counts misses by key."""


class Loading:
    """Loads of one cache: from the remote tier if there is one, else by their loaders."""

    def __init__(
        self,
        memory: MemoryTier,
        link: Link | None,
        *,
        storing: Storing,
        counts: Counts,
        clock: Callable[[], float],
        tell: Callable[[CacheEvent], None],
    ) -> None:
        self._memory = memory
        self._link = link
        self._storing = storing
        self.counts = counts
        self._clock = clock
        self._tell = tell
        self._callers = callers = Callers(memory, counts=counts, clock=clock, tell=tell)
        self.embark, self.board, self.arrive = callers.embark, callers.board, callers.arrive
        self.leave, self.desert = callers.leave, callers.desert
        self.tell_stale = callers.tell_stale
        self.tell_missed: Callable[[str], None] = _ignore
        """Is told what the memory tier had nothing of."""
        self.restart()

    def restart(self) -> None:
        """In a forked child: nothing of the parent's work goes on."""
        self._callers.restart()
        self.crew = Crew()
        self._lock = threading.Lock()
        self._refreshing: set[str] = set()

    def serve(self, request: Request) -> Any:
        """The value of a key that the memory tier could not serve at once."""
        link = self._link
        if link is not None:
            link.require_open()
        found, entry = self._memory.examine(request.key, trusting=link is not None and link.is_away)
        if entry is None or found is Freshness.UNCHECKED:
            self.tell_missed(request.key)
            return self.obtain(request)
        if found is Freshness.FRESH:
            return entry.value
        if found is Freshness.SPARE:
            return self.obtain(request, entry.value)
        if found is Freshness.STALE:
            self.tell_stale(request.key)
        self.refresh(request, entry)
        return entry.value

    def drop_unchecked(self, keys: Iterable[str]) -> None:
        """The shared tier, which is there, had none of these: once it is away, they would be served again."""
        if self._link is None or self._link.is_away:
            return
        for key in keys:
            found, _ = self._memory.examine_again(key, trusting=False)
            if found is Freshness.UNCHECKED:
                self._memory.invalidate((key,))

    def refresh(self, request: Request, entry: Entry | None = None) -> None:
        """Load anew beside the caller, unless that is going on already."""
        key = request.key
        if not self.claim_refresh(key):
            return
        behind = request.behind()
        if entry is not None:
            behind.early_s = self.early_s(entry)
        self.begin_behind((key,), self._refresh, behind)

    def begin_behind(self, keys: Sequence[str], function: Callable[..., Any], *arguments: Any) -> Work | None:
        """Refresh these keys beside a caller who has values; None where there is no thread for it."""
        try:
            return self.crew.spawn(function, *arguments)
        except RuntimeError as error:
            self.end_refresh(keys)
            self._note_failure(keys, error)
            return None

    def early_s(self, entry: Entry) -> float:
        """What a shared value must have left to be another one than this, which is due."""
        left_s = entry.fresh_until_s - self._clock()
        return max(0.0, left_s + SLACK_RATIO * entry.life_s)

    def _refresh(self, request: Request) -> None:
        try:
            self.obtain(request)
        except Exception:  # noqa: BLE001 - nobody waits for it, and those who load have told of the error
            return
        finally:
            self.end_refresh((request.key,))

    def claim_refresh(self, key: str) -> bool:
        """Whether the caller is the one to refresh a key behind; `end_refresh` lets the next one."""
        if not self.crew.has_room:
            return False
        with self._lock:
            is_first = key not in self._refreshing
            self._refreshing.add(key)
        return is_first

    def end_refresh(self, keys: Iterable[str]) -> None:
        self._refreshing.difference_update(keys)

    def obtain(self, request: Request, spare: object = NOTHING) -> Any:
        """Board the load of the key, or lead one; a value that an invalidation overtook is loaded again."""
        while True:
            boarding, landing = self.embark(request)
            if boarding.leads:
                try:
                    self._lead(request, boarding.flight, landing)
                except BaseException:
                    self.desert(boarding, landing)
                    raise
            value = self.arrive(request, boarding, landing, spare)
            if value is not NOTHING:
                return value

    def _lead(self, request: Request, flight: Flight, landing: Landing) -> None:
        policy = request.policy
        if policy.hard_timeout_s is None and policy.soft_timeout_s is None:
            self._load(request, flight, landing, False)
            return
        refusal = self.refusal(flight.key)
        if refusal is not None:
            self.fail([(flight, landing, None)], refusal)
            return
        try:
            landing.work = self.crew.spawn(self._load, request, flight, landing, True)
        except RuntimeError as error:  # there is no thread for it
            self.fail([(flight, landing, None)], error)

    def refusal(self, key: str) -> LoadTimedOut | None:
        """Why no load of a key is to be begun in a thread of its own, if so."""
        return self._callers.refusal(key, has_room=self.crew.has_room)

    def _load(self, request: Request, flight: Flight, landing: Landing, is_apart: bool) -> None:
        """From the remote tier, else by the loader; `is_apart` where it has a task of its own already."""
        lease = None
        link = self._link
        try:
            if link is not None and not link.is_away:
                lease = self._look_up(link, request, flight, landing)
                if lease is None and not landing.signal.is_given:
                    self.trust(link, flight, landing)
        except Exception as error:  # noqa: BLE001 - a fault of the tier goes to all who wait, as a loader's
            self.fail([(flight, landing, lease)], error)
        except BaseException:  # the leader was cancelled: the others choose a new one
            self._memory.end(flight)
            landing.turn_back()
            raise
        if landing.signal.is_given:
            return
        if is_apart:
            self._run(request, flight, landing, lease)
        else:
            landing.work = self.crew.lead(self._run, request, flight, landing, lease)

    def trust(self, link: Link, flight: Flight, landing: Landing) -> None:
        """Land with what is kept here and could not be checked, if the remote tier went away just now."""
        if not link.is_away:
            return
        found, entry = self._memory.examine_again(flight.key, trusting=True)
        if entry is not None and found in SERVED:
            self._memory.end(flight)
            landing.land(entry.value, Source.STALE if found is Freshness.STALE else Source.UNCHECKED)

    def _look_up(self, link: Link, request: Request, flight: Flight, landing: Landing) -> Lease | None:
        """Land with what the remote tier has, else return the lease it gave, if it gave one."""
        early_s = request.early_s
        while True:
            seen = link.news
            answer = link.fetch((request.key,), self._storing.lease_s, early_s)
            if answer is None:
                return None
            entry = (fetched := answer[request.key]).entry
            if entry is not None and self.settle(request, flight, landing, fetched, entry):
                return None
            if fetched.lease is not None:
                return fetched.lease
            if fetched.held_for_s is None:
                if entry is None or early_s == math.inf:
                    return None
                early_s = math.inf  # it cannot be read: claim its place
                continue
            link.wait_for_news(request.key, seen, fetched.held_for_s)
            if flight.detached:
                landing.turn_back()
                return None

    def settle(
        self, request: Request, flight: Flight, landing: Landing, fetched: Fetched, entry: RemoteEntry
    ) -> bool:
        """Whether the entry is what its callers get; a lease that came with it goes to a refresh."""
        request.replaces = True
        value = self._storing.decoded(request, entry)
        if value is NOTHING:
            return False
        left_s = entry.ttl_s - entry.age_s
        is_fresh = left_s > 0
        if request.is_background and (fetched.lease is not None or not is_fresh):
            landing.spare = value if is_fresh or landing.spare is NOTHING else landing.spare
            return False
        if not is_fresh and -left_s >= entry.stale_for_s:
            landing.spare = value
            return False
        self._storing.keep_fetched(request, flight, entry, value)
        landing.is_bare = self._storing.is_bare(request, entry)
        landing.land(value, Source.REMOTE if is_fresh else Source.STALE)
        if fetched.lease is not None:
            self._refresh_with(request, fetched.lease)
        return True

    def _refresh_with(self, request: Request, lease: Lease) -> None:
        """Load behind the callers, with the lease that came with the stale value."""
        if not self.crew.has_room:
            self._storing.give_back((lease,))
            return
        request = request.behind()
        flight, leads, _ = self._memory.begin(request.key, request.tags)
        landing = self.board(flight)
        if not leads:
            self.leave(flight, landing)
            self.begin_behind((), self._storing.give_back, (lease,))
            return
        landing.is_kept = True
        keys = (request.key,)
        self.claim_refresh(request.key)
        landing.work = self.begin_behind(keys, self._run_behind, request, flight, landing, lease)
        if landing.work is None:
            self._memory.end(flight)
            landing.turn_back()
            self._storing.give_back((lease,))

    def _run_behind(self, request: Request, flight: Flight, landing: Landing, lease: Lease) -> None:
        try:
            self._run(request, flight, landing, lease)
        finally:
            self.end_refresh((request.key,))

    def _run(self, request: Request, flight: Flight, landing: Landing, lease: Lease | None) -> None:
        """Run the loader and land."""
        try:
            landing.runner = Runner.current()
            self.tell_no_value([request])
            loaded, load_s = self.timed([request], request.loader)
            self._storing.keep_batch([(request, flight, lease, loaded)], load_s)
            landing.land(self._storing.bare(loaded))
        except BaseException as error:
            if not self.fail([(flight, landing, lease)], error):
                raise

    def tell_no_value(self, requests: Sequence[Request]) -> None:
        """No tier has a value for these; those of the background have not been missed by anybody."""
        keys = tuple(request.key for request in requests if not request.is_background)
        if keys:
            self._tell(Missed(keys=keys))

    def timed(self, requests: Sequence[Request], loader: Any, *arguments: Any) -> tuple[Any, float]:
        """What a loader returned for all of these, and how long it took."""
        begun_s = self._clock()
        loaded = Loaders.checked(loader, loader(*arguments))
        load_s = self._clock() - begun_s
        keys = tuple(request.key for request in requests)
        self.counts.loaded(load_s, keys=keys, is_background=requests[0].is_background)
        self._tell(LoadEnded(keys=keys, load_s=load_s))
        return loaded, load_s

    def fail(self, loads: Sequence[tuple[Flight, Landing, Lease | None]], error: BaseException) -> bool:
        """Those who wait get the loader's error, unless it is not theirs; other processes need not wait."""
        shared = self.crew.error_for_waiters(error)
        for flight, landing, _ in loads:
            self._memory.end(flight)
            if shared is not None:
                landing.fail(shared)
            else:
                landing.turn_back()
        keys = [flight.key for flight, _, _ in loads]
        self.drop_unchecked(keys)
        self._note_failure(keys, error)
        self._storing.give_back([lease for _, _, lease in loads if lease is not None])
        return shared is not None

    def _note_failure(self, keys: Sequence[str], error: BaseException) -> None:
        self.counts.load_failures.inc()
        self._tell(LoadFailed(keys=tuple(keys), error=told(error)))
