"""What is worse than it was when a Baseline was captured.

Pure: the Snapshot has what was counted since, and the Baseline's instances planned anew. One statement
gets one Finding: another plan, or else more time, or else more work. HIGH is only what takes proven time:
a plan that is dearer by the planner's costs alone is a promise, and a window of live traffic no experiment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from perfloop.analyze.changes import changed_settings, dropped_indexes, findings_of_changes, grown_tables
from perfloop.analyze.shifts import RegressionPolicy, Shift, counterparts, drift_of, shifts
from perfloop.analyze.sites import severity_of_time
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.baseline import Baseline, BaselinePlan
from perfloop.model.outline import outline_of
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Snapshot, StatementCounters
from perfloop.model.units import count_text, seconds_text, share_text
from perfloop.model.value import Value
from perfloop.model.workload import Statement

DEARER_RATIO = 1.3
"""Cost of a new plan over the old one's; less is no news."""
MUCH_DEARER_RATIO = 2.0
NEW_SHARE = 0.05
"""A new statement is told of from this share of the time on, and a gone one."""
TOP = 10
_TOLD_DRIFT = 1.25


class Judgement(Value, frozen=True, kw_only=True):
    """Findings, what was looked at, and what the reader must know."""

    findings: tuple[Finding, ...]
    statements_judged: int
    plans_judged: int
    notes: tuple[str, ...]


class _Flip(Value, frozen=True, kw_only=True):
    """An instance that is planned otherwise than then."""

    before: BaselinePlan
    now: Plan

    @property
    def cost_ratio(self) -> float:
        return self.now.root.total_cost / max(0.01, self.before.total_cost)


def regressions(snapshot: Snapshot, baseline: Baseline) -> tuple[Finding, ...]:
    """The Findings of `judge`."""
    return judge(snapshot, baseline).findings


def judge(snapshot: Snapshot, baseline: Baseline, *, policy: RegressionPolicy | None = None) -> Judgement:
    """Hold a Snapshot against a Baseline. Its `statements` are those counted since."""
    policy = policy or RegressionPolicy()
    found = shifts(baseline.statements, snapshot.statements, policy)
    drift = drift_of(found, policy)
    flips = _flips(snapshot, baseline)
    by_query = {each.before.statement.query_id: each for each in found}
    causes = _causes(snapshot, baseline)
    findings = [
        *_flip_findings(snapshot, flips, by_query, drift, policy, causes),
        *(
            finding
            for each in found
            if each.before.statement.query_id not in flips
            and (finding := _shift_finding(snapshot, each, drift, policy, causes))
        ),
        *_new_and_gone(snapshot, baseline, policy),
        *findings_of_changes(snapshot, baseline),
    ]
    planned = {each.instance for each in snapshot.plans}
    return Judgement(
        findings=tuple(sorted(findings, key=_order)),
        statements_judged=len(found),
        plans_judged=sum(each.instance in planned for each in baseline.plans),
        notes=tuple(_notes(snapshot, baseline, found, drift, policy)),
    )


def _flips(snapshot: Snapshot, baseline: Baseline) -> dict[str, tuple[_Flip, ...]]:
    """The instances with another shape, by the Baseline's query id."""
    now = {each.instance: each.plan for each in snapshot.plans}
    found: dict[str, list[_Flip]] = defaultdict(list)
    for before in baseline.plans:
        plan = now.get(before.instance)
        if plan is not None and plan.shape != before.shape:
            found[before.query_id].append(_Flip(before=before, now=plan))
    return {query_id: tuple(each) for query_id, each in found.items()}


def _flip_findings(
    snapshot: Snapshot,
    flips: dict[str, tuple[_Flip, ...]],
    by_query: dict[str, Shift],
    drift: float,
    policy: RegressionPolicy,
    causes: tuple[str, ...],
) -> Iterator[Finding]:
    for query_id, group in flips.items():
        shift = by_query.get(query_id)
        worst = max(group, key=lambda each: each.cost_ratio)
        severity = _flip_severity(snapshot, worst, shift, drift, policy)
        if severity is None:
            continue
        label = worst.before.label
        slower = shift is not None and shift.is_slower(policy, drift=drift)
        fact = f"and takes {shift.time.estimate:.1f} times as long" if slower and shift else _dearer(worst)
        yield Finding(
            check="plan-flip",
            severity=severity,
            title=f"{label} is planned otherwise {fact}",
            location=label,
            evidence=(*_plan_evidence(worst, len(group)), *(_evidence(shift) if shift else ())),
            would_try=_would_try(query_id if shift is None else shift.now.statement.query_id, causes),
            query_ids=(query_id if shift is None else shift.now.statement.query_id,),
            time_share=_share(snapshot, shift.now) if shift else None,
        )


def _flip_severity(
    snapshot: Snapshot, worst: _Flip, shift: Shift | None, drift: float, policy: RegressionPolicy
) -> Severity | None:
    if shift is None:
        if worst.cost_ratio < DEARER_RATIO:
            return None
        return Severity.MEDIUM if worst.cost_ratio >= MUCH_DEARER_RATIO else Severity.LOW
    if shift.is_slower(policy, drift=drift):
        return _severity_of_loss(snapshot, shift, policy)
    is_worse = shift.has_more_work(policy) or worst.cost_ratio >= MUCH_DEARER_RATIO
    return Severity.LOW if is_worse else None


def _dearer(flip: _Flip) -> str:
    return f"and costs {_times(flip.cost_ratio)} as much by the planner's estimate"


def _times(ratio: float) -> str:
    return f"{count_text(ratio)} times" if ratio >= 10 else f"{ratio:.1f} times"


def _plan_evidence(worst: _Flip, flipped: int) -> tuple[Evidence, ...]:
    before, now = _first_difference(worst.before.outline, outline_of(worst.now))
    cost = f"{worst.before.total_cost:,.0f} → {worst.now.root.total_cost:,.0f}"
    return (
        Evidence(label="plan", value=f"{before} → {now}"),
        Evidence(label="estimated cost", value=cost),
        Evidence(label="instances with another plan", value=str(flipped)),
    )


def _first_difference(before: str, now: str) -> tuple[str, str]:
    """The nodes at which two outlines part; of many, the lowest: what is read there makes the rest."""
    left = [line.strip() for line in before.splitlines()]
    right = [line.strip() for line in now.splitlines()]
    gone = [line for line in left if line not in right]
    new = [line for line in right if line not in left]
    return (gone or left)[-1], (new or right)[-1]


def _shift_finding(
    snapshot: Snapshot, shift: Shift, drift: float, policy: RegressionPolicy, causes: tuple[str, ...]
) -> Finding | None:
    label = shift.now.statement.label
    severity: Severity | None
    if shift.is_slower(policy, drift=drift):
        check, title = "slower-statement", f"{label} takes {_times(shift.time.estimate)} as long"
        severity = _severity_of_loss(snapshot, shift, policy)
    elif shift.has_more_work(policy) and _share(snapshot, shift.now) >= policy.felt_share:
        most = shift.most_work
        check, title = "more-work", f"{label} does {_times(most.ratio)} the {most.label} a call"
        severity = Severity.LOW
    else:
        return None
    if severity is None:
        return None
    return Finding(
        check=check,
        severity=severity,
        title=title,
        location=label,
        evidence=_evidence(shift),
        would_try=_would_try(shift.now.statement.query_id, causes),
        query_ids=(shift.now.statement.query_id,),
        time_share=_share(snapshot, shift.now),
    )


def _severity_of_loss(snapshot: Snapshot, shift: Shift, policy: RegressionPolicy) -> Severity | None:
    """By the share of all time that is lost; time without more work may be anybody's, and is never HIGH."""
    total_s = snapshot.total_s()
    lost = shift.lost_s / total_s if total_s > 0 else 0.0
    if lost < policy.felt_share:
        return None
    severity = severity_of_time(lost) or Severity.LOW
    if shift.has_more_work(policy) or severity is not Severity.HIGH:
        return severity
    return Severity.MEDIUM


def _evidence(shift: Shift) -> tuple[Evidence, ...]:
    low = max(0.0, shift.time.low)
    times = (
        f"{seconds_text(shift.before.mean_s)} → {seconds_text(shift.now.mean_s)} (at least {low:.1f} times)"
    )
    facts = [Evidence(label="time per call", value=times)]
    facts += [
        Evidence(label=f"{each.label} per call", value=f"{_amount(each.before)} → {_amount(each.now)}")
        for each in shift.work
        if max(each.before, each.now) >= 0.5
    ]
    rows = [each.rows / each.calls for each in (shift.before, shift.now)]
    if abs(rows[1] - rows[0]) > 0.1 * max(1.0, rows[0]):
        facts.append(Evidence(label="rows per call", value=f"{_amount(rows[0])} → {_amount(rows[1])}"))
    calls = f"{count_text(shift.before.calls)} then, {count_text(shift.now.calls)} now"
    return (*facts, Evidence(label="calls", value=calls))


def _amount(number: float) -> str:
    return count_text(number) if number >= 100 else f"{number:.3g}"


def _causes(snapshot: Snapshot, baseline: Baseline) -> tuple[str, ...]:
    """What has changed on the target and may be behind a worse statement."""
    gone = (f"index {each.name} is gone" for each in dropped_indexes(snapshot, baseline))
    changed = (
        f"{each.name} went from {each.before} to {each.now}" for each in changed_settings(snapshot, baseline)
    )
    grown = (
        f"{each.table} has grown to {each.ratio:.1f} times its size"
        for each in grown_tables(snapshot, baseline)
    )
    return (*gone, *changed, *grown)[:4]


def _would_try(query_id: str, causes: tuple[str, ...]) -> str:
    look = f"`perfloop explain DSN {query_id}` shows the plan of now"
    return f"{look}; since the baseline {', '.join(causes)}" if causes else look


def _new_and_gone(snapshot: Snapshot, baseline: Baseline, policy: RegressionPolicy) -> Iterator[Finding]:
    """Statements that were not there and now take time, and those that took time and are not called."""
    if not baseline.statements or not snapshot.statements:
        return
    now = sorted(snapshot.statements, key=lambda each: -each.total_s)[:TOP]
    for then, each in counterparts(baseline.statements, now):
        share = _share(snapshot, each)
        if then is None and share >= NEW_SHARE:
            severity = severity_of_time(share) or Severity.LOW
            yield Finding(
                check="new-statement",
                severity=Severity.MEDIUM if severity is Severity.HIGH else severity,
                title=f"{each.statement.label} is new and takes {share_text(share)} of the time",
                location=each.statement.label,
                evidence=(
                    Evidence(label="calls", value=count_text(each.calls)),
                    Evidence(label="time per call", value=seconds_text(each.mean_s)),
                ),
                would_try=f"`perfloop explain DSN {each.statement.query_id}` shows its plan",
                query_ids=(each.statement.query_id,),
                time_share=share,
            )
    yield from map(_gone_finding, _gone(snapshot, baseline, policy))


def _gone(snapshot: Snapshot, baseline: Baseline, policy: RegressionPolicy) -> Iterator[Statement]:
    """Statements of which many calls were to be expected among all calls of now, and none came."""
    calls = sum(each.calls for each in snapshot.statements) / max(
        1, sum(each.calls for each in baseline.statements)
    )
    matched = counterparts(snapshot.statements, baseline.statements)
    total_s = baseline.total_s()
    for still, then in matched:
        is_felt = total_s > 0 and then.total_s >= NEW_SHARE * total_s
        if still is None and is_felt and then.calls * calls >= policy.calls_min:
            yield then.statement


def _gone_finding(statement: Statement) -> Finding:
    return Finding(
        check="gone-statement",
        severity=Severity.LOW,
        title=f"{statement.label} is no longer called",
        location=statement.label,
        evidence=(),
        would_try="nothing; if it was to be called, the service is at fault",
        query_ids=(statement.query_id,),
    )


def _share(snapshot: Snapshot, each: StatementCounters) -> float:
    total_s = snapshot.total_s()
    return each.total_s / total_s if total_s > 0 else 0.0


def _notes(
    snapshot: Snapshot,
    baseline: Baseline,
    found: tuple[Shift, ...],
    drift: float,
    policy: RegressionPolicy,
) -> Iterator[str]:
    if baseline.fingerprint.major != snapshot.fingerprint.major:
        yield (
            f"the server was PostgreSQL {baseline.fingerprint.major} and is {snapshot.fingerprint.major}: "
            "query ids differ, so statements are matched by their text, and other plans are to be expected"
        )
    if drift >= _TOLD_DRIFT:
        yield (
            f"most statements take {drift:.1f} times as long for the same work: the machine is slower "
            "or busier than then; no statement is blamed for that part"
        )
    few = len(snapshot.statements) - len(found)
    if baseline.statements and not found:
        yield (
            f"no statement was called {policy.calls_min} times in both windows, so times and work are not "
            "compared; let the service run, and compare again"
        )
    elif baseline.statements and few > 0:
        many = "1 statement" if few == 1 else f"{count_text(few)} statements"
        yield f"{many} had too few calls in one of the windows to be judged"


def _order(finding: Finding) -> tuple[int, float, str]:
    return finding.severity.rank, -(finding.time_share or 0.0), finding.identity
