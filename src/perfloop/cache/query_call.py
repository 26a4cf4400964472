"""The call that lends its connection to a load, in both kinds.

A load may go on when its caller is gone: others wait for it as well. The connection is the caller's, so the
caller stays until the load has let go of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class LenderGone(Exception):
    """The caller whose connection a load would have used has left; who still waits loads by itself."""


class AsyncLending:
    """One call for asyncio."""

    def __init__(self) -> None:
        self._is_over = False
        self._free = asyncio.Event()
        self._free.set()

    @property
    def is_mine(self) -> bool:
        """Whether a load that begins now may use the caller's connection."""
        return not self._is_over

    @contextmanager
    def used(self) -> Iterator[None]:
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    async def end(self) -> None:
        """Wait, even when cancelled again, until no load uses the connection."""
        self._is_over = True
        cancelled: asyncio.CancelledError | None = None
        while not self._free.is_set():
            try:
                await self._free.wait()
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled


class Lending:
    """One call in a thread: the load that the caller leads runs in its thread, any other elsewhere."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    @property
    def is_mine(self) -> bool:
        """Whether a load that begins now may use the caller's connection."""
        return threading.get_ident() == self._thread

    @contextmanager
    def used(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        """A thread that leads a load returns after it."""
