"""An Analysis as one HTML page and as JSON."""

from __future__ import annotations

import msgspec

from perfloop.model.advice import Finding, Severity
from perfloop.model.analysis import Analysis
from perfloop.model.baseline import Comparison
from perfloop.model.snapshot import StatementCounters
from perfloop.model.value import to_json
from perfloop.tune.report.page import render

ANALYSIS_FORMAT = "perfloop-analysis-1"
TOP_STATEMENTS = 50


def analysis_html(analysis: Analysis) -> str:
    """One self-contained page: no network, no script, light and dark, for screens and for paper."""
    return render(
        "analysis.html.j2", analysis=analysis, headline=headline(analysis.findings), top=_top(analysis)
    )


def analysis_json(analysis: Analysis) -> str:
    """What was found, as JSON.

    Top-level keys, which are never renamed or removed under the same format: format
    ("perfloop-analysis-1"), database, user, taken_at_s, counted_for_s, fingerprint, findings, limitations,
    unexplained, statement_count, total_s (execution time of all statements), statements (the 50 that take
    the most time: query_id, name, text, kind, calls, total_s, mean_s, time_share, rows, temp_blocks,
    wal_bytes), workload_origin (null without a workload), skipped, comparison (baseline,
    baseline_taken_at_s, notes, statements_judged, plans_judged; null without a baseline). Settings, plans
    and parameters are left out: they may hold secrets.
    """
    snapshot, workload = analysis.snapshot, analysis.workload
    document = {
        "format": ANALYSIS_FORMAT,
        "database": snapshot.database,
        "user": snapshot.user,
        "taken_at_s": snapshot.taken_at_s,
        "counted_for_s": snapshot.activity.counted_for_s,
        "fingerprint": snapshot.fingerprint,
        "findings": analysis.findings,
        "limitations": snapshot.limitations,
        "unexplained": analysis.unexplained,
        "statement_count": len(snapshot.statements),
        "total_s": snapshot.total_s(),
        "statements": [_statement(each, snapshot.total_s()) for each in _top(analysis)],
        "workload_origin": workload.origin if workload else None,
        "skipped": workload.skipped if workload else (),
        "comparison": _comparison(analysis.comparison) if analysis.comparison else None,
    }
    return msgspec.json.format(to_json(document), indent=2).decode() + "\n"


def _comparison(comparison: Comparison) -> dict[str, object]:
    """What was compared; its findings stand among the analysis's."""
    document: dict[str, object] = msgspec.to_builtins(comparison)
    return {key: value for key, value in document.items() if key not in {"findings", "target", "taken_at_s"}}


def headline(findings: tuple[Finding, ...]) -> str:
    """How many findings there are, by severity."""
    if not findings:
        return "Nothing was found that costs time or space."
    severities = [finding.severity for finding in findings]
    counts = [f"{severities.count(each)} {each.value}" for each in Severity if each in severities]
    return f"{len(findings)} {'finding' if len(findings) == 1 else 'findings'}: {', '.join(counts)}."


def _top(analysis: Analysis) -> list[StatementCounters]:
    ordered = sorted(analysis.snapshot.statements, key=lambda each: (-each.total_s, each.statement.query_id))
    return ordered[:TOP_STATEMENTS]


def _statement(counters: StatementCounters, whole_s: float) -> dict[str, object]:
    return {
        "query_id": counters.statement.query_id,
        "name": counters.statement.name,
        "text": counters.statement.text,
        "kind": counters.statement.kind,
        "calls": counters.calls,
        "total_s": counters.total_s,
        "mean_s": counters.mean_s,
        "time_share": counters.total_s / whole_s if whole_s > 0 else 0.0,
        "rows": counters.rows,
        "temp_blocks": counters.temp_blocks,
        "wal_bytes": counters.wal_bytes,
    }
