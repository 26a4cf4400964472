"""The way to the remote tier: open while it answers, and told afterwards what it missed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from perfloop.cache.breaker import Breaker, BreakerPolicy
from perfloop.cache.events import BreakerClosed, BreakerOpened, CacheEvent
from perfloop.cache.memory import MemoryTier
from perfloop.cache.remote import (
    EVERYTHING,
    AsyncRemoteTier,
    Fetched,
    Gap,
    KeysChanged,
    LoadsFinished,
    News,
    StoreOutcome,
    TagsChanged,
    Write,
)
from perfloop.cache.waiting import AsyncCrew, AsyncSignal
from perfloop.errors import InvalidInput, MissingRights, PerfloopError, TargetUnreachable
from perfloop.model.value import require

PENDING_LIMIT: Final = 10_000
"""So many invalidations are kept while the tier is away; beyond, everything is invalidated on return."""
GREETING_S: Final = 1.0
"""How long opening waits until the news from other processes is heard."""
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
    require(timeout_s is None or timeout_s > 0, f"timeout_s is {timeout_s}; it must be above 0")
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
        self.is_deaf = True
        """No news can be heard: nothing may be kept in the memory tier unless that serves alone."""
        self.news = 0
        """How much was heard; for those who have to know whether they missed some."""
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
        self._heard = AsyncSignal()
        self._lock = threading.Lock()
        self._awaited: dict[str, AsyncSignal] = {}
        self._pending_keys: dict[str, None] = {}
        self._pending_tags: dict[str, None] = {}
        self._listening_error: PerfloopError | None = None

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
        self._crew.spawn(self._listen)
        await self._heard.wait(GREETING_S)
        if self._listening_error is not None:
            await self.close()
            raise self._listening_error

    def require_open(self) -> None:
        """Raise InvalidInput where nobody opened it: it would hear nothing, and keep nothing in memory."""
        if not self._was_opened:
            raise InvalidInput("a cache with a shared tier has to be opened: `async with cache`, or `open()`")

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open, self.is_deaf = False, True
        self._closing.give()
        await self._crew.stop()
        await self._remote.__aexit__(None, None, None)
        await self._crew.join()

    def restart(self) -> None:
        """In a forked child: threads and connections are the parent's, and it hears nothing yet."""
        self.is_deaf = True
        self._start()
        self._memory.raise_epoch()
        if self._is_open:
            self._crew.resume(self._listen)

    @property
    def may_keep(self) -> bool:
        """Whether the memory tier may keep what is loaded now."""
        return self.is_away or not self.is_deaf

    async def fetch(
        self, keys: Sequence[str], lease_s: float | None, early_s: float = 0.0
    ) -> Mapping[str, Fetched] | None:
        """None where the tier is away."""
        if self.is_away:
            return None
        try:
            return await self._remote.fetch(keys, lease_s=lease_s, early_s=early_s)
        except (TargetUnreachable, MissingRights) as error:
            self._fail(error, keys if lease_s is not None else ())
            return None
        except Exception:
            raise
        except BaseException:  # cancelled
            if lease_s is not None:
                self._forget(keys)
            raise

    async def store(self, writes: Sequence[Write]) -> Sequence[StoreOutcome] | None:
        """None where the tier is away; then nobody knows what it has of them."""
        if not self.is_away:
            try:
                return await self._remote.store(writes)
            except (TargetUnreachable, MissingRights) as error:
                self._fail(error, [write.key for write in writes])
                return None
            except Exception:
                raise
            except BaseException:  # cancelled
                self._forget([write.key for write in writes])
                raise
        # Of a loaded value, too: its lease would keep everybody waiting once the tier is back.
        self._keep_pending([write.key for write in writes], ())
        return None

    def _forget(self, keys: Sequence[str], tags: Sequence[str] = ()) -> None:
        """A call was cancelled: it may have claimed a lease that nobody will end, or cleared nothing."""
        if not self._closing.is_given:
            self._crew.spawn(self.invalidate, keys, tags)

    async def invalidate(self, keys: Iterable[str], tags: Iterable[str]) -> None:
        """Tell the tier, now or when it is back."""
        keys, tags = tuple(keys), tuple(tags)
        if self._keep_pending(keys, tags):
            return
        try:
            await self._remote.invalidate(keys, tags)
        except (TargetUnreachable, MissingRights) as error:
            self._fail(error, keys, tags)
        except Exception:
            raise
        except BaseException:  # cancelled, perhaps before it was sent
            self._forget(keys, tags)
            raise

    def _keep_pending(self, keys: Sequence[str], tags: Sequence[str]) -> bool:
        """Whether the tier is away, so that they have to wait."""
        with self._lock:
            if self.is_away:
                self._add_pending(keys, tags)
            return self.is_away

    def _add_pending(self, keys: Sequence[str], tags: Sequence[str]) -> None:
        self._pending_keys.update(dict.fromkeys(keys))
        self._pending_tags.update(dict.fromkeys(tags))
        if self.pending > PENDING_LIMIT:
            self._pending_keys = {}
            self._pending_tags = {EVERYTHING: None}

    @property
    def pending(self) -> int:
        """Keys and tags that wait to be invalidated when the tier is back."""
        return len(self._pending_keys) + len(self._pending_tags)

    def _fail(self, error: PerfloopError, keys: Sequence[str], tags: Sequence[str] = ()) -> None:
        """Open the breaker; the keys' leases may have been claimed, and their values stored, all the same."""
        with self._lock:
            self.breaker.fail(self._clock())
            self._add_pending(keys, tags)
            was_away, self.is_away = self.is_away, True
        if not was_away:
            _log.warning("the shared tier of the cache is away; the process's own serves alone: %s", error)
            self._crew.spawn(self._recover)
            self._tell(BreakerOpened(error=str(error)))

    async def _recover(self) -> None:
        while True:
            if await self._closing.wait(max(0.001, self.breaker.wait_s(self._clock()))):
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
        while True:
            with self._lock:
                # Taken out before they are sent: what is invalidated again meanwhile has to be sent again.
                keys, self._pending_keys = self._pending_keys, {}
                tags, self._pending_tags = self._pending_tags, {}
            try:
                if keys or tags:
                    await self._remote.invalidate(tuple(keys), tuple(tags))
                else:
                    await self._remote.fetch((PROBE,))
            except (TargetUnreachable, MissingRights):
                self._stay_away(keys, tags)
                return False
            except Exception:  # noqa: BLE001  # supervised: who else would try again?
                _log.exception("the shared tier of the cache cannot be told what was invalidated")
                self._stay_away((), (EVERYTHING,))
                return False
            with self._lock:
                if not self._pending_keys and not self._pending_tags:
                    return self._return()

    def _stay_away(self, keys: Iterable[str], tags: Iterable[str]) -> None:
        with self._lock:
            self._add_pending(tuple(keys), tuple(tags))
            self.breaker.fail(self._clock())

    def _return(self) -> bool:
        """Whether the breaker closed; not where another call failed while this one probed."""
        if self.breaker.succeed():
            self._memory.raise_epoch()
            self.is_away = False
        return not self.is_away

    async def _listen(self) -> None:
        try:
            await self._remote.listen(self._hear)
        except (MissingRights, TargetUnreachable) as error:
            self._listening_error = error
            self._hear(Gap(is_over=False))
        except Exception:  # noqa: BLE001  # supervised: the memory tier must know that nobody listens
            _log.exception("the cache hears no more from other processes, and keeps nothing in memory")
            self._hear(Gap(is_over=False))

    def _hear(self, news: News) -> None:
        """In the listener's task or thread: must neither block nor raise."""
        keys: Sequence[str] = ()
        if isinstance(news, KeysChanged):
            self._memory.invalidate(news.keys)
            keys = news.keys
        elif isinstance(news, TagsChanged):
            self._memory.invalidate_tags(news.tags)
        elif isinstance(news, LoadsFinished):
            keys = news.keys
        elif isinstance(news, Gap):
            self.is_deaf = not news.is_over
            self._memory.raise_epoch()
            keys = tuple(self._awaited)
            self._heard.give()
        self._wake(keys)

    def _wake(self, keys: Iterable[str]) -> None:
        with self._lock:
            self.news += 1
            signals = [self._awaited.pop(key, None) for key in keys]
        for signal in signals:
            if signal is not None:
                signal.give()

    async def wait_for_news(self, key: str, seen: int, timeout_s: float) -> None:
        """Until something is heard of the key; at once where something was since `seen` was read."""
        with self._lock:
            if self.news != seen:
                return
            signal = self._awaited.setdefault(key, AsyncSignal())
        await signal.wait(timeout_s)
