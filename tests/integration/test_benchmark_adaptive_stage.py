"""The benchmark of the adaptive limit in real threads: that it plays; how well is for a quiet host to say."""

from __future__ import annotations

import pytest
from benchmarks.adaptive_stage import Cell
from benchmarks.adaptive_stage_threads import alone, piped, play_beside


@pytest.mark.parametrize("plays", [alone, piped], ids=["alone", "in pipelines"])
def test_the_law_and_the_best_fixed_setting_are_played_beside_each_other(plays) -> None:  # type: ignore[no-untyped-def]  # either
    cell = Cell(kind="collapse", capacity=6, sigma=0.2)
    ours, best = play_beside(plays(cell, 1), cell, 1.0)

    assert min(ours.steady_ratio, best.steady_ratio) > 0
    assert min(ours.p99_s, best.p99_s) >= 0.001
