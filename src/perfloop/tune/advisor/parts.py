"""Which index serves a search for what a value contains: its method, operator class and extension.

A b-tree orders values as a whole. A key of a document, an element of an array, a word or a piece of a text
is found by a GIN index, which has an entry for each of them; whether ranges overlap, by GiST.
"""

from __future__ import annotations

from perfloop.model.target import IndexKey, Table
from perfloop.model.value import Value
from perfloop.tune.advisor.conditions import Comparison

TRIGRAMS = "gin_trgm_ops"
_TRIGRAM_EXTENSION = "pg_trgm"
_PATH_OPERATORS = "jsonb_path_ops"
"""Smaller than the default class, and knows @>, @? and @@ alone."""

_PATTERNS = frozenset({"LIKE", "ILIKE", "~", "~*"})
_DOCUMENT_PATHS = frozenset({"@>", "@?", "@@"})
_DOCUMENT_KEYS = frozenset({"?", "?|", "?&"})
_ELEMENTS = frozenset({"@>", "<@", "&&"})
_TEXTS = ("text", "character varying", "varchar")


class PartCondition(Value, frozen=True, kw_only=True):
    """What one search inside a value asks for: the key of an index of that method."""

    key: IndexKey
    method: str
    requires_extension: str | None = None


def part_condition(comparison: Comparison, table: Table) -> PartCondition | None:
    """The index key for a comparison of Use.PART; None for an operator that none serves on such a value."""
    searched = _type_of(comparison, table)
    operator = comparison.operator
    if operator in _PATTERNS and searched.startswith(_TEXTS) and not searched.endswith("[]"):
        return _condition(comparison, "gin", TRIGRAMS, _TRIGRAM_EXTENSION)
    if searched == "jsonb" and operator in _DOCUMENT_PATHS:
        return _condition(comparison, "gin", _PATH_OPERATORS)
    if searched == "jsonb" and operator in _DOCUMENT_KEYS:
        return _condition(comparison, "gin")
    if searched.endswith("[]") and operator in _ELEMENTS:
        return _condition(comparison, "gin")
    if searched == "tsvector" and operator == "@@":
        return _condition(comparison, "gin")
    if searched.endswith("range") and operator in _ELEMENTS:
        return _condition(comparison, "gist")
    return None


def _condition(
    comparison: Comparison, method: str, operators: str | None = None, extension: str | None = None
) -> PartCondition:
    key = IndexKey(
        text=comparison.key.text, is_expression=comparison.key.is_expression, operator_class=operators
    )
    return PartCondition(key=key, method=method, requires_extension=extension)


def _type_of(comparison: Comparison, table: Table) -> str:
    """The type of what is searched: the column's, or for an expression what the operator tells of it.

    `->` may give a document, and `@@` searches one with a jsonpath; all other expressions before `@@`
    are taken to make a tsvector. Where that is wrong, the server refuses the build and says so.
    """
    column = None if comparison.key.is_expression else table.column(comparison.key.text)
    if column is not None:
        return column.type_name
    if comparison.operator in _PATTERNS:
        return "text"
    if comparison.operator == "@@":
        return "jsonb" if comparison.operand_type == "jsonpath" else "tsvector"
    if comparison.operator == "@?" or comparison.operator in _DOCUMENT_KEYS:
        return "jsonb"
    return comparison.operand_type or ""
