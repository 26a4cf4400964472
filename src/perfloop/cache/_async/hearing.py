"""What other processes tell: it keeps the memory tier true, and wakes who waits for a load of theirs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final

from perfloop.cache.memory import MemoryTier
from perfloop.cache.remote import AsyncRemoteTier, Gap, KeysChanged, LoadsFinished, News, TagsChanged
from perfloop.cache.waiting import AsyncSignal
from perfloop.errors import MissingRights, PerfloopError

LISTEN_AGAIN_S: Final = 2.0
"""After a fault in listening. A connection that breaks is none: the tier opens it again by itself."""
RECENT: Final = 4096
"""Keys whose latest news is remembered: some times what is heard during one round trip to the tier."""

_log = logging.getLogger("perfloop.cache")


class _Place:
    """Where those wait who wait for one key."""

    __slots__ = ("signal", "waiters")

    def __init__(self) -> None:
        self.signal = AsyncSignal()
        self.waiters = 0


class AsyncAwaited:
    """The keys that are waited for. News of others wakes nobody, however much of it there is."""

    def __init__(self) -> None:
        self.number = 0
        """How much was heard; for those who have to know whether they missed some."""
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._recent: dict[str, int] = {}
        self._floor = 0
        """What was heard up to here is not remembered by key."""

    def __len__(self) -> int:
        return len(self._places)

    def heard(self, keys: Iterable[str]) -> None:
        """Wake those who wait for these keys."""
        with self._lock:
            self.number += 1
            self._recent.update(dict.fromkeys(keys, self.number))
            places = [self._places.pop(key) for key in keys if key in self._places]
            if len(self._recent) > RECENT:
                self._forget()
        for place in places:
            place.signal.give()

    def wake(self) -> None:
        """Wake all: what they wait for may have come unheard."""
        with self._lock:
            self.number += 1
            places = list(self._places.values())
            self._places.clear()
            self._forget()
        for place in places:
            place.signal.give()

    def _forget(self) -> None:
        self._recent.clear()
        self._floor = self.number

    async def wait(self, key: str, seen: int, timeout_s: float) -> None:
        """Until the key is heard of; at once where it was, or may have been, since `number` was `seen`."""
        with self._lock:
            if seen < self._floor or self._recent.get(key, 0) > seen:
                return
            place = self._places.setdefault(key, _Place())
            place.waiters += 1
        try:
            await place.signal.wait(timeout_s)
        finally:
            with self._lock:
                place.waiters -= 1
                if not place.waiters and self._places.get(key) is place:
                    del self._places[key]


class AsyncHearing:
    """Listens to one tier from when its cache is opened until it is closed."""

    def __init__(
        self,
        remote: AsyncRemoteTier,
        memory: MemoryTier,
        closing: AsyncSignal,
        is_away: Callable[[], bool],
    ) -> None:
        self._is_away = is_away
        self._remote = remote
        self._memory = memory
        self._closing = closing
        self.awaited = AsyncAwaited()
        self.is_deaf = True
        """No news can be heard, so that nothing in memory is known to be valid."""
        self.begun = AsyncSignal()
        """Given with the first news, or where there can be none."""
        self.error: PerfloopError | None = None
        """Why there can be none."""

    async def run(self) -> None:
        """Listen until closed; whatever ends it sooner, it is begun again."""
        while not self._closing.is_given:
            try:
                await self._remote.listen(self.hear)
            except MissingRights as error:
                self.error = error
                _log.warning("the cache hears nothing from other processes: %s", error)
            except Exception:  # noqa: BLE001  # supervised: the memory tier must know that nobody listens
                _log.exception("the cache hears nothing from other processes, and keeps nothing in memory")
            finally:  # cancelled, too, as where the loop ends and the cache is used on in another
                self.hear(Gap(is_over=False))
            await self._closing.wait(LISTEN_AGAIN_S)

    def hear(self, news: News) -> None:
        """In the listener's task or thread: must neither block nor raise."""
        if isinstance(news, KeysChanged):
            self._memory.invalidate(news.keys)
            self.awaited.heard(news.keys)
        elif isinstance(news, TagsChanged):
            self._memory.invalidate_tags(news.tags)
        elif isinstance(news, LoadsFinished):
            self.awaited.heard(news.keys)
        elif isinstance(news, Gap):
            self.is_deaf = self._closing.is_given or not news.is_over
            # While the memory tier still serves alone it is trusted; `AsyncLink` ends that.
            self._memory.raise_epoch(doubts=news.is_over and not self._is_away())
            self.awaited.wake()
            self.begun.give()
