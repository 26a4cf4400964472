"""A template that is warmed: its learner, and what the cache keeps for it while bundles are on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Final, Generic

from perfloop.cache.ahead import AheadEntries
from perfloop.cache.bundles import Member, Trail
from perfloop.cache.entry import Entry
from perfloop.cache.warming import Warming, WarmingPolicy, WarmingStatistics

_WATCHED_A_LOAD: Final = 16
"""Entries that are looked at with each load: twice what a bundle brings at most."""
_RESTED_LOADS: Final = 64
"""Loads without bundles after one that failed."""


class Ahead(Generic[Member]):
    """Tells the learner of the first request for one member that came, or comes, in a bundle."""

    __slots__ = ("_member", "_warmed", "is_late")

    def __init__(self, warmed: Warmed[Member], member: Member) -> None:
        self._warmed = warmed
        self._member = member
        self.is_late = False
        """Asked for while it was on its way."""

    def __call__(self) -> None:
        self._warmed.warming.used(self._warmed.trail(), self._member)

    def come_late(self) -> None:
        """Somebody waits for it already."""
        if not self.is_late:
            self.is_late = True
            self._warmed.warming.used(self._warmed.trail(), self._member, late=True)


class Warmed(Generic[Member]):
    """What one template needs to be warmed; `is_busy` says that the database has no room for further rows."""

    def __init__(
        self,
        key: Callable[[Member], str],
        policy: WarmingPolicy,
        rand: Callable[[], float],
        is_busy: Callable[[], bool] | None,
    ) -> None:
        self.key = key
        self.warming: Warming[Member] = Warming(policy, rand)
        self._is_busy = is_busy
        self._trails: ContextVar[Trail[Member]] = ContextVar("perfloop_trail")
        self._watched = AheadEntries()
        self._resting = 0

    def trail(self) -> Trail[Member]:
        """That of the caller's execution context."""
        trail = self._trails.get(None)
        if trail is None:
            trail = Trail()
            self._trails.set(trail)
        return trail

    def bundle(self, trail: Trail[Member], members: Sequence[Member]) -> dict[str, Member]:
        """What to load with members that no tier has, by key."""
        self._settle()
        busy = self._resting > 0 or (self._is_busy is not None and self._is_busy())
        self._resting -= self._resting > 0
        return {self.key(each): each for each in self.warming.missed(trail, members, busy=busy)}

    def ahead(self, member: Member) -> Ahead[Member]:
        """What its entry is stored with."""
        return Ahead(self, member)

    def loaded(self, *, needed: int, elapsed_s: float, entries: Iterable[Entry | None] = ()) -> None:
        """A batch came; of its bundle these entries were kept, and None stands for one that was not."""
        extra = 0
        for entry in entries:
            extra += 1
            if entry is None:
                self.warming.dropped()
            elif entry.ahead is not None:
                self._watched.add(entry)
        self.warming.loaded(needed=needed, extra=extra, elapsed_s=elapsed_s)

    def rest(self) -> None:
        """A loader failed on a batch with a bundle: whatever the reason, the next loads go without."""
        self._resting = _RESTED_LOADS

    def statistics(self) -> WarmingStatistics:
        self._settle()
        return self.warming.statistics()

    def _settle(self) -> None:
        for _ in range(self._watched.wasted(_WATCHED_A_LOAD)):
            self.warming.dropped()
