"""Prepared statements whose generic plan is far from what their values need.

A driver that prepares statements lets the server stop planning for the values after five executions: from
then on one generic plan serves all, if its estimated cost is no higher than that of planning each time. Where
values differ much in how many rows they have, that plan is wrong for some. Whether the service prepares its
statements cannot be read on the server, so the finding says what can happen, not what it costs.
"""

from __future__ import annotations

from perfloop.analyze.sites import label_of, statement_shares
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.snapshot import Snapshot, StatementPlan
from perfloop.model.units import share_text

COST_RATIO = 10.0
TOLD_SHARE = 0.01
HEAVY_SHARE = 0.10
_NEVER_GENERIC = "force_custom_plan"
_ALWAYS_GENERIC = "force_generic_plan"


def generic_plan_trap(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Statements for some of whose values the generic plan is another one, off by ten times in cost."""
    mode = snapshot.setting("plan_cache_mode")
    if mode is not None and mode.value == _NEVER_GENERIC:
        return ()
    is_forced = mode is not None and mode.value == _ALWAYS_GENERIC
    shares = statement_shares(snapshot)
    found = (
        _finding(snapshot, generic, shares.get(generic.query_id), is_forced=is_forced)
        for generic in snapshot.generic_plans
        if shares.get(generic.query_id, 1.0) >= TOLD_SHARE
    )
    return tuple(each for each in found if each is not None)


def _finding(
    snapshot: Snapshot, generic: StatementPlan, share: float | None, *, is_forced: bool
) -> Finding | None:
    plans = [each.plan for each in snapshot.plans if each.query_id == generic.query_id]
    cost = max(1.0, generic.plan.root.total_cost)
    others = [
        max(1.0, each.root.total_cost)
        for each in plans
        if each.shape != generic.plan.shape and each.root.actual_rows is None
    ]
    far = [each for each in others if max(each / cost, cost / each) >= COST_RATIO]
    # The server goes over to a generic plan that seems no dearer than the custom ones were so far.
    is_reachable = is_forced or max((each.root.total_cost for each in plans), default=0.0) >= cost
    if not far or not is_reachable:
        return None
    label = label_of(snapshot, generic.query_id)
    return Finding(
        check="generic-plan",
        severity=Severity.MEDIUM if share is not None and share >= HEAVY_SHARE else Severity.LOW,
        title=f"{label} has values for which its generic plan is wrong: prepared, it may use it for all",
        location=label,
        evidence=(
            Evidence(label="cost of the generic plan", value=f"{cost:,.0f}"),
            Evidence(label="cost of its own plan", value=", ".join(f"{each:,.0f}" for each in sorted(far))),
            Evidence(label="values that need another plan", value=f"{len(far)} of {len(plans)} drawn"),
            *((Evidence(label="share of all statement time", value=share_text(share)),) if share else ()),
        ),
        would_try="plan_cache_mode = force_custom_plan, which plans for the values each time",
        query_ids=(generic.query_id,),
    )
