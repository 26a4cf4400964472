"""How findings, trials and studies look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perfloop.model.advice import Finding, Severity
from perfloop.model.outcome import AppliedChange, Confirmation, Effect, Study, TrialRecord, Verdict
from perfloop.model.snapshot import Limitation
from perfloop.model.units import bytes_text, seconds_text, share_text
from perfloop.tune.analysis import Analysis

_SEVERITY_STYLES = {Severity.HIGH: "bold red", Severity.MEDIUM: "yellow", Severity.LOW: "cyan"}
_VERDICT_STYLES = {Verdict.KEEP: "bold green", Verdict.REVERT: "red", Verdict.UNCLEAR: "yellow"}
_EFFECT_NAMES = {
    "cpu_s": "CPU time per call",
    "mean_s": "mean time per call",
    "p95_s": "p95 of the calls",
    "throughput_per_s": "calls per second, one client",
}
UNEXPLAINED_SHOWN = 8


def output(text: str) -> None:
    """Print a result as it is, without styles or wrapping."""
    _console().print(text, markup=False, highlight=False, soft_wrap=True)


def finding_line(finding: Finding) -> Text:
    """One finding in one line."""
    line = Text("  ")
    line.append(f"{finding.severity.value:<7}", style=_SEVERITY_STYLES[finding.severity])
    line.append(finding.title)
    return line


def verdict_text(verdict: Verdict) -> Text:
    """The verdict, in its colour and padded."""
    return Text(f"{verdict.value:<8}", style=_VERDICT_STYLES[verdict])


def show_analysis(analysis: Analysis) -> None:
    """Print the findings with their evidence, what could not be read, and why nothing else was found."""
    console = _console()
    snapshot = analysis.snapshot
    console.print(
        Text.assemble(
            (snapshot.database, "bold"),
            f"  PostgreSQL {snapshot.fingerprint.major}, {len(snapshot.tables)} tables, ",
            f"{bytes_text(snapshot.activity.database_bytes)}, {len(snapshot.statements)} statements taking ",
            f"{seconds_text(snapshot.total_s())}",
        )
    )
    _show_findings(console, analysis.findings)
    _show_limitations(console, snapshot.limitations)
    _show_unexplained(console, analysis.unexplained)


def show_study(study: Study) -> None:
    """Print what was tried, kept and reverted, and the confirmed effect."""
    console = _console()
    console.print(
        Text.assemble(
            ("study ", "dim"), (study.study_id, "bold"), f"  {study.target}  ", (study.state.value, "dim")
        )
    )
    _show_trials(console, study)
    if study.confirmation is not None:
        _show_confirmation(console, study.confirmation)
    for note in study.notes:
        console.print(Text.assemble(("note  ", "yellow"), note))
    _show_unexplained(console, study.unexplained)


def show_changes(study: Study) -> None:
    """Print the kept changes, as a question is about to be asked."""
    console = _console()
    for trial in study.kept():
        size = f"  {bytes_text(trial.size_bytes)}" if trial.size_bytes else ""
        console.print(Text.assemble("  ", trial.proposal.change.title, (size, "dim")))


def show_studies(studies: Iterable[Study]) -> None:
    """Print one line a study."""
    table = Table("study", "state", "target", "tried", "kept", "mean time", box=box.SIMPLE_HEAD)
    for study in studies:
        effect = study.confirmation.effect("mean_s") if study.confirmation else None
        table.add_row(
            study.study_id,
            study.state.value,
            study.target,
            str(len(study.trials)),
            str(len(study.kept())),
            _change_text(effect) if effect else "",
        )
    _console().print(table)


def show_acts(acts: Sequence[AppliedChange]) -> None:
    """Print what was done on targets, oldest first."""
    if not acts:
        return
    table = Table("change", "study", "state", "what", box=box.SIMPLE_HEAD)
    for act in acts:
        table.add_row(str(act.act_id), act.study_id, act.state.value, act.change.title)
    _console().print(table)


def _show_findings(console: Console, findings: Sequence[Finding]) -> None:
    if not findings:
        console.print("nothing found that costs time or space")
    for finding in findings:
        console.print()
        table = Table.grid(padding=(0, 0, 0, 2))
        severity = Text(f"{finding.severity.value:<6}", style=_SEVERITY_STYLES[finding.severity])
        table.add_row(severity, Text(finding.title, style="bold"))
        share = [] if finding.time_share is None else [f"{share_text(finding.time_share)} of the time"]
        space = [] if finding.space_bytes is None else [bytes_text(finding.space_bytes)]
        evidence = [f"{each.label} {each.value}" for each in finding.evidence]
        table.add_row("", Text(", ".join(share + space + evidence), style="dim"))
        table.add_row("", Text(f"try: {finding.would_try}"))
        console.print(table)


def _show_limitations(console: Console, limitations: Sequence[Limitation]) -> None:
    for each in limitations:
        console.print()
        console.print(Text.assemble(("not read  ", "yellow"), f"{each.subject}: {each.reason}"))
        for line in each.remedy.splitlines():
            console.print(Text(f"          {line}", style="dim"))


def _show_unexplained(console: Console, sentences: Sequence[str]) -> None:
    if not sentences:
        return
    console.print()
    console.print(Text("why nothing was proposed", style="bold"))
    for sentence in sentences[:UNEXPLAINED_SHOWN]:
        console.print(Text(f"  {sentence}", style="dim"))
    if len(sentences) > UNEXPLAINED_SHOWN:
        rest = len(sentences) - UNEXPLAINED_SHOWN
        console.print(Text(f"  and {rest} more in the report", style="dim"))


def _show_trials(console: Console, study: Study) -> None:
    kept = {trial.proposal.change.title for trial in study.kept()}
    table = Table("", "change", "CPU time", "space", "why", box=box.SIMPLE_HEAD, pad_edge=False)
    for trial in sorted(study.trials, key=lambda each: list(Verdict).index(each.verdict)):
        taken_out = trial.verdict is Verdict.KEEP and trial.proposal.change.title not in kept
        verdict = Text("taken out", style="red") if taken_out else verdict_text(trial.verdict)
        table.add_row(
            verdict,
            trial.proposal.change.title,
            _change_text(trial.cpu) if trial.cpu else "",
            _space_text(trial),
            _why(study, trial) if taken_out else trial.reason,
        )
    console.print(table)


def _why(study: Study, trial: TrialRecord) -> str:
    again = next(each for each in study.rechecks if each.proposal.change == trial.proposal.change)
    return f"when left out at the end: {again.reason}"


def _show_confirmation(console: Console, confirmation: Confirmation) -> None:
    table = Table("", "before", "after", "change", "95 % interval", box=box.SIMPLE_HEAD, pad_edge=False)
    for effect in confirmation.effects:
        table.add_row(
            _EFFECT_NAMES.get(effect.metric, effect.metric),
            _value_text(effect.metric, effect.control),
            _value_text(effect.metric, effect.treatment),
            Text(_change_text(effect), style="bold"),
            f"{_ratio_text(effect.low)} to {_ratio_text(effect.high)}",
        )
    before, after = confirmation.control_work, confirmation.treatment_work
    table.add_row("blocks per call", f"{before.blocks:,.0f}", f"{after.blocks:,.0f}", "", "counted")
    table.add_row("WAL bytes per call", f"{before.wal_bytes:,.0f}", f"{after.wal_bytes:,.0f}", "", "counted")
    table.add_row("space", "", "", _signed_bytes(confirmation.size_bytes), "counted")
    console.print(table)
    if confirmation.host is not None and confirmation.host.crowded:
        used = share_text(confirmation.host.neighbour_ratio)
        console.print(Text(f"the host was crowded: others used {used} of it", style="yellow"))


def _change_text(effect: Effect) -> str:
    return _ratio_text(effect.ratio)


def _ratio_text(ratio: float) -> str:
    if ratio >= 2:
        return f"{ratio:.1f} x"
    return f"{(ratio - 1) * 100:+.1f} %"


def _value_text(metric: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if metric.endswith("_per_s") else seconds_text(value)


def _space_text(trial: TrialRecord) -> str:
    return _signed_bytes(trial.size_bytes) if trial.size_bytes else ""


def _signed_bytes(size_bytes: int) -> str:
    return f"{'+' if size_bytes > 0 else '-'}{bytes_text(abs(size_bytes))}"


def _console() -> Console:
    return Console(highlight=False)
