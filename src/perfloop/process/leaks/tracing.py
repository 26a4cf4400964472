"""Looks at this process for a bounded time: first as it is, then with tracemalloc, which names lines.

With one frame an allocation-heavy program runs about six times slower, with ten more than thirty times. So
what grows, and how fast, is seen without; the lines with one frame; and only if a line that grows is a
library's, a last part of the time goes, with more frames, to the line of the program that calls it.
"""

from __future__ import annotations

import linecache
import os
import sysconfig
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from perfloop.process.leaks.examination import FLOORS, Examination, traced, watched
from perfloop.process.leaks.floors import MemorySample
from perfloop.process.leaks.growing import GrowingLine, GrowthPolicy, Held, Look, Place, merged
from perfloop.process.leaks.sampler import Sampler

_SAMPLES_A_FLOOR: Final = 5
_LOOKS: Final = 8
_FRAMES: Final = 12
_WATCH_RATIO, _TRACE_RATIO, _CALLERS_RATIO = 0.5, 0.35, 0.15
"""The parts of the time."""
_TOLD: Final = 10
_OWN: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PATHS: Final = [sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_LIBRARIES: Final = tuple({*_PATHS, *(os.path.realpath(each) for each in _PATHS)})

Pause = Callable[[float], bool]
"""Waits so many seconds; whether there is to be an end at once."""


def examine(
    sampler: Sampler, *, for_s: float, pause: Pause, policy: GrowthPolicy | None = None
) -> Examination:
    """Say what grows in this process, and by which lines.

    Args:
        sampler: Of this process.
        for_s: All in all; half of it where nothing grows.
        pause: Lets the program run; a true answer ends the tracing with what there is.
        policy: When it is called growth.
    """
    policy = policy or GrowthPolicy()
    found = watched(watch(sampler.sample, for_s * _WATCH_RATIO, pause), policy)
    if not found.grows or not found.is_whole:
        return found
    tracemalloc.start(1)
    try:
        found = traced(found, _trace(sampler, for_s * _TRACE_RATIO, pause), policy)
        lines = found.lines[:_TOLD]
        callers: dict[Place, Place] = {}
        if any(_is_library(each.place.file) for each in lines):
            callers = _callers(lines, for_s * _CALLERS_RATIO, pause)
    finally:
        tracemalloc.stop()
    before = sampler.sample()
    collected = max(0, before.in_use_bytes - sampler.trim().in_use_bytes)
    told = merged([_with_source(each, callers.get(each.place)) for each in lines])
    return msgspec.structs.replace(found, lines=tuple(told), collected_bytes=collected)


def watch(sample: Callable[[], MemorySample], for_s: float, pause: Pause) -> list[MemorySample]:
    """The least that was in use in each part of the time."""
    floors: list[MemorySample] = []
    for _ in range(FLOORS):
        samples: list[MemorySample] = []
        is_over = False
        while not is_over and len(samples) < _SAMPLES_A_FLOOR:
            is_over = pause(for_s / FLOORS / _SAMPLES_A_FLOOR)
            samples.append(sample())
        floors.append(min(samples, key=lambda each: each.in_use_bytes))
        if is_over:
            break
    return floors


def _trace(sampler: Sampler, for_s: float, pause: Pause) -> list[Look]:
    looks: list[Look] = []
    while len(looks) < _LOOKS:
        is_over = pause(for_s / _LOOKS)
        looks.append(Look(at_s=sampler.sample().at_s, lines=_lines()))
        if is_over:
            break
    return looks


def _lines() -> dict[Place, Held]:
    """What each line holds; a library's frame is told as it is, for only one frame was kept."""
    held: dict[Place, Held] = {}
    for each in tracemalloc.take_snapshot().statistics("lineno"):
        frame = each.traceback[0]
        if not frame.filename.startswith((_OWN, tracemalloc.__file__, "<frozen")):
            place = Place(file=frame.filename, line=frame.lineno)
            held[place] = Held(size_bytes=each.size, objects=each.count)
    return held


def _callers(lines: Iterable[GrowingLine], for_s: float, pause: Pause) -> dict[Place, Place]:
    """The program's own line from which each of these grew most, while more frames were kept."""
    wanted = {
        (each.place.file, each.place.line): each.place for each in lines if _is_library(each.place.file)
    }
    tracemalloc.stop()
    tracemalloc.start(_FRAMES)
    pause(for_s)
    held: dict[Place, dict[Place, int]] = defaultdict(lambda: defaultdict(int))
    for trace in tracemalloc.take_snapshot().traces:
        last = trace.traceback[-1]
        place = wanted.get((last.filename, last.lineno))
        own = None if place is None else _nearest(trace.traceback)
        if place is not None and own is not None:
            held[place][own] += trace.size
    return {place: max(sizes, key=lambda own: sizes[own]) for place, sizes in held.items()}


def _nearest(traceback: tracemalloc.Traceback) -> Place | None:
    for frame in reversed(traceback):
        if not _is_library(frame.filename):
            return Place(file=frame.filename, line=frame.lineno)
    return None


def _is_library(file: str) -> bool:
    return file.startswith((*_LIBRARIES, "<"))


def _with_source(line: GrowingLine, called_from: Place | None) -> GrowingLine:
    place = called_from or line.place
    source = linecache.getline(place.file, place.line).strip()
    return msgspec.structs.replace(line, called_from=called_from, source=source)
