"""Carries what was committed in a database to a cache, in a thread of its own.

One thread serves sync and asyncio alike: a listener waits for a server nearly all of its life, and must go on
doing so while the event loop of the service is busy. A second thread looks after the first: it publishes
how far behind the listener is, above all when that hangs, and cuts the connection of a server that does
not answer.

What the cache did not take is told again. A fault closes the source and opens it anew, later each time; the
source knows whether changes may have been missed meanwhile, and then tells that anything may have changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from math import inf, nan
from threading import Event, Thread
from typing import Final

from perfloop.adapters.changes.source import ChangeSource
from perfloop.cache.invalidation.freshness import FreshnessMetrics, InvalidationStatistics
from perfloop.cache.invalidation.tags import TagMap
from perfloop.errors import InvalidInput, TargetUnreachable
from perfloop.metrics import Registry
from perfloop.model.changes import TableChange, WatchedTable
from perfloop.model.value import Value, require

LOOK_AFTER_S: Final = 0.5
TAKEN_WITHIN_S: Final = 5.0
TAKEN_LOOK_S: Final = 0.02
RATE_OVER_S: Final = 10.0
_log = logging.getLogger("perfloop.cache")


class ListenerPolicy(Value, frozen=True, kw_only=True):
    """How a listener bears with a server."""

    first_retry_s: float = 0.1
    longest_retry_s: float = 10.0
    takeover_s: float = 1.0
    """How often a process that does not read asks whether it may."""

    hung_after_s: float = 10.0
    """Without a sign of progress for so long, the connection is cut and made anew."""

    tags_at_once: int = 500

    def __post_init__(self) -> None:
        require(
            0 < self.first_retry_s <= self.longest_retry_s < inf,
            f"retries must be above 0 and grow, not from {self.first_retry_s} to {self.longest_retry_s}",
        )
        require(0 < self.takeover_s < inf, f"takeover_s must be above 0, not {self.takeover_s}")
        require(0 < self.hung_after_s < inf, f"hung_after_s must be above 0, not {self.hung_after_s}")
        require(self.tags_at_once > 0, f"tags_at_once must be above 0, not {self.tags_at_once}")


class Listening:
    """The thread and what it counts.

    Args:
        source: Where changes come from.
        tags: Which tags they invalidate.
        invalidate: Hands tags to the cache.
        is_taken: Whether all that was handed over has reached every process. Until then nothing is
            confirmed: this process may end, and another has to be told.
        policy: How it bears with a server.
        registry: Where its metrics go.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        source: ChangeSource,
        tags: TagMap,
        invalidate: Callable[[Sequence[str]], object],
        is_taken: Callable[[], bool],
        *,
        policy: ListenerPolicy,
        registry: Registry,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._tags = tags
        self._invalidate = invalidate
        self._is_taken = is_taken
        self._policy = policy
        self._clock = clock
        self._registry = registry
        self._metrics: FreshnessMetrics | None = None
        self._stopping = Event()
        self._threads: tuple[Thread, ...] = ()
        self._checked: Sequence[WatchedTable] | None = None
        self._is_reading = False
        self._waits = False
        self._since_s = -inf
        self._progress_at_s: float | None = None
        self._changes = self._invalidated = self._doubts = self._faults = 0
        self._last_fault: str | None = None
        self._rate_per_s = 0.0

    def open(self) -> None:
        """Raises what the source says of its set-up; a server that is away is tried again and again."""
        self._since_s = self._clock()
        self._waits = False
        try:
            self._open_source()
            self._check()
        except TargetUnreachable as error:
            self._note(error)
        except InvalidInput:
            self._source.close()
            raise
        self._metrics = self._metrics or FreshnessMetrics(self._registry, self._source.name)
        self._stopping.clear()
        self._threads = tuple(
            Thread(target=target, name=f"perfloop-cache-{target.__name__.strip('_')}", daemon=True)
            for target in (self._listen, self._look_after)
        )
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(LOOK_AFTER_S)
            while thread.is_alive():
                self._source.abort()
                thread.join(LOOK_AFTER_S)
        self._threads = ()
        if self._metrics is not None:
            self._publish(self._metrics)
            self._metrics.retire()

    def statistics(self) -> InvalidationStatistics:
        now_s = self._clock()
        lag = self._source.lag()
        oldest_at_s = None if self._waits else lag.oldest_at_s
        current_at_s = self._current_at_s()
        return InvalidationStatistics(
            is_reading=self._is_reading,
            changes=self._changes,
            tags=self._invalidated,
            changes_per_s=self._rate_per_s,
            doubts=self._doubts,
            faults=self._faults,
            last_fault=self._last_fault,
            oldest_change_s=0.0 if oldest_at_s is None else now_s - oldest_at_s,
            behind_s=None if current_at_s is None else now_s - current_at_s,
            kept_bytes=lag.kept_bytes,
            is_over_limit=lag.is_over_limit,
        )

    def _current_at_s(self) -> float | None:
        """None where another process reads, and until this one has looked since it began to read."""
        current_at_s = self._source.lag().current_at_s
        return None if self._waits or current_at_s is None or current_at_s < self._since_s else current_at_s

    def _publish(self, metrics: FreshnessMetrics) -> None:
        statistics = self.statistics()
        since_opening_s = nan if self._waits else self._clock() - self._since_s
        metrics.publish(statistics, since_opening_s if statistics.behind_s is None else statistics.behind_s)

    def _listen(self) -> None:
        retry_s = self._policy.first_retry_s
        while not self._stopping.is_set():
            read_before = self._changes, self._source.lag().current_at_s
            try:
                self._follow()
                return
            except Exception as error:  # noqa: BLE001  # the boundary of a thread that must outlive any fault of server and cache
                self._note(error)
            self._is_reading = False
            self._progress_at_s = None
            self._source.close()
            if read_before != (self._changes, self._source.lag().current_at_s):
                retry_s = self._policy.first_retry_s
            self._stopping.wait(retry_s)
            retry_s = min(retry_s * 2, self._policy.longest_retry_s)

    def _follow(self) -> None:
        """Until stopped; raises when it must begin anew."""
        while not self._stopping.is_set():
            self._progress_at_s = self._clock()
            self._open_source()
            self._check_again()
            if self._is_reading:
                self._take(self._source.read(self._stopping))
            else:
                self._progress_at_s = None
                self._stopping.wait(self._policy.takeover_s)
        self._source.close()

    def _open_source(self) -> None:
        self._is_reading = self._source.open()
        if self._waits and self._is_reading:
            # What the process before had not invalidated is ours to hear of, from now on.
            self._since_s = self._clock()
        self._waits = not self._is_reading

    def _check(self) -> None:
        watched = self._source.watched()
        if watched != self._checked:
            self._checked = watched
            self._tags.check(watched, self._source.install_command)

    def _check_again(self) -> None:
        try:
            self._check()
        except InvalidInput as error:
            # What is watched has changed meanwhile. The other tables are to be heard of all the same.
            self._note(error)
            _log.warning("%s", error)

    def _take(self, changes: Iterable[TableChange]) -> None:
        found: dict[str, None] = {}
        for change in changes:
            self._progress_at_s = self._clock()
            self._changes += 1
            self._doubts += change.rows is None
            found.update(dict.fromkeys(self._tags.tags_of(change)))
            if len(found) >= self._policy.tags_at_once:
                self._send(found)
        self._send(found)

    def _send(self, found: dict[str, None]) -> None:
        if not found:
            return
        # However long the cache takes, it is not the server that hangs.
        self._progress_at_s = None
        tags = tuple(found)
        step = self._policy.tags_at_once
        for start in range(0, len(tags), step):
            self._invalidate(tags[start : start + step])
        self._wait_until_taken()
        self._invalidated += len(tags)
        found.clear()
        self._progress_at_s = self._clock()

    def _wait_until_taken(self) -> None:
        end_s = self._clock() + TAKEN_WITHIN_S
        while not self._is_taken():
            if self._stopping.wait(TAKEN_LOOK_S):
                return
            if self._clock() > end_s:
                raise TargetUnreachable(
                    "the cache's shared tier is away; what was committed is told again once it is back"
                )

    def _note(self, error: Exception) -> None:
        self._faults += 1
        self._last_fault = (str(error).strip().splitlines() or [type(error).__name__])[0]

    def _look_after(self) -> None:
        began_s, began_with = self._clock(), self._changes
        while not self._stopping.wait(LOOK_AFTER_S):
            now_s = self._clock()
            progress_at_s = self._progress_at_s
            if progress_at_s is not None and now_s - progress_at_s > self._policy.hung_after_s:
                self._source.abort()
            self._rate_per_s = (self._changes - began_with) / max(now_s - began_s, LOOK_AFTER_S)
            if now_s - began_s >= RATE_OVER_S:
                began_s, began_with = now_s, self._changes
            if self._metrics is not None:
                self._publish(self._metrics)
