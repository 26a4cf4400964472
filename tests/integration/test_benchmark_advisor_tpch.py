"""The benchmark of the index search, at a hundredth of its size: every set is chosen, built and measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_all_sets_are_built_and_measured_in_one_run() -> None:
    pytest.importorskip("duckdb", reason="the group tpch is not installed")
    options = "--scale 0.01 --runs 1 --heavy-runs 1 --json"

    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.advisor_tpch", *options.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == ended.returncode, ended.stderr
    told = json.loads(ended.stdout)
    assert 5 == len(told)
    assert all(22 == len(each["ratios"]) and each["titles"] for each in told)
    assert all(each["explains"] <= 4000 for each in told)
    assert all(each["grown_bytes"] > 0 and each["wal_ratio"] >= 1 for each in told)
