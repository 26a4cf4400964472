"""The bounds of a group's size; apart from the law, which loads what a fleet's file can be read without."""

from __future__ import annotations

from typing import Final

from perfloop.model.value import Value, require
from perfloop.process.scaling.season import SeasonPolicy

MOST_WORKERS: Final = 1000
"""Of a group. More is a slip of the finger, and takes all memory before anything can be said to it."""


class ScalingPolicy(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of a group's size, what is wanted of it, and how often it may change."""

    lowest: int = 1
    highest: int = 16
    wait_s: float = 0.1
    """How long an arrival may wait in the mean."""
    max_utilisation: float = 0.8
    """The share of their time that workers are busy at most, by plan."""
    drain_s: float = 30.0
    """What waits already is to be done in this time."""
    up_every_s: float = 10.0
    """Between two steps up: the time in which a step shows."""
    max_up_ratio: float = 3.0
    """By how much one step may multiply the workers."""
    down_after_s: float = 300.0
    """Fewer workers only where so long nothing more was needed."""
    smoothing: float = 0.3
    """Weight of the newest window in the mean arrival rate and service time, in (0, 1]."""
    min_gain_ratio: float = 0.3
    """A step up is kept where it brought this part of what its share of new workers promised."""
    settle_s: float = 10.0
    """After a step, before its gain is measured: new workers start and warm up."""
    measure_s: float = 20.0
    """Over which the gain is measured, at least."""
    hold_s: float = 300.0
    """After a step in vain, no other one above it; twice as long after each further one."""
    start_s: float = 5.0
    """A new worker's way to ready, over which a forecast looks ahead."""
    season: SeasonPolicy | None = None
    """Where each period is like the one before: what it will bring while a worker starts counts as come."""

    def __post_init__(self) -> None:
        require(0 <= self.lowest <= self.highest, f"bounds of {self.lowest} to {self.highest}")
        require(1 <= self.highest <= MOST_WORKERS, f"highest: from 1 to {MOST_WORKERS}")
        require(self.wait_s > 0, "wait_s: above zero")
        require(0 < self.max_utilisation < 1, "max_utilisation: above 0 and below 1")
        require(self.drain_s > 0, "drain_s: above zero")
        require(self.max_up_ratio > 1, "max_up_ratio: above 1")
        require(0 < self.smoothing <= 1, "smoothing: above 0 and at most 1")
