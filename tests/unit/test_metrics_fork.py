from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from time import perf_counter

import pytest

from perfloop.metrics import Drainer, Registry
from perfloop.metrics.histogram import CROWDED

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork"),
    # From 3.12 on Python warns of exactly what these tests do.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def in_child(act: Callable[[], object]) -> object:
    """What `act` returns in a forked child, which then ends at once."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(writer, json.dumps(act()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        written = stream.read()
    _, status = os.waitpid(pid, 0)
    assert 0 == os.waitstatus_to_exitcode(status)
    return json.loads(written)


def test_a_child_starts_from_zero_under_its_own_identity_and_leaves_the_parent_alone() -> None:
    registry = Registry()
    counter, gauge = registry.counter("orders"), registry.gauge("load")
    histogram, family = registry.histogram("a_seconds"), registry.counter("b", labels=("x",))
    observe = histogram.observe
    counter.inc()
    counter.inc(5)
    gauge.set(3)
    observe(1.0)
    histogram.drain()
    observe(2.0)
    family["y"].inc()

    def act() -> list[float | str]:
        zeros = [counter.value, gauge.value, histogram.count, histogram.sum, family["y"].value]
        observe(4.0)
        counter.inc()
        return [*zeros, histogram.sum, counter.value, registry.statistics().instance_id]

    answer = in_child(act)
    assert isinstance(answer, list)
    *numbers, instance_id = answer

    assert [0, 0, 0, 0, 0, 4.0, 1] == numbers
    assert registry.statistics().instance_id != instance_id
    assert (6, 3, 2, 3.0) == (counter.value, gauge.value, histogram.count, histogram.sum)


def test_a_child_does_not_wait_for_a_thread_that_stayed_in_the_parent() -> None:
    registry = Registry()
    histogram, family = registry.histogram("a_seconds"), registry.counter("b", labels=("x",))
    counter, gauge = registry.counter("orders"), registry.gauge("load")
    held, finish = threading.Event(), threading.Event()

    def hold_every_lock() -> None:
        with registry._lock, histogram._lock, family._lock, counter._lock, gauge._lock:
            held.set()
            finish.wait(30)

    thread = threading.Thread(target=hold_every_lock)
    thread.start()
    held.wait(30)

    def act() -> float:
        histogram.observe(1.0)
        counter.inc(2)
        gauge.inc(3)
        family["new"].inc()
        registry.counter("another").inc()
        registry.openmetrics_text()
        return histogram.count + counter.value + gauge.value

    try:
        assert 6 == in_child(act)
    finally:
        finish.set()
        thread.join()


def test_a_child_gets_a_drainer_thread_of_its_own() -> None:
    registry = Registry()
    histogram = registry.histogram("a_seconds")
    with Drainer(registry, every_s=0.001):

        def act() -> int:
            for _ in range(CROWDED):
                histogram.observe(1.0)
            deadline_s = perf_counter() + 10
            while histogram.buffered and perf_counter() < deadline_s:
                threading.Event().wait(0.001)
            return histogram.buffered

        assert 0 == in_child(act)
