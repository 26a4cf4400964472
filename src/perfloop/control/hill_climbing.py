"""Hill climbing on a wave, as the thread pool of .NET does it: to be chosen, and to be measured against.

Source: J. Hellerstein, V. Morrison, E. Eilebrecht, "Applying control theory in the real world: experience
with building a controller for the .NET thread pool", SIGMETRICS Performance Evaluation Review 37(3), 2009,
with the parameters that .NET ships. The limit swings by a square wave of four samples; what the throughput
shows of that frequency (Goertzel's filter), against what it shows of the neighbouring ones, is the gain, and
the limit moves by its square. At most four calls a second are added, so that a large capacity is found late;
where overload destroys throughput the wave itself costs some per cent.
"""

from __future__ import annotations

import cmath
import math
from collections import deque
from collections.abc import Sequence
from typing import Final

from perfloop.control.adjustment import Adjustment, AdjustmentLog, Knob
from perfloop.control.policy import AdjustmentPolicy
from perfloop.control.window import Window

WAVE_PERIOD: Final = 4
HISTORY: Final = 8 * WAVE_PERIOD
LARGEST_WAVE: Final = 20
NOISE_SMOOTHING: Final = 0.01
ASKED_GAIN: Final = 0.15
"""Per cent of throughput that one per cent more calls must bring."""
SIGNAL_TO_NOISE: Final = 3.0
GAIN_EXPONENT: Final = 2.0
MOST_A_SECOND: Final = 4.0
MOST_A_SAMPLE: Final = 20.0
SAMPLE_ERROR: Final = 0.15
"""Samples with fewer calls than the limit over this are joined with the next."""


class HillClimbing:
    """Climbs for ever: it has no end, and is settled at all times."""

    __slots__ = (
        "_completions",
        "_elapsed_s",
        "_limits",
        "_noise",
        "_rates",
        "_samples",
        "_setting",
        "limit",
        "log",
        "policy",
    )

    def __init__(self, policy: AdjustmentPolicy | None = None, *, start: int | None = None) -> None:
        self.policy = policy or AdjustmentPolicy()
        self.limit = self.policy.clamp(self.policy.lowest if start is None else start)
        self.log = AdjustmentLog()
        self._setting = float(self.limit)
        self._rates: deque[float] = deque(maxlen=HISTORY)
        self._limits: deque[float] = deque(maxlen=HISTORY)
        self._samples = 0
        self._noise = 0.0
        self._completions = 0
        self._elapsed_s = 0.0

    @property
    def is_settled(self) -> bool:
        return True

    def update(self, window: Window) -> Adjustment | None:
        """Take the next Window as a sample, or join it with the next where too few calls ended in it."""
        self._completions += window.completions
        self._elapsed_s += window.elapsed_s
        too_few = self._completions * SAMPLE_ERROR <= self.limit - 1
        if self._elapsed_s <= 0 or self._completions == 0 or (self._samples and too_few):
            return None
        elapsed_s, completions = self._elapsed_s, self._completions
        self._elapsed_s, self._completions = 0.0, 0
        self._rates.append(completions / elapsed_s)
        self._limits.append(float(self.limit))
        self._samples += 1
        gain, confidence = self._gain()
        self._climb(gain, confidence, elapsed_s)
        return self._move(window, gain, confidence)

    def _gain(self) -> tuple[float, float]:
        """By how much throughput followed the wave beyond what is asked, and how sure that is (0 to 1)."""
        count = min(self._samples - 1, HISTORY) // WAVE_PERIOD * WAVE_PERIOD
        if count <= WAVE_PERIOD:
            return 0.0, 0.0
        rates, limits = list(self._rates)[-count:], list(self._limits)[-count:]
        mean_rate, mean_limit = math.fsum(rates) / count, math.fsum(limits) / count
        waves = count // WAVE_PERIOD
        neighbours = (count / (waves + 1), count / (waves - 1))
        error = max(abs(_component(rates, period)) for period in neighbours) / mean_rate
        weight = NOISE_SMOOTHING if self._noise else 1.0
        self._noise += weight * (error - self._noise)
        limit_wave = _component(limits, WAVE_PERIOD) / mean_limit
        if abs(limit_wave) == 0:
            return 0.0, 0.0
        rate_wave = _component(rates, WAVE_PERIOD) / mean_rate
        noise = max(self._noise, error)
        confidence = min(1.0, abs(limit_wave) / noise / SIGNAL_TO_NOISE) if noise > 0 else 1.0
        return (rate_wave / limit_wave).real - ASKED_GAIN, confidence

    def _climb(self, gain: float, confidence: float, elapsed_s: float) -> None:
        bounded = max(-1.0, min(1.0, gain)) * confidence
        step = math.copysign(abs(bounded) ** GAIN_EXPONENT, bounded) * MOST_A_SECOND * elapsed_s
        self._setting += min(step, MOST_A_SAMPLE)

    def _move(self, window: Window, gain: float, confidence: float) -> Adjustment | None:
        wave = min(LARGEST_WAVE, max(1, int(0.5 + self._setting * self._noise * SIGNAL_TO_NOISE * 2)))
        self._setting = max(self.policy.lowest, min(self.policy.highest - wave, self._setting))
        is_crest = (self._samples // (WAVE_PERIOD // 2)) % 2
        before, self.limit = self.limit, self.policy.clamp(int(self._setting + wave * is_crest))
        if self.limit == before:
            return None
        around = f"around {self._setting:.1f} by a wave of {wave}"
        reason = f"{around}: gain {gain:+.2f}, confidence {confidence:.2f}"
        return self.log.moved(window, Knob.LIMIT, before=before, after=self.limit, reason=reason)


def _component(values: Sequence[float], period: float) -> complex:
    """What `values` show of a wave of this period: amplitude and phase, over their number (Goertzel 1958)."""
    turn = 2 * math.pi / period
    newer = older = 0.0
    for value in values:
        newer, older = 2 * math.cos(turn) * newer - older + value, newer
    return (newer - older * cmath.exp(-1j * turn)) / len(values)
