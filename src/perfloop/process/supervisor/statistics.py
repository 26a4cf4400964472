"""What a fleet is and did, in numbers."""

from __future__ import annotations

from perfloop.model.value import Value


class WorkerStatistics(Value, frozen=True, kw_only=True):
    """One worker."""

    name: str
    state: str
    pid: int | None
    """None while no process runs."""
    restarts: int
    """After ends that were not asked for."""
    under_way: int
    """Messages that it has."""
    handled: int
    """By the process that runs."""
    age_s: float | None
    """Of the process."""
    cpu_s: float | None
    """Of the process; None where that cannot be read."""
    rss_bytes: int | None


class GroupStatistics(Value, frozen=True, kw_only=True):
    """One group."""

    name: str
    workers: tuple[WorkerStatistics, ...]
    waiting: int
    """Messages for which no worker has room."""
    under_way: int
    handled: int
    """Messages that were acknowledged since the fleet began; those that failed among them."""
    failed: int
    given_up: int
    """Messages that ended their workers too often; the last thousand are kept."""


class FleetStatistics(Value, frozen=True, kw_only=True):
    """All groups."""

    pid: int
    """Of the supervisor."""
    age_s: float
    groups: tuple[GroupStatistics, ...]
