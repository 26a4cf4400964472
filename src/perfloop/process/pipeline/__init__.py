"""Stages with bounded queues, limits and batch sizes that find themselves, and one summary of it all."""

from perfloop.process.pipeline.marks import SKIP, DeadLetter, RetryPolicy
from perfloop.process.pipeline.pipeline import Pipeline
from perfloop.process.pipeline.statistics import PipelineStatistics, PipelineSummary, StageStatistics

__all__ = [
    "SKIP",
    "DeadLetter",
    "Pipeline",
    "PipelineStatistics",
    "PipelineSummary",
    "RetryPolicy",
    "StageStatistics",
]
