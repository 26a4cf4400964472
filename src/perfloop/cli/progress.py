"""Progress on standard error, so that standard output stays the result."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from perfloop.cli.findings import severity_text
from perfloop.cli.terminal import error_console
from perfloop.cli.verdicts import trial_figure, verdict_text
from perfloop.model.advice import Finding, Proposal
from perfloop.model.outcome import TrialRecord, Verdict
from perfloop.model.units import seconds_text

FIRST_FINDINGS = 5
TRIALS_FOR_ESTIMATE = 3
WORTH_TELLING_S = 1.0


class Progress:
    """An Observer that draws what is under way, and leaves a line for each thing done.

    Where standard error is no terminal it prints plain lines; `quiet` prints nothing. Of the findings it
    lists the `first_findings`, for those who wait for minutes before they see them all.
    """

    def __init__(self, *, quiet: bool = False, first_findings: int = FIRST_FINDINGS) -> None:
        self._console = error_console(quiet=quiet)
        self._first_findings = first_findings
        self._live: Live | None = None
        self._spinner = Spinner("dots", style="green")
        self._phase = ""
        self._doing = ""
        self._step = (0, 0)
        self._phase_began_s = 0.0
        self._trials_began_s = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.quiet:
            self._live = Live(
                get_renderable=self._drawn, console=self._console, refresh_per_second=8, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end_phase()
        if self._live is not None:
            self._live.stop()

    def phase(self, text: str) -> None:
        """Leave a line for the phase that ended, and show the new one."""
        self._end_phase()
        self._phase = self._doing = text
        self._step = (0, 0)
        self._phase_began_s = time.monotonic()

    def found(self, findings: tuple[Finding, ...]) -> None:
        """Print how many there are, and the first ones at once."""
        self._end_phase()
        count = len(findings)
        self._line(Text(f"found {count} {'thing' if count == 1 else 'things'} to look at"))
        for finding in findings[: self._first_findings]:
            severity = severity_text(finding)
            severity.pad_right(8 - severity.cell_len)
            self._line(Text.assemble("  ", severity, finding.title))
        if count > self._first_findings > 0:
            self._line(Text(f"  and {count - self._first_findings} more", style="dim"))

    def trial_started(self, proposal: Proposal, number: int, total: int) -> None:
        """Show which Trial runs."""
        self._end_phase()
        if number == 1:
            self._trials_began_s = time.monotonic()
        self._step = (number, total)
        self._doing = proposal.change.title
        self._phase_began_s = time.monotonic()

    def trial_finished(self, record: TrialRecord) -> None:
        """Leave a line with the verdict."""
        verdict = verdict_text(record.verdict)
        verdict.pad_right(9 - verdict.cell_len)
        figure = f"{trial_figure(record):<14}"
        is_kept = record.verdict is Verdict.KEEP
        title = (record.proposal.change.title, "bold" if is_kept else "")
        reason = "" if is_kept else f"  {record.reason}"
        self._line(Text.assemble("  ", verdict, figure, title, (reason, "dim")))

    def _drawn(self) -> Spinner | Text:
        """The line that moves: step, what is done, for how long, and how long it may still take."""
        if not self._doing:
            return Text("")
        number, total = self._step
        now_s = time.monotonic()
        before = f"trial {number} of {total}  " if total else ""
        after = f"  {_clock_text(now_s - self._phase_began_s)}"
        done = number - 1
        if done >= TRIALS_FOR_ESTIMATE:
            mean_s = (self._phase_began_s - self._trials_began_s) / done
            left_s = max(0.0, self._phase_began_s + mean_s * (total - done) - now_s)
            after += f", trials done in about {_clock_text(left_s)}"
        room = self._console.width - len(before) - len(after) - 3
        doing = Text(self._doing)
        doing.truncate(max(8, room), overflow="ellipsis")
        self._spinner.update(text=Text.assemble((before, "bold"), doing, (after, "dim")))
        return self._spinner

    def _end_phase(self) -> None:
        took_s = time.monotonic() - self._phase_began_s
        if self._phase:
            took = f"  {seconds_text(took_s)}" if took_s >= WORTH_TELLING_S else ""
            self._line(Text.assemble(self._phase, (took, "dim")))
        self._phase = self._doing = ""

    def _line(self, text: Text) -> None:
        """Print one line: cut to a terminal's width, whole in a file."""
        if self._console.is_terminal:
            self._console.print(text, overflow="ellipsis", no_wrap=True)
        else:
            self._console.print(text, soft_wrap=True)


def _clock_text(seconds: float) -> str:
    """Minutes and seconds, as 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
