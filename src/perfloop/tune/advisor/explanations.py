"""One sentence for each statement without an index, and for each one that new indexes make dearer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from perfloop.model.snapshot import Snapshot
from perfloop.tune.advisor.extend import SearchResult
from perfloop.tune.advisor.index_proposals import GAIN_RATIO
from perfloop.tune.advisor.naming import covers
from perfloop.tune.advisor.objective import Considered


def explain_without_index(
    statements: tuple[Considered, ...], result: SearchResult, snapshot: Snapshot
) -> Iterator[str]:
    """The sentences, each beginning with the statement's label; none for a statement that only gains."""
    for statement, ratio in zip(statements, result.ratios, strict=True):
        reasons = []
        unserved = _unserved(statement, snapshot)
        if unserved:
            reasons.append(f"needs a GIN index for {_listed(unserved)}, which is not tried yet")
        if ratio > 1 / GAIN_RATIO:
            reasons.append(f"is expected to cost {ratio:.2f} times as much, for keeping up new indexes")
        elif ratio >= GAIN_RATIO and (
            not unserved or any(access.attributes for access in statement.accesses)
        ):
            reasons.append(_why_nothing(statement, snapshot))
        if reasons:
            yield f"{statement.label} {'; it '.join(reasons)}"


def _unserved(statement: Considered, snapshot: Snapshot) -> list[str]:
    """Conditions that a b-tree cannot serve, on columns without an index of another kind."""
    return sorted(
        {
            condition
            for access in statement.accesses
            for condition in access.unserved
            if not any(
                index.method != "btree" and condition.split(" ", 1)[0] in re.findall(r"\w+", key.text)
                for index in snapshot.indexes_of(access.table)
                for key in index.keys
            )
        }
    )


def _why_nothing(statement: Considered, snapshot: Snapshot) -> str:
    if not statement.accesses:
        return "gets no index, because it reads no table that one could be made on"
    keys = dict.fromkeys((access.table, key) for access in statement.accesses for key in access.attributes)
    if not keys:
        return "gets no index, because it has no condition, join or order that one could serve"
    there: list[str] = []
    missing: list[str] = []
    for table, key in keys:
        is_there = any(covers(index, (key,)) for index in snapshot.indexes_of(table))
        (there if is_there else missing).append(f"{table}({key.text})")
    told = [f"{_listed(there)} {'is' if len(there) == 1 else 'are'} indexed already"] if there else []
    if missing:
        told.append(f"none with {' or '.join(missing)} made it cheap enough to be worth its space")
    return f"gets no index: {', and '.join(told)}"


def _listed(words: list[str]) -> str:
    """Words as a sentence lists them.

    >>> _listed(["a"]), _listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
