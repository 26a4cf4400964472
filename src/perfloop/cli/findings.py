"""How findings look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from perfloop.cli.terminal import result_console, show
from perfloop.model.advice import Finding, Severity
from perfloop.model.analysis import Analysis
from perfloop.model.baseline import Comparison
from perfloop.model.snapshot import Limitation
from perfloop.model.units import bytes_text, seconds_text, share_text

UNEXPLAINED_SHOWN = 8
_INDENT = 8
_STYLES = {Severity.HIGH: "bold red", Severity.MEDIUM: "yellow", Severity.LOW: "cyan"}


def severity_text(finding: Finding) -> Text:
    """The severity in its colour."""
    return Text(finding.severity.value, style=_STYLES[finding.severity])


def show_analysis(analysis: Analysis) -> None:
    """Print the findings with their evidence, what could not be read, and why nothing else was found."""
    console = result_console()
    snapshot = analysis.snapshot
    size = bytes_text(snapshot.activity.database_bytes)
    about = f"PostgreSQL {snapshot.fingerprint.major}, {len(snapshot.tables)} tables, {size}"
    if snapshot.statements:
        about += f", {len(snapshot.statements)} statements taking {seconds_text(snapshot.total_s())}"
    console.print(Text.assemble((snapshot.database, "bold"), f"  {about}"), soft_wrap=True)
    if analysis.comparison is not None:
        show_comparison_line(console, analysis.comparison)
    if not analysis.findings:
        console.print("nothing found that costs time or space")
    for finding in analysis.findings:
        show_finding(console, finding)
    for each in snapshot.limitations:
        show_limitation(console, each)
    show_unexplained(console, analysis.unexplained)


def show_comparison_line(console: Console, comparison: Comparison) -> None:
    """Print what was compared with what, and what the reader must know of it."""
    age = seconds_text(max(0.0, comparison.taken_at_s - comparison.baseline_taken_at_s))
    plans = "1 plan" if comparison.plans_judged == 1 else f"{comparison.plans_judged} plans"
    many = comparison.statements_judged
    statements = "1 statement" if many == 1 else f"{many} statements"
    about = f"captured {age} ago; {plans} and the counters of {statements} compared"
    console.print(Text.assemble("baseline ", (comparison.baseline, "bold"), f"  {about}"), soft_wrap=True)
    for note in comparison.notes:
        show(console, Text(note, style="yellow"), lead="  ", indent=2)


def show_unexplained(console: Console, sentences: Sequence[str]) -> None:
    """Print the first of the sentences that say why nothing was proposed."""
    if not sentences:
        return
    console.print()
    console.print("why nothing was proposed", style="bold")
    for sentence in sentences[:UNEXPLAINED_SHOWN]:
        show(console, Text(sentence, style="dim"), indent=2)
    if len(sentences) > UNEXPLAINED_SHOWN:
        rest = len(sentences) - UNEXPLAINED_SHOWN
        show(console, Text(f"and {rest} more, in the HTML or JSON report", style="dim"), indent=2)


def show_finding(console: Console, finding: Finding) -> None:
    """Print a finding: what it is, what it costs, what would be tried."""
    console.print()
    show(console, Text(finding.title, style="bold"), lead=severity_text(finding), indent=_INDENT)
    facts = [f"{each.label} {each.value}" for each in finding.evidence]
    show(console, Text(", ".join(_cost(finding) + facts), style="dim"), indent=_INDENT)
    show(console, f"try: {finding.would_try}", indent=_INDENT)


def _cost(finding: Finding) -> list[str]:
    """The time and the space that it costs, unless its evidence says so anyway."""
    cost = [] if finding.time_share is None else [f"{share_text(finding.time_share)} of the time"]
    size = bytes_text(finding.space_bytes or 0)
    is_told = any(each.value == size for each in finding.evidence)
    return cost + ([size] if finding.space_bytes and not is_told else [])


def show_limitation(console: Console, limitation: Limitation) -> None:
    """Print what could not be read, why, and the commands that would allow it."""
    console.print()
    lead = Text("not read", style="yellow")
    show(console, f"{limitation.subject}: {limitation.reason}", lead=lead, indent=10)
    for line in limitation.remedy.splitlines():
        # Not wrapped: it is there to be copied.
        console.print(Text(f"          {line}", style="dim"), soft_wrap=True)
