"""Whether a result may be kept, by what the catalogue says of what its statement reads and calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from perfloop.cache.query_text import Name, ReadStatement
from perfloop.errors import UnsupportedStatement

SETTINGS: Final = (
    "search_path",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "extra_float_digits",
    "bytea_output",
    "xmloption",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "default_text_search_config",
    "row_security",
)
"""What the server itself lets a result depend on."""

_SYSTEM: Final = frozenset({"pg_catalog", "information_schema", "pg_toast"})
_OF_THE_SESSION: Final = frozenset(
    {
        "now",
        "age",
        "transaction_timestamp",
        "statement_timestamp",
        "current_setting",
        "current_query",
        "current_schemas",
        "query_to_xml",
        "query_to_xml_and_xmlschema",
        "query_to_xmlschema",
        "table_to_xml",
        "table_to_xml_and_xmlschema",
        "schema_to_xml",
        "database_to_xml",
        "ts_stat",
    }
)
"""Stable for the server, but told by the moment, by the session, or by tables that the text does not name."""
_OF_THE_SERVER: Final = ("pg_", "txid_", "inet_", "has_", "to_reg", "obj_description", "col_description")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One relation that a statement reads, itself or through a view."""

    schema: str
    name: str
    kind: str
    """As pg_class.relkind."""
    is_temporary: bool
    has_policies: bool
    definition: str | None
    """Of a view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function by a name that a statement calls."""

    name: str
    schema: str
    volatility: str
    """As pg_proc.provolatile."""
    is_of_extension: bool


def tables_read(relations: Iterable[Relation], *, policies_are_known: bool) -> list[Name]:
    """The tables whose changes change the result.

    Raises:
        UnsupportedStatement: One of the relations changes without an event, or shows each user other rows.
    """
    tables = []
    for relation in relations:
        named = f"{relation.schema}.{relation.name}"
        if relation.is_temporary:
            _refuse(f"{named} is a temporary table, which only this connection has")
        if relation.schema in _SYSTEM or relation.kind == "S":
            _refuse(f"{named} changes without an event that would clear the result")
        if relation.has_policies and not policies_are_known:
            _refuse(
                f"{named} has row-level security; say which settings its policies read,"
                " row_security=(...), or () where the role alone decides"
            )
        if relation.kind != "v":
            tables.append((relation.schema, relation.name))
    return tables


def require_repeatable(
    statements: Sequence[ReadStatement], functions: Iterable[Function], allowed: frozenset[str]
) -> None:
    """Refuse what returns something else at the next call although no table changed.

    Raises:
        UnsupportedStatement: With what it is, and how to allow it.
    """
    for statement in statements:
        if statement.names_catalogue:
            _refuse("what the server tells of itself changes without an event that would clear the result")
        for moment in statement.moments:
            if moment.strip("'").lower() not in allowed:
                _refuse(f"{moment} depends on the moment; {_way_out(moment)}")
    for function in functions:
        if function.name not in allowed:
            _require_stable(function)


def _require_stable(function: Function) -> None:
    named = f"{function.name}()"
    if function.volatility == "v":
        _refuse(
            f"{named} is volatile, so that each call may return something else; {_way_out(function.name)}"
        )
    if function.schema == "pg_catalog":
        is_told = function.name in _OF_THE_SESSION or function.name.startswith(_OF_THE_SERVER)
        if is_told and function.volatility == "s":
            _refuse(f"{named} tells of the moment, the session or the server; {_way_out(function.name)}")
    elif function.volatility == "s" and not function.is_of_extension:
        _refuse(f"{named} may read tables that the statement does not name; {_way_out(function.name)}")


def _way_out(name: str) -> str:
    return f"give its value as a parameter, or allow it with allow=({name.strip(chr(39)).lower()!r},)"


def _refuse(reason: str) -> Any:
    raise UnsupportedStatement(f"the result of this statement is not kept: {reason}")
