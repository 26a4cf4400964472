"""The default law on the whole grid, against its target: seeds that neither tuning nor the benchmark used."""

from __future__ import annotations

import statistics

import pytest
from benchmarks.adaptive_stage import DEFAULT, GRID, STALLED, STEPS, Cell, play_both, play_cell, play_steps

SEEDS = range(5001, 5006)


@pytest.mark.slow
@pytest.mark.parametrize("cell", GRID, ids=lambda cell: cell.name)
def test_the_best_fixed_setting_is_reached_and_held(cell: Cell) -> None:
    scores = [play_cell(DEFAULT, cell, seed) for seed in SEEDS]
    best = [play_cell(None, cell, seed) for seed in SEEDS]
    shares = [ours.steady_ratio / fixed.steady_ratio for ours, fixed in zip(scores, best, strict=True)]

    assert statistics.median(shares) >= 0.95
    assert min(shares) >= 0.90
    assert max(ours.reached_s for ours in scores) <= 10
    assert (
        statistics.median(ours.p99_s / fixed.p99_s for ours, fixed in zip(scores, best, strict=True)) <= 1.3
    )


@pytest.mark.slow
@pytest.mark.parametrize("cell", STALLED, ids=lambda cell: cell.name)
def test_a_host_that_stalls_hides_the_best_setting_from_none(cell: Cell) -> None:
    pairs = [(play_cell(DEFAULT, cell, seed), play_cell(None, cell, seed)) for seed in SEEDS]
    shares = [ours.steady_ratio / fixed.steady_ratio for ours, fixed in pairs]

    assert statistics.median(shares) >= 0.9
    assert min(shares) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plateau", "collapse"])
@pytest.mark.parametrize("sigma", [0.2, 0.5])
def test_a_capacity_that_moves_is_followed(kind: str, sigma: float) -> None:
    runs = [play_steps(DEFAULT, kind, sigma, seed) for seed in SEEDS]

    assert len(STEPS) == len(runs[0])
    assert all(statistics.median(phase) >= 0.9 for phase in zip(*runs, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plateau", "collapse"])
def test_both_numbers_by_turns_stay_within_the_budget(kind: str) -> None:
    scores = [play_both(kind, seed, is_coordinated=True) for seed in SEEDS]

    assert statistics.median(run.steady_ratio for run in scores) >= 0.95
    assert min(run.steady_ratio for run in scores) >= 0.90
    assert statistics.median(run.p99_s for run in scores) <= 0.025
    assert max(run.reached_s for run in scores) <= 10
