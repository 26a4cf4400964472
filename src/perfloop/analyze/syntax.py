"""Statements and conditions as trees, for what a plan does not say of them.

EXPLAIN VERBOSE resolves every name, so rules read the plan first: its conditions are SQL as well and are
parsed here. The statement itself is asked only for what planning has lost, as whether a cast was written.
A text that is not understood has no tree, and then the rules that need one say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import sqlglot
from sqlglot import exp

from perfloop.model.snapshot import Snapshot

PARSED_CHARACTERS = 100_000
"""Longer texts are not parsed: it takes about a second per 100 kB, and such a text is mostly a list."""
_CACHED_TEXTS = 1024
_QUERIES = re.compile(r"\s*(?:\(\s*)*(?:SELECT|WITH|VALUES|INSERT|UPDATE|DELETE|MERGE)\b", re.I)
_LEADING_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)

VALUE = "perfloop_value"
"""The name that stands for any value that is known only when the statement runs."""
_SUB_PLANS = re.compile(
    r"\((?:alternatives: )?(?:rescan )?(?:hashed )?(?:SubPlan|InitPlan) \d+"
    r"(?: or (?:hashed )?SubPlan \d+)?\)(?:\.col\d+)?"
)
_EXISTS = re.compile(r"EXISTS\((?:hashed )?SubPlan \d+\)")
_PARAMETER = re.compile(r"(?<![\w$])\$\d+\b")
_NOT_MATCHES = re.compile(r"!~\*?(?!~)")

_LIST_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|[(),\[\]]|\w+", re.DOTALL)
_OPENING = {"IN": "(", "ARRAY": "["}


def statement_tree(snapshot: Snapshot, query_id: str, instance: str) -> exp.Expr | None:
    """The tree of a statement: of its counted text, which all instances share, else of the instance."""
    counted = (each.statement for each in snapshot.statements if each.statement.query_id == query_id)
    statement = next(counted, None)
    return parse_statement(instance if statement is None else statement.text)


@lru_cache(maxsize=_CACHED_TEXTS)
def parse_statement(text: str) -> exp.Expr | None:
    """The tree of one query; None where it is too long or not understood."""
    bare = _LEADING_COMMENTS.sub("", text)
    return _parsed(bare) if _QUERIES.match(bare) else None


@lru_cache(maxsize=_CACHED_TEXTS)
def parse_condition(text: str) -> exp.Expr | None:
    """The tree of a Filter, Hash Cond… as EXPLAIN prints it, subqueries and parameters as plain values."""
    plain = with_values(text)
    return _parsed(_NOT_MATCHES.sub("<>", plain)) if plain else None


def with_values(text: str) -> str:
    """The condition with VALUE for its subqueries and parameters, which no SQL parser would understand."""
    return _PARAMETER.sub(VALUE, _SUB_PLANS.sub(VALUE, _EXISTS.sub(VALUE, text)))


def _parsed(text: str) -> exp.Expr | None:
    if len(text) > PARSED_CHARACTERS:
        return None
    try:
        tree = sqlglot.parse_one(text, dialect="postgres")
    except Exception:  # noqa: BLE001 - whatever a foreign parser makes of a foreign text must end no analysis
        return None
    return None if isinstance(tree, exp.Command) else tree


def conjuncts(condition: exp.Expr | None) -> Iterator[exp.Expr]:
    """The conditions that must all hold, without the parentheses around them."""
    if condition is None:
        return
    inner = condition.unnest()
    if isinstance(inner, exp.And):
        yield from conjuncts(inner.left)
        yield from conjuncts(inner.right)
    else:
        yield inner


def alternatives(condition: exp.Expr) -> Iterator[exp.Expr]:
    """The conditions of which one must hold; the condition itself where it is no OR."""
    inner = condition.unnest()
    if isinstance(inner, exp.Or):
        yield from alternatives(inner.left)
        yield from alternatives(inner.right)
    else:
        yield inner


def columns_of(tree: exp.Expr, alias: str | None) -> tuple[str, ...]:
    """The columns of one relation of the plan in a condition, sorted, each once."""
    return tuple(sorted({each.name for each in tree.find_all(exp.Column) if each.table == alias}))


def aliases_of(tree: exp.Expr) -> frozenset[str]:
    """The relations of the plan that a condition talks about."""
    return frozenset(each.table for each in tree.find_all(exp.Column) if each.table)


def casts_column(tree: exp.Expr | None, name: str) -> bool:
    """Whether the statement itself casts a column of that name."""
    casts = () if tree is None else tree.find_all(exp.Cast)
    return any(
        isinstance(inner := cast.this.unnest(), exp.Column) and inner.name.lower() == name.lower()
        for cast in casts
    )


def longest_list(text: str) -> int:
    """Values in the longest IN (…), ARRAY[…] or (VALUES …) of a text of any length, without parsing it.

    The rows of INSERT … VALUES do not count: to write many at once is how it should be.

    >>> longest_list("SELECT 1 FROM t WHERE a IN (1, f(2, 3), 4) AND b IN (SELECT c, d FROM u)")
    3
    >>> longest_list("INSERT INTO t VALUES (1, 2), (3, 4)"), longest_list("SELECT * FROM (VALUES (1), (2)) v")
    (0, 2)
    """
    longest = 0
    before = ""
    open_lists: list[int] = []
    for match in _LIST_TOKEN.finditer(text):
        token = match.group()
        if token.startswith(("--", "/*")):
            continue
        if token in "([":
            open_lists.append(1 if _OPENING.get(before) == token else 0)
        elif token in ")]":
            longest = max(longest, open_lists.pop() if open_lists else 0)
        elif token == "," and open_lists and open_lists[-1]:
            open_lists[-1] += 1
        elif before == "(" and open_lists:
            open_lists[-1] = _length_at_first(token.upper(), open_lists[-1])
        before = token.upper()
    return longest


def _length_at_first(word: str, length: int) -> int:
    """What the first word in parentheses makes of a list: a subquery is none, VALUES is one."""
    if word == "VALUES":
        return 1
    return 0 if word in ("SELECT", "WITH") else length
