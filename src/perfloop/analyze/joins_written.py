"""Joins and subqueries in words that keep the planner from the cheap way."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlglot import exp

from perfloop.analyze.expressions import condition_text
from perfloop.analyze.missing_indexes import KEPT_RATIO, LARGE_TABLE_ROWS
from perfloop.analyze.nulls import is_false_for_nulls
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import GATHERING, WeighedNode
from perfloop.analyze.sites import Site
from perfloop.analyze.syntax import aliases_of, conjuncts, parse_condition, statement_tree
from perfloop.model.advice import Evidence
from perfloop.model.units import bytes_text, count_text, setting_bytes

LISTED_ROWS = 1_000
SEARCHED_ROWS = 100_000
"""Rows gone through in all searches of a list, about ten milliseconds."""
DUPLICATION = 10.0
"""Rows of a join for each that DISTINCT leaves."""

_NOT_IN = (
    re.compile(r"NOT \((SubPlan \d+)\)"),
    re.compile(r"NOT \(ANY \(.*?\((SubPlan \d+)\)\.col\d"),
)
"""As PostgreSQL prints it up to 16, and from 17 on. A hashed one has the word before its name."""
_JOINS = frozenset({"Nested Loop", "Hash Join", "Merge Join"})
_BETWEEN = GATHERING | {"Sort", "Incremental Sort", "Unique", "Aggregate", "Group"}
"""Kinds between the removal of duplicates and the join that makes them."""
_NULLABLE = {"Left": "Inner", "Right": "Outer"}
"""The side of an outer join whose columns may be NULL, by the type of the join."""


def not_in_subquery(reading: PlanReading) -> Iterator[Site]:
    """A NOT IN whose list fits no hash table: it is searched from its start for every row."""
    for each in reading.weighed.nodes:
        text = " ".join(str(each.node.fields.get(name, "")) for name in ("Filter", "Join Filter"))
        names = {name for pattern in _NOT_IN for name in pattern.findall(text)}
        for child in reading.weighed.children(each):
            is_listed = child.node.fields.get("Subplan Name") in names and child.rows >= LISTED_ROWS
            if is_listed and child.rows * child.executions >= SEARCHED_ROWS:
                yield _searched(reading, each, child)


def _searched(reading: PlanReading, each: WeighedNode, child: WeighedNode) -> Site:
    work_mem = setting_bytes(reading.snapshot.setting("work_mem"))
    memory = (Evidence(label="work_mem", value=bytes_text(work_mem)),) if work_mem else ()
    return Site(
        location=reading.label,
        query_id=reading.query_id,
        plan_share=min(1.0, each.share + reading.weighed.share_below(child)),
        title=(
            f"{reading.label} searches the {count_text(child.rows)} rows of a NOT IN from the start"
            f" for each of {count_text(child.executions)} rows"
        ),
        evidence=(
            Evidence(label="rows in the list", value=count_text(child.rows)),
            Evidence(label="searched", value=f"{count_text(child.executions)} times"),
            *memory,
        ),
        would_try=(
            "NOT EXISTS in place of NOT IN, where no NULL can be in the list;"
            " or a work_mem that holds a hash of it"
        ),
        positions=(each.position, child.position),
    )


def outer_join_filtered(reading: PlanReading) -> Iterator[Site]:
    """An outer join whose rows without a partner are all thrown away, in a way the planner does not see.

    Where the filter compares the bare column, the planner makes it an inner join by itself. Where the default
    of a COALESCE is a parameter, values were drawn for it, and nothing can be said.
    """
    if _has_drawn_default(reading):
        return
    for each in reading.weighed.nodes:
        joined = max((side.rows for side in reading.weighed.children(each)), default=0.0)
        if joined < LARGE_TABLE_ROWS or each.rows > KEPT_RATIO * joined:
            continue
        part = _never_without_partner(reading, each)
        if part is not None:
            text = condition_text(part.sql(dialect="postgres"), 60)
            yield Site(
                location=reading.label,
                query_id=reading.query_id,
                plan_share=reading.weighed.share_below(each),
                title=f"{reading.label} joins rows without a partner, which {text} throws away again",
                evidence=(
                    Evidence(label="filter", value=condition_text(str(each.node.fields["Filter"]))),
                    Evidence(label="rows joined", value=count_text(joined)),
                ),
                would_try=(
                    "nothing in the database: with an inner join, and the column compared bare,"
                    " the filter can come before the join"
                ),
                positions=(each.position,),
            )


def _has_drawn_default(reading: PlanReading) -> bool:
    tree = statement_tree(reading.snapshot, reading.query_id, reading.instance)
    defaults = () if tree is None else tree.find_all(exp.Coalesce)
    return tree is None or any(default.find(exp.Parameter) is not None for default in defaults)


def _never_without_partner(reading: PlanReading, each: WeighedNode) -> exp.Expr | None:
    """The first condition of an outer join's filter that no row without a partner meets."""
    role = _NULLABLE.get(str(each.node.fields.get("Join Type")))
    condition = str(each.node.fields.get("Filter") or "")
    if role is None or not condition:
        return None
    nullable = frozenset(
        below.node.alias
        for child in reading.weighed.children(each)
        if child.node.fields.get("Parent Relationship") == role
        for below in reading.weighed.below(child)
        if below.node.alias
    )
    parts = conjuncts(parse_condition(condition))
    return next(
        (part for part in parts if aliases_of(part) & nullable and is_false_for_nulls(part, nullable)), None
    )


def distinct_after_join(reading: PlanReading) -> Iterator[Site]:
    """A DISTINCT that removes what a join has multiplied, though all it returns is of the other tables."""
    for each in reading.weighed.nodes:
        join = _join_below(reading, each) if _removes_duplicates(each) else None
        if join is None or join.rows < max(LARGE_TABLE_ROWS, DUPLICATION * each.rows):
            continue
        returned = _aliases_returned(each)
        joined = {below.node.alias for below in reading.weighed.below(join) if below.node.alias}
        if not returned or not returned < joined or not _says_distinct(reading):
            continue
        others = ", ".join(sorted(joined - returned))
        between = reading.weighed.nodes[each.position : join.position + 1]
        yield Site(
            location=reading.label,
            query_id=reading.query_id,
            plan_share=min(1.0, sum(one.share for one in between)),
            title=(
                f"{reading.label} joins {count_text(join.rows)} rows and removes duplicates"
                f" until {count_text(each.rows)} are left"
            ),
            evidence=(
                Evidence(label="rows of the join", value=count_text(join.rows)),
                Evidence(label="distinct rows", value=count_text(each.rows)),
                Evidence(label="returns nothing of", value=others),
            ),
            would_try=f"EXISTS on {others} in place of the join with DISTINCT: it stops at the first match",
            positions=(each.position, join.position),
        )
        return


def _removes_duplicates(each: WeighedNode) -> bool:
    if each.node.kind == "Unique":
        return True
    outputs = {str(text) for text in each.node.fields.get("Output", ())}
    keys = {str(key) for key in each.node.fields.get("Group Key", ())}
    return each.node.kind in ("Aggregate", "Group") and bool(outputs) and outputs <= keys


def _join_below(reading: PlanReading, each: WeighedNode) -> WeighedNode | None:
    for below in reading.weighed.below(each)[1:]:
        if below.node.kind in _JOINS:
            return below
        if below.node.kind not in _BETWEEN:
            return None
    return None


def _aliases_returned(each: WeighedNode) -> frozenset[str]:
    trees = (parse_condition(str(text)) for text in each.node.fields.get("Output", ()))
    return frozenset(alias for tree in trees if tree is not None for alias in aliases_of(tree))


def _says_distinct(reading: PlanReading) -> bool:
    """Whether the statement says DISTINCT: a GROUP BY may mean just what it does."""
    tree = statement_tree(reading.snapshot, reading.query_id, reading.instance)
    return tree is not None and any(select.args.get("distinct") for select in tree.find_all(exp.Select))
