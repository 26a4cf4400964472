"""How a load ends for those who wait for it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, NoReturn

from perfloop.cache.flights import Boarding
from perfloop.cache.loaded import Request, Source
from perfloop.cache.remote import Lease
from perfloop.cache.waiting import AsyncSignal, AsyncWork
from perfloop.cache.warmed import Ahead

NOTHING: Final[Any] = object()
"""No value, where None is one."""


class AsyncLanding:
    """Ends once: with a value, with the loader's error, or with nothing, and then its callers board anew."""

    __slots__ = (
        "__weakref__",
        "_traceback",
        "ahead",
        "begun_s",
        "error",
        "is_bare",
        "is_given_up",
        "is_kept",
        "runner",
        "signal",
        "source",
        "spare",
        "value",
        "waiters",
        "work",
    )

    def __init__(self, begun_s: float = 0.0) -> None:
        self.begun_s = begun_s
        self.signal = AsyncSignal()
        self.value = NOTHING
        self.source = Source.LOADER
        self.is_bare = False
        """The value is none for those who ask for a type."""
        self.error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self.spare = NOTHING
        """Of the remote tier: a value that may stand in for that of a loader that fails."""
        self.waiters = 0
        self.work: AsyncWork | None = None
        self.is_kept = False
        """It goes on although nobody waits."""
        self.is_given_up = False
        """It took over somebody's hard limit."""
        self.runner: object = NOTHING
        """The task or thread that runs its loader."""
        self.ahead: Ahead[Any] | None = None
        """To be told of the first who waits, where nobody had asked for it."""

    def spare_for(self, boarding: Boarding) -> Any:
        """The spare, for one who came before any invalidation: of its tags nobody knows whom they concern."""
        return self.spare if boarding.number == boarding.flight.birth else NOTHING

    def land(self, value: object, source: Source = Source.LOADER) -> None:
        self.value = value
        self.source = source
        self.signal.give()

    def fail(self, error: BaseException) -> None:
        self.error = error
        self._traceback = error.__traceback__
        self.signal.give()

    def turn_back(self) -> None:
        self.signal.give()

    def reraise(self) -> NoReturn:
        """Raise the loader's error as it was raised: the same for all callers, with the loader's frames.

        Threads that raise it at one moment may see one another's frames besides: it is one object.
        """
        assert self.error is not None
        raise self.error.with_traceback(self._traceback)


class AsyncSeat:
    """One key that is loaded together with others."""

    __slots__ = ("boarding", "landing", "lease", "request")

    def __init__(self, request: Request, boarding: Boarding, landing: AsyncLanding) -> None:
        self.request = request
        self.boarding = boarding
        self.landing = landing
        self.lease: Lease | None = None
