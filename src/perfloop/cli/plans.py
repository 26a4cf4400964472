"""How an explained statement looks in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from perfloop.cli.findings import show_finding
from perfloop.cli.terminal import show, width_of
from perfloop.model.explained import ExplainedNode, ExplainedPlan, Explanation, IndexAttempt, Remark
from perfloop.model.units import bytes_text, count_text, seconds_text, share_text
from perfloop.tune.report.plans import (
    about_whole,
    at_node,
    attempt_lines,
    branches,
    facts,
    is_wrong,
    part_text,
    plan_title,
    rows_text,
    totals,
    trunks,
)

_BAR_CELLS = 5
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEAD = _BAR_CELLS + 7
_HOT_SHARE = 0.4
_WARM_SHARE = 0.1
_SQL_SHOWN = 600
_DEEPEST_INDENT = 0.4
"""Of the width: deeper nodes stand no further to the right."""


def show_explanation(console: Console, explained: Explanation) -> None:
    """Print the statement, its plans with what is wrong at their nodes, and what was tried."""
    _show_statement(console, explained)
    for note in explained.notes:
        show(console, Text(note, style="yellow"), lead=Text("note", style="yellow"), indent=6)
    for plan in explained.plans:
        console.print()
        show_plan(console, plan)
    for finding in explained.findings:
        show_finding(console, finding)
    for reason in explained.reasons:
        console.print()
        show(console, Text(reason), lead=Text("nothing", style="cyan"), indent=9)
    for attempt in explained.attempts:
        console.print()
        _show_attempt(console, attempt)


def show_plan(console: Console, plan: ExplainedPlan) -> None:
    """Print one plan as a tree, each node with its share, and with what rules say of it."""
    style = "bold" if plan.is_measured else "bold yellow"
    show(console, Text.assemble((plan_title(plan), style)))
    show(console, Text(", ".join(totals(plan)), style="dim"))
    for node, start, trunk in zip(plan.nodes, branches(plan), trunks(plan), strict=True):
        _show_node(console, plan, node, start, trunk)
    if plan.left_out:
        show(console, Text(f"and {plan.left_out} more nodes", style="dim"), indent=_LEAD)
    for remark in about_whole(plan):
        _show_remark(console, remark, Text(" " * 2), 2)


def _show_statement(console: Console, explained: Explanation) -> None:
    statement, counters = explained.statement, explained.counters
    text = " ".join(statement.text.split())
    shown = text if len(text) <= _SQL_SHOWN else f"{text[: _SQL_SHOWN - 1]}…"
    show(console, Text(statement.name or f"query {statement.query_id}", style="bold"))
    show(console, Text(shown), indent=2, lead="  ")
    if counters is not None:
        share = "" if explained.time_share is None else f", {share_text(explained.time_share)} of the time"
        calls = f"{count_text(counters.calls)} calls, {seconds_text(counters.mean_s)} each{share}"
        show(console, Text(calls, style="dim"), indent=2, lead="  ")


def _show_node(console: Console, plan: ExplainedPlan, node: ExplainedNode, start: str, trunk: str) -> None:
    deepest = int(width_of(console) * _DEEPEST_INDENT)
    start, trunk = start[-deepest:], trunk[-deepest:]
    lead = Text.assemble(
        (_bar(node.share), _share_style(node)), f" {part_text(node.share):>5} ", (start, "dim")
    )
    title_style = "dim" if not node.ran else "bold" if node.share >= _WARM_SHARE else ""
    show(console, Text(node.title, style=title_style), lead=lead, indent=lead.cell_len)
    before = Text.assemble(" " * _LEAD, (trunk, "dim"))
    told = Text(rows_text(node), style="red" if is_wrong(node) else "dim")
    others = facts(node)
    if others:
        told.append(", " + ", ".join(others), style="dim")
    _show_below(console, told, before)
    for detail in node.details:
        _show_below(console, Text(detail, style="dim italic"), before)
    for remark in at_node(plan, node):
        _show_remark(console, remark, before, before.cell_len)


def _show_below(console: Console, text: Text, before: Text) -> None:
    """Text in the node's column; the tree's lines go on beside each line of it."""
    room = max(20, width_of(console) - before.cell_len)
    for line in text.wrap(console, room):
        line.rstrip()
        console.print(Text.assemble(before, line), soft_wrap=True)


def _show_remark(console: Console, remark: Remark, before: Text, indent: int) -> None:
    title = Text.assemble(("▲ ", "bold red"), (remark.title, "red"), (f"  [{remark.check}]", "dim"))
    _show_below(console, title, before)
    _show_below(console, Text(f"try: {remark.would_try}"), Text.assemble(before, "  "))


def _show_attempt(console: Console, attempt: IndexAttempt) -> None:
    title = Text.assemble("with index ", (attempt.title, "bold"), (f"  {attempt.origin}", "dim"))
    show(console, title)
    about = (
        f"{bytes_text(attempt.size_bytes)}, built in a lab in {seconds_text(attempt.build_s)}; one run each"
    )
    show(console, Text(about, style="dim"), indent=2, lead="  ")
    for line in attempt_lines(attempt):
        show(console, line, indent=2, lead="  ")
    for before, after in attempt.pairs:
        if before.shape != after.shape:
            console.print()
            show_plan(console, after)


def _bar(share: float) -> str:
    eighths = round(min(1.0, share) * _BAR_CELLS * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR_CELLS)


def _share_style(node: ExplainedNode) -> str:
    if node.share >= _HOT_SHARE:
        return "red"
    return "yellow" if node.share >= _WARM_SHARE else "green"
