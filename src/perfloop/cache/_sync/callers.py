# Generated from perfloop/cache/_async/callers.py by tools/make_sync.py; edit that one.
"""Those who wait for a load: how they board it, how long they wait, and what they get."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from perfloop.cache._sync.landing import NOTHING, Landing
from perfloop.cache.events import CacheEvent, StaleServed
from perfloop.cache.flights import Boarding, Flight
from perfloop.cache.loaded import Request, Source
from perfloop.cache.memory import MemoryTier
from perfloop.cache.policy import CachePolicy
from perfloop.cache.statistics import Counts
from perfloop.cache.waiting import Runner
from perfloop.errors import InvalidInput, LoadTimedOut

MOST_GIVEN_UP: Final = 2
"""Loads of one key that took over their hard limit and still go on; beside so many no other is begun."""
LONGEST_CHAIN: Final = 100
"""Loads that wait for one another are looked at up to here."""


class Callers:
    """The callers of one cache whose values are being loaded."""

    def __init__(
        self,
        memory: MemoryTier,
        *,
        counts: Counts,
        clock: Callable[[], float],
        tell: Callable[[CacheEvent], None],
    ) -> None:
        self._memory = memory
        self._counts = counts
        self._clock = clock
        self._tell = tell
        self.restart()

    def restart(self) -> None:
        """In a forked child, where nobody waits."""
        self._lock = threading.Lock()
        self._waits: dict[object, Landing] = {}
        self._given_up: WeakValueDictionary[tuple[str, int], Landing] = WeakValueDictionary()

    def embark(self, request: Request) -> tuple[Boarding, Landing]:
        """Board the load of a key; whoever leads it has to see to its end, by `desert` at worst."""
        boarding = self._memory.begin(request.key, request.tags)
        try:
            return boarding, self.board(boarding.flight)
        except BaseException:  # an interrupt: nobody would lead it
            if boarding.leads:
                self._memory.end(boarding.flight)
                if isinstance(boarding.flight.future, Landing):
                    boarding.flight.future.turn_back()
            raise

    def board(self, flight: Flight) -> Landing:
        """What the callers of a flight wait for; one more waits for it."""
        with self._lock:
            landing = flight.future
            if not isinstance(landing, Landing):
                landing = flight.future = Landing(self._clock())
            landing.waiters += 1
        if landing.ahead is not None:
            landing.ahead.come_late()
        return landing

    def leave(self, flight: Flight, landing: Landing) -> None:
        """One waits no longer; a load that nobody waits for is cancelled, unless it is to be kept."""
        with self._lock:
            landing.waiters -= 1
            is_deserted = landing.waiters == 0 and not landing.is_kept and not landing.signal.is_given
        if is_deserted:
            self._memory.end(flight)
            if landing.work is not None:
                landing.work.abandon()

    def desert(self, boarding: Boarding, landing: Landing) -> None:
        """Not even its leader waits any longer: where nobody else sees to its end, the others lead anew."""
        if boarding.leads and not landing.signal.is_given:
            self._memory.end(boarding.flight)
            landing.turn_back()
        self.leave(boarding.flight, landing)

    def arrive(self, request: Request, boarding: Boarding, landing: Landing, spare: object = NOTHING) -> Any:
        """The value, once the load that was boarded has landed; NOTHING where it has to be boarded anew.

        `spare` is what the caller had itself when it came, to be served if the load fails or is slow.
        """
        flight = boarding.flight
        try:
            if not landing.signal.is_given and not self._wait(request, boarding, landing, spare):
                return self._instead(request, boarding, landing, spare)
        finally:
            self.leave(flight, landing)
        if landing.error is not None:
            return self._stand_in(request, boarding, landing, spare)
        is_of_no_use = landing.is_bare and request.kind is not None
        if is_of_no_use or landing.value is NOTHING or not flight.serves(boarding.number):
            return NOTHING
        self._count(request, landing.source)
        return landing.value

    def _wait(self, request: Request, boarding: Boarding, landing: Landing, spare: object) -> bool:
        """Whether it landed before the caller has something better to do; a load that hangs is given up."""
        runner = Runner.current()
        self._waits[runner] = landing
        try:
            self._require_an_end(request.key, landing, runner)
            return self._lands(request.policy, boarding, landing, spare)
        finally:
            self._waits.pop(runner, None)

    def _require_an_end(self, key: str, landing: Landing, runner: object) -> None:
        """Raise InvalidInput where the load waits, perhaps by way of others, for the one who is to wait."""
        waited_for: Landing | None = landing
        for _ in range(LONGEST_CHAIN):
            if waited_for is None:
                return
            if waited_for.runner == runner:
                raise InvalidInput(
                    f"the loader of {key!r} waits for {key!r} itself, or by way of another loader, and so"
                    " for ever; have it ask for another key, or load without the cache"
                )
            waited_for = self._waits.get(waited_for.runner)

    def _lands(self, policy: CachePolicy, boarding: Boarding, landing: Landing, spare: object) -> bool:
        soft_s, hard_s = policy.soft_timeout_s, policy.hard_timeout_s
        left_s = hard_s
        if soft_s is not None:
            if landing.signal.wait(soft_s):
                return True
            if spare is not NOTHING or landing.spare_for(boarding) is not NOTHING:
                landing.is_kept = True
                if hard_s is not None and self._clock() - landing.begun_s >= hard_s:
                    self._give_up(boarding.flight, landing)
                return False
            left_s = None if hard_s is None else hard_s - soft_s
        if landing.signal.wait(left_s):
            return True
        self._give_up(boarding.flight, landing)
        return False

    def _give_up(self, flight: Flight, landing: Landing) -> None:
        """Let the next caller begin another load: this one hangs."""
        self._memory.end(flight)
        with self._lock:
            if landing.is_given_up:
                return
            landing.is_given_up = True
            if landing.work is not None:
                landing.is_kept = False
            for place in range(MOST_GIVEN_UP):
                if not self._hangs(flight.key, place):
                    self._given_up[flight.key, place] = landing
                    return

    def _hangs(self, key: str, place: int) -> bool:
        landing = self._given_up.get((key, place))
        return landing is not None and not landing.signal.is_given

    def refusal(self, key: str, *, has_room: bool) -> LoadTimedOut | None:
        """Why no load of a key is to be begun now, if so: what was given up may go on all the same."""
        if all(self._hangs(key, place) for place in range(MOST_GIVEN_UP)):
            return LoadTimedOut(
                f"{MOST_GIVEN_UP} loads of {key!r} took over their hard_timeout_s and still go on; the next"
                " begins when one of them has ended: give the loader a time limit of its own"
            )
        if has_room or not self._given_up:
            return None
        return LoadTimedOut(
            f"{key!r} is not loaded: as many threads as are allowed load already, and some took over their"
            " hard_timeout_s; give their loaders time limits of their own"
        )

    def _instead(self, request: Request, boarding: Boarding, landing: Landing, spare: object) -> Any:
        """An old value for one who waited long enough; what the load found is newer than the caller's."""
        found = landing.spare_for(boarding)
        found = spare if found is NOTHING else found
        if found is NOTHING:
            raise LoadTimedOut(
                f"the loader of {request.key!r} took over {request.policy.hard_timeout_s} s; raise the limit,"
                " hard_timeout_s, or keep old values with fail_safe_for_s"
            )
        if not request.is_background:
            self.tell_stale(request.key, is_spare=True)
        return found

    def _stand_in(self, request: Request, boarding: Boarding, landing: Landing, spare: object) -> Any:
        """An old value in place of an error; NOTHING where there is one, but perhaps not for this caller."""
        if isinstance(landing.error, Exception):
            if spare is not NOTHING or landing.spare_for(boarding) is not NOTHING:
                return self._instead(request, boarding, landing, spare)
            if landing.spare is not NOTHING:
                return NOTHING
        landing.reraise()

    def _count(self, request: Request, source: Source) -> None:
        """Count where the value of one request came from; a refresh is no request."""
        if source is Source.STALE and not request.is_background:
            self.tell_stale(request.key)
        elif not request.is_background:
            self._counts.served(source, request.key)

    def tell_stale(self, key: str, *, is_spare: bool = False) -> None:
        """One request got a value past its life."""
        self._counts.served(Source.STALE, key)
        self._tell(StaleServed(key=key, is_spare=is_spare))
