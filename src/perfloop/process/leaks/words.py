"""What a worker answers when its supervisor asks for its memory; words of the channel, between messages."""

from __future__ import annotations

import threading
from typing import Any, Final

from perfloop.process.leaks.floors import MemorySample
from perfloop.process.leaks.sampler import Sampler

MEMORY: Final = "memory"
"""`[MEMORY]` asks for a sample, `[MEMORY, sample]` answers."""
TRIM: Final = "trim"
"""`[TRIM]` collects garbage and gives back what is free; `[TRIM, sample]` says what is there after it."""
EXAMINE: Final = "examine"
"""`[EXAMINE, seconds]` begins to look for the lines that grow, and `[EXAMINE]` says that it has begun."""
REPORT: Final = "report"
"""`[REPORT]` asks for what was found, `[REPORT, examination]` answers; None while that goes on."""


class MemoryWords:
    """Answers the words on memory in one worker; nothing is done until the first of them comes."""

    def __init__(self) -> None:
        self._sampler: Sampler | None = None
        self._report: Any = None
        self._examining: threading.Thread | None = None

    def answer(self, word: Any) -> list[Any] | None:
        """What to say to a word; None where it is no word of these, or has no answer."""
        match word:
            case [kind] if kind == MEMORY:
                return [MEMORY, _told(self._samples().sample())]
            case [kind] if kind == TRIM:
                return [TRIM, _told(self._samples().trim())]
            case [kind, float(for_s)] if kind == EXAMINE:
                self._examine(for_s)
                return [EXAMINE]
            case [kind] if kind == REPORT:
                return [REPORT, self._report]
        return None

    def _samples(self) -> Sampler:
        if self._sampler is None:
            self._sampler = Sampler()
        return self._sampler

    def _examine(self, for_s: float) -> None:
        if self._examining is None or not self._examining.is_alive():
            self._report = None
            self._examining = threading.Thread(
                target=self._look, args=(for_s,), daemon=True, name="perfloop-leaks"
            )
            self._examining.start()

    def _look(self, for_s: float) -> None:
        # Imported here: workers that are well never need it.
        from msgspec import to_builtins

        from perfloop.process.leaks.tracing import examine

        never = threading.Event()
        self._report = to_builtins(examine(Sampler(), for_s=for_s, pause=never.wait))


def sample_of(told: list[Any]) -> MemorySample:
    """The sample that a worker told; how many messages it has done its supervisor knows."""
    at_s, in_use, rss, free, descriptors, threads = told
    return MemorySample(
        at_s=at_s,
        in_use_bytes=in_use,
        rss_bytes=rss,
        free_bytes=free,
        descriptors=descriptors,
        threads=threads,
    )


def _told(sample: MemorySample) -> list[Any]:
    return [
        sample.at_s,
        sample.in_use_bytes,
        sample.rss_bytes,
        sample.free_bytes,
        sample.descriptors,
        sample.threads,
    ]
