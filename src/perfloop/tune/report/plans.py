"""What is written beside the nodes of a plan: the same words in a terminal and on a page."""

from __future__ import annotations

from perfloop.model.explained import ExplainedNode, ExplainedPlan, IndexAttempt, Remark
from perfloop.model.units import bytes_text, count_text, seconds_text

SHOWN_FACTOR = 2.0
"""An estimate that is off by less is not spoken of."""
FEW_ROWS = 10
"""Nor is one of fewer rows than these."""
WRONG_FACTOR = 10.0
"""From here on it is marked as wrong."""
_REPEATED = 1.5


def rows_text(node: ExplainedNode) -> str:
    """Rows expected, and what came.

    >>> node = ExplainedNode(position=0, depth=0, title="", details=(), share=1.0, self_s=None,
    ...     executions=1.0, planned_rows=10.0, rows=2900.0)
    >>> rows_text(node)
    '2,900 rows, 10 expected: 290 times as many'
    """
    if not node.ran:
        return "never run"
    planned = _rows(node.planned_rows)
    if node.rows is None:
        return f"{planned} expected"
    factor = node.estimate_factor or 1.0
    if max(factor, 1 / factor) < SHOWN_FACTOR or max(node.rows, node.planned_rows) < FEW_ROWS:
        return _rows(node.rows)
    times = f"{_factor(factor)} times as many" if factor > 1 else f"{_factor(1 / factor)} times fewer"
    return f"{_rows(node.rows)}, {count_text(node.planned_rows)} expected: {times}"


def part_text(share: float) -> str:
    """A share of the plan, in few characters.

    >>> part_text(0.62), part_text(0.004), part_text(0.0)
    ('62 %', '<1 %', '0 %')
    """
    return "<1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def is_wrong(node: ExplainedNode) -> bool:
    """Whether the planner was far off."""
    factor = node.estimate_factor or 1.0
    return max(factor, 1 / factor) >= WRONG_FACTOR


def facts(node: ExplainedNode) -> list[str]:
    """What else was counted at the node."""
    told = []
    if node.executions >= _REPEATED:
        told.append(f"{_factor(node.executions)} times")
    if node.removed_rows >= 1:
        told.append(f"{count_text(node.removed_rows)} thrown away")
    if node.blocks:
        told.append(f"{count_text(node.blocks)} block{'s' if node.blocks != 1 else ''}")
    if node.temp_blocks:
        told.append(f"{count_text(node.temp_blocks)} temporary blocks")
    if node.self_s is not None and node.ran:
        told.append(f"{seconds_text(node.self_s)} by itself")
    return told


def plan_title(plan: ExplainedPlan) -> str:
    """What plan it is, and whether it was run."""
    ran = (
        "measured in one run"
        if plan.is_measured
        else "planned only, nothing was run: rows and costs are estimates"
    )
    return f"{plan.about}: {ran}" if plan.about else ran


def totals(plan: ExplainedPlan) -> list[str]:
    """The sums of the plan."""
    told = []
    if plan.execution_s is not None:
        told.append(f"{seconds_text(plan.execution_s)} to run")
    if plan.planning_s is not None:
        told.append(f"{seconds_text(plan.planning_s)} to plan")
    if plan.blocks is not None:
        told.append(f"{count_text(plan.blocks)} blocks")
    if plan.temp_blocks:
        told.append(f"{count_text(plan.temp_blocks)} temporary blocks")
    if plan.wal_bytes:
        told.append(f"{bytes_text(plan.wal_bytes)} of WAL")
    return [*told, f"cost {plan.total_cost:,.0f}"]


def at_node(plan: ExplainedPlan, node: ExplainedNode) -> list[Remark]:
    """The remarks that are shown at the node: at the first of the nodes that they name."""
    return [each for each in plan.remarks if each.positions and min(each.positions) == node.position]


def about_whole(plan: ExplainedPlan) -> list[Remark]:
    """The remarks on no node, or on one that is not shown."""
    shown = {each.position for each in plan.nodes}
    return [each for each in plan.remarks if not each.positions or min(each.positions) not in shown]


def branches(plan: ExplainedPlan) -> list[str]:
    """The lines of the tree before each node.

    >>> nodes = tuple(ExplainedNode(position=n, depth=d, title="", details=(), share=0.0, self_s=None,
    ...     executions=1.0, planned_rows=1.0, rows=None) for n, d in enumerate((0, 1, 2, 1)))
    >>> branches(ExplainedPlan(query_id="", instance="", shape="", total_cost=0.0, nodes=nodes))
    ['', '├─ ', '│  └─ ', '└─ ']
    """
    lines = []
    for place, node in enumerate(plan.nodes):
        last = [_is_last(plan, place, depth) for depth in range(1, node.depth + 1)]
        trunk = "".join("   " if ended else "│  " for ended in last[:-1])
        lines.append(trunk + ("└─ " if last[-1] else "├─ ") if last else "")
    return lines


def trunks(plan: ExplainedPlan) -> list[str]:
    """What stands before the further lines of each node, so that the tree's lines go on."""
    starts = branches(plan)
    lines = []
    for place, (node, start) in enumerate(zip(plan.nodes, starts, strict=True)):
        has_child = place + 1 < len(plan.nodes) and plan.nodes[place + 1].depth > node.depth
        lines.append(start.replace("├─ ", "│  ").replace("└─ ", "   ") + ("│ " if has_child else "  "))
    return lines


def attempt_lines(attempt: IndexAttempt) -> list[str]:
    """Before and after, a line for each plan that was tried."""
    lines = []
    for before, after in attempt.pairs:
        about = f"{before.about}: " if before.about else ""
        if before.shape == after.shape:
            lines.append(f"{about}the plan stays as it is, so the index would not help")
            continue
        if before.execution_s is not None and after.execution_s is not None:
            change = f"{seconds_text(before.execution_s)} → {seconds_text(after.execution_s)}"
            blocks = f", {count_text(before.blocks or 0)} → {count_text(after.blocks or 0)} blocks"
        else:
            change, blocks = "planned only", ""
        cost = f", cost {before.total_cost:,.0f} → {after.total_cost:,.0f}"
        lines.append(about + change + blocks + cost)
    return lines


def _is_last(plan: ExplainedPlan, place: int, depth: int) -> bool:
    """Whether the node's ancestor at that depth has no sibling below it."""
    for node in plan.nodes[place + 1 :]:
        if node.depth <= depth:
            return node.depth < depth
    return True


def _rows(number: float) -> str:
    if 0 < number < 1:
        return f"{number:.2g} rows"
    return "1 row" if round(number) == 1 else f"{count_text(number)} rows"


def _factor(number: float) -> str:
    return count_text(number) if number >= 10 else f"{number:.2g}"
