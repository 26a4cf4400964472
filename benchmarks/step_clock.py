"""Says on stderr what a Study does, and keeps how long each step took."""

from __future__ import annotations

import sys
import time

from perfloop.model.advice import Finding, Proposal
from perfloop.model.outcome import TrialRecord


class StepClock:
    """An Observer; `steps` are pairs of a phase and its seconds, trials summed up in one."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self._current: str | None = None
        self._since_s = 0.0
        self._began_s = time.perf_counter()

    def phase(self, text: str) -> None:
        self.stop()
        self._current = text
        self._since_s = time.perf_counter()
        self._say(text)

    def stop(self) -> None:
        """The step under way ends."""
        if self._current is not None:
            took_s = time.perf_counter() - self._since_s
            self.steps[self._current] = self.steps.get(self._current, 0.0) + took_s
            self._current = None

    def found(self, findings: tuple[Finding, ...]) -> None:
        self._say(f"{len(findings)} findings")

    def trial_started(self, proposal: Proposal, number: int, total: int) -> None:
        if number == 1 and self._current != "trying each kept change once more by leaving it out":
            self.phase("trying changes")
        self._say(f"{number} of {total}: {proposal.change.title}")

    def trial_finished(self, record: TrialRecord) -> None:
        self._say(f"  {record.verdict.value} after {record.took_s:.1f} s: {record.reason}")

    def _say(self, text: str) -> None:
        print(f"{time.perf_counter() - self._began_s:7.1f} s  {text}", file=sys.stderr, flush=True)
