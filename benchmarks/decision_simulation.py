"""How often the paired procedure keeps a change: false keeps without effect, power with one.

Three models of a machine's noise, on the log scale and slot by slot: independent noise, a slow wave
(AR(1), 0.9 from slot to slot), a linear trend, a neighbour that is on for a quarter of the time in runs
of five slots, and 5 % outlier slots. They bracket what was measured on shared machines: CPU time per
operation looks like `quiet`, latencies and rates lie between `shared` and `bad`. Carry-over from one slot
to the next is not modelled.

    python benchmarks/decision_simulation.py                    # 40 pairs at most
    python benchmarks/decision_simulation.py --policy long      # 80 pairs at most
    python benchmarks/decision_simulation.py --rivals           # what the procedure replaces, A/A only
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from perfloop.stats.sequential import LONG_POLICY, STANDARD_POLICY, Answer, SequentialPolicy, replay
from perfloop.stats.signed_rank import p_value

Floats = npt.NDArray[np.float64]

POLICIES = {"standard": STANDARD_POLICY, "long": LONG_POLICY}
EFFECTS = (-0.05, 0.03, 0.05, 0.10, 0.15, 0.30)
WAVE_CORRELATION = 0.9
TREND_SLOTS = 40
NEIGHBOUR_SHARE = 0.25
NEIGHBOUR_RUN_SLOTS = 5
OUTLIER_SHARE = 0.05
OUTLIER_SIZE = 5.0
Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Sizes on the log scale: 0.05 is about 5 %."""

    name: str
    slot: float
    wave: float
    trend: float
    neighbour: float

    def slots(self, rng: np.random.Generator, replicates: int, length: int) -> Floats:
        """Return the log cost of `length` consecutive slots without any change, one row per replicate."""
        shape = (replicates, length)
        cost: Floats = rng.normal(0.0, self.slot, shape)
        cost += self.wave * _wave(rng, shape)
        cost += np.arange(length) * rng.uniform(-self.trend, self.trend, (replicates, 1)) / TREND_SLOTS
        cost += self.neighbour * _on_off(rng, shape)
        outlier = rng.random(shape) < OUTLIER_SHARE
        cost += outlier * rng.exponential(OUTLIER_SIZE * self.slot, shape)
        return cost


QUIET = Noise(name="quiet", slot=0.02, wave=0.01, trend=0.03, neighbour=0.0)
SHARED = Noise(name="shared", slot=0.05, wave=0.05, trend=0.10, neighbour=0.15)
BAD = Noise(name="bad", slot=0.12, wave=0.12, trend=0.20, neighbour=0.40)
MODELS = (QUIET, SHARED, BAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Shares of the replicates by final answer, and the pairs they took."""

    replicates: int
    keep: float
    drop: float
    mean_pairs: float


def pairs_of(
    noise: Noise, rng: np.random.Generator, *, replicates: int, pairs: int, effect_ratio: float
) -> Floats:
    """Return log ratios of randomised pairs; the treatment saves `effect_ratio` of the control's cost."""
    slots = noise.slots(rng, replicates, 2 * pairs).reshape(replicates, pairs, 2)
    control_first = rng.random((replicates, pairs)) < 0.5
    gap = slots[:, :, 0] - slots[:, :, 1]
    log_ratios: Floats = np.where(control_first, gap, -gap) - math.log1p(-effect_ratio)
    return log_ratios


def rates(
    noise: Noise, policy: SequentialPolicy, *, effect_ratio: float, replicates: int, seed: int
) -> Rates:
    """Run the procedure itself, not a copy of it, over `replicates` trials."""
    rng = np.random.default_rng(seed)
    keep = drop = taken = 0
    for log_ratios in pairs_of(
        noise, rng, replicates=replicates, pairs=policy.max_pairs, effect_ratio=effect_ratio
    ):
        end = replay(log_ratios, policy)
        keep += end.answer is Answer.KEEP
        drop += end.answer is Answer.DROP
        taken += end.pairs
    return Rates(
        replicates=replicates,
        keep=keep / replicates,
        drop=drop / replicates,
        mean_pairs=taken / replicates,
    )


def score_interval(rate: float, replicates: int, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's interval of a simulated rate: its Monte-Carlo error, usable near 0 and 1."""
    centre = (rate + z * z / (2 * replicates)) / (1 + z * z / replicates)
    variance = rate * (1 - rate) / replicates + z * z / (4 * replicates**2)
    reach = z * math.sqrt(variance) / (1 + z * z / replicates)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def batches_apart_rate(noise: Noise, *, replicates: int, seed: int, slots: int = 20) -> float:
    """Return how often all of A, then all of B, differ by Mann-Whitney at a one-sided 1 %, without effect."""
    rng = np.random.default_rng(seed)
    cost = noise.slots(rng, replicates, 2 * slots)
    wins = (cost[:, :slots, None] > cost[:, None, slots:]).sum(axis=(1, 2))
    spread = math.sqrt(slots * slots * (2 * slots + 1) / 12)
    return float(np.mean((wins - slots * slots / 2) / spread > NormalDist().inv_cdf(0.99)))


def peeking_rate(noise: Noise, *, replicates: int, seed: int, pairs: int = 40) -> float:
    """Return how often the signed-rank test at a nominal 1 % fires at least once after pairs 7, 8, ... 40."""
    rng = np.random.default_rng(seed)
    rows = pairs_of(noise, rng, replicates=replicates, pairs=pairs, effect_ratio=0.0)
    return sum(any(p_value(row[:seen]) <= 0.01 for seen in range(7, pairs + 1)) for row in rows) / replicates


def _wave(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Return an AR(1) series of unit variance, already settled at its first slot."""
    shocks = rng.normal(0.0, 1.0, shape)
    shocks[:, 1:] *= math.sqrt(1 - WAVE_CORRELATION**2)
    for slot in range(1, shape[1]):
        shocks[:, slot] += WAVE_CORRELATION * shocks[:, slot - 1]
    return shocks


def _on_off(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return a two-state Markov chain, started in balance."""
    stop = 1 / NEIGHBOUR_RUN_SLOTS
    start = stop * NEIGHBOUR_SHARE / (1 - NEIGHBOUR_SHARE)
    chance = rng.random(shape)
    state = np.empty(shape, dtype=np.bool_)
    state[:, 0] = chance[:, 0] < NEIGHBOUR_SHARE
    for slot in range(1, shape[1]):
        state[:, slot] = np.where(state[:, slot - 1], chance[:, slot] >= stop, chance[:, slot] < start)
    return state


def _percent(rate: float, replicates: int) -> str:
    low, high = score_interval(rate, replicates)
    return f"{100 * rate:6.2f}  [{100 * low:.2f}, {100 * high:.2f}]"


def _procedure_lines(
    policy: SequentialPolicy, *, null_replicates: int, replicates: int, seed: int
) -> Iterator[str]:
    yield f"{'noise':8}{'saved':>7}  {'keep %':>6}  {'95 % interval':18}{'drop %':>8}{'pairs':>7}{'runs':>8}"
    for noise in MODELS:
        for effect in (0.0, *EFFECTS):
            runs = replicates if effect else null_replicates
            found = rates(noise, policy, effect_ratio=effect, replicates=runs, seed=seed)
            label = f"{100 * effect:.0f} %" if effect else "A/A"
            yield (
                f"{noise.name:8}{label:>7}  {_percent(found.keep, runs):26}"
                f"{100 * found.drop:8.1f}{found.mean_pairs:7.1f}{runs:8}"
            )


def _rival_lines(*, replicates: int, seed: int) -> Iterator[str]:
    yield f"{'noise':8}{'rival, no effect, nominal 1 %':42}{'fires %':>7}  95 % interval"
    rivals: dict[str, Callable[[Noise], float]] = {
        "20 slots of A, then 20 of B, Mann-Whitney": lambda noise: batches_apart_rate(
            noise, replicates=replicates, seed=seed
        ),
        "paired, a look after each of pairs 7 to 40": lambda noise: peeking_rate(
            noise, replicates=replicates, seed=seed
        ),
    }
    for noise in MODELS:
        for name, rate in rivals.items():
            yield f"{noise.name:8}{name:42} {_percent(rate(noise), replicates)}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate the paired procedure under three noise models.")
    parser.add_argument("--policy", choices=sorted(POLICIES), default="standard")
    parser.add_argument("--null-replicates", type=int, default=20_000, help="trials without effect (20000)")
    parser.add_argument("--replicates", type=int, default=3_000, help="trials per effect or rival (3000)")
    parser.add_argument("--seed", type=int, default=20_261_121)
    parser.add_argument("--rivals", action="store_true", help="simulate the rejected designs instead")
    options = parser.parse_args()
    if options.rivals:
        lines = _rival_lines(replicates=options.replicates, seed=options.seed)
    else:
        lines = _procedure_lines(
            POLICIES[options.policy],
            null_replicates=options.null_replicates,
            replicates=options.replicates,
            seed=options.seed,
        )
    for line in lines:
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
