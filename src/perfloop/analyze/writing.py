"""What a write costs besides its rows: triggers, the log, and waiting for other sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfloop.analyze.foreign_keys import supports
from perfloop.analyze.jit import compiling_s_of
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import WeighedNode
from perfloop.analyze.sites import Site, relation_text
from perfloop.analyze.work import own_figure, own_read_s
from perfloop.model.advice import Evidence
from perfloop.model.target import ForeignKey
from perfloop.model.units import bytes_text, count_text, seconds_text, share_text

TRIGGER_RATIO = 0.20
"""Share of the execution from which a trigger is what a write does."""
WRITTEN_ROWS = 100
"""Rows below which the log of a write is all chance: which page was written first after a checkpoint."""
FULL_PAGE_RATIO = 0.5
"""Share of the log that whole pages can make up before the rows are the smaller part."""
RECORDS_PER_ROW = 4.0
"""Log records per row: one is the row, each index that is written adds one."""
WAIT_S = 0.05
"""A row is locked or written in far less; nothing but waiting, for a lock or a disk, takes so long."""
OUTSIDE_RATIO = 0.5
"""Share of the execution outside of all nodes, triggers and compiling."""


def slow_foreign_key(reading: PlanReading) -> Iterator[Site]:
    """A foreign key without an index whose check takes much of a delete or update."""
    for trigger in _slow_triggers(reading):
        key = _unsupported_key(reading, trigger)
        if key is None:
            continue
        columns = ", ".join(key.columns)
        yield Site(
            location=f"{key.table}({columns})",
            query_id=reading.query_id,
            plan_share=_share(reading, trigger),
            title=(
                f"{reading.label} spends {share_text(_share(reading, trigger))} of its time looking for rows"
                f" of {key.table} by {columns}, which has no index"
            ),
            evidence=(Evidence(label=f"foreign key {key.name}", value=_calls(trigger)),),
            would_try=f"an index on {key.table} ({columns})",
        )


def trigger_time(reading: PlanReading) -> Iterator[Site]:
    """Any other trigger that takes a fifth or more of a write."""
    for trigger in _slow_triggers(reading):
        if _unsupported_key(reading, trigger) is not None or _each_s(trigger) >= WAIT_S:
            continue
        name = trigger.get("Constraint Name") or trigger.get("Trigger Name", "a trigger")
        relation = trigger.get("Relation", "its table")
        yield Site(
            location=f"{relation}: {name}",
            query_id=reading.query_id,
            plan_share=_share(reading, trigger),
            title=f"{name} on {relation} takes {share_text(_share(reading, trigger))} of {reading.label}",
            evidence=(Evidence(label="trigger", value=_calls(trigger)),),
            would_try="a trigger once per statement instead of once per row, or less work in it",
        )


def _slow_triggers(reading: PlanReading) -> Iterator[dict[str, Any]]:
    for trigger in reading.plan.fields.get("Triggers", ()):
        if _share(reading, trigger) >= TRIGGER_RATIO:
            yield trigger


def _share(reading: PlanReading, trigger: dict[str, Any]) -> float:
    execution_s = reading.plan.execution_s
    return min(1.0, float(trigger.get("Time", 0.0)) / 1000 / execution_s) if execution_s else 0.0


def _each_s(trigger: dict[str, Any]) -> float:
    return float(trigger.get("Time", 0.0)) / 1000 / max(1, int(trigger.get("Calls", 1)))


def _calls(trigger: dict[str, Any]) -> str:
    return f"{int(trigger.get('Calls', 0)):,} calls of {seconds_text(_each_s(trigger))}"


def _unsupported_key(reading: PlanReading, trigger: dict[str, Any]) -> ForeignKey | None:
    """The foreign key that the trigger looks up on its referencing side, where no index serves that."""
    snapshot = reading.snapshot
    keys = (
        key
        for key in snapshot.foreign_keys
        if key.name == trigger.get("Constraint Name") and key.referenced.name == trigger.get("Relation")
    )
    return next(
        (key for key in keys if not any(supports(one, key) for one in snapshot.indexes_of(key.table))), None
    )


def write_amplification(reading: PlanReading) -> Iterator[Site]:
    """A write that logs whole pages for the most part, or several index entries per row."""
    records, pages, written = (own_figure(reading, f"WAL {what}") for what in ("Records", "FPI", "Bytes"))
    for each in reading.weighed.nodes:
        rows = _written_rows(reading, each)
        if each.node.kind != "ModifyTable" or not each.has_run or rows < WRITTEN_ROWS:
            continue
        log_bytes, whole = written[each.position], pages[each.position]
        page_bytes = whole * reading.snapshot.fingerprint.block_bytes
        if log_bytes and page_bytes >= FULL_PAGE_RATIO * log_bytes:
            yield _amplified(
                reading,
                each,
                title=(
                    f"Most of the {bytes_text(log_bytes)} that {reading.label} writes to the log are"
                    f" {count_text(whole)} whole pages"
                ),
                evidence=Evidence(label="log per row", value=bytes_text(log_bytes / rows)),
                would_try="wal_compression; checkpoints further apart (max_wal_size, checkpoint_timeout)",
            )
        elif records[each.position] >= RECORDS_PER_ROW * rows:
            each_row = records[each.position] / rows
            yield _amplified(
                reading,
                each,
                title=(
                    f"Each row that {reading.label} writes makes {each_row:.1f} log records:"
                    f" the row and its entries in indexes of {relation_text(each.node)}"
                ),
                evidence=Evidence(label="log per row", value=bytes_text(log_bytes / rows)),
                would_try="to drop indexes that no query uses; for updates a lower fillfactor",
            )


def _written_rows(reading: PlanReading, each: WeighedNode) -> float:
    """Rows that came from below; a ModifyTable itself returns what RETURNING asks for."""
    return sum(one.rows * one.executions for one in reading.weighed.children(each) if one.has_run)


def _amplified(
    reading: PlanReading, each: WeighedNode, *, title: str, evidence: Evidence, would_try: str
) -> Site:
    return Site(
        location=relation_text(each.node),
        query_id=reading.query_id,
        plan_share=each.share,
        title=title,
        evidence=(evidence,),
        would_try=would_try,
        positions=(each.position,),
    )


def lock_wait(reading: PlanReading) -> Iterator[Site]:
    """Time that no work explains: while locking or writing a row, in a key's check, or outside all nodes."""
    waits = own_read_s(reading)
    for each in reading.weighed.nodes:
        if each.node.kind not in ("LockRows", "ModifyTable") or not each.has_run:
            continue
        idle_s = (each.self_s or 0.0) - waits[each.position]
        if each.node.kind == "ModifyTable":
            idle_s -= reading.triggers_s
        if idle_s / max(1.0, _written_rows(reading, each)) >= WAIT_S:
            doing = "locking" if each.node.kind == "LockRows" else "writing"
            yield _wait(reading, idle_s, f"{doing} {_rows_text(reading, each)}", (each.position,))
    for trigger in _slow_triggers(reading):
        if _each_s(trigger) >= WAIT_S and _unsupported_key(reading, trigger) is None:
            name = trigger.get("Constraint Name") or trigger.get("Trigger Name")
            yield _wait(reading, float(trigger["Time"]) / 1000, f"{name}, {_calls(trigger)}", ())
    outside_s = _outside_s(reading)
    if outside_s >= max(WAIT_S, OUTSIDE_RATIO * (reading.plan.execution_s or 0.0)):
        yield _wait(reading, outside_s, "outside of all nodes of its plan", ())


def _rows_text(reading: PlanReading, each: WeighedNode) -> str:
    rows = max(1.0, _written_rows(reading, each))
    return f"{count_text(rows)} row{'' if rows == 1 else 's'}"


def _outside_s(reading: PlanReading) -> float:
    total_s = reading.weighed.nodes[0].node.total_s
    if total_s is None or reading.plan.execution_s is None:
        return 0.0
    return reading.plan.execution_s - total_s - reading.triggers_s - compiling_s_of(reading.plan)


def _wait(reading: PlanReading, wait_s: float, where: str, positions: tuple[int, ...]) -> Site:
    execution_s = reading.plan.execution_s or wait_s
    return Site(
        location=reading.label,
        query_id=reading.query_id,
        plan_share=min(1.0, wait_s / execution_s) if execution_s else 0.0,
        title=f"{reading.label} waits for {seconds_text(wait_s)}, most likely for a lock of another session",
        evidence=(Evidence(label="where", value=where),),
        would_try="nothing on the statement: shorter transactions in the sessions that it waits for",
        positions=positions,
    )
