"""What a terminal shows while a pipeline runs: one line a stage, drawn anew a few times a second."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from perfloop.model.units import seconds_text
from perfloop.process.pipeline.statistics import PipelineStatistics

FRAMES_PER_S: Final = 4
HEADER: Final = ("stage", "items", "per s", "waiting", "busy", "limit", "size", "dead")


@contextlib.contextmanager
def shown(statistics: Callable[[], PipelineStatistics], console: Console | None = None) -> Iterator[None]:
    """Draw during the block on standard error, and wipe it afterwards; where that is no terminal, nothing."""
    console = console or Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield
        return
    drawing = _Drawing(statistics)
    with Live(get_renderable=drawing.frame, console=console, refresh_per_second=FRAMES_PER_S, transient=True):
        yield


class _Drawing:
    """Rates are those since the last frame, not since the start."""

    def __init__(self, statistics: Callable[[], PipelineStatistics]) -> None:
        self._statistics = statistics
        self._last: PipelineStatistics | None = None

    def frame(self) -> Group:
        now, last = self._statistics(), self._last
        if last is None or now.elapsed_s > last.elapsed_s:
            self._last = now
        table = Table.grid(padding=(0, 2))
        for column, title in enumerate(HEADER):
            table.add_column(title, justify="left" if column == 0 else "right")
        table.add_row(*(Text(title, style="dim") for title in HEADER))
        since_s = max(1e-9, now.elapsed_s - (last.elapsed_s if last else 0.0))
        for position, stage in enumerate(now.stages):
            before = last.stages[position].items if last else 0
            table.add_row(
                Text(stage.name, style="bold" if stage.name == now.bottleneck else ""),
                str(stage.items),
                f"{(stage.items - before) / since_s:.0f}",
                str(stage.queue_length),
                f"{stage.utilisation_ratio:.0%}",
                str(stage.limit),
                str(stage.size),
                str(stage.dead_letters),
            )
        read = Text(f"{now.items_read} read in {seconds_text(now.elapsed_s)}", style="dim")
        return Group(table, read)
