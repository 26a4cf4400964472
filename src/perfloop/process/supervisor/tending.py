"""Tends a group while it runs: looks at its workers' memory, and lets their number follow the load."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from perfloop.control.adjustment import Outcome
from perfloop.errors import FleetFailed
from perfloop.process.leaks.examination import Examination
from perfloop.process.leaks.floors import MemorySample
from perfloop.process.leaks.keeper import Seat
from perfloop.process.leaks.ladder import LadderPolicy
from perfloop.process.leaks.words import EXAMINE, MEMORY, REPORT, TRIM, sample_of
from perfloop.process.scaling.policy import ScalingPolicy
from perfloop.process.scaling.scaling import Demand, Scaling, WorkerScaling
from perfloop.process.supervisor.group import Group
from perfloop.process.supervisor.running import Running

LOOK_S: Final = 10.0
"""Between two looks at the memory of all workers."""
WINDOW_S: Final = 5.0
"""Of the load, after which the number of workers may change."""
_GLANCES: Final = 25
"""In a window: who has work, and who has none."""
_ANSWER_S: Final = 3.0
_TRIM_S: Final = 30.0
_EXAMINED_S: Final = 30.0
"""For the answer, after the time of an examination."""
_ASK_S: Final = 1.0


async def tend(group: Group) -> None:
    """Look after the memory and the size of a group; a fault of that is told, and the fleet goes on."""
    tasks = [asyncio.create_task(each) for each in tendings(group)]
    for task in tasks:
        task.add_done_callback(partial(_ended, group))
    await asyncio.gather(*tasks, return_exceptions=True)


def _ended(group: Group, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        reason = f"memory or load is not watched any more: {task.exception()!r}"
        group.log.add("untended", group.spec.name, reason)


def tendings(group: Group) -> list[Coroutine[Any, Any, None]]:
    """What runs beside a group until it is cancelled; empty where its spec asks for nothing."""
    found: list[Coroutine[Any, Any, None]] = []
    if group.spec.memory is not None:
        found.append(watch_memory(group, group.spec.memory))
    if group.spec.scaling is not None:
        found.append(follow_load(group, group.spec.scaling))
    return found


async def watch_memory(group: Group, policy: LadderPolicy, *, every_s: float = LOOK_S) -> None:
    """Look at the workers' memory, and do what the ladder says."""
    # Imported here: it loads numpy, which a fleet that watches no memory has no use for.
    from perfloop.process.leaks.watching import MemoryWatch

    watch = MemoryWatch(GroupKeeper(group), ladder=policy)
    loop = asyncio.get_running_loop()
    while True:
        await watch.look(at_s=loop.time(), rand=random.random())
        await asyncio.sleep(every_s)


async def follow_load(group: Group, policy: ScalingPolicy, *, window_s: float = WINDOW_S) -> None:
    """Count what comes, waits and is done, and have as many workers as that needs."""
    law = WorkerScaling(policy)
    load = _Load(group)
    while True:
        for _ in range(_GLANCES):
            await asyncio.sleep(window_s / _GLANCES)
            load.glance()
        if group.berths and not group.is_alive:  # it was given up or drained, and waits for people
            load.demand()
            continue
        change = law.update(load.demand(), most=group.room)
        if law.judged is not None:
            _tell_gain(group, law.judged)
        if change is not None:
            await group.scale(change.after, change.reason)
            load.demand()  # the time of the change is no window


def _tell_gain(group: Group, step: Scaling) -> None:
    after = step.goodput_after_per_s or 0.0
    group.log.add(
        f"scaling-{step.outcome.value}",
        group.spec.name,
        "the new workers stay" if step.outcome is Outcome.KEPT else "the new workers gained nothing",
        before={"workers": step.before, "done_per_s": round(step.goodput_before_per_s, 1)},
        after={"workers": step.after, "done_per_s": round(after, 1)},
    )


class GroupKeeper:
    """One group, as the watch of its memory needs it.

    Args:
        group: Whose workers they are.
    """

    def __init__(self, group: Group) -> None:
        self._group = group

    def seats(self) -> Sequence[Seat]:
        """The workers that are ready."""
        return [
            Seat(name=each.name, pid=each.pid, under_way=each.under_way, handled=each.handled)
            for each in self._ready()
        ]

    async def memory(self, worker: str) -> MemorySample | None:
        """What a worker holds; None where it does not answer in time."""
        return await self._sample(worker, [MEMORY], _ANSWER_S)

    async def trim(self, worker: str) -> MemorySample | None:
        """Have it collect garbage and give back what is free; what it holds then."""
        return await self._sample(worker, [TRIM], _TRIM_S)

    async def examine(self, worker: str, for_s: float) -> Examination | None:
        """Have it look for the lines that grow; None where it does not answer in time."""
        if await self._told(worker, [EXAMINE, float(for_s)], _ANSWER_S) is None:
            return None
        loop = asyncio.get_running_loop()
        until_s = loop.time() + for_s + _EXAMINED_S
        await asyncio.sleep(for_s / 2)
        while loop.time() < until_s:
            told = await self._told(worker, [REPORT], _ANSWER_S)
            if told is not None and told[1] is not None:
                return msgspec.convert(told[1], Examination)
            await asyncio.sleep(_ASK_S)
        return None

    async def recycle(self, worker: str, reason: str) -> None:
        """Put a new process in its place, without losing a message.

        Raises:
            LaunchFailed: The new one did not become ready.
            FleetFailed: There is no such worker any more.
        """
        place = next((each for each in self._group.workers if each.name == worker), None)
        if place is None:
            raise FleetFailed(f"there is no worker {worker} any more; the group was made smaller")
        await place.replace(reason)

    def note(
        self, kind: str, worker: str, reason: str, before: Mapping[str, object], after: Mapping[str, object]
    ) -> None:
        """Write it into the fleet's log."""
        self._group.log.add(kind, worker, reason, before=before, after=after)

    async def _sample(self, worker: str, word: list[Any], within_s: float) -> MemorySample | None:
        told = await self._told(worker, word, within_s)
        return None if told is None else sample_of(told[1])

    async def _told(self, worker: str, word: list[Any], within_s: float) -> Any:
        running = next((each for each in self._ready() if each.name == worker), None)
        if running is None:
            return None
        try:
            return await running.told(word, within_s=within_s)
        except ConnectionError:  # it has just ended
            return None

    def _ready(self) -> list[Running]:
        running = [each.running for each in self._group.workers]
        return [each for each in running if each is not None and each.is_open and not each.has_ended]


class _Load:
    """What a group had to do since the last window.

    Args:
        group: That does it.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._began_s = self._glanced_s = asyncio.get_running_loop().time()
        self._handled, self._left = group.post.handled, self._there()
        self._busy_s = 0.0

    def glance(self) -> None:
        """Count who has work."""
        now_s = asyncio.get_running_loop().time()
        running = [each.running for each in self._group.workers]
        busy = sum(each is not None and each.under_way > 0 for each in running)
        self._busy_s += busy * (now_s - self._glanced_s)
        self._glanced_s = now_s

    def demand(self) -> Demand:
        """The window from the last one until now."""
        now_s = asyncio.get_running_loop().time()
        length_s = max(now_s - self._began_s, 1e-3)
        done, there = self._group.post.handled - self._handled, self._there()
        workers = self._group.workers
        found = Demand(
            ended_at_s=now_s,
            length_s=length_s,
            workers=len(workers),
            arrivals_per_s=max(0.0, (done + there - self._left) / length_s),
            completions_per_s=done / length_s,
            queue_length=max(0, there - len(workers) * self._group.spec.concurrency),
            service_s=self._busy_s / done if done else None,
        )
        self._began_s, self._busy_s = now_s, 0.0
        self._handled, self._left = self._group.post.handled, there
        return found

    def _there(self) -> int:
        """Messages that are not done."""
        post = self._group.post
        held = sum(each.running.under_way for each in self._group.workers if each.running is not None)
        return post.waiting + post.unplaced + held
