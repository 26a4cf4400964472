"""Updates that write every index of their table, because they cannot be HOT (heap-only tuples).

An update is HOT where it changes no column that an index holds and its page has room for the new version.
Which columns the statements change is read from their texts; of statements that are not seen, nothing is.
"""

from __future__ import annotations

import re

from sqlglot import exp

from perfloop.analyze.sites import time_share_of
from perfloop.analyze.syntax import parse_statement
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Index, Table
from perfloop.model.units import count_text, share_text

CHECK = "hot-updates"
UPDATES = 1_000
HOT_RATIO = 0.50
HEAVY_SHARE = 0.10
"""Share of the time in the updating statements from which they matter."""
_SUMMARISING = frozenset({"brin"})
_SUMMARISING_SINCE = 16
"""From this version on, changes of columns that only such indexes hold can be HOT."""


def hot_updates(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Tables half of whose updates or more wrote all indexes anew."""
    return tuple(
        _finding(snapshot, table)
        for table in snapshot.tables
        if not table.is_partitioned
        and table.updates >= UPDATES
        and table.hot_updates < HOT_RATIO * table.updates
        and any(_is_kept_up(index) for index in snapshot.indexes_of(table.name))
    )


def _finding(snapshot: Snapshot, table: Table) -> Finding:
    changed = _changed_columns(snapshot, table)
    held = {column for columns in changed.values() for column in columns}
    holding = [
        index
        for index in snapshot.indexes_of(table.name)
        if _is_kept_up(index) and _prevents(snapshot, index) and _columns_held(index, table) & held
    ]
    share = time_share_of(snapshot, changed)
    return Finding(
        check=CHECK,
        severity=Severity.MEDIUM if (share or 0.0) >= HEAVY_SHARE else Severity.LOW,
        title=(
            f"{share_text(1 - table.hot_updates / table.updates)} of the updates of {table.name}"
            f" write all its {_count_of_indexes(snapshot, table)} anew"
        ),
        location=str(table.name),
        evidence=(
            Evidence(
                label="HOT updates", value=f"{count_text(table.hot_updates)} of {count_text(table.updates)}"
            ),
            *_column_evidence(holding, held, table),
            *((Evidence(label="the updates' share of the time", value=share_text(share)),) if share else ()),
        ),
        would_try=_remedy(table, holding, is_known=bool(changed)),
        query_ids=tuple(sorted(changed)),
    )


def _count_of_indexes(snapshot: Snapshot, table: Table) -> str:
    count = sum(_is_kept_up(index) for index in snapshot.indexes_of(table.name))
    return "1 index" if count == 1 else f"{count} indexes"


def _changed_columns(snapshot: Snapshot, table: Table) -> dict[str, frozenset[str]]:
    """What each statement that updates the table sets, by query_id; what is not understood is left out."""
    found = {}
    for each in snapshot.statements:
        tree = parse_statement(each.statement.text)
        updates = () if tree is None else tree.find_all(exp.Update)
        names = {name for update in updates if _is_of(update, table) for name in _set_columns(update)}
        if names:
            found[each.statement.query_id] = frozenset(names)
    return found


def _is_of(update: exp.Update, table: Table) -> bool:
    target = update.this
    return isinstance(target, exp.Table) and _folded(target.this) == table.name.name


def _set_columns(update: exp.Update) -> set[str]:
    targets = [each.this for each in update.expressions if isinstance(each, exp.EQ)]
    columns = (column for target in targets for column in target.find_all(exp.Column))
    return {_folded(column.this) for column in columns}


def _folded(identifier: object) -> str:
    if not isinstance(identifier, exp.Identifier):
        return ""
    return str(identifier.this) if identifier.args.get("quoted") else str(identifier.this).lower()


def _is_kept_up(index: Index) -> bool:
    """An index that failed at its last step is written, and counts for HOT from the start of its build."""
    return index.is_ready or not index.is_valid


def _prevents(snapshot: Snapshot, index: Index) -> bool:
    is_summarising = index.method in _SUMMARISING and snapshot.fingerprint.major >= _SUMMARISING_SINCE
    return not is_summarising


def _columns_held(index: Index, table: Table) -> set[str]:
    """Keys, included columns, and those inside of expressions and the predicate."""
    texts = [key.text for key in index.keys if key.is_expression] + [index.predicate or ""]
    inside = {
        column.name
        for column in table.columns
        if any(re.search(rf"\b{re.escape(column.name)}\b", text) for text in texts)
    }
    return inside | {key.text for key in index.keys if not key.is_expression} | set(index.included)


def _column_evidence(holding: list[Index], held: set[str], table: Table) -> tuple[Evidence, ...]:
    if not held:
        return ()
    if not holding:
        return (
            Evidence(label="the statements set", value=f"{', '.join(sorted(held))}, which no index holds"),
            Evidence(label="storage parameters", value=", ".join(table.options) or "none"),
        )
    told = [
        f"{index.name} holds {', '.join(sorted(_columns_held(index, table) & held))} ({index.scans:,} scans)"
        for index in holding
    ]
    return (Evidence(label="indexes of what they set", value="; ".join(told)),)


def _remedy(table: Table, holding: list[Index], *, is_known: bool) -> str:
    if not is_known:
        return "nothing yet: which columns change can only be said of statements that are counted"
    unused = [index.name for index in holding if index.scans == 0 and not index.is_unique]
    if unused:
        return f"drop {', '.join(unused)}, which no query has used"
    if holding:
        names = ", ".join(index.name for index in holding)
        return f"nothing by itself: weigh what {names} saves its readers against what it costs each update"
    return f"a fillfactor of 90 for {table.name}, so that a new version finds room on the old one's page"
