"""The benchmark of false keeps, with a handful of trials: real ones, counted, and nothing left running."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from benchmarks.share_interval import clopper_pearson
from benchmarks.trial_error import burners

ROOT = Path(__file__).parents[2]


def test_a_handful_of_trials_tells_verdicts_pairs_and_what_really_differed() -> None:
    options = "--trials 3 --effect-trials 2 --burners 0 --slice 0.004 --json"

    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.trial_error", *options.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode in (0, 1), ended.stderr
    series = json.loads(ended.stdout)
    assert [(0.0, 3), (0.05, 2), (0.1, 2), (-0.05, 2)] == [(one["saving"], one["trials"]) for one in series]
    assert all(10 <= one["mean_pairs"] <= 40 for one in series)
    assert all(one["kept"] + one["reverted"] + one["unclear"] == one["trials"] for one in series)
    alike, five, ten, dearer = (one["rows"][1] for one in series)
    assert 2000 == alike
    assert ten < five < alike < dearer


def test_burners_end_with_their_block() -> None:
    before = {child.pid for child in psutil.Process().children()}

    with burners(2):
        during = {child.pid for child in psutil.Process().children()} - before

    assert 2 == len(during)
    assert before == {child.pid for child in psutil.Process().children()}


@pytest.mark.parametrize(
    ("successes", "trials", "interval"),
    [(0, 300, (0.0, 0.0122)), (300, 300, (0.9878, 1.0)), (19, 20, (0.7513, 0.9987))],
)
def test_the_interval_of_a_share_is_exact(successes: int, trials: int, interval: tuple[float, float]) -> None:
    found = clopper_pearson(successes, trials)

    assert interval == pytest.approx(found, abs=5e-5)
