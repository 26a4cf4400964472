"""Workers of different age tell a leak from what moves all of them alike."""

from __future__ import annotations

import math

from perfloop.process.leaks.contrast import Peer, contrast, suspect_among
from perfloop.process.leaks.floors import Floor
from perfloop.process.leaks.suspicion import LeakPolicy

MB = 1e6
NOW_S = 12 * 3600.0
POLICY = LeakPolicy()


def peer(started_h: float, *, leak_mb_per_h: float, cycle_mb: float, seed: int) -> Peer:
    """A worker of a group with a daily cycle, which does not count its requests."""
    floors = []
    for place in range(int((NOW_S - started_h * 3600) // 300)):
        at_s = place * 300.0 + 150
        hour = started_h + at_s / 3600
        held = 200 + leak_mb_per_h * at_s / 3600 + cycle_mb * math.sin(2 * math.pi * (hour - 11) / 24)
        held += math.sin(place * 12.9898 + seed * 78.233)  # a noise of ±1 MB
        floors.append(Floor(at_s=at_s, in_use_bytes=int(held * MB), requests_per_s=0.0))
    return Peer(started_at_s=started_h * 3600, floors=tuple(floors))


def group(*, leak_mb_per_h: float, cycle_mb: float, together: bool = False) -> dict[str, Peer]:
    starts = (0.0, 0.0, 0.0, 0.0) if together else (0.0, 2.0, 4.0, 8.0)
    return {
        f"bots-{place}": peer(hours, leak_mb_per_h=leak_mb_per_h, cycle_mb=cycle_mb, seed=place)
        for place, hours in enumerate(starts)
    }


def test_a_leak_makes_the_older_workers_larger() -> None:
    seen = contrast(list(group(leak_mb_per_h=18, cycle_mb=0).values()), POLICY)
    assert seen is not None

    assert 17 < seen.bytes_per_s * 3600 / MB < 19
    assert {"bots-0", "bots-1", "bots-2", "bots-3"} == set(
        suspect_among(group(leak_mb_per_h=18, cycle_mb=0), POLICY)
    )


def test_a_cycle_that_moves_all_alike_is_no_leak() -> None:
    alone = {"bots-0": group(leak_mb_per_h=0, cycle_mb=100)["bots-0"]}

    assert {"bots-0"} == set(suspect_among(alone, POLICY))
    assert {} == suspect_among(group(leak_mb_per_h=0, cycle_mb=100), POLICY)


def test_a_leak_beneath_a_cycle_is_found() -> None:
    assert "bots-0" in suspect_among(group(leak_mb_per_h=60, cycle_mb=60), POLICY)


def test_a_worker_that_grows_alone_stays_suspected() -> None:
    workers = group(leak_mb_per_h=0, cycle_mb=0)
    workers["bots-3"] = peer(8.0, leak_mb_per_h=18, cycle_mb=0, seed=3)

    assert {"bots-3"} == set(suspect_among(workers, POLICY))


def test_workers_that_were_started_together_cannot_tell() -> None:
    together = group(leak_mb_per_h=18, cycle_mb=0, together=True)

    assert contrast(list(together.values()), POLICY) is None
    assert 4 == len(suspect_among(together, POLICY))
