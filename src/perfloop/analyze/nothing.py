"""Why nothing was found: one sentence for each statement that costs time and has no Finding.

A statement without a plan gets none: whoever could not plan it knows the reason. The
sentence is about the node of its plan that takes the most time, or cost, by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from perfloop.analyze.missing_indexes import KEPT_RATIO, LARGE_TABLE_ROWS
from perfloop.analyze.self_time import WeighedNode, weigh
from perfloop.analyze.sites import rows_of, table_of
from perfloop.model.advice import Finding
from perfloop.model.plan import Plan, PlanNode
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Index
from perfloop.model.units import count_text, seconds_text, share_text
from perfloop.model.workload import Statement

EXPLAINED_STATEMENTS = 10
EXPLAINED_SHARE = 0.01
"""Statements below this share of the time are not asked about."""


def explain_nothing(snapshot: Snapshot, findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """Sentences for the statements that take the most time and that no Finding names."""
    named = {query_id for finding in findings for query_id in finding.query_ids}
    plans = {each.query_id: each.plan for each in reversed(snapshot.plans)}
    total_s = snapshot.total_s()
    top = sorted(snapshot.statements, key=lambda each: (-each.total_s, each.statement.query_id))
    asked = [
        each
        for each in top[:EXPLAINED_STATEMENTS]
        if each.statement.query_id not in named and each.total_s >= EXPLAINED_SHARE * total_s > 0
    ]
    return tuple(
        f"{each.statement.label} ({share_text(each.total_s / total_s)} of the time)"
        f" {why_nothing(snapshot, plans[each.statement.query_id], mean_s=each.mean_s)}"
        for each in asked
        if each.statement.query_id in plans
    )


def told_once(
    earlier: tuple[str, ...],
    later: tuple[str, ...],
    statements: Iterable[Statement],
    findings: tuple[Finding, ...],
) -> tuple[str, ...]:
    """One sentence per statement: a later one takes the place of those before, and a Finding of any.

    Sentences begin with the label of their statement; others are kept, each once.
    """
    named = {query_id for finding in findings for query_id in finding.query_ids}
    told = [
        each.label
        for each in statements
        if each.query_id in named or any(_is_about(sentence, each.label) for sentence in later)
    ]
    kept = [each for each in earlier if not any(_is_about(each, label) for label in told)]
    return tuple(dict.fromkeys((*kept, *later)))


def _is_about(sentence: str, label: str) -> bool:
    return sentence.startswith((f"{label} ", f"{label}: "))


def why_nothing(snapshot: Snapshot, plan: Plan, *, mean_s: float | None) -> str:
    """Why no rule has a remedy for the plan, without a subject; `mean_s` is of a call, where it is known."""
    weighed = weigh(plan)
    heaviest = max(weighed.nodes, key=lambda each: each.share)
    kind = heaviest.node.kind
    if not heaviest.is_measured and any(node.kind == "ModifyTable" for node in plan.root.walk()):
        return "changes rows; the planner's costs leave out the writing, and finding the rows shows no fault"
    if kind == "Seq Scan":
        return _why_scan(snapshot, heaviest)
    if kind.startswith(("Index", "Bitmap")):
        return _why_index_scan(snapshot, heaviest, mean_s)
    part = share_text(heaviest.share)
    rows = count_text(max(each.rows for each in (heaviest, *weighed.children(heaviest))))
    for kinds, reason in _REASONS:
        if kind in kinds:
            return reason.format(part=part, rows=rows)
    return f"spends {part} of it in {kind}, for which no check knows a remedy"


_REASONS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("ModifyTable",),
        "spends {part} of it writing rows and index entries; only fewer indexes or fewer writes help",
    ),
    (
        ("Sort", "Incremental Sort"),
        "spends {part} of it sorting {rows} rows, all needed; to read them in order is seldom cheaper",
    ),
    (
        ("Aggregate", "Group", "WindowAgg", "Unique"),
        "spends {part} of it aggregating; it needs all the rows it reads, so an index would not help",
    ),
    (
        ("Hash Join", "Hash", "Merge Join", "Nested Loop", "Materialize", "Memoize"),
        "spends {part} of it joining {rows} rows, and no missing index would spare it that",
    ),
    (
        ("Result", "ProjectSet", "Function Scan", "Values Scan"),
        "spends {part} of it computing values, not reading tables",
    ),
    (
        ("Gather", "Gather Merge"),
        "spends {part} of it starting parallel workers and collecting their rows",
    ),
    (
        ("LockRows",),
        "spends {part} of it locking rows",
    ),
)


def _why_scan(snapshot: Snapshot, each: WeighedNode) -> str:
    table = table_of(snapshot, each.node)
    if table is None:
        return f"reads {each.node.relation or 'a table'} whole; its size is not known"
    rows = each.rows + each.removed_rows if each.is_measured else rows_of(table)
    if rows_of(table) < LARGE_TABLE_ROWS:
        return f"reads {table.name} whole, which has only {count_text(rows)} rows; an index would not help"
    if "Filter" not in each.node.fields:
        return f"reads all {count_text(rows)} rows of {table.name}; no missing index would spare it that"
    part = (
        f"{share_text(each.rows / rows)} of {table.name} ({count_text(each.rows)} of {count_text(rows)} rows)"
    )
    if each.rows > KEPT_RATIO * rows:
        return f"keeps {part}; an index would not help"
    return f"keeps {part}, but its condition names no column that an index could serve"


def _why_index_scan(snapshot: Snapshot, each: WeighedNode, mean_s: float | None) -> str:
    index = _index_of(snapshot, each.node)
    mean = "" if mean_s is None else f", {seconds_text(mean_s)} per call"
    if index is None:
        return f"already uses an index{mean}"
    if index.is_primary and each.rows <= 1:
        return f"spends it in primary key look-ups on {index.table}{mean}; fewer calls would help"
    if index.is_unique and each.rows <= 1:
        return f"spends it in look-ups by the unique index {index.name}{mean}"
    rows = f" for {count_text(each.rows)} rows a time" if each.is_measured else ""
    return f"already uses index {index.name}{mean}{rows}"


def _index_of(snapshot: Snapshot, node: PlanNode) -> Index | None:
    """The index of a scan; a Bitmap Heap Scan has its indexes below it."""
    name = next((each.index for each in node.walk() if each.index is not None), None)
    return next((index for index in snapshot.indexes if index.name == name), None)
