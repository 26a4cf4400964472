"""What a pipeline says of itself, while it runs and afterwards."""

from __future__ import annotations

from typing import Final

from perfloop.control.adjustment import Adjustment
from perfloop.model.value import Value

HELD_UP: Final = 0.1
"""Share of the time with a full queue from which on a stage is what holds up the others."""
BUSY: Final = 0.5


class StageStatistics(Value, frozen=True, kw_only=True):
    """One stage, from the start on."""

    name: str
    executor: str
    items: int
    """That were through with it, well or not."""
    passed_on: int
    calls: int
    retries: int
    """Items that were tried again, each time counted."""
    dead_letters: int
    rate_per_s: float
    """Items a second."""
    queue_length: int
    """Items that wait now."""
    wait_s: float
    """In the queue, on average."""
    service_s: float
    """In the function, an item, on average."""
    utilisation_ratio: float
    """Of the workers that the limit allowed: how much of their time they spent in calls."""
    full_ratio: float
    """Share of the time for which its queue kept the stage before, or the source, waiting, once it worked."""
    start_s: float = 0.0
    """Until its first worker could take items, such as a process that has to import first."""
    start_held_ratio: float = 0.0
    """Share of the time for which nothing else could go on than that."""
    limit: int
    size: int
    """Items a call, at most."""
    linger_s: float
    adjustments: tuple[Adjustment, ...] = ()


class PipelineStatistics(Value, frozen=True, kw_only=True):
    """A pipeline at one moment."""

    elapsed_s: float
    items_read: int
    """From the source."""
    stages: tuple[StageStatistics, ...]

    @property
    def rate_per_s(self) -> float:
        """Items a second, at the source."""
        return self.items_read / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def bottleneck(self) -> str:
        """The name of the stage that holds up the others; "source" where all of them wait for items.

        "the start of" that name where more of the time went into waiting for its first process than into the
        busiest stage, or into the source.
        """
        slowest = max(self.stages, key=lambda stage: stage.start_held_ratio)
        busiest = max(self.stages, key=lambda stage: stage.utilisation_ratio)
        start, busy = slowest.start_held_ratio, busiest.utilisation_ratio
        if start > 0 and start >= max(busy, 1 - start - busy):
            return f"the start of {slowest.name}"
        # While the slowest one starts the queues before it are full, too, and no stage after it is busy.
        held_up = [stage.name for stage in self.stages if stage.full_ratio >= HELD_UP + start]
        if held_up:
            return held_up[-1]
        return busiest.name if busy >= BUSY * (1 - start) else "source"

    def text(self) -> str:
        """A table for people."""
        header = (
            "stage",
            "items",
            "per s",
            "waiting",
            "wait",
            "service",
            "busy",
            "limit",
            "size",
            "retried",
            "dead",
            "start",
        )
        rows = [header, *(_row(stage) for stage in self.stages)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        lines = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.append(
            f"{self.items_read} items read in {self.elapsed_s:.1f} s, {self.rate_per_s:.0f}/s; "
            f"the bottleneck is {self.bottleneck}"
        )
        return "\n".join(lines)


class PipelineSummary(PipelineStatistics, frozen=True, kw_only=True):
    """A run that came to its end."""

    is_complete: bool
    """Whether the source was read to its end; false after `stop`."""
    dropped: int = 0
    """Items that were read and not worked on to the end, which only `stop(drain=False)` leaves."""


def _row(stage: StageStatistics) -> tuple[str, ...]:
    return (
        stage.name,
        str(stage.items),
        f"{stage.rate_per_s:.0f}",
        str(stage.queue_length),
        _time_text(stage.wait_s),
        _time_text(stage.service_s),
        f"{stage.utilisation_ratio:.0%}",
        str(stage.limit),
        str(stage.size),
        str(stage.retries),
        str(stage.dead_letters),
        _time_text(stage.start_s),
    )


def _time_text(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
