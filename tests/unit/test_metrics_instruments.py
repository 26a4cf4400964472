from __future__ import annotations

import asyncio
import inspect
import math
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from time import perf_counter

import numpy as np
import pytest
from numpy.typing import NDArray

from perfloop.errors import InvalidInput
from perfloop.metrics import Buckets, Counter, Drainer, Histogram, Registry
from perfloop.metrics.buckets import tally
from perfloop.metrics.histogram import BUFFER_LIMIT, CROWDED


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_a_counter_counts_ones_and_amounts(registry: Registry) -> None:
    counter = registry.counter("orders")
    for _ in range(3):
        counter.inc()
    counter.inc(2.5)
    counter.inc(0)

    assert 5.5 == counter.value


def test_whole_amounts_stay_whole_beyond_what_a_float_can_hold(registry: Registry) -> None:
    counter = registry.counter("sent_bytes")
    counter.inc(2**53)
    counter.inc()

    assert 2**53 + 1 == counter.value


def test_amounts_do_not_pile_up_unread(registry: Registry) -> None:
    counter = registry.counter("orders")
    for _ in range(10_000):
        counter.inc(0.5)

    assert len(counter._amounts) < 4096
    assert 5000.0 == counter.value


@pytest.mark.parametrize("amount", [-1, -0.5, math.nan, math.inf])
def test_a_counter_refuses_what_does_not_go_up(registry: Registry, amount: float) -> None:
    counter = registry.counter("orders")

    with pytest.raises(InvalidInput, match="use a gauge"):
        counter.inc(amount)

    assert 0 == counter.value


def test_a_gauge_goes_up_and_down(registry: Registry) -> None:
    gauge = registry.gauge("connections")
    gauge.set(10)
    gauge.inc()
    gauge.dec(3.5)

    assert 7.5 == gauge.value


def test_a_histogram_knows_count_sum_and_quantiles(registry: Registry) -> None:
    histogram = registry.histogram("request_seconds")
    for milliseconds in range(1, 1001):
        histogram.observe(milliseconds / 1000)

    assert 1000 == histogram.count
    assert pytest.approx(500.5) == histogram.sum
    assert pytest.approx(0.99, rel=0.006) == histogram.quantile(0.99)


def test_a_kept_observe_outlives_drains(registry: Registry) -> None:
    histogram = registry.histogram("request_seconds")
    observe = histogram.observe
    observe(1)
    histogram.drain()
    observe(2)

    assert 2 == histogram.count


def test_what_is_no_number_is_refused_where_it_is_observed(registry: Registry) -> None:
    histogram = registry.histogram("request_seconds")

    with pytest.raises(TypeError):
        histogram.observe("fast")  # type: ignore[arg-type]  # the point of the test

    assert 0 == histogram.count


def test_a_snapshot_does_not_change_with_what_comes_later(registry: Registry) -> None:
    histogram = registry.histogram("request_seconds")
    histogram.observe(1.0)
    snapshot = histogram.snapshot()
    histogram.observe(1.0)

    assert 1 == snapshot.count
    assert 2 == histogram.count


def test_what_a_full_buffer_drops_is_counted(registry: Registry) -> None:
    histogram = registry.histogram("request_seconds")
    histogram._buffer.frombytes(np.ones(BUFFER_LIMIT + 5).tobytes())

    assert BUFFER_LIMIT == histogram.count
    assert 5 == histogram.dropped
    assert "perfloop_meter_dropped_observations_total 5\n" in registry.prometheus_text()


def test_a_read_amid_its_own_drain_sees_the_state_before(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    histogram = registry.histogram("request_seconds")
    seen: list[int] = []

    def interrupted(values: NDArray[np.float64]) -> Buckets:
        if not seen:
            histogram.observe(1.0)
            seen.append(0)
            seen.append(histogram.count)
        return tally(values)

    monkeypatch.setitem(Histogram._drain.__globals__, "tally", interrupted)
    histogram.observe(1.0)
    histogram.drain()

    assert [0, 0] == seen
    assert 2 == histogram.count


def test_a_signal_handler_may_read_while_its_own_thread_drains(registry: Registry) -> None:
    histogram = registry.histogram("request_seconds")
    counter = registry.counter("orders")
    seen: list[float] = []

    def read(number: int, frame: object) -> None:
        seen.append(histogram.count + counter.value)

    before = signal.signal(signal.SIGALRM, read)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        while len(seen) < 50:
            histogram.observe(1.0)
            counter.inc(2)
            assert histogram.count
            assert counter.value
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert 2 * histogram.count == counter.value


def test_a_timed_function_keeps_its_result_name_and_errors(registry: Registry) -> None:
    @registry.timed("work")
    def work(number: int, *, fail: bool = False) -> int:
        if fail:
            raise KeyError(number)
        return number

    assert 3 == work(3)
    assert "work" == work.__name__
    with pytest.raises(KeyError):
        work(1, fail=True)
    assert 2 == registry.histogram("work_seconds").count


def test_a_timed_coroutine_function_is_timed_until_it_returns(registry: Registry) -> None:
    @registry.timed("work_seconds")
    async def work() -> int:
        await asyncio.sleep(0.02)
        return 7

    async def twice() -> list[int]:
        return list(await asyncio.gather(work(), work()))

    assert inspect.iscoroutinefunction(work)
    assert [7, 7] == asyncio.run(twice())
    assert 2 == registry.histogram("work_seconds").count
    assert registry.histogram("work_seconds").quantile(0.0) >= 0.019


def test_a_generator_function_cannot_be_timed(registry: Registry) -> None:
    def rows() -> Iterator[int]:
        yield 1

    async def async_rows() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(InvalidInput, match="time the loop"):
        registry.timed("rows")(rows)
    with pytest.raises(InvalidInput, match="time the loop"):
        registry.timed("rows")(async_rows)


def test_a_timer_times_a_block_again_and_again(registry: Registry) -> None:
    timer = registry.timed("block")
    started_s = perf_counter()
    for _ in range(3):
        with timer:
            pass
    with pytest.raises(KeyError), timer:
        raise KeyError
    took_s = perf_counter() - started_s

    histogram = registry.histogram("block_seconds")
    assert 4 == histogram.count
    assert 0 < histogram.sum <= took_s


def test_a_running_timer_refuses_to_start_again(registry: Registry) -> None:
    timer = registry.timed("block")

    with timer, pytest.raises(InvalidInput, match="makes its own"):
        timer.__enter__()

    assert 1 == registry.histogram("block_seconds").count


def test_the_time_verb_of_a_histogram_makes_timers_of_their_own(registry: Registry) -> None:
    histogram = registry.histogram("block_seconds")
    with histogram.time(), histogram.time():
        pass

    assert 2 == histogram.count


def test_a_drainer_keeps_an_unread_buffer_short(registry: Registry) -> None:
    histogram = registry.histogram("request_seconds")
    with Drainer(registry, every_s=0.001):
        for _ in range(CROWDED):
            histogram.observe(1.0)
        deadline_s = perf_counter() + 10
        while histogram.buffered >= CROWDED and perf_counter() < deadline_s:
            threading.Event().wait(0.001)

        assert 0 == histogram.buffered
        histogram.observe(1.0)

    assert 0 == histogram.buffered
    assert CROWDED + 1 == histogram.count
    assert not [thread for thread in threading.enumerate() if thread.name == "perfloop-drainer"]


def test_instruments_are_slotted() -> None:
    for instrument in (Counter(), Histogram()):
        assert not hasattr(instrument, "__dict__")
