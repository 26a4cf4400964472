"""A group's memory over a day: what leaks is recycled, one at a time; what is fragmented is not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest

from perfloop.errors import LaunchFailed
from perfloop.process.leaks.examination import Examination
from perfloop.process.leaks.floors import MemorySample
from perfloop.process.leaks.keeper import Seat
from perfloop.process.leaks.ladder import LadderPolicy
from perfloop.process.leaks.watching import MemoryWatch

MB = 1024**2
LOOK_S = 60.0


class Fleet:
    """Workers in virtual time, each with a leak and with memory that malloc keeps."""

    def __init__(
        self, leaks_mb_per_h: Sequence[float], *, free_mb: float = 0.0, collects: bool = False
    ) -> None:
        self.leaks = {f"bots-{place}": leak for place, leak in enumerate(leaks_mb_per_h)}
        self.free_mb = dict.fromkeys(self.leaks, free_mb)
        self.born_s = dict.fromkeys(self.leaks, 0.0)
        self.clean_s = dict.fromkeys(self.leaks, 0.0)
        self.pids = {name: place for place, name in enumerate(self.leaks)}
        self.collects = collects
        self.now_s = 0.0
        self.is_broken = False
        self.notes: list[tuple[float, str, str, Any]] = []

    def seats(self) -> Sequence[Seat]:
        return [Seat(name=name, pid=pid, under_way=0, handled=0) for name, pid in self.pids.items()]

    async def memory(self, worker: str) -> MemorySample | None:
        grown = self.leaks[worker] * (self.now_s - self.clean_s[worker]) / 3600
        in_use = 50 + grown
        free = self.free_mb[worker]
        return MemorySample(
            at_s=self.now_s - self.born_s[worker],
            in_use_bytes=int(in_use * MB),
            rss_bytes=int((in_use + free) * MB),
            free_bytes=int(free * MB),
        )

    async def trim(self, worker: str) -> MemorySample | None:
        self.free_mb[worker] = 0.0
        if self.collects:
            self.clean_s[worker] = self.now_s
        return await self.memory(worker)

    async def examine(self, worker: str, for_s: float) -> Examination | None:
        return None

    async def recycle(self, worker: str, reason: str) -> None:
        if self.is_broken:
            raise LaunchFailed("it did not become ready")
        self.pids[worker] += 100
        self.born_s[worker] = self.clean_s[worker] = self.now_s

    def note(
        self, kind: str, worker: str, reason: str, before: Mapping[str, object], after: Mapping[str, object]
    ) -> None:
        self.notes.append((self.now_s, kind, worker, after.get("helped")))

    def kinds(self, kind: str) -> list[tuple[float, str, str, Any]]:
        return [each for each in self.notes if each[1] == kind]


def a_day(fleet: Fleet, *, hours: float = 12, ladder: LadderPolicy | None = None) -> Fleet:
    watch = MemoryWatch(fleet, ladder=ladder)

    async def run() -> None:
        while fleet.now_s < hours * 3600:
            await watch.look(at_s=fleet.now_s, rand=0.5)
            fleet.now_s += LOOK_S

    asyncio.run(run())
    return fleet


def test_a_leaking_worker_is_trimmed_in_vain_then_recycled() -> None:
    fleet = a_day(Fleet([30.0, 0.0, 0.0]), hours=4)

    assert ["trimmed", "recycled"] == [kind for _, kind, *_ in fleet.notes]
    assert [("bots-0", False), ("bots-0", True)] == [(name, helped) for _, _, name, helped in fleet.notes]
    assert fleet.notes[0][0] < 3 * 3600


def test_a_group_that_leaks_is_never_recycled_two_at_once() -> None:
    fleet = a_day(Fleet([30.0, 30.0, 30.0, 30.0]), hours=5, ladder=LadderPolicy(recycle_every_s=600))
    times = [at_s for at_s, *_ in fleet.kinds("recycled")]

    assert 4 == len(times)
    assert min(after - before for before, after in pairwise(times)) >= 600


class Deaf(Fleet):
    """Workers that answer nothing."""

    async def memory(self, worker: str) -> MemorySample | None:
        return None


def test_a_worker_that_never_answers_is_told_once() -> None:
    fleet = a_day(Deaf([0.0, 0.0]), hours=1)

    assert [(120.0, "untended", "bots-0"), (120.0, "untended", "bots-1")] == [
        each[:3] for each in fleet.notes
    ]


def test_what_a_collection_gives_back_needs_no_restart() -> None:
    fleet = a_day(Fleet([30.0], collects=True), hours=8)

    assert fleet.kinds("trimmed")
    assert all(helped for *_, helped in fleet.kinds("trimmed"))
    assert [] == fleet.kinds("recycled")


def test_fragmentation_is_trimmed_once_and_the_worker_goes_on() -> None:
    fleet = a_day(Fleet([0.0, 0.0], free_mb=200), hours=2)

    assert [("trimmed", True), ("trimmed", True)] == [(kind, helped) for _, kind, _, helped in fleet.notes]


def test_a_worker_over_its_limit_is_recycled_without_waiting_for_a_trend() -> None:
    fleet = a_day(Fleet([600.0]), hours=0.5, ladder=LadderPolicy(max_own_bytes=100 * MB, trim_every_s=60))

    assert fleet.kinds("recycled")[0][0] < 900


def test_a_recycling_that_fails_is_told_and_not_tried_at_once_again() -> None:
    fleet = Fleet([30.0])
    fleet.is_broken = True
    a_day(fleet, hours=12)

    assert 3 == len(fleet.kinds("recycle-failed"))
    assert 1 == len(fleet.kinds("leak-alarm"))


@pytest.mark.parametrize("leak_mb_per_h", [0.0, 1.0])
def test_a_healthy_group_is_left_alone(leak_mb_per_h: float) -> None:
    assert [] == a_day(Fleet([leak_mb_per_h] * 3)).notes
