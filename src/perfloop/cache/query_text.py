"""What the text of a statement says of its result: which relations it reads, which functions it may call.

Refused is whatever would make a kept result wrong whoever asks: writes, locks, chance. Names are taken
broadly: what could be a relation or a function is looked up in the catalogue, which knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import sqlglot
from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from perfloop.errors import UnsupportedStatement

Name = tuple[str, str]
"""Schema, empty where none is given, and name, as the catalogue writes them."""

_PLACEHOLDER: Final = re.compile(r"%(?:(%)|(?:\((\w+)\))?[sbt])")
_MOMENTS: Final = frozenset(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
)
_MOMENT_TEXTS: Final = frozenset({"now", "today", "tomorrow", "yesterday"})
_CATALOGUE: Final = ("pg_", "information_schema")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStatement:
    """One SELECT, VALUES or TABLE."""

    normal: str
    """Its tokens, without comments and line ends; what differs in it may have another result."""

    names: tuple[str, ...]
    """Which parameter each number in it stands for."""

    relations: frozenset[Name]
    """Names of CTEs are among them, which no catalogue has."""

    functions: frozenset[Name]
    moments: frozenset[str]
    """Words that stand for the time: CURRENT_DATE, 'now'."""

    @property
    def names_catalogue(self) -> bool:
        """Whether it reads what the server tells of itself; what views read of that, no catalogue tells."""
        return any(part.startswith(_CATALOGUE) for name in self.relations for part in name)


@lru_cache(maxsize=2000)
def read_statement(text: str, *, has_params: bool = True) -> ReadStatement:
    """Read a text with psycopg's placeholders.

    Raises:
        UnsupportedStatement: It is not one statement that only reads.
    """
    plain, names = _numbered(text) if has_params else (text, ())
    try:
        tokens = Postgres().tokenize(plain)
        _require_beginning(tokens)
        trees = [tree for tree in sqlglot.parse(plain, dialect="postgres") if tree is not None]
    except (SqlglotError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise UnsupportedStatement(
            f"the statement cannot be read, so its result is not kept: {reason}"
        ) from None
    if len(trees) != 1:
        raise UnsupportedStatement("one statement at a time can be kept; send the others by themselves")
    _require_read(trees[0])
    return ReadStatement(
        normal=" ".join(plain[token.start : token.end + 1] for token in tokens),
        names=names,
        relations=frozenset(_relations(trees[0])),
        functions=frozenset(_functions(tokens)),
        moments=frozenset(_moments(tokens)),
    )


def _numbered(text: str) -> tuple[str, tuple[str, ...]]:
    """With $1, $2 for placeholders, which psycopg finds within quotes, too; and their names."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        if found[1]:
            return "%"
        # The space keeps sqlglot from reading $1,$2 as the beginning of a text in dollar quotes.
        return f"${names.setdefault(found[2] or f'%{len(names)}', len(names) + 1)} "

    return _PLACEHOLDER.sub(number, text), tuple(names)


_REFUSED: Final[tuple[tuple[type[Any], str], ...]] = (
    (exp.DML, "it writes"),
    (exp.Into, "it writes a table; leave INTO out"),
    (exp.Lock, "it locks rows, which a kept result would not"),
    (exp.TableSample, "TABLESAMPLE takes other rows each time"),
    (exp.Command, "it is none that only reads"),
)


_BEGINNINGS: Final = frozenset(
    {
        *(TokenType.SELECT, TokenType.VALUES, TokenType.TABLE, TokenType.WITH, TokenType.L_PAREN),
        *(TokenType.INSERT, TokenType.UPDATE, TokenType.DELETE, TokenType.MERGE),  # refused by what they are
    }
)
_OTHER = "only results of SELECT, VALUES and TABLE are kept; run it as it is"


def _require_beginning(tokens: Sequence[Token]) -> None:
    """Of what begins otherwise sqlglot would write to the service's log that it cannot read it."""
    if tokens and tokens[0].token_type not in _BEGINNINGS:
        raise UnsupportedStatement(_OTHER)


def _require_read(tree: exp.Expr) -> None:
    for kind, reason in _REFUSED:
        if tree.find(kind):
            raise UnsupportedStatement(f"the result of this statement is not kept: {reason}")
    if not isinstance(tree, exp.Query | exp.Values):
        raise UnsupportedStatement(_OTHER)


def _relations(tree: exp.Expr) -> Iterator[Name]:
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.Identifier):
            yield _folded(table.args.get("db")), _folded(table.this)


def _folded(identifier: exp.Identifier | None) -> str:
    if identifier is None:
        return ""
    name = str(identifier.this)
    return name if identifier.args.get("quoted") else name.lower()


def _functions(tokens: list[Token]) -> Iterator[Name]:
    """Every word before a parenthesis; those that are no functions are not found by that name."""
    for place, token in enumerate(tokens[:-1]):
        if tokens[place + 1].token_type is not TokenType.L_PAREN or not _is_name(token):
            continue
        is_qualified = place >= 2 and tokens[place - 1].token_type is TokenType.DOT
        yield (_name(tokens[place - 2]) if is_qualified else ""), _name(token)


def _moments(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        if token.token_type is TokenType.STRING and token.text.strip().lower() in _MOMENT_TEXTS:
            yield f"'{token.text}'"
        elif token.token_type is not TokenType.IDENTIFIER and token.text.lower() in _MOMENTS:
            yield token.text.lower()


def _is_name(token: Token) -> bool:
    return token.token_type is TokenType.IDENTIFIER or token.text[:1].isalpha() or token.text[:1] == "_"


def _name(token: Token) -> str:
    return token.text if token.token_type is TokenType.IDENTIFIER else token.text.lower()
