"""What is done for a worker whose memory grows: the mildest first, one worker at a time."""

from __future__ import annotations

from perfloop.process.leaks.ladder import Act, Cause, Ladder, LadderPolicy, Rung, Seen
from perfloop.process.leaks.suspicion import Suspicion

MB = 1024**2
GROWING = Suspicion(
    at_s=9000.0,
    rate_bytes_per_s=5000.0,
    low_bytes_per_s=4000.0,
    bytes_per_request=100.0,
    in_use_bytes=300 * MB,
    step_ratio=0.0,
)


def leaking(worker: str = "bots-1", *, own_mb: int = 100, under_way: int = 0) -> Seen:
    return Seen(
        worker=worker,
        own_bytes=own_mb * MB,
        in_use_bytes=(own_mb + 50) * MB,
        under_way=under_way,
        suspicion=GROWING,
    )


def trimmed_in_vain(ladder: Ladder, seen: Seen, at_s: float) -> None:
    act = ladder.next([seen], at_s=at_s)
    assert act is not None
    assert Rung.TRIM == act.rung
    ladder.done(act, seen.own_bytes, at_s=at_s, rand=0.0)


def recycled(ladder: Ladder, seen: Seen, at_s: float, *, rand: float = 0.0) -> Act:
    trimmed_in_vain(ladder, seen, at_s)
    act = ladder.next([seen], at_s=at_s)
    assert act is not None
    assert Rung.RECYCLE == act.rung
    ladder.done(act, 0, at_s=at_s, rand=rand)
    return act


def test_a_worker_that_grows_is_trimmed_first() -> None:
    act = Ladder(LadderPolicy()).next([leaking()], at_s=0)

    assert act is not None
    assert (Rung.TRIM, Cause.LEAK) == (act.rung, act.cause)
    assert "100 MB of its own in use, growing by 293 kB a minute" == act.reason


def test_a_trim_that_helped_is_all_that_is_done() -> None:
    ladder = Ladder(LadderPolicy())
    act = ladder.next([leaking()], at_s=0)
    assert act is not None

    assert ladder.done(act, 10 * MB, at_s=0, rand=0.0).helped
    assert ladder.next([leaking(own_mb=10)], at_s=60) is None


def test_a_worker_that_a_trim_does_not_help_is_recycled() -> None:
    act = recycled(Ladder(LadderPolicy()), leaking(), 0)

    assert (Rung.RECYCLE, Cause.LEAK) == (act.rung, act.cause)
    assert act.reason.endswith("a trim did not help")


def test_a_busy_worker_is_recycled_when_it_is_quiet_or_has_had_its_time() -> None:
    ladder = Ladder(LadderPolicy(quiet_within_s=600))
    busy = leaking(under_way=3)
    trimmed_in_vain(ladder, busy, 0)

    assert ladder.next([busy], at_s=10) is None
    assert ladder.next([busy], at_s=599) is None
    assert ladder.next([busy], at_s=611) is not None


def test_never_two_are_recycled_at_once_and_the_next_one_waits_its_time() -> None:
    ladder = Ladder(LadderPolicy(recycle_every_s=300, jitter_ratio=0.5))
    first, second = leaking("bots-1", own_mb=200), leaking("bots-2")
    trimmed_in_vain(ladder, first, 0)
    trimmed_in_vain(ladder, second, 0)
    act = ladder.next([first, second], at_s=1)
    assert act is not None

    assert "bots-1" == act.worker
    assert ladder.next([first, second], at_s=2) is None
    ladder.done(act, 0, at_s=3, rand=1.0)
    assert ladder.next([second], at_s=3 + 449) is None
    assert ladder.next([second], at_s=3 + 451) is not None


def test_what_recycling_does_not_keep_away_is_told_once() -> None:
    ladder = Ladder(LadderPolicy(max_recycles=2, recycle_every_s=10))
    recycled(ladder, leaking(), 0)
    recycled(ladder, leaking(), 5000)
    trimmed_in_vain(ladder, leaking(), 10_000)
    act = ladder.next([leaking()], at_s=10_001)
    assert act is not None

    assert Rung.ALARM == act.rung
    ladder.done(act, act.before_bytes, at_s=10_001, rand=0.0)
    assert ladder.next([leaking()], at_s=10_002) is None


def test_fragmentation_is_trimmed_and_never_restarts_a_worker() -> None:
    ladder = Ladder(LadderPolicy(trim_every_s=600))
    seen = Seen(worker="bots-1", own_bytes=5 * MB, in_use_bytes=50 * MB, free_bytes=90 * MB)
    rungs = []
    for minute in range(24 * 60):
        act = ladder.next([seen], at_s=minute * 60.0)
        if act is not None:
            rungs.append(act.rung)
            ladder.done(act, 90 * MB, at_s=minute * 60.0, rand=0.5)

    assert {Rung.TRIM} == set(rungs)
    assert 144 == len(rungs)


def test_a_limit_counts_what_a_worker_has_of_its_own() -> None:
    ladder = Ladder(LadderPolicy(max_own_bytes=80 * MB))
    inherited = Seen(worker="bots-1", own_bytes=20 * MB, in_use_bytes=500 * MB)
    large = Seen(worker="bots-2", own_bytes=90 * MB, in_use_bytes=120 * MB)
    act = ladder.next([inherited, large], at_s=0)
    assert act is not None

    assert ("bots-2", Cause.LIMIT) == (act.worker, act.cause)
    assert "90 MB of its own in use, more than the 80 MB that it may have" == act.reason


def test_an_act_that_cannot_be_carried_out_does_not_stop_the_ladder() -> None:
    ladder = Ladder(LadderPolicy())
    act = ladder.next([leaking()], at_s=0)
    assert act is not None
    ladder.failed(act, at_s=1, rand=0.0)
    after = ladder.next([leaking()], at_s=2)
    assert after is not None

    assert Rung.RECYCLE == after.rung
