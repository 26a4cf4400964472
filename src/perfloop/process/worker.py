"""The worker's side: says that it is ready and alive, takes messages, and ends when it is asked to.

A fleet file names one of three kinds of worker. A `handler` is called with each message. A `target` is
called once, with a `Worker`, and does as it likes::

    def run(worker: Worker) -> None:
        connection = connect()
        worker.ready()
        for delivery in worker:
            worker.reply(delivery, answer(connection, delivery.message))

A `command` is any program; it has no channel.
"""

from __future__ import annotations

import inspect
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from io import TextIOWrapper
from types import FrameType
from typing import Any, Final, Self

from perfloop.errors import InvalidInput
from perfloop.process.channel.end import ChannelEnd, Delivery
from perfloop.process.channel.receiving import Batch
from perfloop.process.leaks.words import MemoryWords

READY: Final = "ready"
ALIVE: Final = "alive"
REPLY: Final = "reply"
FAILED: Final = "failed"
AT: Final = "at"
PING: Final = "ping"
_REHEARSALS: Final = 8
"""After which Python 3.11 has rewritten what it will; they take a millisecond."""


class Worker:
    """What a worker's code has of its supervisor; one thread uses it, as a context.

    SIGTERM ends the iteration after the message in hand.

    Args:
        name: As the fleet calls it.
        channel: Its end of the channel, which it closes.
    """

    def __init__(self, name: str, channel: socket.socket) -> None:
        self.name = name
        self.is_stopping = False
        """Whether it was asked to end: long work should come to a point where it can be left."""
        self._memory = MemoryWords()
        self._awake, self._wake = socket.socketpair()
        self._end = ChannelEnd(channel, on_word=self._hear, wake=self._awake.fileno())

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what is left of the process has nobody to wake
        self._end.close()
        self._awake.close()
        self._wake.close()

    def __iter__(self) -> Iterator[Delivery]:
        """The messages until this worker is to end; asking for the next acknowledges the one before.

        What is left of a batch is not acknowledged, and another worker gets it.
        """
        while not self.is_stopping:
            batch = self._end.receive_batch()
            if batch is None:
                return
            yield from self._each(batch)

    def ready(self) -> None:
        """Messages may come from here on, and who needs this worker may start."""
        self._end.say([READY])

    def heartbeat(self) -> None:
        """Be known to be alive, in the midst of work that takes longer than the fleet's `heartbeat_s`."""
        self._end.say([ALIVE])

    def reply(self, delivery: Delivery, value: object) -> None:
        """Answer who asked; before the message is acknowledged.

        Raises:
            InvalidInput: It cannot be encoded.
        """
        try:
            self._end.say([REPLY, delivery.id, value])
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidInput(
                f"a reply of type {type(value).__name__} cannot be sent: {error}; reply with what MessagePack"
                " has, or with values of msgspec"
            ) from error

    def fail(self, delivery: Delivery, error: Exception) -> None:
        """The message cannot be done: who asked is told, and it is not sent again."""
        self._end.say([FAILED, delivery.id, f"{type(error).__name__}: {error}"])

    def _each(self, batch: Batch) -> Iterator[Delivery]:
        """Of messages that come again, the supervisor knows which is in hand, and so which one kills."""
        for place, message in enumerate(batch.messages):
            if self.is_stopping:
                return
            message_id = batch.first_id + place
            if batch.is_again:
                self._end.say([AT, message_id])
            yield Delivery(message_id, message, batch.is_again)
            self._end.acknowledge(message_id, at_once=batch.is_again)

    def _hear(self, word: Any) -> None:
        if word == [PING]:
            self.heartbeat()
            return
        answer = self._memory.answer(word)
        if answer is not None:
            self._end.say(answer)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.is_stopping = True
        self._wake.send(b".")


def rehearse() -> None:
    """Go through a worker's start before it is forked.

    Python rewrites code while it runs the first few times: done here, it is shared, and not done on pages of
    each worker's own. Of 2.25 MB that a worker had of its own after its first message, 1.9 are left.
    """
    before = signal.getsignal(signal.SIGTERM)
    for _ in range(_REHEARSALS):
        ours, theirs = socket.socketpair()
        with ours, Worker("rehearsal", theirs) as worker:
            worker.ready()
        inspect.iscoroutinefunction(named(f"{__name__}:rehearse"))
    signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def run_handler(name: str, channel: int, handler: str, concurrency: str = "1") -> None:
    """Call the handler, `module:function`, with each message; what it returns is the reply."""
    handle = named(handler)
    _write_lines()
    if inspect.iscoroutinefunction(handle):
        import_module("perfloop.process.async_worker").run(channel, handle, int(concurrency))
        return
    with Worker(name, socket.socket(fileno=channel)) as worker:
        worker.ready()
        for delivery in worker:
            _handle(worker, handle, delivery)


def run_target(name: str, channel: int, target: str, *arguments: str) -> object:
    """Call the target, `module:function`, with its Worker and its arguments; its exit code, or None."""
    call = named(target)
    _write_lines()
    with Worker(name, socket.socket(fileno=channel)) as worker:
        return call(worker, *arguments)


def named(place: str) -> Callable[..., Any]:
    """The callable at `module:function`.

    Raises:
        InvalidInput: There is none.
    """
    module, _, path = place.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise InvalidInput(f"{place} is nothing that can be called; write it as module:function")
    result: Callable[..., Any] = found
    return result


def _write_lines() -> None:
    """What a worker prints is to be read at once, not when a buffer is full."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def _handle(worker: Worker, handle: Callable[[Any], object], delivery: Delivery) -> None:
    try:
        reply = handle(delivery.message)
        if reply is not None:
            worker.reply(delivery, reply)
    except Exception as error:  # noqa: BLE001  # a message's fault is told and counted; the next one is not to suffer
        traceback.print_exc()
        worker.fail(delivery, error)
