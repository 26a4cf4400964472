"""The way to the remote tier: open while it answers, and told afterwards what it missed."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from perfloop.cache._async.hearing import AsyncHearing
from perfloop.cache.breaker import Breaker, BreakerPolicy
from perfloop.cache.events import BreakerClosed, BreakerOpened, CacheEvent
from perfloop.cache.memory import MemoryTier
from perfloop.cache.remote import (
    AsyncRemoteTier,
    Fetched,
    Lease,
    StoreOutcome,
    Write,
)
from perfloop.cache.unsent import Message, Unsent, claimable
from perfloop.cache.waiting import AsyncCrew, AsyncSignal
from perfloop.errors import InvalidInput, MissingRights, PerfloopError, TargetUnreachable
from perfloop.model.value import require

PENDING_LIMIT: Final = 10_000
"""So many invalidations are kept while the tier is away; beyond, everything is invalidated on return."""
GREETING_S: Final = 1.0
"""How long opening waits until the news from other processes is heard."""
UNHEARD_S: Final = 0.05
"""How long who waits for another process goes without asking while no news can be heard."""
LONGEST_TIMEOUT_S: Final = 3600.0
PROBE: Final = "perfloop-probe"

_log = logging.getLogger("perfloop.cache")


def shared_tier(
    redis: str | None, remote: AsyncRemoteTier | None, *, prefix: str, timeout_s: float | None
) -> AsyncRemoteTier | None:
    """The tier that a cache was given, if any.

    Raises:
        InvalidInput: It was given two, or a time limit that none of them has.
    """
    require(redis is None or remote is None, "redis and remote are two shared tiers; give one of them")
    require(remote is None or timeout_s is None, "timeout_s is for redis; `remote` has limits of its own")
    require(
        timeout_s is None or 0 < timeout_s <= LONGEST_TIMEOUT_S,
        f"timeout_s is {timeout_s}; it must be above 0 and at most an hour",
    )
    if redis is None:
        return remote
    from perfloop.adapters.remote._async.tier import TIMEOUT_S, AsyncRedisTier  # only here

    return AsyncRedisTier(redis, prefix=prefix, timeout_s=timeout_s or TIMEOUT_S)


class AsyncLink:
    """One tier with its breaker, and the listener that keeps the memory tier up with other processes.

    While the tier is away, calls return None at once. What was invalidated meanwhile is sent before anything
    else; then the memory tier checks what it holds before it is served again.
    """

    def __init__(
        self,
        remote: AsyncRemoteTier,
        memory: MemoryTier,
        *,
        policy: BreakerPolicy,
        clock: Callable[[], float],
        tell: Callable[[CacheEvent], None],
    ) -> None:
        self.is_away = False
        """The memory tier serves alone, by the lives of its values, unchecked."""
        self._remote = remote
        self._memory = memory
        self._policy = policy
        self._clock = clock
        self._tell = tell
        self._is_open = self._was_opened = False
        self._start()

    def _start(self) -> None:
        self.is_away = False
        self.breaker = Breaker(self._policy)
        self._crew = AsyncCrew()
        self._closing = AsyncSignal()
        self._lock = threading.Lock()
        self._hearing = AsyncHearing(self._remote, self._memory, self._closing, lambda: self.is_away)
        self._unsent = Unsent()
        self._name = secrets.token_hex(8)
        self._tokens = itertools.count(1)

    async def open(self) -> None:
        """Begin to listen. A tier that is away is no error: the memory tier serves alone until it is back.

        Raises:
            MissingRights: The tier may not be listened to.
            InvalidInput: It is open.
        """
        if self._is_open:
            raise InvalidInput("the cache is open already; open it in one place, by `open()` or `async with`")
        self._start()
        await self._remote.__aenter__()
        self._is_open = self._was_opened = True
        try:
            self._crew.spawn(self._hearing.run)
            await self._hearing.begun.wait(GREETING_S)
            if self._hearing.error is not None:
                raise self._hearing.error
        except BaseException:  # cancelled, too: nobody else would close it
            await self.close()
            raise

    def require_open(self) -> None:
        """Raise InvalidInput where nobody opened it: it would hear nothing, and keep nothing in memory."""
        if not self._was_opened:
            raise InvalidInput("a cache with a shared tier has to be opened: `async with cache`, or `open()`")

    def retire(self) -> None:
        """Serve alone until it is closed: who waits for other processes goes on by itself."""
        if not self._is_open:
            return
        self._closing.give()
        self._hearing.is_deaf = True
        with self._lock:
            self.is_away = True
        self._hearing.awaited.wake()

    async def close(self) -> None:
        """Tell the tier what it has not been told, if it can be reached, and hang up."""
        if not self._is_open:
            return
        self.retire()
        self._is_open = False
        try:
            await self._crew.stop()
            await self._send_last()
        finally:
            try:
                await self._remote.__aexit__(None, None, None)
            finally:
                await self._crew.join()

    def restart(self) -> None:
        """In a forked child: threads and connections are the parent's, and it hears nothing yet."""
        self._start()
        self._memory.raise_epoch()
        if self._is_open:
            self._crew.resume(self._hearing.run)

    @property
    def is_deaf(self) -> bool:
        """No news can be heard: nothing may be kept in the memory tier unless that serves alone."""
        return self._hearing.is_deaf

    @property
    def may_keep(self) -> bool:
        """Whether the memory tier may keep what is loaded now."""
        return self.is_away or not self.is_deaf

    @property
    def pending(self) -> int:
        """Keys and tags that the tier has still to be told of."""
        return len(self._unsent)

    async def fetch(
        self, keys: Sequence[str], lease_s: float | None, early_s: float = 0.0
    ) -> Mapping[str, Fetched] | None:
        """None where the tier is away."""
        if self.is_away:
            return None
        token = "" if lease_s is None else f"{self._name}-{next(self._tokens)}"
        try:
            return await self._remote.fetch(keys, lease_s=lease_s, early_s=early_s, token=token)
        except (TargetUnreachable, MissingRights) as error:
            self._fail(error, leases=claimable(keys, token))
            return None
        except Exception:
            raise
        except BaseException:  # cancelled
            self._end_behind(claimable(keys, token))
            raise

    async def store(self, writes: Sequence[Write]) -> Sequence[StoreOutcome] | None:
        """None where the tier is away; then nobody knows what it has of them."""
        leases = [write.lease for write in writes if write.lease is not None]
        keys = [write.key for write in writes if write.lease is None]
        if self._note_where_away(keys, (), leases):
            return None
        try:
            return await self._remote.store(writes)
        except (TargetUnreachable, MissingRights) as error:
            self._fail(error, keys, leases)
            return None
        except Exception:
            raise
        except BaseException:  # cancelled
            self._end_behind(leases)
            raise

    async def invalidate(self, keys: Iterable[str], tags: Iterable[str]) -> None:
        """Tell the tier, now or when it is back; to the end, although the caller is cancelled."""
        keys, tags = tuple(keys), tuple(tags)
        if not self._note_where_away(keys, tags, ()):
            with self._lock:
                message = self._unsent.add(keys, tags)
            await self._crew.see_through(self._deliver, message)

    def _note_where_away(self, keys: Sequence[str], tags: Sequence[str], leases: Iterable[Lease]) -> bool:
        """Whether the tier is away, so that they have to wait."""
        with self._lock:
            if self._closing.is_given and not self._is_open and (keys or tags):
                raise InvalidInput("the cache is closed, and would tell nobody of this; open it again")
            if self.is_away:
                self._unsent.add(keys, tags, leases)
                self._unsent.limit(PENDING_LIMIT)
            return self.is_away

    def _end_behind(self, leases: Iterable[Lease]) -> None:
        """A call was cancelled that may have claimed these: others need not wait until they run out."""
        with self._lock:
            message = self._unsent.add(leases=leases)
        if message and not self._closing.is_given:
            self._crew.spawn(self._deliver, message)

    async def _deliver(self, message: Message) -> None:
        try:
            await self._send(message)
        except (TargetUnreachable, MissingRights) as error:
            self._fail(error)
        except Exception:  # nothing was promised to who gets an error
            with self._lock:
                self._unsent.remove(message)
            raise
        except BaseException:  # a thread's interrupt; or closing, which tries once more itself
            if not self._closing.is_given:
                self._crew.spawn(self._deliver, message)
            raise

    async def _send(self, message: Message) -> None:
        if message.keys or message.tags:
            await self._remote.invalidate(tuple(message.keys), tuple(message.tags))
        if message.leases:
            ends = [Write(key=lease.key, payload=None, lease=lease) for lease in message.leases]
            await self._remote.store(ends)
        with self._lock:
            self._unsent.remove(message)

    async def _send_last(self) -> None:
        with self._lock:
            message = self._unsent.all()
        try:
            await self._send(message)
        except Exception as error:  # noqa: BLE001  # supervised: a tier of ours or not, it is to be closed
            if len(self._unsent):
                _log.warning(
                    "the cache was closed with %d invalidations unsent, since its shared tier is away;"
                    " other processes may serve what they concern for as long as it lives: %s",
                    len(self._unsent),
                    error,
                )

    def _fail(self, error: PerfloopError, keys: Iterable[str] = (), leases: Iterable[Lease] = ()) -> None:
        """Open the breaker; leases may have been claimed, and values set, all the same."""
        with self._lock:
            self.breaker.fail(self._clock())
            self._unsent.add(keys, (), leases)
            self._unsent.limit(PENDING_LIMIT)
            was_away, self.is_away = self.is_away, True
        if not was_away:
            _log.warning("the shared tier of the cache is away; the process's own serves alone: %s", error)
            self._crew.spawn(self._recover)
            self._hearing.awaited.wake()
            self._tell(BreakerOpened(error=str(error)))

    async def _recover(self) -> None:
        while True:
            with self._lock:
                wait_s = self.breaker.wait_s(self._clock())
            if await self._closing.wait(max(0.001, wait_s)):
                return
            if self._may_probe() and await self._catch_up():
                _log.info("the shared tier of the cache is back")
                self._tell(BreakerClosed())
                return

    def _may_probe(self) -> bool:
        with self._lock:
            return self.breaker.probe(self._clock())

    async def _catch_up(self) -> bool:
        """Send what was missed; whether the tier is back and has all of it."""
        while not self._closing.is_given:
            with self._lock:
                message = self._unsent.all()
            try:
                if message:
                    await self._send(message)
                else:
                    await self._remote.fetch((PROBE,))
            except (TargetUnreachable, MissingRights):
                self._stay_away()
                return False
            except Exception:  # noqa: BLE001  # supervised: who else would try again?
                _log.exception("the shared tier of the cache cannot be told what was invalidated")
                with self._lock:
                    self._unsent.give_up()
                self._stay_away()
                return False
            with self._lock:
                if self._unsent.is_empty:
                    return self._return()
        return False

    def _stay_away(self) -> None:
        with self._lock:
            self.breaker.fail(self._clock())

    def _return(self) -> bool:
        """Whether the breaker closed; not where another call failed while this one probed."""
        if self.breaker.succeed() and not self._closing.is_given:
            self._memory.raise_epoch(doubts=True)
            self.is_away = False
        return not self.is_away

    @property
    def news(self) -> int:
        """How much was heard; for those who have to know whether they missed some."""
        return self._hearing.awaited.number

    async def wait_for_news(self, key: str, seen: int, timeout_s: float) -> None:
        """Until something is heard of the key; at once where something was since `seen` was read."""
        wait_s = min(timeout_s, UNHEARD_S) if self.is_deaf else timeout_s
        await self._hearing.awaited.wait(key, seen, wait_s)
