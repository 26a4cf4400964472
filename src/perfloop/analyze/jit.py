"""Compiling expressions just in time, where it takes longer than it saves."""

from __future__ import annotations

from collections import defaultdict

from perfloop.analyze.sites import label_of, severity_of_time, statement_shares
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Snapshot
from perfloop.model.units import share_text

JIT_RATIO = 0.20
"""Share of a statement's time from which compiling is overhead rather than help."""


def jit_overhead(snapshot: Snapshot) -> tuple[Finding, ...]:
    """One Finding, because one setting switches it for all: the statements that pay a fifth or more."""
    ratios = {**_planned_ratios(snapshot), **_counted_ratios(snapshot)}
    heavy = {query_id: ratio for query_id, ratio in ratios.items() if ratio >= JIT_RATIO}
    if not heavy:
        return ()
    shares = statement_shares(snapshot)
    known = [shares[query_id] * ratio for query_id, ratio in heavy.items() if query_id in shares]
    time_share = min(1.0, sum(known)) if known else None
    severity = Severity.MEDIUM if time_share is None else severity_of_time(time_share)
    if severity is None:
        return ()
    query_ids = tuple(sorted(heavy, key=lambda each: (-shares.get(each, 0.0) * heavy[each], each)))
    return (_finding(snapshot, severity, time_share, query_ids, heavy),)


def _finding(
    snapshot: Snapshot,
    severity: Severity,
    time_share: float | None,
    query_ids: tuple[str, ...],
    ratios: dict[str, float],
) -> Finding:
    threshold = snapshot.setting("jit_above_cost")
    first = query_ids[0]
    many = "1 statement" if len(query_ids) == 1 else f"{len(query_ids)} statements"
    return Finding(
        check="jit-overhead",
        severity=severity,
        title=f"JIT compilation takes {share_text(ratios[first])} of the time of {label_of(snapshot, first)}",
        location="jit_above_cost",
        evidence=(
            Evidence(label="concerns", value=many),
            *((Evidence(label="jit_above_cost", value=threshold.value),) if threshold else ()),
            *(
                (Evidence(label="compiling, of all statement time", value=share_text(time_share)),)
                if time_share is not None
                else ()
            ),
        ),
        would_try="jit off, or a higher jit_above_cost, so that only long queries are compiled",
        query_ids=query_ids,
        time_share=time_share,
    )


def _counted_ratios(snapshot: Snapshot) -> dict[str, float]:
    """From pg_stat_statements, which counts it from PostgreSQL 15 on."""
    return {
        each.statement.query_id: min(1.0, each.jit_s / each.total_s)
        for each in snapshot.statements
        if each.jit_s > 0 and each.total_s > 0
    }


def _planned_ratios(snapshot: Snapshot) -> dict[str, float]:
    """From executed plans: the mean over a statement's instances."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for each in snapshot.plans:
        if each.plan.execution_s:
            ratios[each.query_id].append(_compiling_s(each.plan) / each.plan.execution_s)
    return {query_id: min(1.0, sum(those) / len(those)) for query_id, those in ratios.items()}


def _compiling_s(plan: Plan) -> float:
    timing = plan.fields.get("JIT", {}).get("Timing", {})
    return float(timing.get("Total", 0.0)) / 1000
