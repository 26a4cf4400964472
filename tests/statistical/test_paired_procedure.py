"""What the paired procedure promises, held against simulated machines with fixed seeds."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from random import Random
from statistics import NormalDist, fmean
from types import ModuleType

import numpy as np
import pytest

from perfloop.stats.interval import bootstrap_interval, geometric_mean
from perfloop.stats.paired import paired_interval
from perfloop.stats.sequential import (
    LONG_POLICY,
    STANDARD_POLICY,
    Answer,
    SequentialPolicy,
    exceeds,
    replay,
    resolvable_effect,
)

SEED = 20_261_121
POLICIES = pytest.mark.parametrize("policy", [STANDARD_POLICY, LONG_POLICY], ids=["standard", "long"])


def load_simulation() -> ModuleType:
    """Load the benchmark, which is a script, so that both simulate the same machines."""
    path = Path(__file__).parents[2] / "benchmarks" / "decision_simulation.py"
    spec = importlib.util.spec_from_file_location("decision_simulation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


simulation = load_simulation()
NOISES = pytest.mark.parametrize("noise", simulation.MODELS, ids=lambda noise: noise.name)


def keep_rate(
    noise: object, effect_ratio: float, *, replicates: int, policy: SequentialPolicy = STANDARD_POLICY
) -> float:
    found = simulation.rates(noise, policy, effect_ratio=effect_ratio, replicates=replicates, seed=SEED)
    return float(found.keep)


def upper_99(rate: float, replicates: int) -> float:
    return float(simulation.score_interval(rate, replicates, z=2.326)[1])


@POLICIES
def test_a_quiet_machine_hardly_ever_invents_a_gain(policy: SequentialPolicy) -> None:
    rate = keep_rate(simulation.QUIET, 0.0, replicates=10_000, policy=policy)

    assert upper_99(rate, 10_000) < 0.002


@NOISES
@POLICIES
def test_no_machine_invents_a_gain_more_often_than_promised(noise: object, policy: SequentialPolicy) -> None:
    rate = keep_rate(noise, 0.0, replicates=20_000, policy=policy)

    # 1.05 % is the calibrated rate; the first bound is three Monte-Carlo errors above it, the second the
    # sum of the levels, which holds under any drift.
    assert rate < 0.0127
    assert upper_99(rate, 20_000) < 0.016


@NOISES
def test_a_regression_is_never_kept(noise: object) -> None:
    assert keep_rate(noise, -0.05, replicates=3_000) <= 0.002


def test_five_percent_on_a_quiet_machine_is_kept_in_a_dozen_pairs() -> None:
    found = simulation.rates(
        simulation.QUIET, STANDARD_POLICY, effect_ratio=0.05, replicates=3_000, seed=SEED
    )

    assert simulation.score_interval(found.keep, 3_000)[0] >= 0.99
    assert found.mean_pairs < 14


@NOISES
def test_a_larger_effect_is_kept_more_often(noise: object) -> None:
    rates = [keep_rate(noise, effect, replicates=1_500) for effect in (0.0, 0.03, 0.05, 0.10, 0.15, 0.30)]

    assert rates == sorted(rates)
    assert rates[-1] == 1.0


@pytest.mark.parametrize("effect", [0.05, 0.10])
def test_more_pairs_give_more_power_in_noise(effect: float) -> None:
    standard = keep_rate(simulation.BAD, effect, replicates=1_500)

    assert standard + 0.05 < keep_rate(simulation.BAD, effect, replicates=1_500, policy=LONG_POLICY)


def test_any_drift_leaves_the_false_keeps_below_the_sum_of_the_levels() -> None:
    """Only the coin is random here: the slots drift, jump and alternate as badly as one pleases."""
    rng = np.random.default_rng(SEED)
    place = np.arange(40)
    for sizes in (0.01 * 1.3**place, 0.2 * 0.8**place + 0.001, 0.1 + 0.5 * (place % 7 == 0), 1.0 + place):
        signs = rng.choice((-1.0, 1.0), size=(6_000, 40))
        kept = sum(replay(row, STANDARD_POLICY).answer is Answer.KEEP for row in signs * sizes)

        assert kept / 6_000 < 0.016 + 3 * math.sqrt(0.016 / 6_000)


@pytest.mark.parametrize("spread", [0.02, 0.07, 0.15])
@POLICIES
def test_the_predicted_effect_is_kept_about_as_often_as_predicted_or_more(
    policy: SequentialPolicy, spread: float
) -> None:
    rng = np.random.default_rng(SEED)
    known = NormalDist(0.0, spread)
    effect = resolvable_effect([known.inv_cdf(place / 1_000) for place in range(1, 1_000)], policy, power=0.8)
    rows = rng.normal(-math.log1p(-effect), spread, (4_000, policy.max_pairs))
    kept = sum(replay(row, policy).answer is Answer.KEEP for row in rows) / 4_000

    assert 0.78 < kept < 0.95


@NOISES
def test_a_guardrail_fires_for_proven_harm_and_rarely_without(noise: object) -> None:
    harmed, unharmed = (
        simulation.pairs_of(
            noise, np.random.default_rng(SEED), replicates=4_000, pairs=40, effect_ratio=-harm_ratio
        )
        for harm_ratio in (0.60, 0.05)
    )

    assert all(exceeds(row, margin_ratio=0.05, level=0.0032) for row in harmed)
    assert sum(exceeds(row, margin_ratio=0.05, level=0.0032) for row in unharmed) / 4_000 < 0.006


@NOISES
@pytest.mark.parametrize("pairs", [10, 20])
def test_the_exact_interval_covers_the_true_ratio(noise: object, pairs: int) -> None:
    rows = simulation.pairs_of(
        noise, np.random.default_rng(SEED), replicates=4_000, pairs=pairs, effect_ratio=0.1
    )
    covered = sum(found.low <= 0.9 <= found.high for found in map(paired_interval, rows)) / 4_000

    assert 0.94 < covered < 0.97


@pytest.mark.parametrize("pairs", [8, 20])
@pytest.mark.parametrize("statistic", [fmean, geometric_mean])
def test_the_bootstrap_interval_covers_the_true_ratio(pairs: int, statistic: object) -> None:
    rng = Random(SEED)
    covered = 0
    for _ in range(500):
        shared = [rng.gauss(0.0, 0.3) for _ in range(pairs)]
        control, treatment = (
            [centre * math.exp(drift + rng.gauss(0.0, 0.1)) for drift in shared] for centre in (10.0, 9.0)
        )
        found = bootstrap_interval(control, treatment, statistic, rng=rng, resamples=200)  # type: ignore[arg-type]  # both fit
        covered += found.low <= 0.9 <= found.high

    assert 0.92 < covered / 500 < 0.985


@NOISES
def test_the_designs_that_were_rejected_do_invent_gains(noise: object) -> None:
    assert simulation.batches_apart_rate(noise, replicates=2_000, seed=SEED) > 0.05
    assert simulation.peeking_rate(noise, replicates=500, seed=SEED) > 0.02
