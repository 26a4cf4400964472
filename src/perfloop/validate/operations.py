"""Makes operations of statements: draws their parameters, and keeps the instances that the server plans."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from random import Random

import msgspec

from perfloop.adapters.statements import parameter_count
from perfloop.errors import UnsupportedStatement
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Snapshot
from perfloop.model.value import Value
from perfloop.model.workload import Operation, SkippedStatement, Statement
from perfloop.validate.parameters import UNTYPED, ParameterTypes, Sampler, draw_instances
from perfloop.validate.tokens import TokenKind, tokens

Planner = Callable[[str], Plan]
"""The plan of a complete text; raises UnsupportedStatement with the server's reason."""

_SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema", "pg_toast"})


_NO_WORK_IN = re.compile(
    r"pg_\w+|version|now|clock_timestamp|current_\w+|set_config|coalesce|cast|row|txid_current|values|in",
    re.IGNORECASE,
)
"""Functions that touch no table of the service."""

_NAMING_TABLES = frozenset({"FROM", "INTO", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE"})
_ROUND_LIMITS = (1, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class Counted(Value, frozen=True, kw_only=True):
    """A statement with its calls and time, from whatever source."""

    statement: Statement
    calls: float
    """In any unit, the same for all statements of a Workload."""
    time_share: float = 0.0
    rows_per_call: float | None = None
    """Rows returned or written, where somebody counted them."""
    instances: tuple[str, ...] = ()
    """Complete texts, where the source has its own values; otherwise they are drawn."""


class Drawing(Value, frozen=True, kw_only=True):
    """How instances are drawn: the same snapshot, seed and samples give the same ones."""

    snapshot: Snapshot
    plans: Planner
    seed: int
    count: int = 5
    sample: Sampler | None = None
    types: ParameterTypes | None = None


def operations(
    counted: Iterable[Counted], drawing: Drawing
) -> tuple[tuple[Operation, ...], tuple[SkippedStatement, ...]]:
    """One Operation per statement that plans, with shares of the calls that sum to 1; and the others.

    A statement that is there twice becomes one Operation with the calls of both.
    """
    planned: list[tuple[Counted, tuple[str, ...]]] = []
    skipped: list[SkippedStatement] = []
    for each in _merged(counted):
        try:
            planned.append((each, _planned_instances(each, drawing)))
        except UnsupportedStatement as error:
            skipped.append(
                SkippedStatement(statement=each.statement, reason=str(error), time_share=each.time_share)
            )
    calls = sum(each.calls for each, _ in planned)
    made = (
        Operation(statement=each.statement, calls_share=each.calls / calls, instances=texts)
        for each, texts in planned
    )
    return tuple(made), tuple(skipped)


def query_id(text: str) -> str:
    """The identity of a text that no server has numbered: a digest of its tokens, whatever its spaces."""
    try:
        words = [token.text for token in tokens(text) if token.kind is not TokenKind.SPACE]
    except UnsupportedStatement:
        words = text.split()
    return hashlib.blake2b("\0".join(words).encode(), digest_size=8).hexdigest()


def _merged(counted: Iterable[Counted]) -> list[Counted]:
    found: dict[str, Counted] = {}
    for each in counted:
        known = found.get(each.statement.query_id)
        if known is not None:
            instances = tuple(dict.fromkeys((*known.instances, *each.instances)))
            each = msgspec.structs.replace(known, calls=known.calls + each.calls, instances=instances)
        found[each.statement.query_id] = each
    return list(found.values())


def _planned_instances(counted: Counted, drawing: Drawing) -> tuple[str, ...]:
    """The instances that the server plans. Raises UnsupportedStatement if there are none.

    This is where the order of sources is decided: what really ran comes first, then values of the
    columns' own. What has neither is no operation; tune.analysis shows its generic plan. No parameter
    is ever made NULL, which would plan a statement without a result; only a log may have a real one.
    """
    text = counted.statement.text
    planned, reason = _plannable(counted.instances, drawing.plans)
    if planned or (counted.instances and not parameter_count(text)):
        return _or_raise(planned, reason)
    for untyped in UNTYPED:
        drawn = draw_instances(
            text,
            drawing.snapshot,
            rng=Random(f"{drawing.seed} {counted.statement.query_id}"),
            count=drawing.count,
            sample=drawing.sample,
            types=drawing.types,
            untyped=untyped,
            limit=_limit(counted.rows_per_call),
        )
        planned, refused = _plannable(drawn, drawing.plans)
        reason = reason or refused
        if planned or drawn == (text,):
            break
    return _or_raise(planned, reason)


def _or_raise(planned: tuple[str, ...], reason: UnsupportedStatement | None) -> tuple[str, ...]:
    if not planned and reason is not None:
        raise reason
    return planned


def _plannable(texts: tuple[str, ...], plans: Planner) -> tuple[tuple[str, ...], UnsupportedStatement | None]:
    """The texts that plan, and the reason of the first that does not."""
    planned: list[str] = []
    reason = None
    for text in texts:
        try:
            _refuse_without_tables(text, plans(text))
            planned.append(text)
        except UnsupportedStatement as error:
            reason = reason or error
    return tuple(planned), reason


def _refuse_without_tables(text: str, plan: Plan) -> None:
    schemas = {schema for schema, _ in plan.relations}
    if schemas:
        if schemas <= _SYSTEM_SCHEMAS:
            raise UnsupportedStatement("it reads only the system catalogue, which perfloop does not tune")
        return
    if not _works(text):
        raise UnsupportedStatement("it touches no table, so that nothing can make it faster")


def touches_nothing(text: str) -> bool:
    """Whether it is a pool's check or a driver's question, as SELECT 1 or SELECT version().

    Such a text names no table and calls only functions that read none. A text that cannot be read is not one.
    """
    try:
        words = {token.text.upper() for token in tokens(text) if token.kind is TokenKind.WORD}
        return "SELECT" in words and not words & _NAMING_TABLES and not _works(text)
    except UnsupportedStatement:
        return False


def _works(text: str) -> bool:
    return not all(_NO_WORK_IN.fullmatch(name) for name in _called(text))


def _called(text: str) -> Iterator[str]:
    """Names that an opening parenthesis follows."""
    name = ""
    for token in tokens(text):
        if token.text == "(" and name:
            yield name
        if token.kind is not TokenKind.SPACE:
            name = token.text if token.kind is TokenKind.WORD else ""


def _limit(rows_per_call: float | None) -> int:
    """A round LIMIT that gives as many rows as were counted; 20 where nobody counted."""
    if rows_per_call is None:
        return 20
    return next((limit for limit in _ROUND_LIMITS if limit >= rows_per_call), _ROUND_LIMITS[-1])
