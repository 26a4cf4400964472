"""Which parameters a statement is called with, as far as a log or the statistics of its columns tell.

pg_stats knows how often a value is in the table, not how often it is asked for: requests are taken to follow
the rows, so that a customer with ten times the orders is asked for ten times as often. Where all values of a
column differ, each is asked for alike, which a service hardly does: the ratio of hits is then rather too low.
Where several parameters meet, each is drawn by itself. A constant of the text is a parameter, too, for
pg_stat_statements; only a log knows better.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from keyword import iskeyword
from typing import Final

import numpy as np

from perfloop.cache.advice import REQUESTS, DrawnKeys, RecordedKeys
from perfloop.errors import UnsupportedStatement
from perfloop.model.snapshot import Snapshot
from perfloop.model.value import Value
from perfloop.model.workload import Statement
from perfloop.tune.cache_advice_values import KeysFrom
from perfloop.validate.executions import Execution
from perfloop.validate.normaliser import shape_key
from perfloop.validate.sources import Site
from perfloop.validate.uses import Role, Use, read_uses

MOST_RECORDED: Final = REQUESTS
"""Calls of a statement that are kept of a log, the last ones."""
LEAST_RECORDED: Final = 100
"""Fewer calls in the log say too little of what comes again."""
MOST_SHARES: Final = 2_000
_FEW_BOUNDS: Final = 100
"""A range by a column with so few values is asked for by each of them."""
_MOST_KEYS: Final = 10**12
_CONSTANTS: Final = frozenset({Role.LIMIT, Role.UNIT, Role.CONFIGURATION, Role.INTERVAL, Role.KEY})


class StatementKeys(Value, frozen=True, kw_only=True):
    """The keys under which the results of one statement would be kept."""

    origin: KeysFrom
    keys: DrawnKeys | RecordedKeys | None = None
    """None where they are not known."""
    why_unknown: str = ""
    equal: tuple[Site, ...] = ()
    """Columns that a parameter has to be equal to: their values name rows."""
    names: tuple[str, ...] = ()
    """Of the parameters, for code."""


class LogKeys:
    """Collects the parameters of some statements while a log is read; see `server_log.read_logs`.

    Args:
        statements: those that are asked for later.
    """

    def __init__(self, statements: Iterable[Statement]) -> None:
        self._numbers = {each.query_id: shape_key(each.text) for each in statements}
        self._calls: dict[str, deque[int]] = {
            shape: deque(maxlen=MOST_RECORDED) for shape in self._numbers.values()
        }

    def hear(self, execution: Execution) -> None:
        """Keep the parameters of one execution that the log has whole."""
        if not execution.calls or not execution.is_complete:
            return
        shape = self._numbers.get(execution.query_id or "") or shape_key(execution.text)
        calls = self._calls.get(shape)
        if calls is not None:
            values = tuple(each.sql for each in execution.parameters or ())
            calls.append(hash((execution.text, values)))

    def find(self, statement: Statement) -> RecordedKeys | None:
        """The keys of a statement in their order; None where the log has too few."""
        calls = self._calls.get(self._numbers.get(statement.query_id, ""), ())
        if len(calls) < LEAST_RECORDED:
            return None
        numbers: dict[int, int] = {}
        return RecordedKeys(keys=tuple(numbers.setdefault(each, len(numbers)) for each in calls))


def keys_of(statement: Statement, snapshot: Snapshot, log: LogKeys | None) -> StatementKeys:
    """What is known of the keys of a statement; the log goes before the statistics."""
    try:
        uses = read_uses(statement.text, snapshot)
    except UnsupportedStatement as error:
        return StatementKeys(origin=KeysFrom.UNKNOWN, why_unknown=str(error))
    equal = tuple(use.site for use in uses if use.site is not None and _is_equal(use))
    names = _names(uses)
    recorded = log.find(statement) if log is not None else None
    if recorded is not None:
        return StatementKeys(origin=KeysFrom.LOG, keys=recorded, equal=equal, names=names)
    if not uses:
        return StatementKeys(origin=KeysFrom.NONE, keys=DrawnKeys(shares=(1.0,)))
    drawn, why_unknown = _drawn(uses)
    origin = KeysFrom.UNKNOWN if drawn is None else KeysFrom.STATISTICS
    return StatementKeys(origin=origin, keys=drawn, why_unknown=why_unknown, equal=equal, names=names)


def _is_equal(use: Use) -> bool:
    return use.role is Role.EQUAL and not use.many and use.key is None


def _drawn(uses: Iterable[Use]) -> tuple[DrawnKeys | None, str]:
    """The keys by the statistics of the columns; or why these do not tell."""
    keys = DrawnKeys(shares=(1.0,))
    seen: set[str] = set()
    for use in uses:
        if use.role in _CONSTANTS:
            continue
        if use.site is None or not (_is_equal(use) or _is_bound(use)):
            return None, f"nothing tells which values ${use.number} takes"
        column = use.site.column
        # Ids of one name are equal in all the tables that are joined by them.
        known = column.name if column.name.endswith("_id") and _is_equal(use) else f"${use.number}"
        if known in seen:
            continue
        seen.add(known)
        of_column = _of_column(use.site)
        if of_column is None:
            return None, f"there are no statistics of {use.site.table.name}.{column.name}"
        if _is_bound(use) and of_column.count > _FEW_BOUNDS:
            return None, f"nothing tells which values ${use.number} takes"
        keys = _product(keys, of_column)
    return keys, ""


def _is_bound(use: Use) -> bool:
    return use.role in (Role.LOW, Role.HIGH) and not use.shifted and use.key is None


def _of_column(site: Site) -> DrawnKeys | None:
    statistics = site.column.statistics
    if statistics is None:
        return None
    rows = max(site.table.rows, float(site.table.live_rows), 1.0)
    known = max(1e-9, 1.0 - statistics.null_ratio)
    shares = tuple(ratio / known for ratio in statistics.common_ratios)
    others = max(0, round(statistics.distinct_count(rows)) - len(shares))
    return _fitted(shares, others)


def _fitted(shares: tuple[float, ...], others: int) -> DrawnKeys:
    """Ratios of a sample may add up to a bit more than 1."""
    total = sum(shares)
    if shares and (total > 1 or not others):
        shares = tuple(share / total for share in shares)
    return DrawnKeys(shares=shares, others=others if shares else max(1, others))


def _product(one: DrawnKeys, other: DrawnKeys) -> DrawnKeys:
    """The keys of two parameters that are drawn each by itself."""
    count = min(_MOST_KEYS, one.count * other.count)
    outer = np.outer(one.most_asked(MOST_SHARES)[1], other.most_asked(MOST_SHARES)[1]).ravel()
    shares = np.sort(outer)[::-1][:MOST_SHARES]
    return _fitted(tuple(shares.tolist()), count - len(shares))


def _names(uses: Iterable[Use]) -> tuple[str, ...]:
    """A name for each parameter: that of its column, else p with its number."""
    names: list[str] = []
    for use in uses:
        name = use.site.column.name if use.site is not None and is_variable(use.site.column.name) else ""
        if use.role in (Role.LIMIT, Role.OFFSET):
            name = use.role.value
        names.append(name if name and name not in names else f"p{use.number}")
    return tuple(names)


def is_variable(name: str) -> bool:
    """Whether a column's name can stand for its value in code and in a template of tags."""
    return name.isidentifier() and not iskeyword(name)
