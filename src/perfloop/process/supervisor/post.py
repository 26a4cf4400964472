"""The messages of a group: who gets each, what was left by workers that ended, and who waits for what."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final

from perfloop.errors import FleetFailed, MessageFailed
from perfloop.process.channel.unacknowledged import Sent
from perfloop.process.supervisor.deaths import Deaths, without
from perfloop.process.supervisor.dispatching import Dispatch
from perfloop.process.supervisor.events import EventLog
from perfloop.process.supervisor.running import Running
from perfloop.process.supervisor.specs import GroupSpec

_FAULTS_TOLD: Final = 100
_DEAD_KEPT: Final = 1000


class Post:
    """Hands messages to workers, again where they were not done.

    Args:
        spec: Of the group.
        log: Of the fleet.
        workers: The processes as they are now; those that are not open take nothing.
        on_line: Is told the worker, the stream and the line of what workers write.
    """

    def __init__(
        self,
        spec: GroupSpec,
        log: EventLog,
        workers: Callable[[], Iterable[Running]],
        *,
        on_line: Callable[[str, str, str], None],
    ) -> None:
        self.handled = 0
        self.failures = 0
        self.given_up = 0
        self.dead_letters: deque[tuple[int, Any]] = deque(maxlen=_DEAD_KEPT)
        """Messages that were given up, with their ids."""
        self.wrote = on_line
        self._spec = spec
        self._log = log
        self._workers = workers
        self._dispatch: Dispatch[Running] = Dispatch(is_serial=spec.concurrency > 1)
        self._deaths = Deaths(spec.max_deliveries)
        self._waiting: deque[_Waiting] = deque()
        self._blocked: Counter[Hashable] = Counter()
        """How many wait, by key: who comes after them must not pass them."""
        self._orphans: list[Sent] = []
        """Messages of which no worker can take care yet."""
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._replies: dict[int, Any] = {}
        self._faults: dict[int, str] = {}

    @property
    def waiting(self) -> int:
        """Messages for which no worker has room."""
        return len(self._waiting)

    @property
    def unplaced(self) -> int:
        """Messages that were left, and are with no worker."""
        return sum(each.left for each in self._orphans)

    async def send(self, message: Any, key: Hashable | None, reply: asyncio.Future[Any] | None = None) -> int:
        """Hand a message to a worker; its id. Waits while none has room."""
        if key is None or key not in self._blocked:
            message_id = self._give(message, key, reply)
            if message_id is not None:
                return message_id
        waiting = _Waiting(message, key, reply)
        self._waiting.append(waiting)
        self._blocked[key] += 1
        try:
            return await waiting.given
        finally:
            self._blocked[key] -= 1
            if not self._blocked[key]:
                del self._blocked[key]

    def place(self, left: Sequence[Sent]) -> None:
        """Have these messages done by any worker: those with a key by one, so that they keep their order."""
        whole: list[Sent] = []
        loose: list[Sent] = []
        for sent in left:
            is_keyed = any(self._dispatch.is_keyed(each) for each in range(sent.first_id, sent.end_id))
            (whole if is_keyed else loose).append(sent)
        for part in [whole, *([each] for each in loose)]:
            if part:
                self._resend(part)

    def hand(self, left: list[Sent], running: Running) -> None:
        """Have these messages done by this worker."""
        running.resend(left)
        for sent in left:
            self._dispatch.moved(range(sent.first_id, sent.end_id), running)

    def collect(self) -> None:
        """A worker is ready: give it what is there."""
        orphans, self._orphans = self._orphans, []
        self.place(orphans)
        self._pump()

    def died(self, running: Running) -> list[Sent]:
        """A process ended by itself; what of its messages is to be done again."""
        given_up = self._deaths.died(running.in_hand, running.left)
        if given_up is None:
            return running.left
        left, message = without(running.left, given_up)
        self._give_up(given_up, message, running.name)
        return left

    def acknowledged(self, first_id: int, last_id: int) -> None:
        """Messages from the first to the last are done."""
        self.handled += last_id - first_id + 1
        self._dispatch.done(first_id, last_id)
        self._deaths.done(first_id, last_id)
        if self._asked:
            for message_id in range(first_id, last_id + 1):
                self._answer(message_id)
        if self._waiting:
            self._pump()

    def replied(self, message_id: int, value: Any) -> None:
        """A message was answered; it is acknowledged later."""
        if message_id in self._asked:
            self._replies[message_id] = value

    def failed(self, message_id: int, fault: str, name: str) -> None:
        """A message could not be done; it is acknowledged later."""
        self.failures += 1
        if self.failures <= _FAULTS_TOLD:
            self._log.add("message-failed", name, fault, before={"message": message_id})
        if message_id in self._asked:
            self._faults[message_id] = fault

    # Messages.

    def _give(self, message: Any, key: Hashable | None, reply: asyncio.Future[Any] | None) -> int | None:
        """Hand a message out; its id, or None where it has to wait."""
        running = self._dispatch.choose(self._workers(), key)
        if running is None:
            return None
        message_id = running.send(message)
        if key is not None:
            self._dispatch.sent(message_id, key, running)
        if reply is not None:
            self._asked[message_id] = reply
        return message_id

    def _pump(self) -> None:
        """Hand out what waits, as far as there is room; a key that has to wait lets others pass."""
        held: deque[_Waiting] = deque()
        blocked: set[Hashable] = set()
        while self._waiting and any(each.has_room for each in self._workers()):
            waiting = self._waiting.popleft()
            if waiting.given.done():
                continue
            if waiting.key is not None and waiting.key in blocked:
                held.append(waiting)
            elif not self._try(waiting):
                held.append(waiting)
                blocked.add(waiting.key)
        self._waiting.extendleft(reversed(held))

    def _try(self, waiting: _Waiting) -> bool:
        try:
            message_id = self._give(waiting.message, waiting.key, waiting.reply)
        except ValueError as error:  # it cannot be encoded, which is its sender's to know
            waiting.given.set_exception(error)
            return True
        if message_id is None:
            return False
        waiting.given.set_result(message_id)
        return True

    def _resend(self, left: list[Sent]) -> None:
        seats = [each for each in self._workers() if each.is_open]
        if not seats:
            self._orphans += left
            return
        self.hand(left, min(seats, key=lambda each: each.under_way))

    def _answer(self, message_id: int) -> None:
        reply = self._asked.pop(message_id, None)
        fault, value = self._faults.pop(message_id, None), self._replies.pop(message_id, None)
        if reply is None or reply.done():
            return
        if fault is None:
            reply.set_result(value)
        else:
            reply.set_exception(
                MessageFailed(f"{self._spec.name} could not do message {message_id}: {fault}")
            )

    def _give_up(self, message_id: int, message: Any, name: str) -> None:
        reason = f"it ended its worker {self._spec.max_deliveries} times"
        self._log.add("message-given-up", name, reason, before={"message": message_id})
        self.given_up += 1
        self.dead_letters.append((message_id, message))
        self._faults[message_id] = reason
        self._dispatch.done(message_id, message_id)
        self._answer(message_id)
        self._faults.pop(message_id, None)

    def refuse(self, reason: str) -> None:
        """There is nobody any more: let nobody wait."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.given.done():
                waiting.given.set_exception(FleetFailed(reason))
        for reply in self._asked.values():
            if not reply.done():
                reply.set_exception(FleetFailed(reason))
        for told in (self._asked, self._replies, self._faults):
            told.clear()


class _Waiting:
    """A message that nobody has room for."""

    def __init__(self, message: Any, key: Hashable | None, reply: asyncio.Future[Any] | None) -> None:
        self.message = message
        self.key = key
        self.reply = reply
        self.given: asyncio.Future[int] = asyncio.get_running_loop().create_future()
