"""What dexter and postgres-mcp would choose: their rules in our own words, over HypoPG as they use it.

Written from a description of both, not from their code, and kinder to them than they are: the columns of
each query come from our own reading of its plan, so that all 22 are analysed, none is taken for a column
of another table, and the order in which candidates are looked at is drawn from a seed.

- dexter, default: for each query by itself, first all single columns, then all pairs in both orders. What
  the planner uses is proposed where it halves the query's cost; pairs have to halve it once more, and be one
  index. Of several the one that does so alone goes first; where none does, all are proposed. Union.
- postgres-mcp: for each query by itself, greedy over indexes on up to three of the columns of a table, in
  one drawn order each; the next index is the one that lowers the cost most, as long as it takes a tenth off
  it. Union.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from random import Random

import psycopg

from perfloop.adapters.explain import explain
from perfloop.model.advice import CreateIndex
from perfloop.model.target import Index, IndexKey, TableName
from perfloop.tune.advisor.naming import covers, new_index
from perfloop.tune.advisor.objective import Considered
from perfloop.tune.statements import act_statements

_HALF = 0.5
_TENTH_LESS = 0.9
_MOST_COLUMNS = 3


class BarePlanner:
    """HypoPG's costs as they come. The session is nobody else's."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self.explains = 0

    def cost(self, text: str, indexes: Iterable[CreateIndex]) -> tuple[float, tuple[CreateIndex, ...]]:
        """The query's cost with these indexes, and those of them that its plan uses."""
        self._connection.execute("SELECT hypopg_reset()")
        named = {self._create(index): index for index in indexes}
        self.explains += 1
        plan = explain(self._connection, text)
        used = {named[node.index] for node in plan.root.walk() if node.index in named}
        return plan.root.total_cost, tuple(sorted(used, key=lambda index: index.name))

    def _create(self, index: CreateIndex) -> str:
        (statement,) = act_statements(index, concurrently=False)
        text = statement.as_string(self._connection)
        row = self._connection.execute("SELECT indexname FROM hypopg_create_index(%s)", [text]).fetchone()
        assert row is not None  # it yields a row or raises
        return str(row[0])


def dexter(
    planner: BarePlanner, statements: Sequence[Considered], there: Sequence[Index]
) -> tuple[CreateIndex, ...]:
    chosen: dict[CreateIndex, None] = {}
    for statement in statements:
        (text,) = statement.instances
        before, _ = planner.cost(text, ())
        singles, pairs = (
            [
                new_index(table, some)
                for table, keys in _columns(statement)
                for some in itertools.permutations(keys, count)
                if not any(each.table == table and covers(each, some) for each in there)
            ]
            for count in (1, 2)
        )
        with_singles, used = planner.cost(text, singles)
        with_pairs, used_of_all = planner.cost(text, [*singles, *pairs])
        if with_pairs < _HALF * with_singles and len(used_of_all) == 1:
            chosen.update(dict.fromkeys(used_of_all))
        elif with_singles < _HALF * before:
            alone = min((planner.cost(text, [each])[0], each.name, each) for each in used)
            chosen.update(dict.fromkeys([alone[2]] if alone[0] < _HALF * before else used))
    return tuple(chosen)


def postgres_mcp(
    planner: BarePlanner, statements: Sequence[Considered], there: Sequence[Index], *, seed: int
) -> tuple[CreateIndex, ...]:
    rng = Random(seed)
    chosen: dict[CreateIndex, None] = {}
    for statement in statements:
        (text,) = statement.instances
        candidates = [
            index
            for index in _drawn(statement, rng)
            if not any(each.table == index.table and covers(each, index.keys) for each in there)
        ]
        chosen.update(dict.fromkeys(_greedy(planner, text, candidates)))
    return tuple(chosen)


def _greedy(planner: BarePlanner, text: str, candidates: list[CreateIndex]) -> tuple[CreateIndex, ...]:
    taken: tuple[CreateIndex, ...] = ()
    cost, _ = planner.cost(text, ())
    _, of_use = planner.cost(text, candidates)
    while True:
        priced = [
            (planner.cost(text, (*taken, each))[0], each.name, each) for each in of_use if each not in taken
        ]
        after, _, best = min(priced, default=(cost, "", None))
        if best is None or after > _TENTH_LESS * cost:
            return taken
        cost, taken = after, (*taken, best)


def _drawn(statement: Considered, rng: Random) -> Iterator[CreateIndex]:
    for table, keys in _columns(statement):
        for count in range(1, _MOST_COLUMNS + 1):
            for some in itertools.combinations(keys, count):
                yield new_index(table, tuple(rng.sample(some, count)))


def _columns(statement: Considered) -> Iterator[tuple[TableName, tuple[IndexKey, ...]]]:
    """The plain columns of each table that the query compares, joins or sorts by."""
    found: dict[TableName, dict[IndexKey, None]] = {}
    for access in statement.accesses:
        plain = (IndexKey(text=key.text) for key in access.attributes if not key.is_expression)
        found.setdefault(access.table, {}).update(dict.fromkeys(plain))
    for table in sorted(found):
        yield table, tuple(sorted(found[table], key=lambda key: key.text))
