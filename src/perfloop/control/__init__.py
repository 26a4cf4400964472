"""Laws that compute a number from measured Windows, and the Limiter that enforces it."""

from perfloop.control.adjustment import Adjustment, AdjustmentLog, Evidence, Knob, Outcome
from perfloop.control.aimd import Aimd
from perfloop.control.batch_fit import BatchFit
from perfloop.control.budget import ConnectionBudget
from perfloop.control.choice import law_for, size_law_for
from perfloop.control.coordinator import Coordinator
from perfloop.control.fixed import Fixed, FixedSize
from perfloop.control.gradient2 import Gradient2
from perfloop.control.hill_climbing import HillClimbing
from perfloop.control.law import BatchLaw, ConcurrencyLaw
from perfloop.control.limiter import AsyncLimiter, Limiter, LimiterStatistics
from perfloop.control.linger import Linger
from perfloop.control.policy import AdjustmentPolicy
from perfloop.control.search_hold import SearchHold
from perfloop.control.window import Window

__all__ = [
    "Adjustment",
    "AdjustmentLog",
    "AdjustmentPolicy",
    "Aimd",
    "AsyncLimiter",
    "BatchFit",
    "BatchLaw",
    "ConcurrencyLaw",
    "ConnectionBudget",
    "Coordinator",
    "Evidence",
    "Fixed",
    "FixedSize",
    "Gradient2",
    "HillClimbing",
    "Knob",
    "Limiter",
    "LimiterStatistics",
    "Linger",
    "Outcome",
    "SearchHold",
    "Window",
    "law_for",
    "size_law_for",
]
