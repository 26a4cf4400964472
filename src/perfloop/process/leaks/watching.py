"""Watches the memory of one group's workers, and carries out what the ladder says."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any, Final

from msgspec import structs

from perfloop.errors import PerfloopError
from perfloop.process.leaks.contrast import Peer, suspect_among
from perfloop.process.leaks.examination import Examination
from perfloop.process.leaks.floors import FLOOR_S, Floor, MemorySample, floors
from perfloop.process.leaks.keeper import Keeper, Seat
from perfloop.process.leaks.ladder import Act, Ladder, LadderPolicy, Rung, Seen
from perfloop.process.leaks.suspicion import LeakPolicy, Suspicion

_TOLD: Final = 3
_SILENT_S: Final = 120.0
"""A worker that has not answered once for so long is told: it is not watched."""


class _Record:
    """One process's samples: those of the floor that is not over, and the floors."""

    def __init__(self, pid: int, first: MemorySample, at_s: float) -> None:
        self.pid = pid
        self.started_at_s = at_s - first.at_s
        self.began_bytes = first.in_use_bytes
        self.floors: list[Floor] = []
        self.last = first
        self._open: list[MemorySample] = []

    def add(self, sample: MemorySample, kept: int) -> bool:
        """Whether a floor is complete with it."""
        self.last = sample
        self._open.append(sample)
        found = floors(self._open)
        if not found:
            return False
        self.floors = [*self.floors, *found][-kept:]
        self._open = [sample]
        return True


class MemoryWatch:
    """One group's memory; `look` is called every ten seconds or so, by one event loop.

    Args:
        keeper: Of the workers.
        ladder: How far and how often something is done.
        policy: When growth is called a leak.
    """

    def __init__(
        self, keeper: Keeper, *, ladder: LadderPolicy | None = None, policy: LeakPolicy | None = None
    ) -> None:
        self._keeper = keeper
        self._examine_s = (ladder or LadderPolicy()).examine_s
        self._ladder = Ladder(ladder or LadderPolicy())
        self._policy = policy or LeakPolicy()
        self._records: dict[str, _Record] = {}
        self._suspected: dict[str, Suspicion] = {}
        self._silent: dict[str, tuple[int, float]] = {}
        """Workers that have not answered yet, by process, and when they are to be told as that."""
        self._kept = int(2 * self._policy.window_s / FLOOR_S) + self._policy.times + 1

    async def look(self, *, at_s: float, rand: float) -> None:
        """Ask all workers, and do the next thing that is to be done; `rand` is from 0 to 1."""
        seats = {each.name: each for each in self._keeper.seats()}
        self._forget(seats)
        is_new = False
        samples = await asyncio.gather(*(self._keeper.memory(name) for name in seats))
        for seat, sample in zip(seats.values(), samples, strict=True):
            if sample is None:
                self._miss(seat, at_s)
            else:
                is_new |= self._take(seat, structs.replace(sample, requests=seat.handled), at_s)
        if is_new:
            peers = {
                name: Peer(started_at_s=each.started_at_s, floors=tuple(each.floors))
                for name, each in self._records.items()
            }
            self._suspected = suspect_among(peers, self._policy)
        seen = [self._seen(seats[name], each) for name, each in self._records.items() if name in seats]
        act = self._ladder.next(seen, at_s=at_s)
        if act is not None:
            await self._do(act, at_s, rand)

    def _take(self, seat: Seat, sample: MemorySample, at_s: float) -> bool:
        record = self._records.get(seat.name)
        if record is None or record.pid != seat.pid:
            record = self._records[seat.name] = _Record(seat.pid, sample, at_s)
            self._suspected.pop(seat.name, None)
        return record.add(sample, self._kept)

    def _miss(self, seat: Seat, at_s: float) -> None:
        """It did not answer: one that never does is told once."""
        record = self._records.get(seat.name)
        if record is not None and record.pid == seat.pid:
            return
        pid, due_s = self._silent.get(seat.name, (seat.pid, at_s + _SILENT_S))
        if pid != seat.pid:
            due_s = at_s + _SILENT_S
        if at_s >= due_s:
            due_s = math.inf
            reason = (
                "its memory is not watched: it does not answer. A target with a loop of its own hears"
                " nothing; have it take its work from its Worker, or bound it by memory_bytes"
            )
            self._keeper.note("untended", seat.name, reason, {}, {})
        self._silent[seat.name] = (seat.pid, due_s)

    def _forget(self, seats: Mapping[str, Seat]) -> None:
        """Processes that are gone: of the place's name the ladder remembers what was done."""
        for name in [each for each in self._records if each not in seats]:
            del self._records[name]
            self._suspected.pop(name, None)

    def _seen(self, seat: Seat, record: _Record) -> Seen:
        return Seen(
            worker=seat.name,
            own_bytes=max(0, record.last.in_use_bytes - record.began_bytes),
            in_use_bytes=record.last.in_use_bytes,
            free_bytes=record.last.free_bytes,
            under_way=seat.under_way,
            suspicion=self._suspected.get(seat.name),
        )

    async def _do(self, act: Act, at_s: float, rand: float) -> None:
        record = self._records[act.worker]
        before = _numbers(record.last)
        if act.rung is Rung.ALARM:
            self._ladder.done(act, act.before_bytes, at_s=at_s, rand=rand)
            self._keeper.note("leak-alarm", act.worker, act.reason, before, {})
            return
        try:
            after = await self._carry_out(act)
        except PerfloopError as error:
            self._ladder.failed(act, at_s=at_s, rand=rand)
            self._keeper.note(f"{act.rung}-failed", act.worker, f"{act.reason}: {error}", before, {})
            return
        held = after.free_bytes if act.cause == "fragmentation" else after.in_use_bytes - record.began_bytes
        outcome = self._ladder.done(act, max(0, held), at_s=at_s, rand=rand)
        kind = "trimmed" if act.rung is Rung.TRIM else "recycled"
        self._keeper.note(kind, act.worker, act.reason, before, {**_numbers(after), "helped": outcome.helped})

    async def _name_lines(self, worker: str) -> None:
        found = await self._keeper.examine(worker, self._examine_s) if self._examine_s else None
        if found is not None:
            rate = round((found.bytes_per_s or 0.0) * 60 / 2**20, 2)
            self._keeper.note("examined", worker, _lines(found), {}, {"mb_per_min": rate})

    async def _carry_out(self, act: Act) -> MemorySample:
        """What is held after it."""
        if act.rung is Rung.TRIM:
            after = await self._keeper.trim(act.worker)
        else:
            await self._name_lines(act.worker)
            await self._keeper.recycle(act.worker, act.reason)
            after = await self._keeper.memory(act.worker)
        if after is None:
            raise PerfloopError("it does not answer; it may be busy with one long message")
        return after


def _lines(found: Examination) -> str:
    """The lines that hold most of what grew."""
    places = [each.called_from or each.place for each in found.lines[:_TOLD]]
    named = [f"{place.file}:{place.line}" for place in places]
    if named:
        return f"it grows in {', '.join(named)}"
    return "a library allocates it, past Python" if found.is_native else "no line grew steadily meanwhile"


def _numbers(sample: MemorySample) -> dict[str, Any]:
    return {
        "in_use_mb": round(sample.in_use_bytes / 2**20, 1),
        "rss_mb": round(sample.rss_bytes / 2**20, 1),
        "free_mb": round(sample.free_bytes / 2**20, 1),
    }
