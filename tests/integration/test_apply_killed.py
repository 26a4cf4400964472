"""kill -9 at random points of apply: the target ends before or after, never between."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "kill_apply.py"


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_apply_never_leaves_a_target_between(kills: int) -> None:
    command = [sys.executable, str(BENCHMARK), "--kills", str(kills), "--seed", "20261121"]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1].endswith("0 between or mis-stated")
