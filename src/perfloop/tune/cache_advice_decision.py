"""Whether to keep the results of a statement, for how long, and the line that does it. Pure.

Each way to keep them is simulated by itself. Of those that serve nothing old, or hardly ever, the simplest is
taken that is nearly as good as the best: tags of tables, which the query cache finds by itself; tags of rows,
which need a line for each function; a time alone, which tells nobody of a change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from perfloop.cache.advice import DrawnKeys, Life, RecordedKeys, Simulated, Stream, simulate
from perfloop.model.changes import table_name
from perfloop.model.target import TableName
from perfloop.model.units import count_text, seconds_text, share_text
from perfloop.model.value import Value
from perfloop.tune.cache_advice_keys import StatementKeys, is_variable
from perfloop.tune.cache_advice_values import Kept, KeysFrom, StatementAdvice, Until

TTLS_S: Final = (10.0, 60.0, 300.0, 3600.0)
LONGEST_S: Final = 3600.0
LEAST_HIT_RATIO: Final = 0.2
"""Below it a cache costs every call something for few hits."""
LEAST_TIME_SHARE: Final = 0.005
"""Of the time of all statements; below it nothing would be noticed."""
MOST_STALE_RATIO: Final = 0.01
_NEARLY: Final = 0.03
_LEAST_REQUESTS_RATIO: Final = 0.02
_MOST_TIMES: Final = 5
_SOON_S: Final = 3600.0


class Change(Value, frozen=True, kw_only=True):
    """How often one table of a statement is written to."""

    table: TableName
    rows_per_s: float
    statements_per_s: float


class Question(Value, frozen=True, kw_only=True):
    """A statement that may be kept, with all that is known of it."""

    advice: StatementAdvice
    keys: StatementKeys
    changes: tuple[Change, ...]

    @property
    def table_changes_per_s(self) -> float:
        return sum(each.statements_per_s for each in self.changes)

    @property
    def keyed(self) -> dict[TableName, str]:
        """The tables of which a parameter names rows, and the column by which it does."""
        read = {each.table for each in self.changes}
        sites = reversed(self.keys.equal)
        return {
            site.table.name: site.column.name
            for site in sites
            if site.table.name in read and is_variable(site.column.name)
        }

    def stream(self, until: Until, ttl_s: float) -> Stream:
        """Its requests, with the changes that end the life of a result, or make it old."""
        drawn = self.keys.keys
        assert drawn is not None
        row_changes, table_changes = 0.0, self.table_changes_per_s
        if until is not Until.TABLES_CHANGE:
            keyed = self.keyed
            row_changes = sum(each.rows_per_s for each in self.changes if each.table in keyed)
            table_changes = sum(each.statements_per_s for each in self.changes if each.table not in keyed)
        return Stream(
            rate_per_s=self.advice.calls_per_s,
            keys=drawn,
            life=Life(ttl_s=ttl_s, until_change=until is not Until.TIME),
            row_changes_per_s=row_changes,
            table_changes_per_s=table_changes,
        )


def answer(question: Question, *, capacity: int, seed: int, requests: int) -> StatementAdvice:
    """The statement with every way simulated, and one proposed where it pays."""
    advice = question.advice
    ways = tuple(
        _simulated(question, until, ttl_s, capacity=capacity, seed=seed, requests=requests)
        for until, ttl_s in _candidates(question)
    )
    chosen = _chosen(ways)
    advice = msgspec.structs.replace(advice, ways=ways)
    if chosen.hit_ratio < LEAST_HIT_RATIO:
        return msgspec.structs.replace(advice, reason=_why_not(question, ways))
    if chosen.hit_ratio * advice.time_share < LEAST_TIME_SHARE:
        spared = share_text(chosen.hit_ratio * advice.time_share)
        return msgspec.structs.replace(advice, reason=f"it would spare {spared} of the database's time")
    return msgspec.structs.replace(
        advice,
        is_proposed=True,
        chosen=chosen,
        reason=_why(question, chosen),
        code=_code(question, chosen),
    )


def together(
    answered: Sequence[tuple[Question, StatementAdvice]], *, capacity: int, seed: int, requests: int
) -> tuple[StatementAdvice, ...]:
    """Those that are proposed, as they are in one cache, where that has no room for all of them."""
    ways = [advice.chosen for _, advice in answered if advice.chosen is not None]
    if len(ways) < 2:
        return tuple(advice for _, advice in answered)
    streams = tuple(
        question.stream(way.until, way.ttl_s) for (question, _), way in zip(answered, ways, strict=True)
    )
    # Each as long as alone, near enough: a log that is cut shorter has fewer hits.
    requests *= min(len(ways), _MOST_TIMES)
    shared = simulate(streams, capacity=capacity, seed=seed, requests=requests)
    if sum(found.entries for found in shared) < capacity:
        return tuple(advice for _, advice in answered)
    return tuple(
        msgspec.structs.replace(advice, chosen=_crowded(way, found, requests))
        for (_, advice), way, found in zip(answered, ways, shared, strict=True)
    )


def _crowded(way: Kept, found: Simulated, requests: int) -> Kept:
    """As it is beside the others; where few of the requests were for it, the run alone tells its ratios."""
    if found.requests < requests * _LEAST_REQUESTS_RATIO:
        return msgspec.structs.replace(way, entries=found.entries)
    return msgspec.structs.replace(
        way, hit_ratio=found.hit_ratio, stale_ratio=found.stale_ratio, entries=found.entries
    )


def _candidates(question: Question) -> Iterable[tuple[Until, float]]:
    yield Until.TABLES_CHANGE, LONGEST_S
    if question.keyed and question.table_changes_per_s > 0:
        yield Until.ROWS_CHANGE, LONGEST_S
    for ttl_s in TTLS_S:
        yield Until.TIME, ttl_s


def _simulated(
    question: Question, until: Until, ttl_s: float, *, capacity: int, seed: int, requests: int
) -> Kept:
    (found,) = simulate((question.stream(until, ttl_s),), capacity=capacity, seed=seed, requests=requests)
    return Kept(
        until=until,
        ttl_s=ttl_s,
        hit_ratio=found.hit_ratio,
        stale_ratio=found.stale_ratio,
        entries=found.entries,
    )


def _chosen(ways: Sequence[Kept]) -> Kept:
    fresh = [way for way in ways if way.stale_ratio <= MOST_STALE_RATIO]
    best = max(way.hit_ratio for way in fresh)
    # The order of the candidates is that of preference.
    return next(way for way in fresh if way.hit_ratio >= best - _NEARLY)


def _why(question: Question, chosen: Kept) -> str:
    keys = question.keys
    parts = {
        KeysFrom.NONE: "it has no parameters",
        KeysFrom.LOG: f"{count_text(_different(keys))} different calls in the log",
        KeysFrom.STATISTICS: f"{count_text(_different(keys))} different parameters by pg_stats",
    }
    told = [parts[keys.origin], _writes(question)]
    if chosen.until is Until.TIME and chosen.stale_ratio > 0:
        told.append(f"at most {share_text(chosen.stale_ratio)} of the calls get an old result")
    return "; ".join(told)


def _why_not(question: Question, ways: Sequence[Kept]) -> str:
    longest = next(way for way in ways if way.until is Until.TIME and way.ttl_s == LONGEST_S)
    different = _different(question.keys)
    if longest.hit_ratio < LEAST_HIT_RATIO:
        each_s = different / question.advice.calls_per_s
        again = f", each asked for every {seconds_text(each_s)}" if each_s > _SOON_S / 10 else ""
        where = "in the log" if question.keys.origin is KeysFrom.LOG else "by pg_stats"
        return (
            f"nearly every parameter is new: {count_text(different)} different ones {where}{again}; "
            f"{share_text(longest.hit_ratio)} hits within an hour"
        )
    hits = [f"by tags of its tables {share_text(ways[0].hit_ratio)} hits"]
    hits += [f"by tags of rows {share_text(way.hit_ratio)}" for way in ways if way.until is Until.ROWS_CHANGE]
    shortest = next(way for way in ways if way.until is Until.TIME)
    hits.append(
        f"kept {seconds_text(shortest.ttl_s)} {share_text(shortest.hit_ratio)}, "
        f"with up to {share_text(shortest.stale_ratio)} old"
    )
    return f"{_writes(question)}: {', '.join(hits)}"


def _writes(question: Question) -> str:
    per_s = question.table_changes_per_s
    if per_s <= 0:
        return "its tables were not written to"
    return f"writes to its tables come every {seconds_text(1 / per_s)}"


def _different(keys: StatementKeys) -> int:
    return keys.keys.count if isinstance(keys.keys, DrawnKeys | RecordedKeys) else 0


def _code(question: Question, chosen: Kept) -> str:
    """The line that keeps it."""
    names = question.keys.names
    params = f", ({', '.join(names)}{',' if len(names) == 1 else ''})" if names else ""
    tags = {Until.TABLES_CHANGE: "", Until.TIME: ", tags=()", Until.ROWS_CHANGE: _row_tags(question)}
    return f"queries.fetch_all(connection, STATEMENT{params}, ttl_s={chosen.ttl_s:g}{tags[chosen.until]})"


def _row_tags(question: Question) -> str:
    keyed = question.keyed
    parts = []
    for each in question.changes:
        table, column = table_name(each.table.schema, each.table.name), keyed.get(each.table)
        parts.append(
            f'"table:{table}"' if column is None else f'*tags.row_tags("{table}", {column}={column})'
        )
    return f", tags=({', '.join(parts)},)"


def setup_of(proposed: Iterable[tuple[Question, StatementAdvice]]) -> tuple[str, ...]:
    """What the lines of those that are proposed need beside themselves: a watch on tables, and their tags."""
    columns: dict[str, dict[str, None]] = {}
    for question, advice in proposed:
        if advice.chosen is None or advice.chosen.until is Until.TIME:
            continue
        by_row = question.keyed if advice.chosen.until is Until.ROWS_CHANGE else {}
        for each in question.changes:
            of_table = columns.setdefault(table_name(each.table.schema, each.table.name), {})
            of_table.update(dict.fromkeys([by_row[each.table]] if each.table in by_row else []))
    if not columns:
        return ()
    watched = " ".join(
        f"--table {table}{':' if found else ''}{','.join(found)}" for table, found in columns.items()
    )
    install = f"perfloop cache outbox install DSN {watched}"
    templates = {
        table: (*(f"{table}:{column}={{{column}}}" for column in found), f"table:{table}")
        for table, found in columns.items()
        if found
    }
    return (install, f"tags = TagMap({templates})") if templates else (install,)
