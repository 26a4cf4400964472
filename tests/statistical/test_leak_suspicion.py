"""Steady growth is found in time, and what only looks like it is not; on other seeds than the benchmark."""

from __future__ import annotations

import pytest
from benchmarks.leak_series import HEALTHY, LEAKS, found_after_h

from perfloop.process.leaks.suspicion import LeakPolicy

SEEDS = range(8)


@pytest.mark.parametrize("kind", HEALTHY)
def test_a_healthy_worker_is_seldom_suspected(kind: str) -> None:
    suspected = [found_after_h(HEALTHY[kind], seed, 3.0, LeakPolicy()) for seed in SEEDS]

    assert sum(each is not None for each in suspected) <= 1


@pytest.mark.parametrize("kind", ["0.3 MB/min", "1.0 MB/min", "5.0 MB/min"])
def test_a_leak_is_found_within_three_hours_by_the_median(kind: str) -> None:
    found = sorted(found_after_h(LEAKS[kind], seed, 2.0, LeakPolicy()) or 99.0 for seed in SEEDS)

    assert found[len(found) // 2 - 1] <= 3.0
