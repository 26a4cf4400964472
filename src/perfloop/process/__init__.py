"""Workers kept alive, the channels to them, and pipelines.

The names below are loaded when they are first used: a worker does not load its supervisor.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # what is loaded here is loaded before a fleet's workers: typing alone takes some 5 ms
if TYPE_CHECKING:
    from typing import Any

    from perfloop.process.channel.end import Delivery
    from perfloop.process.leaks.ladder import LadderPolicy
    from perfloop.process.pipeline.marks import SKIP, DeadLetter, RetryPolicy
    from perfloop.process.pipeline.pipeline import Pipeline
    from perfloop.process.pipeline.statistics import PipelineStatistics, PipelineSummary, StageStatistics
    from perfloop.process.resources.limits import ResourceLimits
    from perfloop.process.scaling.policy import ScalingPolicy
    from perfloop.process.supervisor.events import Event
    from perfloop.process.supervisor.restarting import RestartKind, RestartPolicy, Strategy
    from perfloop.process.supervisor.specs import (
        FleetSpec,
        GroupSpec,
        HealthPolicy,
        ReadyPolicy,
        StopPolicy,
    )
    from perfloop.process.supervisor.statistics import FleetStatistics, GroupStatistics, WorkerStatistics
    from perfloop.process.supervisor.supervisor import Supervisor
    from perfloop.process.worker import Worker

__all__ = [
    "SKIP",
    "DeadLetter",
    "Delivery",
    "Event",
    "FleetSpec",
    "FleetStatistics",
    "GroupSpec",
    "GroupStatistics",
    "HealthPolicy",
    "LadderPolicy",
    "Pipeline",
    "PipelineStatistics",
    "PipelineSummary",
    "ReadyPolicy",
    "ResourceLimits",
    "RestartKind",
    "RestartPolicy",
    "RetryPolicy",
    "ScalingPolicy",
    "StageStatistics",
    "StopPolicy",
    "Strategy",
    "Supervisor",
    "Worker",
    "WorkerStatistics",
]

_HOMES = {
    "SKIP": "perfloop.process.pipeline.marks",
    "DeadLetter": "perfloop.process.pipeline.marks",
    "Delivery": "perfloop.process.channel.end",
    "Event": "perfloop.process.supervisor.events",
    "FleetSpec": "perfloop.process.supervisor.specs",
    "FleetStatistics": "perfloop.process.supervisor.statistics",
    "GroupSpec": "perfloop.process.supervisor.specs",
    "GroupStatistics": "perfloop.process.supervisor.statistics",
    "HealthPolicy": "perfloop.process.supervisor.specs",
    "LadderPolicy": "perfloop.process.leaks.ladder",
    "Pipeline": "perfloop.process.pipeline.pipeline",
    "PipelineStatistics": "perfloop.process.pipeline.statistics",
    "PipelineSummary": "perfloop.process.pipeline.statistics",
    "ReadyPolicy": "perfloop.process.supervisor.specs",
    "ResourceLimits": "perfloop.process.resources.limits",
    "RestartKind": "perfloop.process.supervisor.restarting",
    "RestartPolicy": "perfloop.process.supervisor.restarting",
    "RetryPolicy": "perfloop.process.pipeline.marks",
    "ScalingPolicy": "perfloop.process.scaling.policy",
    "StageStatistics": "perfloop.process.pipeline.statistics",
    "StopPolicy": "perfloop.process.supervisor.specs",
    "Strategy": "perfloop.process.supervisor.restarting",
    "Supervisor": "perfloop.process.supervisor.supervisor",
    "Worker": "perfloop.process.worker",
    "WorkerStatistics": "perfloop.process.supervisor.statistics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
