"""What surrounds the nodes of a plan: planning it, and the workers that were to help."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import GATHERING, WeighedNode
from perfloop.analyze.sites import Site, relation_text
from perfloop.analyze.work import BLOCKS
from perfloop.model.advice import Evidence
from perfloop.model.units import count_text, seconds_text, share_text

PLANNING_S = 0.005
"""Planning below this is not worth a change, however short the execution."""
LONE_SHARE = 0.80
"""Share of a parallel scan's work done by one process from which the others were useless."""
SPREAD_BLOCKS = 100
"""Blocks below which chance decides who reads them."""
GATHER_RATIO = 0.5
"""Share of a Gather's time that goes into starting workers and collecting rows."""


def planning_time(reading: PlanReading) -> Iterator[Site]:
    """Planning that takes longer than the execution; only ANALYZE tells both."""
    planning_s, execution_s = reading.plan.planning_s or 0.0, reading.plan.execution_s
    if execution_s is None or planning_s < PLANNING_S or planning_s <= execution_s:
        return
    planning = reading.plan.fields.get("Planning", {})
    blocks = sum(float(planning.get(name, 0)) for name in BLOCKS)
    relations = len(reading.plan.relations)
    yield Site(
        location=reading.label,
        query_id=reading.query_id,
        plan_share=planning_s / (planning_s + execution_s),
        title=(
            f"Planning {reading.label} takes {seconds_text(planning_s)},"
            f" running it {seconds_text(execution_s)}"
        ),
        evidence=(
            Evidence(label="tables and partitions in the plan", value=count_text(relations)),
            Evidence(label="blocks touched while planning", value=count_text(blocks)),
        ),
        would_try=(
            "a prepared statement, whose plan is kept; fewer partitions or indexes to choose from;"
            " a lower join_collapse_limit"
        ),
    )


def workers_missing(reading: PlanReading) -> Iterator[Site]:
    """Fewer workers than planned: the rest of the plan was made for processes that never came."""
    for each in reading.weighed.nodes:
        planned = float(each.node.fields.get("Workers Planned", 0))
        launched = float(each.node.fields.get("Workers Launched", planned))
        if each.node.kind not in GATHERING or not each.has_run or launched >= planned:
            continue
        yield Site(
            location="max_parallel_workers",
            query_id=reading.query_id,
            plan_share=reading.weighed.share_below(each) * (planned - launched) / (planned + 1),
            title=f"{launched:.0f} of {planned:.0f} parallel workers came for {reading.label}",
            evidence=tuple(
                Evidence(label=name, value=setting.value)
                for name in ("max_parallel_workers", "max_worker_processes")
                if (setting := reading.snapshot.setting(name)) is not None
            ),
            would_try="a higher max_parallel_workers; or fewer per query (max_parallel_workers_per_gather)",
            positions=(each.position,),
        )


def parallel_useless(reading: PlanReading) -> Iterator[Site]:
    """Workers that one process did the work of, or whose start took longer than their work."""
    for each in reading.weighed.nodes:
        launched = float(each.node.fields.get("Workers Launched", 0))
        if each.node.kind not in GATHERING or not each.has_run or launched < 1:
            continue
        site = _lone_process(reading, each) or _costly_gather(reading, each)
        if site is not None:
            yield site


def _lone_process(reading: PlanReading, gather: WeighedNode) -> Site | None:
    below = reading.weighed.below(gather)[1:]
    scan = next((one for one in below if one.node.fields.get("Parallel Aware") and _is_scan(one)), None)
    parts = () if scan is None else _parts(scan)
    total = sum(parts)
    if scan is None or total < SPREAD_BLOCKS or max(parts) < LONE_SHARE * total:
        return None
    lone = max(parts) / total
    who = "the leader" if parts[0] == max(parts) else "one worker"
    return Site(
        location=f"{reading.label}: {gather.node.kind}",
        query_id=reading.query_id,
        plan_share=reading.weighed.share_below(gather) * (lone - 1 / len(parts)),
        title=(
            f"Of {len(parts)} processes that read {relation_text(scan.node)}, {who} did"
            f" {share_text(lone)} of the work"
        ),
        evidence=(Evidence(label="blocks by process", value=", ".join(count_text(part) for part in parts)),),
        would_try=(
            "a higher parallel_setup_cost or min_parallel_table_scan_size: only large reads are worth sharing"
        ),
        positions=(gather.position, scan.position),
    )


def _is_scan(each: WeighedNode) -> bool:
    return each.node.kind.endswith("Scan")


def _parts(scan: WeighedNode) -> tuple[float, ...]:
    """What each process touched, the leader first; empty where VERBOSE did not list the workers."""
    workers = scan.node.fields.get("Workers", ())
    if not workers:
        return ()
    shared = tuple(sum(float(one.get(name, 0)) for name in BLOCKS) for one in workers)
    total = sum(float(scan.node.fields.get(name, 0)) for name in BLOCKS)
    idle = (0.0,) * max(0, round(scan.clocks) - 1 - len(shared))
    return (max(0.0, total - sum(shared)), *shared, *idle)


def _costly_gather(reading: PlanReading, gather: WeighedNode) -> Site | None:
    whole = reading.weighed.share_below(gather)
    if gather.share < GATHER_RATIO * whole:
        return None
    return Site(
        location=f"{reading.label}: {gather.node.kind}",
        query_id=reading.query_id,
        plan_share=gather.share,
        title=(
            f"Starting workers and collecting {count_text(gather.rows)} rows takes"
            f" {share_text(gather.share / whole)} of the parallel part of {reading.label}"
        ),
        evidence=(
            Evidence(label="workers", value=f"{float(gather.node.fields['Workers Launched']):.0f}"),
            Evidence(label="rows collected", value=count_text(gather.rows)),
        ),
        would_try="a higher parallel_setup_cost or parallel_tuple_cost; or fewer rows to collect",
        positions=(gather.position,),
    )
