"""A plan's nodes as text for people, named as EXPLAIN's text form names them."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.model.plan import Plan, PlanNode

_OUTLINED_NODES = 40


def outline_of(plan: Plan) -> str:
    """The nodes of a plan, one a line and indented."""
    lines = list(_lines(plan.root, 0))
    more = len(lines) - _OUTLINED_NODES
    return "\n".join(lines[:_OUTLINED_NODES] + ([f"… and {more} more nodes"] if more > 0 else []))


def node_title(node: PlanNode) -> str:
    """What a node does and to what, in one line.

    >>> fields = {"Index Name": "orders_pkey", "Relation Name": "orders", "Alias": "o"}
    >>> node_title(PlanNode(kind="Index Scan", fields=fields))
    'Index Scan using orders_pkey on orders o'
    """
    title = _kind(node)
    if node.index is not None:
        title += f" using {node.index}" if node.relation is not None else f" on {node.index}"
    if node.relation is not None:
        alias = "" if node.alias in (None, node.relation) else f" {node.alias}"
        title += f" on {node.relation}{alias}"
    for key in ("CTE Name", "Function Name", "Subplan Name"):
        if key in node.fields:
            title += f" ({node.fields[key]})" if key == "Subplan Name" else f" on {node.fields[key]}"
    return title


_STRATEGIES = {"Hashed": "Hash", "Sorted": "Group", "Mixed": "Mixed "}


def _kind(node: PlanNode) -> str:
    """The node's kind as EXPLAIN's text form names it."""
    kind, join = node.kind, node.fields.get("Join Type", "Inner")
    if kind == "ModifyTable":
        kind = str(node.fields.get("Operation", kind))
    elif kind == "Aggregate":
        kind = _STRATEGIES.get(str(node.fields.get("Strategy")), "") + kind
    elif kind == "SetOp":
        kind = f"{kind} {node.fields.get('Command', '')}".rstrip()
    elif join != "Inner":
        kind = f"Nested Loop {join} Join" if kind == "Nested Loop" else kind.replace("Join", f"{join} Join")
    if node.fields.get("Scan Direction") == "Backward":
        kind += " Backward"
    return f"Parallel {kind}" if node.fields.get("Parallel Aware") else kind


def _lines(node: PlanNode, depth: int) -> Iterator[str]:
    yield "  " * depth + node_title(node)
    for child in node.children:
        yield from _lines(child, depth + 1)
