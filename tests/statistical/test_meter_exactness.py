"""Nothing is lost or doubled, and quantiles are as exact as promised."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from perfloop.metrics import Drainer, Registry

THREADS = 4


def observe_beside_drains(total: int) -> tuple[float, ...]:
    """Four threads observe and count, a drainer drains, and this thread reads, all at once."""
    registry = Registry()
    histogram, counter = registry.histogram("busy_seconds"), registry.counter("busy")
    family = registry.histogram("labelled_seconds", labels=("worker", "kind"))
    amounts = registry.counter("amounts")

    def work(worker: str) -> None:
        for number in range(total // THREADS):
            histogram.observe(2.0)
            counter.inc()
            if number % 10 == 0:
                family[worker, "tenth"].observe(1.0)
                amounts.inc(0.5)

    threads = [threading.Thread(target=work, args=(str(worker),)) for worker in range(THREADS)]
    seen = 0
    with Drainer(registry, every_s=0.001):
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.005)
                now = histogram.count
                assert seen <= now <= total
                seen = now
    labelled = sum(child.count for _, child in family.children())
    return histogram.count, histogram.sum / 2, counter.value, labelled * 10, amounts.value * 20


@pytest.mark.parametrize(
    "total", [400_000, pytest.param(10_000_000, marks=pytest.mark.slow)], ids="{:,}".format
)
def test_nothing_is_lost_or_doubled_under_threads_with_live_drains(total: int) -> None:
    assert (total,) * 5 == observe_beside_drains(total)


@pytest.mark.parametrize(
    "total", [200_000, pytest.param(10_000_000, marks=pytest.mark.slow)], ids="{:,}".format
)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning"
)  # the point, from 3.12 on
def test_nothing_is_lost_or_doubled_when_busy_threads_are_forked(total: int) -> None:
    registry = Registry()
    histogram, counter = registry.histogram("busy_seconds"), registry.counter("busy")

    def work(times: int) -> None:
        for _ in range(times):
            histogram.observe(1.0)
            counter.inc()

    children = []
    threads = [threading.Thread(target=work, args=(total // THREADS,)) for _ in range(THREADS)]
    with Drainer(registry, every_s=0.001):
        for thread in threads:
            thread.start()
        for _ in range(3):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                work(10_000)
                os.write(writer, f"{histogram.count} {counter.value}".encode())
                os._exit(0)
            os.close(writer)
            children.append((pid, reader))
        counted = []
        for pid, reader in children:
            with os.fdopen(reader, "rb") as stream:
                counted.append(stream.read())
            os.waitpid(pid, 0)
        for thread in threads:
            thread.join()

    assert [b"10000 10000"] * 3 == counted
    assert (total, total) == (histogram.count, counter.value)


@pytest.fixture
def hasty_switches() -> Iterator[None]:
    """Threads take turns every microsecond, as far as they can, and not every 5 ms."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before_s)


@pytest.mark.usefixtures("hasty_switches")
def test_overlapping_drains_take_every_value_once() -> None:
    registry = Registry()
    histogram, counter = registry.histogram("busy_seconds"), registry.counter("busy")
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            histogram.drain()
            assert counter.value >= 0

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(20_000):
        histogram.observe(1.0)
        counter.inc(2)
    done.set()
    for reader in readers:
        reader.join()

    assert (20_000, 40_000) == (histogram.count, counter.value)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_quantiles_of_a_million_latencies_are_within_the_promised_error(sigma: float) -> None:
    values = np.random.default_rng(20261121).lognormal(np.log(0.010), sigma, 1_000_000)
    histogram = Registry().histogram("wait_seconds")
    for value in values.tolist():
        histogram.observe(value)

    for q in (0.5, 0.9, 0.99, 0.999):
        assert pytest.approx(np.quantile(values, q), rel=0.006) == histogram.quantile(q)
