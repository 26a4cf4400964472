"""An end of a channel for code that waits: workers, and threads."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from socket import MSG_DONTWAIT
from typing import Any, Final, NamedTuple, Self

from perfloop.errors import ChannelClosed
from perfloop.process.channel.exchange import GONE, Exchange, ignore
from perfloop.process.channel.policy import ChannelPolicy
from perfloop.process.channel.receiving import Batch
from perfloop.process.channel.statistics import ChannelStatistics
from perfloop.process.channel.unacknowledged import Sent

BUFFER_BYTES: Final = 1024 * 1024
"""Asked of the kernel for each direction; it may give less."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """The two sockets of a new channel."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    return ends


class Delivery(NamedTuple):
    """One message that came."""

    id: int
    """The same when it is sent again, to whomever."""
    message: Any
    is_again: bool
    """Whether it was sent before, so that it may have been done already."""


class ChannelEnd:
    """One end of a channel; one thread uses it.

    Args:
        end: Its socket, which it closes.
        policy: The bounds.
        message_type: What msgspec makes of each message that comes.
        first_id: Of the first message sent.
        on_word: Is told each word of the other end, in the call that reads it.
        wake: A descriptor: once it can be read, no call waits for messages any more.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        end: socket.socket,
        *,
        policy: ChannelPolicy | None = None,
        message_type: Any = Any,
        first_id: int = 1,
        on_word: Callable[[Any], None] = ignore,
        wake: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy or ChannelPolicy()
        self._exchange = Exchange(self._policy, message_type, first_id, on_word)
        self._sending = self._exchange.sending
        self._socket = end
        end.setblocking(True)
        self._out: deque[memoryview] = deque()
        self._is_over = False
        """Whether nothing more comes."""
        self._is_mute = False
        """Whether nobody reads what this end sends; what the other one sent before can still be read."""
        self._clock = clock
        self._flush_due_s = 0.0
        self._looked_s = 0.0
        self._look_at = 1
        """With how many messages waiting to look at the clock again."""
        self._tell_due_s = 0.0
        self._batch: Batch | None = None
        self._at = 0
        self._poll = select.poll()
        self._polled_for = 0
        self._wake = wake
        self._is_woken = False
        if wake is not None:
            self._poll.register(wake, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        """The messages until the other end is gone or this one is woken.

        Asking for the next says that the one before is done. The other end is told so when this one waits,
        and else within the policy's time, for which the clock is looked at with every eighth message while
        they are done fast.
        """
        clock, linger_s = self._clock, self._policy.linger_s
        due_s = looked_s = 0.0
        while True:
            try:
                batch = self.receive_batch()
            except ChannelClosed:
                return
            if batch is None:
                return
            done = told = 0
            look_at = 1
            try:
                for message in batch.messages:
                    yield message
                    done += 1
                    if done >= look_at:
                        now_s = clock()
                        if now_s >= due_s:
                            self.acknowledge(batch.first_id + told, done - told)
                            told, due_s = done, now_s + linger_s
                        look_at = done + (8 if now_s - looked_s < linger_s / 8 else 1)
                        looked_s = now_s
            finally:
                self._exchange.receiving.done(batch.first_id + told, done - told)
                if done < len(batch.messages):
                    self._batch, self._at = batch, done + 1

    def send(self, message: Any) -> int:
        """Send a message, at once or with those that follow within the policy's time; its id.

        Waits while as much is under way as may be: two ends that both only send would wait for each other.
        What waits for company goes with `flush`, and when this end waits for messages.

        Raises:
            InvalidInput: It cannot be encoded, or is too large.
            ChannelClosed: The other end is gone; what was not acknowledged is in `left()`.
        """
        if self._is_over or self._is_mute:
            raise ChannelClosed(GONE)
        sending = self._sending
        is_full = sending.put(message)
        waiting = sending.waiting
        message_id = sending.next_id + waiting - 1
        if is_full or waiting >= self._look_at:
            self._flush_if_due(is_full, waiting)
        return message_id

    def flush(self) -> None:
        """Send what waits for company.

        Raises:
            ChannelClosed: The other end is gone; what was not acknowledged is in `left()`.
        """
        if self._sending.waiting:
            if self._sending.under_way.messages:
                self._read(MSG_DONTWAIT)
                self._exchange.take()
            self._tell()
        while self._out or self._sending.is_full:
            if self._is_over or self._is_mute:
                raise ChannelClosed(GONE)
            self._move(None)
            self._exchange.take()

    def resend(self, left: Iterable[Sent]) -> None:
        """Send what another end has left, before anything that this end sends of its own."""
        for parts in self._sending.again(left):
            self._write(*parts)

    def say(self, word: Any) -> None:
        """Tell the other end something at once; words are neither counted nor acknowledged."""
        self._write(*self._exchange.word(word))

    def receive(self, timeout_s: float | None = None) -> Delivery | None:
        """The next message; None where none came in time, or before this end was woken.

        Raises:
            ChannelClosed: The other end is gone and no message is left.
        """
        batch = self._batch
        if batch is None:
            batch = self._batch = self.receive_batch(timeout_s)
            if batch is None:
                return None
        at = self._at
        message = batch.messages[at]
        self._at = at + 1
        if self._at == len(batch.messages):
            self._batch, self._at = None, 0
        return Delivery(batch.first_id + at, message, batch.is_again)

    def receive_batch(self, timeout_s: float | None = None) -> Batch | None:
        """The messages of the next frame, or what `receive` left of one.

        None where none came in time, or before this end was woken.

        Raises:
            ChannelClosed: The other end is gone and no message is left.
        """
        if self._batch is not None:
            return self._rest(self._batch)
        batch = self._exchange.batch()
        if batch is None:
            self._tell()
            batch = self._await_batch(None if timeout_s is None else self._clock() + timeout_s)
        return batch

    def acknowledge(self, first_id: int, count: int = 1, *, at_once: bool = False) -> None:
        """So many messages from this id were done.

        Told when this end waits, after the policy's time, or at once.
        """
        self._exchange.receiving.done(first_id, count)
        now_s = self._clock()
        if at_once or now_s >= self._tell_due_s:
            self._tell_due_s = now_s + self._policy.linger_s
            self._tell()

    def left(self) -> list[Sent]:
        """What was sent and not acknowledged, for another end to send again."""
        return self._sending.left()

    def statistics(self) -> ChannelStatistics:
        """What this end did."""
        return self._exchange.statistics()

    def fileno(self) -> int:
        """Of the socket, to wait for it beside others; -1 once it is closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Send what waits and what was done as far as the kernel takes it at once, and close."""
        if not self._is_over:
            self._tell()
        self._is_over = True
        self._socket.close()

    def _rest(self, batch: Batch) -> Batch:
        rest = Batch(batch.first_id + self._at, batch.messages[self._at :], is_again=batch.is_again)
        self._batch, self._at = None, 0
        return rest

    def _flush_if_due(self, is_full: bool, waiting: int) -> None:
        """Send what waits, if it is to go; while messages come fast, not each of them looks at the clock."""
        if is_full or not self._sending.under_way.messages:
            self.flush()
            return
        now_s, linger_s = self._clock(), self._policy.linger_s
        if waiting == 1:
            self._flush_due_s = now_s + linger_s
        elif now_s >= self._flush_due_s:
            self.flush()
            return
        is_fast = now_s - self._looked_s < linger_s / 8
        self._look_at, self._looked_s = waiting + (8 if is_fast else 1), now_s

    def _tell(self) -> None:
        """Send what was done and what waits for company, in one call of the kernel."""
        told = self._exchange.receiving.acknowledgement() or ()
        if self._sending.waiting:
            self._look_at = 1
            self._write(*told, *self._sending.take())
        elif told:
            self._write(*told)

    def _await_batch(self, deadline_s: float | None) -> Batch | None:
        """Wait until a batch is there, or the time is over."""
        while True:
            if self._is_over:
                raise ChannelClosed(GONE)
            left_s = None if deadline_s is None else deadline_s - self._clock()
            if self._wake is None and left_s is None and not self._out:
                self._read()
            else:
                self._move(0 if self._is_woken else left_s)
            batch = self._exchange.batch()
            if batch is not None or self._is_woken or (left_s is not None and left_s <= 0):
                return batch

    def _move(self, timeout_s: float | None) -> None:
        """Wait until the socket takes or gives bytes, and move them."""
        wanted = select.POLLIN | (select.POLLOUT if self._out else 0)
        if wanted != self._polled_for:
            self._poll.register(self._socket, wanted)
            self._polled_for = wanted
        for number, happened in self._poll.poll(None if timeout_s is None else max(0, timeout_s * 1000)):
            if number == self._wake:
                self._is_woken = True
                continue
            if happened & select.POLLOUT:
                self._write_out()
            if happened & ~select.POLLOUT:
                self._read(MSG_DONTWAIT)

    def _read(self, flags: int = 0) -> None:
        """Read what has come; wait for something, unless the flags say otherwise."""
        reader = self._exchange.reader
        try:
            count = self._socket.recv_into(reader.room(), 0, flags)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if count:
            reader.wrote(count)
        else:
            self._is_over = True

    def _write(self, *parts: bytes) -> None:
        """Give frames to the kernel, or keep of them what the kernel does not take yet."""
        written = 0 if self._out else self._given(parts)
        if written < sum(map(len, parts)):
            self._keep(parts, written)

    def _keep(self, parts: Sequence[bytes], written: int) -> None:
        """Keep what follows so many bytes of these."""
        for part in parts:
            if written < len(part):
                self._out.append(memoryview(part)[written:])
            written = max(0, written - len(part))

    def _write_out(self) -> None:
        while self._out:
            view = self._out[0]
            written = self._given([view])
            if written < len(view):
                self._out[0] = view[written:]
                return
            self._out.popleft()

    def _given(self, parts: Sequence[bytes | memoryview]) -> int:
        """How many bytes of these the kernel took: all, where nobody reads them any more."""
        try:
            return self._socket.sendmsg(parts, (), MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            self._is_mute = True
            return sum(len(part) for part in parts)
