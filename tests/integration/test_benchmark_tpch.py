"""The benchmark of TPC-H, at a hundredth of its size: every raw query becomes an operation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_all_22_raw_queries_run_through_the_loop_and_are_measured_on_both_sides() -> None:
    pytest.importorskip("duckdb", reason="the group tpch is not installed")
    options = "--scale 0.01 --trials 1 --runs 1 --json"

    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.tpch", *options.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == ended.returncode, ended.stderr
    told = json.loads(ended.stdout)
    assert (22, []) == (told["operations"], told["skipped"])
    assert [f"q{number:02}" for number in range(1, 23)] == sorted(told["queries"])
    assert all(one["cpu_before_s"] > 0 and one["cpu_after_s"] > 0 for one in told["queries"].values())
    assert 100 < told["wal_before"] < 1000
