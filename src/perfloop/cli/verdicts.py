"""How trials and studies look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from perfloop.cli.findings import show_unexplained
from perfloop.cli.terminal import result_console, show, show_table, signed_bytes_text
from perfloop.model.advice import RewriteQuery
from perfloop.model.outcome import (
    ActState,
    AppliedChange,
    Confirmation,
    SameRows,
    Study,
    StudyState,
    TrialRecord,
    Verdict,
)
from perfloop.model.units import seconds_text, share_text
from perfloop.tune.report.rewritings import by_hand, diff, is_rewriting, rows_text

_INDENT = 9
_STYLES = {Verdict.KEEP: "bold green", Verdict.REVERT: "red", Verdict.UNCLEAR: "yellow"}
_DIFF_STYLES = {"+": "green", "-": "red", " ": "dim"}
_EFFECT_NAMES = {
    "cpu_s": "CPU time per call",
    "mean_s": "mean time per call",
    "p95_s": "p95 of the calls",
    "throughput_per_s": "calls per second",
}


def verdict_text(verdict: Verdict) -> Text:
    """The verdict in its colour."""
    return Text(verdict.value, style=_STYLES[verdict])


def trial_figure(record: TrialRecord) -> str:
    """The one figure that says most of a finished trial; empty where nothing was timed or freed."""
    if record.cpu is not None:
        return f"CPU {_ratio_text(record.cpu.ratio)}"
    return signed_bytes_text(record.size_bytes)


def show_study(study: Study) -> None:
    """Print what was tried, kept and reverted, and at the end, where one looks, the confirmed effect."""
    console = result_console()
    head = Text.assemble(("study ", "dim"), (study.study_id, "bold"), (f"  {study.state.value}", "dim"))
    console.print(head, soft_wrap=True)
    console.print(Text(study.target, style="dim"), soft_wrap=True)
    by_place = sorted(study.trials, key=lambda each: _place(study, each))
    for _, group in groupby(by_place, key=lambda each: _place(study, each)):
        console.print()
        for trial in group:
            _show_trial(console, study, trial)
    show_unexplained(console, study.unexplained)
    if study.notes:
        console.print()
    for note in study.notes:
        show(console, note, lead=Text("note", style="yellow"), indent=6)
    if study.confirmation is not None:
        _show_confirmation(console, study.confirmation)


def show_changes(study: Study) -> None:
    """Print the kept changes, as a question is about to be asked, and what nobody but people can do."""
    console = result_console()
    if study.state is not StudyState.FINISHED:
        told = f"this study is {study.state.value}: nothing has confirmed its changes together"
        show(console, told, lead="note", indent=6)
    for trial in by_hand(study):
        show(console, Text(f"by hand, in the service's code: {trial.proposal.change.title}"), indent=2)
    for trial in study.kept():
        if is_rewriting(trial.proposal.change):
            continue
        size = Text(f"  {signed_bytes_text(trial.size_bytes)}", style="dim")
        show(console, Text(trial.proposal.change.title) + size, indent=2)


def show_studies(studies: Iterable[Study]) -> None:
    """Print two lines a study."""
    console = result_console()
    for study in studies:
        tried = f"{len(study.trials)} tried, {len(study.kept())} kept"
        effect = study.confirmation.effect("mean_s") if study.confirmation else None
        gain = f", mean time per call {_ratio_text(effect.ratio)}" if effect else ""
        lead = Text(study.study_id, style="bold")
        show(console, f"{study.state.value}, {tried}{gain}", lead=lead, indent=17)
        console.print(Text(f"{' ' * 17}{study.target}", style="dim"), soft_wrap=True)


def show_acts(acts: Sequence[AppliedChange]) -> None:
    """Print what was done on targets, oldest first, with the numbers that undo takes."""
    if not acts:
        return
    console = result_console()
    console.print()
    console.print(Text("change  state    study", style="dim"))
    for act in acts:
        state = Text(f"{act.state.value:<9}", style="bold" if act.state is ActState.APPLIED else "dim")
        lead = Text(f"{act.act_id:>6}  ") + state + f"{act.study_id}  "
        show(console, act.change.title, lead=lead, indent=34)


def _show_trial(console: Console, study: Study, trial: TrialRecord) -> None:
    """Two lines: what was tried with its figures, and why the verdict is what it is."""
    out = _taken_out(study, trial)
    lead = Text("left out", style="red") if out is not None else verdict_text(trial.verdict)
    reason = trial.reason if out is None else f"kept at first, left out at the end: {out.reason}"
    told = [] if trial.cpu is None or out is not None else _unless_told(trial.cpu.ratio, reason)
    told += [signed_bytes_text(trial.size_bytes)] if trial.size_bytes else []
    is_kept = trial.verdict is Verdict.KEEP and out is None
    title = Text(trial.proposal.change.title, style="bold" if is_kept else "")
    show(console, title, lead=lead, indent=_INDENT)
    show(console, Text(", ".join([*told, reason]), style="dim"), indent=_INDENT)
    if is_kept and isinstance(trial.proposal.change, RewriteQuery):
        _show_rewriting(console, trial.proposal.change, trial.same_rows)


def _show_rewriting(console: Console, change: RewriteQuery, same_rows: SameRows | None) -> None:
    """What to change in the service's code, line by line."""
    assumed = [f"assumes that {each}" for each in change.assumes]
    seen = [rows_text(same_rows)] if same_rows is not None else []
    told = "; ".join(["by hand, in the service's code", *assumed, *seen])
    show(console, Text(told, style="dim"), indent=_INDENT)
    for line in diff(change):
        console.print(Text(f"{' ' * _INDENT}{line}", style=_DIFF_STYLES[line.sign]), soft_wrap=True)


def _unless_told(cpu_ratio: float, reason: str) -> list[str]:
    figure = _ratio_text(cpu_ratio)
    return [] if figure.strip("+-") in reason else [f"CPU time {figure}"]


def _place(study: Study, trial: TrialRecord) -> tuple[int, bool]:
    """Kept ones first, then those left out at the end, then the others by verdict."""
    return list(Verdict).index(trial.verdict), _taken_out(study, trial) is not None


def _taken_out(study: Study, trial: TrialRecord) -> TrialRecord | None:
    """The trial that took a kept change out again, or None."""
    if trial.verdict is not Verdict.KEEP:
        return None
    change = trial.proposal.change
    again = (each for each in study.rechecks if each.proposal.change == change)
    return next((each for each in again if each.verdict is not Verdict.KEEP), None)


def _show_confirmation(console: Console, confirmation: Confirmation) -> None:
    before, after = confirmation.control_work, confirmation.treatment_work
    rows: list[tuple[str | Text, ...]] = [
        (
            _EFFECT_NAMES.get(effect.metric, effect.metric),
            _value_text(effect.metric, effect.control),
            _value_text(effect.metric, effect.treatment),
            Text(_ratio_text(effect.ratio), style="bold"),
            f"{_ratio_text(effect.low)} to {_ratio_text(effect.high)}",
        )
        for effect in confirmation.effects
    ]
    rows.append(_counted("blocks per call", before.blocks, after.blocks))
    rows.append(_counted("WAL bytes per call", before.wal_bytes, after.wal_bytes))
    rows.append(("space", "", "", signed_bytes_text(confirmation.size_bytes) or "0 B", "counted"))
    console.print()
    show_table(console, ("all kept together", "before", "after", "change", "95 % interval"), rows)
    if confirmation.host is not None and confirmation.host.crowded:
        used = share_text(confirmation.host.neighbour_ratio)
        console.print(f"the host was crowded: others used {used} of it", style="yellow")


def _counted(name: str, before: float, after: float) -> tuple[str | Text, ...]:
    change = Text(_ratio_text(after / before), style="bold") if before > 0 else Text("")
    return (name, f"{before:,.0f}", f"{after:,.0f}", change, "counted")


def _ratio_text(ratio: float) -> str:
    if ratio >= 2:
        return f"{ratio:.1f} x"
    return f"{(ratio - 1) * 100:+.1f} %"


def _value_text(metric: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if metric.endswith("_per_s") else seconds_text(value)
