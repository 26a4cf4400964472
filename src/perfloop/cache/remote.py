"""The seam to a tier that processes share: four acts, for asyncio and for threads.

A caller has to keep three rules, which no tier can keep for it:

1. It registers its interest in a key *before* it fetches. News may overtake the answer: what is heard of a
   key, or of a tag, between call and answer makes the answer unfit for tier 1.
2. An `invalidate` that raised has to be sent again before anything else is fetched; twice is harmless. Where
   too many have piled up, `invalidate(tags=(EVERYTHING,))` stands for all of them.
3. It ends each lease it was given, or may have been given by a call that failed, by a Write with a payload
   or with None. One that is not ended runs out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, Self

from perfloop.model.remote import (
    EVERYTHING,
    Fetched,
    Gap,
    KeysChanged,
    Lease,
    LoadsFinished,
    News,
    RemoteEntry,
    StoreOutcome,
    TagsChanged,
    Write,
)

__all__ = [
    "EVERYTHING",
    "AsyncRemoteTier",
    "Fetched",
    "Gap",
    "KeysChanged",
    "Lease",
    "LoadsFinished",
    "News",
    "RemoteEntry",
    "RemoteTier",
    "StoreOutcome",
    "TagsChanged",
    "Write",
]


class AsyncRemoteTier(Protocol):
    """A tier for asyncio.

    All methods raise TargetUnreachable where the server refuses, hangs up or does not answer in time, and
    MissingRights, with the rights that are missing, where its user may not do it. Nothing else is raised.
    Opening raises neither: a server that is away is found at the first call.
    """

    @property
    def scope(self) -> str:
        """What keeps its keys apart from other caches' keys; the signatures of values are bound to it."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def fetch(
        self, keys: Sequence[str], *, lease_s: float | None = None, early_s: float = 0.0, token: str = ""
    ) -> Mapping[str, Fetched]:
        """Look all keys up in one step, and claim a lease for each that has no fresh value.

        Args:
            keys: Each once.
            lease_s: The longest that a load may take before another process takes over; None claims nothing.
            early_s: Claim also where a fresh value has no more than this left: refresh-ahead, XFetch.
            token: Of the leases that are claimed, so that they can be ended where the answer is lost. No
                other call, of any process, may have the same; empty has the tier make one.
        """
        ...

    async def store(self, writes: Sequence[Write]) -> Sequence[StoreOutcome]:
        """Store each write whose lease and tags still hold, and wake the waiters; the outcomes in order."""
        ...

    async def invalidate(self, keys: Sequence[str] = (), tags: Sequence[str] = ()) -> None:
        """Make what the keys hold and what carries a tag invalid for ever, loads under way included."""
        ...

    async def listen(self, hear: Callable[[News], None]) -> None:
        """Tell what other processes do, in order, until the task is cancelled; reconnects by itself.

        `hear` is called in the event loop and must neither block nor raise. The first news is a Gap: over
        when listening has begun, not over where the tier cannot be reached yet. A tier has one listener.
        Raises MissingRights where it may not listen.
        """
        ...


class RemoteTier(Protocol):
    """The same for threads. `listen` takes a thread of its own, and returns when the tier is closed."""

    @property
    def scope(self) -> str: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def fetch(
        self, keys: Sequence[str], *, lease_s: float | None = None, early_s: float = 0.0, token: str = ""
    ) -> Mapping[str, Fetched]: ...

    def store(self, writes: Sequence[Write]) -> Sequence[StoreOutcome]: ...

    def invalidate(self, keys: Sequence[str] = (), tags: Sequence[str] = ()) -> None: ...

    def listen(self, hear: Callable[[News], None]) -> None: ...
