"""Compiling expressions just in time, where it takes longer than it saves."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.reading import PlanReading
from perfloop.analyze.sites import Site, label_of, severity_of_time, statement_shares
from perfloop.model.advice import Evidence, Finding
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Snapshot
from perfloop.model.units import count_text, seconds_text, share_text

CHECK = "jit-overhead"
LOCATION = "jit_above_cost"
"""One setting switches it for all, so that all statements are one Finding."""
JIT_RATIO = 0.20
"""Share of a statement's time from which compiling is overhead rather than help."""
REMEDY = "jit off, or a higher jit_above_cost, so that only long queries are compiled"


def jit_overhead(reading: PlanReading) -> Iterator[Site]:
    """An executed plan of which a fifth or more was compiling."""
    compiling_s = compiling_s_of(reading.plan)
    execution_s = reading.plan.execution_s or 0.0
    if not compiling_s or compiling_s < JIT_RATIO * execution_s:
        return
    ratio = min(1.0, compiling_s / execution_s) if execution_s else 1.0
    functions = reading.plan.counters.jit_functions
    yield Site(
        location=LOCATION,
        query_id=reading.query_id,
        plan_share=ratio,
        title=_title(ratio, reading.label),
        evidence=(
            Evidence(
                label="compiling", value=f"{seconds_text(compiling_s)} for {count_text(functions)} functions"
            ),
            *_threshold(reading.snapshot),
        ),
        would_try=REMEDY,
    )


def compiling_s_of(plan: Plan) -> float:
    """Seconds of the leader and its workers together."""
    timing = plan.fields.get("JIT", {}).get("Timing", {})
    return float(timing.get("Total", 0.0)) / 1000


def counted_jit_overhead(snapshot: Snapshot) -> tuple[Finding, ...]:
    """The statements that pay a fifth or more, from pg_stat_statements, which counts it from 15 on."""
    ratios = {
        each.statement.query_id: min(1.0, each.jit_s / each.total_s)
        for each in snapshot.statements
        if each.total_s > 0 and each.jit_s >= JIT_RATIO * each.total_s
    }
    shares = statement_shares(snapshot)
    time_share = min(1.0, sum(shares[query_id] * ratio for query_id, ratio in ratios.items()))
    severity = severity_of_time(time_share)
    if severity is None:
        return ()
    query_ids = tuple(sorted(ratios, key=lambda each: (-shares[each] * ratios[each], each)))
    many = "1 statement" if len(query_ids) == 1 else f"{len(query_ids)} statements"
    return (
        Finding(
            check=CHECK,
            severity=severity,
            title=_title(ratios[query_ids[0]], label_of(snapshot, query_ids[0])),
            location=LOCATION,
            evidence=(
                Evidence(label="concerns", value=many),
                *_threshold(snapshot),
            ),
            would_try=REMEDY,
            query_ids=query_ids,
            time_share=time_share,
        ),
    )


def _title(ratio: float, label: str) -> str:
    return f"JIT compilation takes {share_text(ratio)} of the time of {label}"


def _threshold(snapshot: Snapshot) -> tuple[Evidence, ...]:
    threshold = snapshot.setting("jit_above_cost")
    return (Evidence(label="jit_above_cost", value=threshold.value),) if threshold else ()
