"""The tier in the process: values with their times and tags, bounded, for any number of threads.

A hit takes no lock. It reads a dict, an entry that does not change, and one number: each is one step under
the GIL, and each has its own protection on builds without it, where only the count of hits may fall short.
Whatever changes the tier holds its lock; what it drops is freed after that, so that a value's finaliser may
come back. A signal handler must not, nor the finaliser of an object that only the cycle collector frees.

An invalidation is seen by every `get` that begins after it returned. A load is fenced by its birth, the
tier's number before it began: docs/decisions/0010.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from perfloop.cache.entry import Entry
from perfloop.cache.flights import Boarding, Flight, Flights
from perfloop.cache.ghosts import CapacityEstimate
from perfloop.cache.memory_statistics import MemoryStatistics, count, memory_statistics
from perfloop.cache.policy import CachePolicy, Freshness, freshness
from perfloop.cache.s3fifo import MOST_VISITS
from perfloop.cache.shelf import Shelf
from perfloop.cache.tallies import OneTally, Tallies
from perfloop.metrics.fork import restart_in_child
from perfloop.model.remote import EVERYTHING

SWEPT_PER_STORE: Final = 2


class MemoryTier:
    """Bounded by entries, or by bytes where `max_bytes` is given.

    Args:
        capacity: entries.
        max_bytes: of all entries with their keys and overhead, by `object_bytes` or as given with the value.
        clock: seconds; it never goes back.
        rand: from [0, 1), for jitter and XFetch.
        ghosts: estimate what other capacities would do. Some hits on a sample of the keys, 1 % with a
            capacity of 100,000 and at most an eighth, then take some microseconds more; all others nothing.
        tallies: count what happens; None counts all keys as one.
    """

    def __init__(
        self,
        capacity: int = 100_000,
        *,
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
        ghosts: bool = False,
        tallies: Tallies | None = None,
    ) -> None:
        self.capacity = capacity if max_bytes is None else max_bytes
        self._by_bytes = max_bytes is not None
        self._clock = clock
        self._rand = rand
        self._tallies = OneTally() if tallies is None else tallies
        self._with_ghosts = ghosts or self._tallies.with_ghosts
        self._refused = 0
        self._number = self._changes = self._epoch = self._doubted = self._cleared = 0
        self._lock = threading.Lock()
        self._start_empty()
        restart_in_child(self)

    def _start_empty(self) -> None:
        self._shelf = Shelf(
            self.capacity, by_bytes=self._by_bytes, with_ghosts=self._with_ghosts, tallies=self._tallies
        )
        self._find = self._shelf.queues.nodes.get
        self._flights = Flights()

    def restart(self) -> None:
        """In a forked child, where neither the threads that load exist nor the one that held the lock."""
        self._tallies.restart(is_emptied=self._lock.locked())
        if self._lock.locked():
            self._start_empty()
        self._flights = Flights()
        self._lock = threading.Lock()

    def get(self, key: str) -> Entry | None:
        """The entry if it is fresh and nothing is due; None asks for `examine`, which counts the miss."""
        entry = self._find(key)
        if entry is None or self._clock() >= entry.attention_s:
            return None
        if entry.checked < self._changes and not self._holds(entry):
            return None
        if entry.visits < MOST_VISITS:
            entry.visits += 1
        for _ in entry.tally.hits:
            break
        else:  # once in many hits of one template
            self._tallies.sampled(entry)
        return entry

    def _holds(self, entry: Entry, *, trusting: bool = False) -> bool:
        """Whether nothing was invalidated since its birth; and, unless `trusting`, no news was missed."""
        changes = self._changes  # before the cells: what is invalidated from here on is checked next time
        born = entry.born
        if born < self._cleared:
            return False
        for cell in entry.cells:
            if cell.number > born:
                return False
        if born >= self._epoch:
            entry.checked = changes
            return True
        return trusting

    def peek(self, key: str) -> Entry | None:
        """What is kept for a key, be it of any use or not; counts nothing."""
        return self._find(key)

    def has(self, key: str) -> bool:
        """Whether there is a fresh value; counts nothing."""
        entry = self._find(key)
        return entry is not None and self._clock() < entry.fresh_until_s and self._holds(entry)

    def examine(self, key: str, *, trusting: bool = False) -> tuple[Freshness, Entry | None]:
        """What may be done with what is kept for a key; the entry comes with all but EXPIRED.

        `trusting` gives entries from before an epoch their freshness instead of UNCHECKED, as is asked for
        while the remote tier is away; not where they were to be checked before it went.
        """
        found, entry = self.examine_again(key, trusting=trusting)
        count(self._tallies, key, found, entry)
        if self._with_ghosts and (self._shelf.samples(key) if entry is None else entry.sampled):
            served = entry if found is Freshness.FRESH or found is Freshness.DUE else None
            with self._lock:
                self._shelf.ask_ghosts(key, served, self._clock(), self._cleared, self._flights.oldest_birth)
        return found, entry

    def examine_again(self, key: str, *, trusting: bool) -> tuple[Freshness, Entry | None]:
        """The same for a request that has been counted already."""
        entry = self._find(key)
        if entry is None:
            return Freshness.EXPIRED, None
        found, is_valid = Freshness.EXPIRED, self._holds(entry, trusting=True)
        if is_valid:
            left_s, rand = entry.fresh_until_s - self._clock(), self._rand()
            life_s, load_s = entry.life_s, entry.load_s
            found = freshness(entry.policy, life_s=life_s, left_s=left_s, load_s=load_s, rand=rand)
        if found is Freshness.EXPIRED:
            self._drop(entry, expired=is_valid)
            return found, None
        self._visit(entry)
        if entry.born < (self._doubted if trusting else self._epoch):
            found = Freshness.UNCHECKED
        return found, entry

    def _visit(self, entry: Entry) -> None:
        if entry.ahead is None:
            entry.visits = min(entry.visits + 1, MOST_VISITS)
            return
        with self._lock:
            if (ahead := entry.ahead) is not None:  # no other thread was faster
                entry.begin_use()
        if ahead is not None:
            ahead()

    def begin(self, key: str, tags: Iterable[str] = ()) -> Boarding:
        """Board the load of a key that is under way, or lead a new one, which `store` or `end` has to end.

        Tags known before the load, given or of what is kept, keep callers after their invalidation off it.
        """
        with self._lock:
            flight = self._flights.find(key)
            if flight is not None:
                if flight.birth >= self._cleared and self._shelf.cells.allow(flight.tags, flight.birth):
                    return Boarding(flight, False, self._number)
                self._flights.detach(key)
            flight = Flight(key, self._number, (*tags, *self._shelf.tags_of(key)))
            self._flights.add(flight)
            return Boarding(flight, True, self._number)

    def end(self, flight: Flight) -> None:
        """End a load that has no value to keep; harmless after `store`.

        What it may bring yet is for those who came before any invalidation: the tags of it are not known.
        """
        with self._lock:
            if self._flights.land(flight):
                flight.overtaken = True
            self._shelf.cells.tidy(self._flights.oldest_birth)

    def store(
        self,
        flight: Flight,
        value: object,
        *,
        policy: CachePolicy,
        tags: Iterable[str] = (),
        load_s: float = 0.0,
        age_s: float = 0.0,
        life_s: float | None = None,
        size_bytes: int | None = None,
        ahead: Callable[[], None] | None = None,
    ) -> bool:
        """End a load; whether its value is kept: if nothing of it was invalidated, and it has life and room.

        Args:
            flight: as `begin` gave it.
            value: None is a negative result.
            policy: how long it may be served.
            tags: of the value, those given to `begin` included.
            load_s: what loading took, for XFetch.
            age_s: how much of its life is over; for values from a remote tier.
            life_s: the life that was drawn for it there; None draws one by the policy.
            size_bytes: of the value; None measures it.
            ahead: nobody has asked for it yet; to be called by the first request, which is led to `examine`.
        """
        entry = self._shelf.entry(flight.key, value, policy, tags := tuple(tags), size_bytes)
        entry.set_times(self._clock() - age_s, self._rand(), load_s=load_s, life_s=life_s)
        if ahead is not None:
            entry.await_use(ahead)
        digest = self._tallies.digest(entry) if self._tallies.compares else None
        with self._lock:
            if not self._may_land(flight, tags):
                return False
            gone = self._put(entry, flight.birth, tags, self._flights.oldest_birth)
            is_kept = entry.queue is not None
            if is_kept and self._tallies.compares:
                self._tallies.loaded(entry, digest)
        del gone  # here, without the lock: a value's finaliser may come back to the cache
        return is_kept

    def put(
        self,
        key: str,
        value: object,
        *,
        policy: CachePolicy,
        tags: Iterable[str] = (),
        size_bytes: int | None = None,
    ) -> None:
        """Keep a value that is true now; a load of the key that is under way will not be kept."""
        entry = self._shelf.entry(key, value, policy, tags := tuple(tags), size_bytes)
        entry.set_times(self._clock(), self._rand())
        with self._lock:
            self._flights.detach(key)
            self._tallies.forget(key)
            gone = self._put(entry, self._number, tags, self._flights.oldest_birth)
        del gone

    def invalidate(self, keys: Iterable[str]) -> int:
        """Drop these keys, and keep nothing of their loads under way; returns how many were there."""
        gone = []
        now_s = self._clock()
        with self._lock:
            for key in keys:
                self._flights.detach(key)
                entry = self._shelf.invalidate(key, now_s, self._flights.oldest_birth)
                if entry is not None:
                    gone.append(entry)
            self._shelf.cells.tidy(self._flights.oldest_birth)
        return len(gone)

    def invalidate_tags(self, tags: Iterable[str]) -> None:
        """Make all that carry one of these tags invalid, in one step a tag; EVERYTHING clears the tier."""
        with self._lock:
            number = self._number = self._number + 1
            concerns_entries = False
            for tag in tags:
                if tag == EVERYTHING:
                    self._cleared = number
                    concerns_entries = True
                elif self._shelf.cells.invalidate(tag, number, self._flights.oldest_birth):
                    concerns_entries = True
            if concerns_entries:
                self._changes = number  # last: who reads it finds all cells with their numbers

    def raise_epoch(self, *, doubts: bool = False) -> None:
        """Keep no load under way, and have all checked before it is served; with `doubts`, in outages too."""
        with self._lock:
            self._number = self._epoch = self._changes = self._number + 1
            self._doubted = self._epoch if doubts else self._doubted
            self._flights.detach_all()

    def sweep(self, limit: int) -> int:
        """Look at up to `limit` entries, going on where the last sweep ended, and drop the useless ones.

        Each store looks at some, too; a cache that nobody writes to keeps what expired until it is swept.
        """
        gone: list[Entry] = []
        with self._lock:
            self._sweep(limit, gone)
        return len(gone)

    def statistics(self) -> MemoryStatistics:
        """Counts are exact when no thread is at work, and on builds with the GIL always."""
        with self._lock:
            return memory_statistics(self._shelf, refused=self._refused, flights=len(self._flights))

    @property
    def requests(self) -> int:
        """Answered so far, with or without a value."""
        return sum(tally.requests for tally in self._tallies.every())

    def entries(self) -> list[Entry]:
        """All that is kept now, be it of any use or not."""
        with self._lock:
            return list(self._shelf.queues.nodes.values())

    def capacity_estimates(self) -> tuple[CapacityEstimate, ...]:
        """What half, twice and four times the capacity would do; empty without `ghosts` or requests."""
        with self._lock:
            return () if self._shelf.ghosts is None else self._shelf.ghosts.estimates(self.requests)

    def _may_land(self, flight: Flight, tags: tuple[str, ...]) -> bool:
        """End a load, with the lock held; whether its value may be kept."""
        is_current = self._flights.land(flight)
        # A tag may have been cleared although the key was, too: the callers want to know of either.
        if flight.birth < self._cleared or not self._shelf.cells.allow(tags, flight.birth):
            flight.overtaken = True
        self._shelf.cells.tidy(self._flights.oldest_birth)
        is_refused = flight.overtaken or not is_current
        self._refused += is_refused
        return not is_refused

    def _put(self, entry: Entry, birth: int, tags: tuple[str, ...], oldest_birth: int | None) -> list[Entry]:
        """Take an entry in, with the lock held; returns all that went."""
        entry.born = birth
        entry.checked = self._number
        gone = self._shelf.put(entry, tags, self._clock(), oldest_birth)
        self._sweep(SWEPT_PER_STORE, gone)
        return gone

    def _drop(self, entry: Entry, *, expired: bool) -> None:
        with self._lock:
            if self._find(entry.key) is not entry:
                return
            if expired:
                self._shelf.expire(entry, self._flights.oldest_birth)
            else:
                self._shelf.drop(entry, self._clock(), self._flights.oldest_birth)

    def _sweep(self, limit: int, gone: list[Entry]) -> None:
        now_s = self._clock()
        for _ in range(limit):
            entry = self._shelf.queues.look_round()
            if entry is None:
                return
            ended_s = entry.fresh_until_s
            if ended_s <= now_s and ended_s + entry.policy.kept_after_s <= now_s:
                gone.append(self._shelf.expire(entry, self._flights.oldest_birth))
            elif entry.checked < self._changes and not self._holds(entry, trusting=True):
                gone.append(self._shelf.drop(entry, now_s, self._flights.oldest_birth))
