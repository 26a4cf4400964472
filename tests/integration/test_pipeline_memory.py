"""A source that is ten times as fast as the sink: memory stays where it was."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from perfloop.process import Pipeline

MEGABYTE = 2**20


def pages() -> Iterator[dict[str, object]]:
    """As fast as they are asked for, each with a kilobyte of its own."""
    for number in itertools.count():
        yield {"id": number, "text": f"{number:01000d}"}


def test_a_faster_source_does_not_fill_the_memory() -> None:
    stored, blocks = 0, []

    def store(items: list[dict[str, object]]) -> None:
        nonlocal stored
        time.sleep(0.001)
        stored += len(items)
        if stored >= 4000 * (len(blocks) + 1):
            blocks.append(sys.getallocatedblocks())
        if stored >= 80_000:
            pipeline.stop()

    pipeline = Pipeline(pages()).stage(lambda page: {**page, "size": 1}).batch(store, limiter=1, size=100)
    pipeline.run()

    # Two queues of a thousand pages and what is under way; a leak of one block in ten items would show.
    assert max(blocks[2:]) - min(blocks[2:]) < 25_000
    assert blocks[-1] - blocks[2] < 10_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_minutes_of_a_faster_source_leave_memory_flat() -> None:
    process = psutil.Process()
    began_s, used = time.monotonic(), []

    def store(items: list[dict[str, object]]) -> None:
        time.sleep(0.0005 * len(items))  # 2,000 a second, of a source that makes more than 100,000
        elapsed_s = time.monotonic() - began_s
        if elapsed_s >= 20 * (len(used) + 1):
            used.append(process.memory_info().rss / MEGABYTE)
        if elapsed_s >= 600:
            pipeline.stop()

    pipeline = (
        Pipeline(pages())
        .stage(lambda page: {**page, "size": 1})
        .batch(store, size="adaptive", p99_budget_s=0.2, workers=4)
    )
    summary = pipeline.run()

    assert summary.items_read > 600 * 1000
    assert max(used[6:]) - used[5] < 8
