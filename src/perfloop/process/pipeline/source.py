"""Reads the source into the first queue, as fast as there is room and no faster."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from time import perf_counter
from typing import Any, Final

from perfloop.process.pipeline.async_stage import flush
from perfloop.process.pipeline.stage_queue import StageQueue

CHUNK: Final = 100
LONGEST_OPEN_S: Final = 0.001
"""How long a chunk stays open, so that the time at which its items came is known that well."""


class Feeder:
    """Items are put into the queue's open chunk, which needs no lock, and which an idle worker may take from.

    So a source that pauses keeps nothing back, and one that does not pays for a lock once a chunk.
    """

    def __init__(self, queue: StageQueue) -> None:
        self._queue = queue
        self._is_stopping = False
        self.items = 0
        """Read so far."""

    def stop(self) -> None:
        """Read no more; from any thread."""
        self._is_stopping = True

    def is_stopping(self) -> bool:
        return self._is_stopping

    def read(self, source: Iterable[Any]) -> bool:
        """Whether it was read to its end; in the caller's thread."""
        if self.is_stopping():
            return False
        queue, is_due = self._queue, self._is_due
        opened = queue.opened
        for item in source:
            if not opened:
                queue.opened_at_s = perf_counter()
            opened.append(item)
            self.items += 1
            if is_due():
                queue.flush()
                if self.is_stopping():
                    return False
        return True

    async def read_async(self, source: AsyncIterable[Any]) -> bool:
        """The same in an event loop."""
        if self.is_stopping():
            return False
        queue = self._queue
        async for item in source:
            if not queue.opened:
                queue.opened_at_s = perf_counter()
            queue.opened.append(item)
            self.items += 1
            if self._is_due():
                await flush(queue)
                if self.is_stopping():
                    return False
        return True

    def _is_due(self) -> bool:
        queue = self._queue
        if queue.takers or self._is_stopping or len(queue.opened) >= CHUNK:
            return True
        return perf_counter() - queue.opened_at_s >= LONGEST_OPEN_S
