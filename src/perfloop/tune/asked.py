"""Which statements the user wants explained, and what may be done for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from perfloop.adapters.statements import parameter_count
from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.model.snapshot import Snapshot
from perfloop.model.value import Value
from perfloop.model.workload import StatementKind
from perfloop.validate.operations import Counted
from perfloop.validate.sql_folder import read_statements
from perfloop.validate.tokens import parameter_numbers, with_parameters

SHORTEST_ENDING = 4
"""Digits of the end of a query id by which a statement is found, as labels show it."""


class ExplainOptions(Value, frozen=True, kw_only=True):
    """What a user may choose of an explanation."""

    analyze: bool = False
    """Run it on the target, in a transaction that is rolled back."""
    may_write: bool = False
    """Run it even if it writes."""
    parameters: tuple[tuple[int, str], ...] = ()
    """SQL for `$n`, by n; the others are drawn."""
    what_if: bool = False
    """Copy its tables into a lab, and try the index there that the advisor thinks best."""
    with_indexes: tuple[str, ...] = ()
    """Try these there instead, as "table (keys)"."""
    max_lab_bytes: int = 20 * 1024**3
    seed: int = 1
    statement_timeout_s: float = 10.0


def counted(snapshot: Snapshot, query_id: str) -> tuple[Counted, ...]:
    """The counted statement whose query id is that or ends so. Raises InvalidInput unless it is one."""
    ids = [each.statement.query_id for each in snapshot.statements]
    found = [each for each in ids if each == query_id] or [
        each for each in ids if len(query_id) >= SHORTEST_ENDING and each.endswith(query_id)
    ]
    if not found:
        told = "; ".join(f"{each.subject}: {each.reason}" for each in snapshot.limitations[:1] if not ids)
        raise InvalidInput(
            f"no statement with the query id {query_id} was counted in {snapshot.database}; "
            + (told or "`perfloop analyze DSN --json` lists them, and a file of SQL needs none")
        )
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} query ids end with {query_id}: {', '.join(found[:5])}")
    each = next(one for one in snapshot.statements if one.statement.query_id == found[0])
    rows_per_call = each.rows / each.calls if each.calls else None
    return (Counted(statement=each.statement, calls=max(1, each.calls), rows_per_call=rows_per_call),)


def given(text: str, name: str) -> tuple[Counted, ...]:
    """The statements of a text. Raises InvalidInput where it has none."""
    found = read_statements(text, name)
    if not found.counted:
        reasons = [each.reason for each in found.skipped]
        raise InvalidInput(f"{name} has no statement to explain" + (f": {reasons[0]}" if reasons else ""))
    return found.counted


def with_values(asked: tuple[Counted, ...], values: tuple[tuple[int, str], ...]) -> tuple[Counted, ...]:
    """The statements with the values in place of their `$n`.

    Raises InvalidInput for a value that none of them has a place for.
    """
    there = sorted({number for each in asked for number in parameter_numbers(each.statement.text)})
    unknown = [number for number, _ in values if number not in there]
    if unknown:
        places = ", ".join(f"${number}" for number in there)
        raise InvalidInput(
            f"there is no ${unknown[0]} to give a value for: "
            + (f"the parameters are {places}" if there else "the statement has no parameters")
        )
    return tuple(_with_values(each, dict(values)) for each in asked)


def _with_values(each: Counted, values: Mapping[int, str]) -> Counted:
    if not set(parameter_numbers(each.statement.text)) & set(values):
        return each
    text = with_parameters(each.statement.text, values)
    if parameter_count(text):
        return replace(each, statement=replace(each.statement, text=text))
    return replace(each, instances=(text,))


def refuse_values(asked: tuple[Counted, ...], plan: Callable[[str], object]) -> None:
    """Raise InvalidInput where the server does not plan a statement with the values that it was given.

    Others would be drawn in their place, and the answer would be to another question.
    """
    for each in asked:
        if not each.instances or not parameter_count(each.statement.text):
            continue
        try:
            plan(each.instances[0])
        except UnsupportedStatement as error:
            raise InvalidInput(
                f"{each.statement.label} cannot be planned with the values of --param: {error}"
            ) from error


def refuse_writes(asked: tuple[Counted, ...], options: ExplainOptions) -> None:
    """Raise InvalidInput where a write would be run on the target without a yes."""
    writes = [each for each in asked if each.statement.kind is StatementKind.WRITE]
    if options.analyze and writes and not options.may_write:
        raise InvalidInput(
            f"{writes[0].statement.label} writes: to run it on the target, even in a transaction that is "
            "rolled back, takes locks and leaves dead rows and used sequence values; say --yes if that is "
            "what you want, or leave --analyze out"
        )
