"""Whether a rewriting keeps a statement's rows: asked before anything of it is timed.

A rule proves that from the catalogue, or it does not fire. Here two nets lie under the proof: every instance
on the lab's own data, and the same texts on small tables made to be unkind (`tune.varied_rows`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

import psycopg

from perfloop.adapters.explain import explain
from perfloop.adapters.queries import load_blocks
from perfloop.errors import UnsupportedStatement
from perfloop.model.outcome import SameRows
from perfloop.model.plan import Plan
from perfloop.tune.lab.arms import Arm
from perfloop.tune.measure import limited
from perfloop.tune.rewrites import texts
from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.proposals import Rewriting
from perfloop.tune.row_digests import Order, RowDigest, difference, digest, loose_difference, read_order
from perfloop.tune.varied_rows import tables_of, varied, without_schemas

_CUT_S = 60.0
"""A rewriting that takes longer, and twenty times as long as the original, is not waited for."""


def is_planned_alike(connection: psycopg.Connection, wording: Mapping[str, str]) -> bool:
    """Whether the planner makes the same of both texts already, at the same cost: then nothing is to gain."""
    return all(
        (one.shape, one.root.total_cost) == (other.shape, other.root.total_cost)
        for text, rewritten in wording.items()
        for one, other in [(_plan(connection, text), _plan(connection, rewritten))]
        if one is not None and other is not None
    )


def refusal(connection: psycopg.Connection, rewriting: Rewriting) -> str | None:
    """Why the statement is not rewritten at all, whatever the rows; None where nothing speaks against it."""
    for text in rewriting.wording:
        called = sorted(texts.called_names(text))
        row = connection.execute(_volatile(), [called]).fetchone()
        if row is not None:
            return f"it calls {row[0]}(), which may give something else with every call"
        tree = texts.read(text)
        again = None if tree is None else _plan(connection, texts.write(tree))
        plan = _plan(connection, text)
        if plan is None or again is None or plan.shape != again.shape:
            return "the parser does not read the statement as the server does"
    return None


def compare_rows(
    arm: Arm, rewriting: Rewriting, catalogue: Catalogue, *, limit_s: float, seed: int
) -> SameRows:
    """Run every instance both ways, as it is and on made-up tables, up to the first difference.

    `limit_s` is how long an original takes at most. The arm's session must be on the stack, in autocommit.
    """
    rows = 0
    with limited(arm, max(_CUT_S, 20 * limit_s)):
        for number, (text, rewritten) in enumerate(rewriting.wording.items(), start=1):
            order = read_order(text)
            found, told = _both(arm.connection, text, rewritten, order)
            rows += found
            if told is not None:
                return SameRows(instances=number, rows=rows, difference=told)
    rng = Random(seed)
    runs = 0
    for text, rewritten in rewriting.wording.items():
        for told in _varied(arm.connection, text, rewritten, catalogue, rng):
            runs += 1
            if told is not None:
                told = f"on made-up rows with NULLs and duplicates {told}"
                return SameRows(
                    instances=len(rewriting.wording), rows=rows, varied_runs=runs, difference=told
                )
    return SameRows(instances=len(rewriting.wording), rows=rows, varied_runs=runs)


def _both(connection: psycopg.Connection, text: str, rewritten: str, order: Order) -> tuple[int, str | None]:
    try:
        before = digest(connection, text, order)
    except psycopg.Error as error:
        return 0, f"the original cannot be compared with it: {error.diag.message_primary}"
    try:
        after = digest(connection, rewritten, order)
    except psycopg.errors.QueryCanceled:
        return before.rows, "it was ended, because it took far longer than it may"
    except psycopg.Error as error:
        return before.rows, f"it fails: {error.diag.message_primary}"
    return before.rows, difference(before, after, order)


def _varied(
    connection: psycopg.Connection, text: str, rewritten: str, catalogue: Catalogue, rng: Random
) -> Iterator[str | None]:
    """The difference in each round. A round in which the original fails says nothing."""
    tree = texts.read(text)
    bare = [without_schemas(each, catalogue) for each in (text, rewritten)]
    if tree is None or bare[0] is None or bare[1] is None:
        return
    order = read_order(text)
    with varied(connection, tables_of(tree, catalogue), (text, rewritten), rng) as rounds:
        for _ in rounds:
            before, _ = _attempt(connection, bare[0], order)
            if before is None:
                continue
            after, error = _attempt(connection, bare[1], order)
            yield f"it fails: {error}" if after is None else loose_difference(before, after, order)


def _attempt(connection: psycopg.Connection, text: str, order: Order) -> tuple[RowDigest | None, str]:
    try:
        with connection.transaction():
            return digest(connection, text, order), ""
    except psycopg.Error as error:
        return None, error.diag.message_primary or str(error)


def _plan(connection: psycopg.Connection, text: str) -> Plan | None:
    try:
        return explain(connection, text)
    except UnsupportedStatement:
        return None


def _volatile() -> psycopg.sql.SQL:
    return load_blocks("perfloop.tune", "rows.sql")["volatile_functions"]
