"""Statements as trees and trees as text, in PostgreSQL's dialect.

The parser reads more than it writes back word for word (now() becomes CURRENT_TIMESTAMP, whose column has
another name). So a text counts as readable only where its tree, written and read again, is the same tree;
whether the server then plans it alike is asked in the lab.
"""

from __future__ import annotations

import re

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

DIALECT = "postgres"
_HINT = re.compile(r"/\*\+")
_CALLED = re.compile(r"(?<![a-z0-9_$])([a-z_][a-z0-9_$]*)\s*\(", re.IGNORECASE)
_LONGEST = 50_000
"""Longer texts are lists of values, which no rule here shortens."""


def read(text: str) -> exp.Query | None:
    """The tree of a single query that may be rewritten; None for all else.

    Left alone are writes, statements that lock rows, and those with hints in their comments.
    """
    if len(text) > _LONGEST or _HINT.search(text):
        return None
    try:
        tree = _single(text)
        if not isinstance(tree, exp.Select | exp.SetOperation) or _does_more(tree):
            return None
        return tree if _single(write(tree)) == tree else None
    except (SqlglotError, RecursionError):
        return None


def write(tree: exp.Expr) -> str:
    """The tree as text, laid out in lines."""
    return tree.sql(DIALECT, pretty=True, comments=False)


def called_names(text: str) -> frozenset[str]:
    """Every word before a parenthesis: the functions of a text, and some words that are none."""
    return frozenset(name.lower() for name in _CALLED.findall(text))


def _single(text: str) -> exp.Expr | None:
    trees = [tree for tree in sqlglot.parse(text, dialect=DIALECT) if tree is not None]
    return trees[0] if len(trees) == 1 else None


def _does_more(tree: exp.Expr) -> bool:
    writes = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Lock, exp.Into, exp.Command, exp.TableSample)
    return tree.find(*writes) is not None
