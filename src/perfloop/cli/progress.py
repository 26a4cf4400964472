"""Progress on standard error, so that standard output stays the result."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status
from rich.text import Text

from perfloop.cli.terminal import finding_line, verdict_text
from perfloop.model.advice import Finding, Proposal
from perfloop.model.outcome import TrialRecord
from perfloop.model.units import seconds_text

FIRST_FINDINGS = 5


class Progress:
    """An Observer that draws a line with a spinner, and leaves a line for each thing done.

    Where standard error is no terminal it prints plain lines; `quiet` prints nothing. Of the findings it
    lists the `first_findings`, for those who wait for minutes before they see them all.
    """

    def __init__(self, *, quiet: bool = False, first_findings: int = FIRST_FINDINGS) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._first_findings = first_findings
        self._status: Status | None = None
        self._phase = ""
        self._began_s = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_phase(done=kind is None)
        if self._status is not None:
            self._status.stop()

    def phase(self, text: str) -> None:
        """Leave a line for the phase that ended, and show the new one."""
        self._end_phase(done=True)
        self._phase = text
        self._began_s = time.monotonic()
        self._show(text)

    def found(self, findings: tuple[Finding, ...]) -> None:
        """Print how many there are, and the first ones at once."""
        self._end_phase(done=True)
        count = len(findings)
        self._console.print(f"found {count} {'thing' if count == 1 else 'things'} to look at")
        for finding in findings[: self._first_findings]:
            self._console.print(finding_line(finding), overflow="ellipsis", no_wrap=True)
        if count > self._first_findings > 0:
            self._console.print(Text(f"  and {count - self._first_findings} more", style="dim"))

    def trial_started(self, proposal: Proposal, number: int, total: int) -> None:
        """Show which Trial runs."""
        self._end_phase(done=number > 1)
        self._show(f"trial {number} of {total}: {proposal.change.title}")

    def trial_finished(self, record: TrialRecord) -> None:
        """Leave a line with the verdict."""
        line = verdict_text(record.verdict)
        line.append(f" {record.proposal.change.title}", style="bold")
        line.append(f"  {record.reason} ({seconds_text(record.took_s + record.build_s)})", style="dim")
        self._console.print(line)

    def _show(self, text: str) -> None:
        if self._status is not None:
            self._status.update(Text(text))

    def _end_phase(self, *, done: bool) -> None:
        if self._phase and done:
            took = seconds_text(time.monotonic() - self._began_s)
            self._console.print(Text.assemble(self._phase, (f"  {took}", "dim")))
        self._phase = ""
