"""Pipelines in threads: what comes out, what is bounded, what fails, and that nothing is left."""

from __future__ import annotations

import itertools
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from perfloop.control import Adjustment, AdjustmentLog, AdjustmentPolicy, Knob, SearchHold, Window
from perfloop.errors import InvalidInput, StageFailed
from perfloop.process import SKIP, DeadLetter, Pipeline, RetryPolicy

AT_ONCE = RetryPolicy(retries=2, first_s=0.0)
DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield

    assert set() == set(threading.enumerate()) - before


def test_items_go_through_stages_and_batches() -> None:
    stored: list[int] = []
    summary = (
        Pipeline(range(1000))
        .stage(lambda number: number + 1, limiter="adaptive")
        .stage(lambda number: number * 2)
        .batch(stored.extend, size="adaptive", linger_s=0.01)
        .run()
    )

    assert [2 * number for number in range(1, 1001)] == sorted(stored)
    assert (True, 1000, 0) == (summary.is_complete, summary.items_read, summary.dropped)
    assert [1000, 1000, 1000] == [stage.items for stage in summary.stages]


@pytest.mark.parametrize(
    ("expected", "function"),
    [
        ([1, 1, 2, 2], lambda number: [number, number]),
        ([1, 1, 2, 2], lambda number: iter((number, number))),
        ([1, 2], lambda number: (each for each in [number])),
        ([(1, 1), (2, 2)], lambda number: (number, number)),
        (["1", "2"], str),
        ([None, None], lambda number: None),
        ([2], lambda number: SKIP if number == 1 else number),
        ([], lambda number: []),
    ],
    ids=["list", "iterator", "generator", "tuple", "text", "None", "SKIP", "nothing"],
)
def test_a_stage_returns_one_item_or_many_or_none(
    expected: list[Any], function: Callable[[int], Any]
) -> None:
    seen: list[Any] = []
    Pipeline([1, 2]).stage(function, limiter=1).stage(seen.append, limiter=1).run()

    assert expected == seen


def test_what_a_batch_returns_goes_on() -> None:
    seen: list[int] = []
    Pipeline(range(10)).batch(lambda items: [sum(items)], size=5, linger_s=DEADLINE_S, limiter=1).stage(
        seen.append
    ).run()

    assert [10, 35] == sorted(seen)


def test_no_more_is_read_than_there_is_room_for() -> None:
    read = itertools.count()
    done, leads = 0, []

    def source() -> Iterator[int]:
        yield from read

    def slow(number: int) -> None:
        nonlocal done
        time.sleep(0.0001)
        done += 1
        leads.append(number - done)
        if done == 3000:
            pipeline.stop()

    pipeline = Pipeline(source()).stage(lambda number: number, queue_items=100, limiter=1)
    summary = pipeline.stage(slow, queue_items=100, limiter=1).run()

    assert 3000 <= done == summary.items_read
    # Two queues, and before and behind them a chunk of at most a hundred each.
    assert max(next(read) - done, *leads) <= 2 * 100 + 4 * 100


def test_items_do_not_wait_for_a_source_that_pauses() -> None:
    came = threading.Event()

    def source() -> Iterator[int]:
        for number in range(5):
            yield number
            assert came.wait(DEADLINE_S), "the item was kept back"
            came.clear()

    summary = Pipeline(source()).stage(lambda number: number).batch(lambda items: came.set()).run()

    assert 5 == summary.stages[1].calls


def test_a_batch_waits_for_company_no_longer_than_its_linger() -> None:
    sizes: list[int] = []
    came = threading.Event()

    def source() -> Iterator[int]:
        yield from range(3)
        assert came.wait(DEADLINE_S), "the batch was kept back"

    def store(items: list[int]) -> None:
        sizes.append(len(items))
        came.set()

    Pipeline(source()).batch(store, size=100, linger_s=0.05).run()

    assert 3 == sum(sizes)


def test_batches_are_of_their_size() -> None:
    sizes: Counter[int] = Counter()
    Pipeline(range(1003)).batch(
        lambda items: sizes.update([len(items)]), size=100, linger_s=DEADLINE_S, limiter=1
    ).run()

    assert {100: 10, 3: 1} == sizes


def test_as_many_calls_run_at_once_as_the_limit_says() -> None:
    together = threading.Barrier(4)

    def meet(number: int) -> None:
        together.wait(DEADLINE_S)

    summary = Pipeline(range(4)).stage(meet, limiter=4).run()

    assert (4, 4) == (summary.stages[0].items, summary.stages[0].limit)


def test_items_that_become_slow_are_shared_with_idle_workers() -> None:
    workers: set[int] = set()

    def fast_then_slow(number: int) -> None:
        if number >= 1000:
            time.sleep(0.02)
            workers.add(threading.get_ident())

    summary = Pipeline(range(1030)).stage(fast_then_slow, limiter=4).run()

    assert (4, 1030) == (len(workers), summary.stages[0].items)


def test_no_more_calls_run_at_once_than_the_limit_says() -> None:
    under_way, most = 0, 0
    lock = threading.Lock()

    def count(number: int) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.0005)
        with lock:
            under_way -= 1

    Pipeline(range(300)).stage(count, limiter=3).run()

    assert 3 == most


def test_an_adaptive_limit_grows_where_that_pays_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="perfloop.pipeline")
    summary = Pipeline(range(1500)).stage(lambda number: time.sleep(0.005), workers=16).run()
    [stage] = summary.stages

    assert 1 < max(adjustment.after for adjustment in stage.adjustments) <= 16
    assert all(adjustment.reason for adjustment in stage.adjustments)
    assert "<lambda>" == summary.bottleneck
    assert len(stage.adjustments) == len(caplog.messages)
    assert "<lambda>: limit from 1 to 2, whether 2 is better than 1" == caplog.messages[0]


class Remarking:
    """A batch size that never moves, and a remark with each Window, which is no move."""

    size, is_settled = 8, True

    def __init__(self) -> None:
        self.log = AdjustmentLog()

    def size_of_call(self, number: int) -> int:
        return self.size

    def update(self, window: Window) -> Adjustment | None:
        self.log.moved(window, Knob.BATCH_SIZE, before=8, after=8, reason="as it should be")
        return None


def test_what_a_law_writes_down_without_a_move_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="perfloop.pipeline")
    pipeline = Pipeline(range(2000)).batch(lambda items: time.sleep(0.002), limiter=1, size=Remarking())
    [stage] = pipeline.run().stages

    assert "<lambda>: batch_size from 8 to 8, as it should be" in caplog.messages
    assert len(stage.adjustments) == len(caplog.messages)


def test_a_law_of_ones_own_is_asked_as_often_as_its_policy_says() -> None:
    law = SearchHold(AdjustmentPolicy(interval_s=0.3, highest=4))
    summary = Pipeline(range(1000)).stage(lambda number: time.sleep(0.003), limiter=law).run()
    windows = [adjustment.evidence.before for adjustment in summary.stages[0].adjustments]

    assert windows
    assert all(window is not None and window.elapsed_s >= 0.3 for window in windows)


def test_order_is_kept_where_it_is_asked_for() -> None:
    last_first = threading.Event()
    seen: list[int] = []

    def work(number: int) -> int:
        if number == 0:
            assert last_first.wait(DEADLINE_S)
        if number == 3:
            last_first.set()
        time.sleep(0.0001)  # so that items are handed over one by one
        return number

    Pipeline(range(300)).stage(work, limiter=8, ordered=True).stage(seen.append, limiter=1).run()

    assert list(range(300)) == seen


def test_order_is_kept_around_items_that_fail() -> None:
    seen: list[int] = []
    letters: list[DeadLetter] = []

    def work(number: int) -> int:
        if number % 7 == 0:
            raise ValueError(number)
        return number

    Pipeline(range(200), dead_letter=letters.append).stage(
        work, limiter=4, ordered=True, retries=AT_ONCE
    ).stage(seen.append, limiter=1).run()

    assert [number for number in range(200) if number % 7] == seen
    assert dict.fromkeys(range(0, 200, 7), 3) == {one.item: one.attempts for one in letters}


def test_an_item_that_fails_is_tried_again() -> None:
    attempts: Counter[int] = Counter()
    seen: list[int] = []

    def work(number: int) -> int:
        attempts[number] += 1
        if number == 5 and attempts[5] < 3:
            raise ValueError("not yet")
        return number

    summary = Pipeline(range(10)).stage(work, limiter=1, retries=AT_ONCE).stage(seen.append, limiter=1).run()

    assert (3, list(range(10)), 2) == (attempts[5], sorted(seen), summary.stages[0].retries)


def test_nothing_is_lost_between_what_is_done_and_what_is_given_up() -> None:
    stored: list[int] = []
    letters: list[DeadLetter] = []

    def refuse(items: list[int]) -> None:
        if {13, 77} & set(items):
            raise ValueError("refused")
        stored.extend(items)

    summary = Pipeline(range(200), dead_letter=letters.append).batch(refuse, size=50, retries=AT_ONCE).run()

    assert {13, 77} == {letter.item for letter in letters}
    assert [number for number in range(200) if number not in (13, 77)] == sorted(stored)
    assert ("refuse", 2) == (letters[0].stage, summary.stages[0].dead_letters)


def test_without_a_place_for_it_the_first_failure_ends_the_run() -> None:
    def refuse(number: int) -> int:
        raise ValueError("refused")

    with pytest.raises(
        StageFailed, match=r"refuse failed on 0: refused; say retries= or dead_letter="
    ) as caught:
        Pipeline(itertools.count()).stage(refuse, limiter=1).run()

    assert isinstance(caught.value.__cause__, ValueError)


def test_a_failure_without_a_text_is_told_by_its_kind() -> None:
    def refuse(number: int) -> int:
        raise NotImplementedError

    with pytest.raises(StageFailed, match=r"refuse failed on 0: NotImplementedError; say"):
        Pipeline([0]).stage(refuse).run()


def test_a_sink_of_dead_letters_that_fails_ends_the_run() -> None:
    def refuse(thing: object) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        Pipeline(itertools.count(), dead_letter=refuse).stage(refuse).run()


def test_what_was_read_before_the_source_failed_is_worked_on() -> None:
    seen: list[int] = []

    def source() -> Iterator[int]:
        yield from range(150)
        raise OSError("the feed is gone")

    with pytest.raises(OSError, match="the feed is gone"):
        Pipeline(source()).stage(seen.append, limiter=1).run()

    assert list(range(150)) == seen


def test_stopping_reads_no_more_and_works_on_what_was_read() -> None:
    seen: list[int] = []

    def work(number: int) -> None:
        seen.append(number)
        if number == 500:
            pipeline.stop()

    pipeline = Pipeline(itertools.count()).stage(work, limiter=1)
    summary = pipeline.run()

    assert list(range(summary.items_read)) == seen
    assert (False, 0) == (summary.is_complete, summary.dropped)


def test_stopping_at_once_says_how_much_was_dropped() -> None:
    seen: list[int] = []

    def work(number: int) -> None:
        seen.append(number)
        if number == 500:
            pipeline.stop(drain=False)

    pipeline = Pipeline(itertools.count()).stage(work, limiter=1)
    summary = pipeline.run()

    assert summary.items_read == len(seen) + summary.dropped
    assert summary.dropped > 0


@pytest.mark.parametrize("drain", [True, False])
def test_a_signals_handler_may_stop_it(drain: bool) -> None:
    done = 0

    def source() -> Iterator[int]:
        for number in itertools.count():
            if number == 500:
                signal.raise_signal(signal.SIGUSR1)
            yield number

    def work(number: int) -> None:
        nonlocal done
        done += 1

    pipeline = Pipeline(source()).stage(work, limiter=1)
    before = signal.signal(signal.SIGUSR1, lambda number, frame: pipeline.stop(drain=drain))
    try:
        summary = pipeline.run()
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert not summary.is_complete
    assert summary.items_read == done + summary.dropped


def test_the_statistics_stand_still_after_the_end() -> None:
    pipeline = Pipeline(range(100)).stage(str)
    summary = pipeline.run()

    assert (summary.stages, summary.elapsed_s) == (
        pipeline.statistics().stages,
        pipeline.statistics().elapsed_s,
    )


def test_a_pipeline_stopped_before_it_runs_reads_nothing() -> None:
    pipeline = Pipeline(itertools.count()).stage(print)
    pipeline.stop()

    assert 0 == pipeline.run().items_read


def test_an_interrupt_is_raised_and_leaves_nothing() -> None:
    def source() -> Iterator[int]:
        yield from range(500)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pipeline(source()).stage(lambda number: time.sleep(0.001)).run()


def test_an_executor_of_ones_own_is_used_and_left_open() -> None:
    seen: list[int] = []
    with ThreadPoolExecutor(2) as executor:
        summary = (
            Pipeline(range(500))
            .stage(lambda number: number * number, executor=executor)
            .stage(seen.append, limiter=1)
            .run()
        )

        assert 1 == executor.submit(lambda: 1).result()
    assert [number * number for number in range(500)] == sorted(seen)
    assert ("ThreadPoolExecutor", 4) == (summary.stages[0].executor, summary.stages[0].limit)


class Unmeasured(Executor):
    """Does not tell how many workers it has."""


async def fetch(number: int) -> int:
    return number


async def bury(letter: DeadLetter) -> None:
    pass


def shared_law(law: SearchHold) -> Pipeline:
    return Pipeline([1]).stage(len, name="a", limiter=law).stage(len, name="b", limiter=law)


MISUSES: list[tuple[str, Callable[[], Any]]] = [
    (
        r'fetch is a coroutine function; say executor="async"',
        lambda: Pipeline([1]).stage(fetch, executor="threads"),
    ),
    (
        r'len is no coroutine function .* say executor="threads"',
        lambda: Pipeline([1]).stage(len, executor="async"),
    ),
    (
        r"there is no executor 'thread'; say one of threads, ",
        lambda: Pipeline([1]).stage(len, executor="thread"),
    ),
    (
        r"<lambda> cannot be sent to another process .* at the top of a module",
        lambda: Pipeline([1]).stage(lambda number: number, executor="processes"),
    ),
    (
        r"Unmeasured does not tell how many workers it has; say workers=",
        lambda: Pipeline([1]).stage(len, executor=Unmeasured()),
    ),
    (r"there is no law 'quick'; say one of adaptive, ", lambda: Pipeline([1]).stage(len, limiter="quick")),
    (r"two stages are called 'a'", lambda: Pipeline([1]).stage(len, name="a").stage(len, name="a")),
    (r"a pipeline without stages does nothing", lambda: Pipeline([1]).run()),
    (r"statistics of a pipeline that was never run", lambda: Pipeline([1]).stage(len).statistics()),
    (r"p99_budget_s is 0", lambda: Pipeline([1]).batch(len, p99_budget_s=0)),
    (r"linger_s is -1; it must not be below 0", lambda: Pipeline([1]).batch(len, linger_s=-1)),
    (r"workers is 0; the least is 1", lambda: Pipeline([1]).stage(len, workers=0)),
    (r"queue_items is 0; the least is 1", lambda: Pipeline([1]).stage(len, queue_items=0)),
    (
        r"limiter is 8, and workers=2 allow 2; leave one out",
        lambda: Pipeline([1]).stage(len, limiter=8, workers=2),
    ),
    (
        r"leave workers=2 out and give the law AdjustmentPolicy\(highest=2\)",
        lambda: Pipeline([1]).stage(len, limiter=SearchHold(), workers=2),
    ),
    (r"b shares its law with another stage", lambda: shared_law(SearchHold())),
    (
        r"dead_letter is a coroutine function, which nobody awaits",
        lambda: Pipeline([1], dead_letter=bury).stage(len),
    ),
    (r"5 cannot be called; a stage is a function", lambda: Pipeline([1]).stage(5)),  # type: ignore[arg-type]  # the misuse under test
    (r"there is no executor 5; say one of", lambda: Pipeline([1]).stage(len, executor=5)),  # type: ignore[arg-type]  # as above
    (r"2\.5 is no law; say", lambda: Pipeline([1]).stage(len, limiter=2.5)),  # type: ignore[arg-type]  # as above
    (r"2\.5 is no law; say", lambda: Pipeline([1]).batch(len, size=2.5)),  # type: ignore[arg-type]  # as above
    (r"dead_letter is 5; give what", lambda: Pipeline([1]).stage(len, dead_letter=5)),  # type: ignore[arg-type]  # as above
    (
        r"p99_budget_s has nothing to move",
        lambda: Pipeline([1]).batch(len, size=5, linger_s=0.1, p99_budget_s=0.2, limiter=2),
    ),
    (r"5 is not iterable", lambda: Pipeline(5)),  # type: ignore[arg-type]  # the misuse under test
]


@pytest.mark.parametrize(("expected", "misuse"), MISUSES, ids=[text for text, _ in MISUSES])
def test_misuse_is_told_with_the_way_out(expected: str, misuse: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInput, match=expected):
        misuse()


def test_a_function_that_makes_a_coroutine_is_told_of() -> None:
    with pytest.raises(StageFailed, match='the function returned a coroutine; say executor="async"'):
        Pipeline([1]).stage(lambda number: fetch(number)).run()


def test_a_pipeline_runs_once() -> None:
    pipeline = Pipeline([1]).stage(str)
    pipeline.run()

    with pytest.raises(InvalidInput, match="a pipeline runs once"):
        pipeline.run()


def test_stages_of_one_function_have_names_of_their_own() -> None:
    summary = Pipeline([1]).stage(str).stage(str).stage(str).run()

    assert ["str", "str-2", "str-3"] == [stage.name for stage in summary.stages]
