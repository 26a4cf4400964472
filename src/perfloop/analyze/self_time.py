"""How much of a plan's time each node takes by itself.

EXPLAIN prints totals that include the nodes below. Three things make plain subtraction wrong:

* A CTE or InitPlan is drawn under the node that declares it, but runs inside the node that
  reads it first. Its time is taken from that reader: the one with the smallest total that can
  contain it, or all in proportion where a Limit let several read a part. The declaring node
  does not pay, because its other children contain the time already.
* Below a Gather, `Actual Total Time` is the mean of the processes that took part, and
  `Actual Loops` counts them all. Time on the clock is the product divided by their number.
* A plan without ANALYZE has costs only. They are handed down from the root: no child gets
  more than what is left of its parent's cost, so that a Limit passes on its own small share
  and the inner side of a nested loop is charged once per outer row.

Self times are never below zero: EXPLAIN rounds, and rescans of a Materialize are cheaper
than its first scan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from perfloop.model.plan import Plan, PlanNode
from perfloop.model.value import Value

GATHERING = frozenset({"Gather", "Gather Merge"})
LEADER_SHARE_PER_WORKER = 0.3
"""The planner takes 0.3 of the leader's time per worker for collecting rows (get_parallel_divisor)."""
ROUNDING_RATIO = 0.95
"""Totals are printed rounded, so a reader's may seem a little less than what it contains."""


class WeighedNode(Value, frozen=True, kw_only=True):
    """A node with its place in the plan and its part of the whole."""

    node: PlanNode
    position: int
    """In the order of PlanNode.walk()."""
    end: int
    """One past the last position below this node."""
    parent: int | None
    share: float
    """Self time over the time of the plan, in [0, 1]; of the cost where nothing was timed."""
    self_s: float | None
    """On the clock, over all executions; None without timing."""
    executions: float
    """How often it ran; the processes of a parallel node that share one pass count as one."""
    rows: float
    """Rows that one execution returned, of all processes; estimated without ANALYZE."""
    planned_rows: float
    """Rows that the planner expected of one execution, of all processes."""
    processes: float
    """Processes that share this node's work; 1 outside a Gather."""
    clocks: float
    """Processes that run this node, whether they share its work or each do all of it."""

    @property
    def relationship(self) -> str | None:
        """What it is to its parent: Outer, Inner, Member, InitPlan, SubPlan, Subquery."""
        return _relationship(self.node)

    @property
    def is_measured(self) -> bool:
        return self.node.actual_rows is not None

    @property
    def has_run(self) -> bool:
        return self.is_measured and self.executions > 0

    @property
    def removed_rows(self) -> float:
        """Rows that one execution read and a filter threw away, of all processes; 0 without ANALYZE."""
        return self.removed_by("Filter")

    @property
    def read_rows(self) -> float:
        """Rows that one execution looked at, whether it kept them or not, of all processes."""
        return self.rows + self.removed_rows + self.removed_by("Index Recheck")

    def removed_by(self, what: str) -> float:
        """Rows that one execution threw away for one reason, as EXPLAIN names it, of all processes."""
        return float(self.node.fields.get(f"Rows Removed by {what}", 0)) * self.processes


class WeighedPlan(Value, frozen=True, kw_only=True):
    """The nodes of a plan in the order of PlanNode.walk(), with shares that sum to 1."""

    nodes: tuple[WeighedNode, ...]

    def parent(self, each: WeighedNode) -> WeighedNode | None:
        return None if each.parent is None else self.nodes[each.parent]

    def ancestors(self, each: WeighedNode) -> Iterator[WeighedNode]:
        """From the parent up to the root."""
        above = self.parent(each)
        while above is not None:
            yield above
            above = self.parent(above)

    def below(self, each: WeighedNode) -> tuple[WeighedNode, ...]:
        """The node itself and all below it."""
        return self.nodes[each.position : each.end]

    def children(self, each: WeighedNode) -> tuple[WeighedNode, ...]:
        return tuple(child for child in self.below(each) if child.parent == each.position)

    def child(self, each: WeighedNode, relationship: str) -> WeighedNode | None:
        """The first child of that relationship, as Outer or Inner."""
        return next((one for one in self.children(each) if one.relationship == relationship), None)

    def share_below(self, each: WeighedNode) -> float:
        """The share of the node with all below it."""
        return min(1.0, sum(child.share for child in self.below(each)))


class _Place(Value, frozen=True, kw_only=True):
    """A node, where it stands, and how many processes share it."""

    node: PlanNode
    parent: int | None
    end: int
    processes: float


def weigh(plan: Plan) -> WeighedPlan:
    """Give every node its share: of the time where the plan was timed, else of the estimated cost."""
    places = tuple(_place(plan.root, parent=None, start=0, processes=1.0))
    estimate = _estimate(places)
    times = _self_times(places)
    parts = estimate.costs if times is None else times
    total = sum(parts) or 1.0
    return WeighedPlan(
        nodes=tuple(
            WeighedNode(
                node=place.node,
                position=position,
                end=place.end,
                parent=place.parent,
                share=parts[position] / total,
                self_s=None if times is None else times[position],
                executions=_executions(place, estimate.counts[position]),
                rows=_rows(place),
                planned_rows=place.node.planned_rows * _divisor(place),
                processes=_sharing(place),
                clocks=place.processes,
            )
            for position, place in enumerate(places)
        )
    )


def own_amounts(plan: Plan, amount: Callable[[PlanNode], float]) -> tuple[float, ...]:
    """What each node has of a figure that EXPLAIN prints with all below it, as blocks, by position."""
    places = tuple(_place(plan.root, parent=None, start=0, processes=1.0))
    return _less_below(places, [amount(place.node) for place in places])


def _place(node: PlanNode, *, parent: int | None, start: int, processes: float) -> Iterator[_Place]:
    below: list[_Place] = []
    for child in node.children:
        inside = _processes_below(node, child, processes)
        below += _place(child, parent=start, start=start + 1 + len(below), processes=inside)
    yield _Place(node=node, parent=parent, end=start + 1 + len(below), processes=processes)
    yield from below


def _processes_below(node: PlanNode, child: PlanNode, processes: float) -> float:
    """How many processes run the child: counted where the plan was executed, else as planned."""
    if _relationship(child) == "InitPlan":
        return max(1.0, min(processes, child.loops))
    if node.kind not in GATHERING:
        return processes
    if node.actual_rows is not None:
        return max(1.0, child.loops / node.loops) if node.loops else 1.0
    return 1.0 + float(node.fields.get("Workers Planned", 0))


def _relationship(node: PlanNode) -> str | None:
    return node.fields.get("Parent Relationship")


def _is_split(node: PlanNode) -> bool:
    """Whether processes divide the rows among them, instead of each reading all of them."""
    return any(each.fields.get("Parallel Aware") for each in node.walk() if each.kind not in GATHERING)


def _sharing(place: _Place) -> float:
    return place.processes if place.processes > 1 and _is_split(place.node) else 1.0


def _divisor(place: _Place) -> float:
    """What the planner divided the rows of a shared node by."""
    if _sharing(place) == 1:
        return 1.0
    workers = place.processes - 1
    return workers + max(0.0, 1.0 - LEADER_SHARE_PER_WORKER * workers)


def _rows(place: _Place) -> float:
    actual = place.node.actual_rows
    return place.node.planned_rows * _divisor(place) if actual is None else actual * _sharing(place)


def _executions(place: _Place, estimated: float) -> float:
    return estimated if place.node.actual_rows is None else place.node.loops / _sharing(place)


def _self_times(places: tuple[_Place, ...]) -> tuple[float, ...] | None:
    """Self time of every node in seconds on the clock; None where the plan was not timed."""
    if places[0].node.total_s is None:
        return None
    return _less_below(places, [(place.node.total_s or 0.0) / place.processes for place in places])


def _less_below(places: tuple[_Place, ...], totals: list[float]) -> tuple[float, ...]:
    own = list(totals)
    for position, place in enumerate(places):
        if place.parent is None:
            continue
        for payer, share in _payers(places, totals, position):
            own[payer] -= totals[position] * share
    return tuple(max(0.0, each) for each in own)


def _payers(places: tuple[_Place, ...], clock: list[float], position: int) -> tuple[tuple[int, float], ...]:
    """The nodes whose totals contain this node's, and the part of it that each contains."""
    place = places[position]
    assert place.parent is not None
    if _relationship(place.node) != "InitPlan":
        return ((place.parent, 1.0),)
    readers = [reader for reader in _readers(places, position) if clock[reader] > 0]
    able = [reader for reader in readers if clock[reader] >= ROUNDING_RATIO * clock[position]]
    if able:
        return ((min(able, key=lambda reader: clock[reader]), 1.0),)
    total = sum(clock[reader] for reader in readers)
    if total:
        return tuple((reader, clock[reader] / total) for reader in readers)
    # A writing CTE that nobody reads runs after the plan: no other total contains it.
    return () if place.node.kind == "ModifyTable" else ((place.parent, 1.0),)


def _readers(places: tuple[_Place, ...], position: int) -> tuple[int, ...]:
    """The nodes outside an InitPlan or CTE that read its result."""
    name = str(places[position].node.fields.get("Subplan Name", ""))
    outside = [other for other in range(len(places)) if not position <= other < places[position].end]
    if name.startswith("CTE "):
        table = name.removeprefix("CTE ")
        return tuple(other for other in outside if places[other].node.fields.get("CTE Name") == table)
    mentions = [other for other in outside if _mentions(places[other].node, _parameters(name))]
    return tuple(_outside_workers(places, other) for other in mentions)


def _outside_workers(places: tuple[_Place, ...], position: int) -> int:
    """The Gather above a node that workers run: it computes what they need before it starts them."""
    while places[position].processes > 1:
        parent = places[position].parent
        assert parent is not None
        position = parent
    return position


def _parameters(name: str) -> tuple[str, ...]:
    """How expressions name an InitPlan: as $0 up to PostgreSQL 16, as (InitPlan 1) from 17 on."""
    returned = re.search(r"\(returns ([^)]*)\)", name)
    return tuple(returned[1].split(",")) if returned else (f"({name})",)


def _mentions(node: PlanNode, names: tuple[str, ...]) -> bool:
    texts = [
        text
        for key, value in node.fields.items()
        if key != "Subplan Name"
        for text in (value if isinstance(value, list) else [value])
        if isinstance(text, str)
    ]
    return any(re.search(re.escape(name) + r"(?!\d)", text) for name in names for text in texts)


class _Estimate(Value, frozen=True, kw_only=True):
    """Self costs and numbers of executions, by position."""

    costs: tuple[float, ...]
    counts: tuple[float, ...]


def _estimate(places: tuple[_Place, ...]) -> _Estimate:
    """Hand the root's cost down; see the module's third point."""
    costs = [0.0] * len(places)
    counts = [1.0] * len(places)
    budgets = [places[0].node.total_cost] + [0.0] * (len(places) - 1)
    for position, place in enumerate(places):
        full = place.node.total_cost * counts[position]
        fraction = min(1.0, budgets[position] / full) if full else 1.0
        left = budgets[position]
        for child in _in_order_of_charging(places, position):
            repeats = _repeats(places, place, child, fraction)
            # A Materialize keeps what its child returned once.
            counts[child] = 1.0 if place.node.kind == "Materialize" else counts[position] * repeats
            once = 1.0 if repeats > 1 else fraction
            budgets[child] = min(left, places[child].node.total_cost * counts[child] * once)
            left -= budgets[child]
        costs[position] = left
    return _Estimate(costs=tuple(costs), counts=tuple(counts))


def _in_order_of_charging(places: tuple[_Place, ...], position: int) -> list[int]:
    """Children that run once first; repeated ones share what is left."""
    children = [
        other for other in range(position + 1, places[position].end) if places[other].parent == position
    ]
    return sorted(children, key=lambda child: _relationship(places[child].node) in ("Inner", "SubPlan"))


def _repeats(places: tuple[_Place, ...], place: _Place, child: int, fraction: float) -> float:
    """How often the planner expects a child to run per run of its parent."""
    node = places[child].node
    relationship = _relationship(node)
    if place.node.kind == "Nested Loop" and relationship == "Inner":
        outer = next((each for each in place.node.children if _relationship(each) == "Outer"), None)
        rows = 1.0 if outer is None else outer.planned_rows * _divisor(_beside(place, outer))
        return max(1.0, rows * fraction)
    if relationship == "SubPlan" and not _is_hashed(place.node, node):
        return max(1.0, place.node.planned_rows * _divisor(place) * fraction)
    return 1.0


def _beside(place: _Place, node: PlanNode) -> _Place:
    return _Place(node=node, parent=None, end=0, processes=place.processes)


def _is_hashed(node: PlanNode, subplan: PlanNode) -> bool:
    name = subplan.fields.get("Subplan Name", "")
    return _mentions(node, (f"hashed {name}",))
