"""Lets `perfloop fleet` look at a running fleet and change it."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from perfloop.errors import InvalidInput, PerfloopError
from perfloop.process.supervisor.control_place import Answer, Asked, alone_in, free_place, make_place, to_line
from perfloop.process.supervisor.events import Event, EventLog
from perfloop.process.supervisor.statistics import FleetStatistics

if TYPE_CHECKING:
    from perfloop.process.leaks.examination import Examination

_LAST_WORDS_S: Final = 1.0
_decode: Final = msgspec.json.Decoder(Asked).decode


class Controlled(Protocol):
    """A fleet, as its control socket sees it."""

    log: EventLog

    async def restart(self, name: str, *, reason: str) -> None: ...

    async def scale(self, group: str, count: int, *, reason: str) -> None: ...

    async def drain(self, name: str, *, reason: str) -> None: ...

    async def examine(self, name: str, for_s: float) -> Examination | None: ...

    def statistics(self) -> FleetStatistics: ...


class ControlSocket:
    """A socket that the user of the supervisor alone can write to.

    Args:
        place: Its path; one that nobody answers at is replaced.
        fleet: What is asked.
    """

    def __init__(self, place: Path, fleet: Controlled) -> None:
        self._place = place
        self._fleet = fleet
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._news: set[asyncio.Queue[Event | None]] = set()
        """Of those who follow; None ends it."""

    async def open(self) -> None:
        """Listen.

        Raises:
            InvalidInput: Another fleet answers there, or no socket can be made there.
        """
        make_place(self._place)
        before = os.umask(0o177)
        try:
            with alone_in(self._place.parent):
                free_place(self._place)
                self._server = await asyncio.start_unix_server(self._serve, self._place)
                self._inode = self._place.stat().st_ino
        except OSError as error:
            raise InvalidInput(
                f"no socket can be made at {self._place}: {error.strerror}; name another path as `control`"
            ) from error
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Listen no more; who is being answered hears the rest, if he listens, and is left."""
        if self._server is None:
            return
        self._server.close()
        for news in self._news:
            with suppress(asyncio.QueueFull):
                news.put_nowait(None)
        if self._answering:
            await asyncio.wait(self._answering, timeout=_LAST_WORDS_S)
        for each in self._answering:
            each.cancel()
        with suppress(OSError):
            if self._place.stat().st_ino == self._inode:
                self._place.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            asked = await _line(reader)
            if asked:
                await self._answer(asked, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # nobody waits for the answer any more, or the fleet is over
        finally:
            self._answering.discard(task)
            writer.close()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            asked = _decode(line)
            if asked.act == "events":
                await self._events(asked, writer)
                return
            answer = Answer(value=await self._done(asked))
        except (PerfloopError, msgspec.DecodeError) as error:
            answer = Answer(error=str(error))
        writer.write(to_line(answer))
        await writer.drain()

    async def _done(self, asked: Asked) -> Any:
        reason = "it was asked for by `perfloop fleet`"
        match asked.act:
            case "status":
                pass
            case "restart":
                await self._fleet.restart(asked.name, reason=reason)
            case "scale":
                await self._fleet.scale(asked.name, asked.count, reason=reason)
            case "drain":
                await self._fleet.drain(asked.name, reason=reason)
            case "examine":
                return await self._fleet.examine(asked.name, asked.for_s)
            case _:
                raise InvalidInput(f"{asked.act} is nothing that a fleet does; run one perfloop on both ends")
        return self._fleet.statistics()

    async def _events(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        news: asyncio.Queue[Event | None] = asyncio.Queue(maxsize=10_000)
        for event in self._fleet.log.newest(asked.count):
            writer.write(to_line(Answer(value=event, is_last=False)))
        if asked.follow:

            def listener(event: Event) -> None:
                with suppress(asyncio.QueueFull):  # who does not read does not hold up the fleet
                    news.put_nowait(event)

            self._fleet.log.listeners.append(listener)
            self._news.add(news)
            try:
                await writer.drain()
                while (each := await news.get()) is not None:
                    writer.write(to_line(Answer(value=each, is_last=False)))
                    await writer.drain()
            finally:
                self._fleet.log.listeners.remove(listener)
                self._news.discard(news)
        writer.write(to_line(Answer()))
        await writer.drain()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """What is asked; empty where nobody asks."""
    try:
        return await reader.readline()
    except ValueError:  # longer than any question is
        return b""
