"""Reads from the records of a log which statements ran, for how long, with which parameters and plans.

An execution that log_min_duration_statement and auto_explain both wrote down is one: the two records are of
one session, with one text, next to each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from perfloop.adapters.statements import parameter_count, without_prepare
from perfloop.errors import PerfloopError, UnsupportedStatement
from perfloop.model.plan import Plan, read_plan
from perfloop.model.value import Value
from perfloop.validate.log_records import LogRecord
from perfloop.validate.tokens import TokenKind, split_statements, tokens, with_parameters

_MESSAGE = re.compile(
    r"(?:duration: (?P<ms>\d+(?:\.\d+)?) ms(?:  |\s*\Z))?"
    r"(?:(?P<what>statement|plan|parse|bind|execute fetch from|execute)(?: (?P<name>[^:\n]*))?:[ \n]?)?",
)
_PARAMETERS = re.compile(r"(?:query )?parameters: (?=\$1 = )", re.IGNORECASE)
_PARAMETER = re.compile(r"\$(\d+) = (?:(NULL)|'([^']*(?:''[^']*)*)')(?:, |\s*\Z)")
_EXECUTE = re.compile(r"\s*execute\s+(?:\w+|\"[^\"]+\")\s*\((.*)\)\s*;?\s*\Z", re.IGNORECASE | re.DOTALL)
_PLAN_LINE = re.compile(r"^(?:Query Parameters: |\S[^\n]*  \(cost=\d)", re.MULTILINE)
_QUERY = re.compile(
    r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*+(?:select|with|values|table|insert|update|delete|merge|begin|start)\b",
    re.IGNORECASE | re.DOTALL,
)
"""What may run a query. PREPARE and EXPLAIN have the number of what is in them, but do not run it."""
_QUERY_TEXT = "Query Text: "
_MAY_HAVE_PARAMETERS = re.compile(r"\$\d")
_SESSIONS_AT_MOST = 10_000


def is_several(text: str) -> bool:
    """Whether a text has more than one statement, which a simple query may."""
    if ";" not in text.rstrip("; \n"):
        return False
    try:
        return len(split_statements(text)) > 1
    except UnsupportedStatement:
        return False


class Parameter(Value, frozen=True, kw_only=True):
    """One bound value as SQL."""

    number: int
    sql: str
    is_cut: bool = False
    """Whether log_parameter_max_length cut it, so that it is not what was bound."""


class Execution(Value, frozen=True, kw_only=True):
    """What one record, or two of the same execution, say about it."""

    session: str
    text: str
    parameters: tuple[Parameter, ...] | None = None
    """None where the log does not have them."""
    calls: int = 1
    """0 where it adds to an execution that was counted before."""
    duration_s: float | None = None
    """The time to add; None where the log does not tell, or a later record will."""
    query_id: str | None = None
    plan_text: str | None = None
    """A plan in JSON, not yet read; empty where it was in another format."""
    is_known: bool = False
    """Whether the record before had all the parameters, so that this adds no instance."""

    @property
    def is_complete(self) -> bool:
        """Whether the text can run: with the values of its parameters, or without any parameter."""
        if self.parameters is not None:
            return not any(each.is_cut for each in self.parameters)
        return _MAY_HAVE_PARAMETERS.search(self.text) is None or not parameter_count(self.text)

    def instance(self) -> str:
        """The text with its values. Raises UnsupportedStatement where it is not complete, or no SQL."""
        values = {each.number: each.sql for each in self.parameters or ()}
        if not self.is_complete or parameter_count(self.text) > max(values, default=0):
            raise UnsupportedStatement("the log does not have all of its parameters")
        return with_parameters(self.text, values) if values else self.text


def executions(records: Iterable[LogRecord]) -> Iterator[Execution]:
    """The executions of a log in order. What is no execution is passed over."""
    sessions: dict[str, _Session] = {}
    for record in records:
        found = _MESSAGE.match(record.message)
        if found is None or (found["ms"] is None and found["what"] is None):
            continue
        if len(sessions) > _SESSIONS_AT_MOST:
            sessions.pop(next(iter(sessions)))
        session = sessions.setdefault(record.session, _Session())
        execution = _execution(record, found)
        if execution is not None and (not execution.text or _QUERY.match(execution.text)):
            yield from session.joined(execution)
    for session in sessions.values():
        yield from session.rest()


class _Session:
    """What is needed of a session's past to tell whether two records are of one execution."""

    def __init__(self) -> None:
        self._last: Execution | None = None
        self._waits_for: str | None = None
        """plan or statement, whichever the last execution has not yet."""
        self._held: Execution | None = None
        """What log_statement wrote before it ran; its duration comes later, alone on a line."""

    def joined(self, execution: Execution) -> Iterator[Execution]:
        if self._held is not None and self._completes(execution):
            return
        if not execution.text:
            yield from self.rest(execution)
            return
        yield from self.rest()
        if execution.duration_s is None:
            self._held = execution
            return
        kind = "plan" if execution.plan_text is not None else "statement"
        last = self._last
        if last is not None and self._waits_for == kind and _is_same(last, execution):
            self._last, self._waits_for = None, None
            yield _second_half(last, execution)
            return
        self._last, self._waits_for = execution, "statement" if kind == "plan" else "plan"
        yield execution

    def rest(self, timed: Execution | None = None) -> Iterator[Execution]:
        """The execution that is held, with the duration that came alone."""
        held, self._held = self._held, None
        if held is None:
            return
        if timed is not None:
            held = msgspec.structs.replace(
                held, duration_s=timed.duration_s, query_id=timed.query_id or held.query_id
            )
        yield held

    def _completes(self, plan: Execution) -> bool:
        """Whether it is the plan of the held execution, which then has it."""
        held = self._held
        if held is None or plan.plan_text is None or not _is_same(held, plan):
            return False
        self._held = msgspec.structs.replace(
            held,
            plan_text=plan.plan_text,
            duration_s=plan.duration_s,
            query_id=plan.query_id or held.query_id,
            parameters=held.parameters or plan.parameters,
        )
        return True


def _is_same(one: Execution, other: Execution) -> bool:
    if one.text != other.text:
        return False
    if one.parameters is None or other.parameters is None:
        return True
    # EXECUTE has its arguments as they were written, a plan has them in quotes.
    values = zip(one.parameters, other.parameters, strict=False)
    return all(left.sql.strip("'") == right.sql.strip("'") for left, right in values)


def _second_half(first: Execution, second: Execution) -> Execution:
    """What the second record adds: the statement's own duration counts, which has that of the plan in it."""
    is_statement = second.plan_text is None
    more_s = max(0.0, (second.duration_s or 0.0) - (first.duration_s or 0.0)) if is_statement else None
    return msgspec.structs.replace(
        second,
        calls=0,
        duration_s=more_s,
        parameters=second.parameters or first.parameters,
        query_id=first.query_id or second.query_id,
        is_known=first.is_complete,
        plan_text=first.plan_text if is_statement and not first.is_complete else second.plan_text,
    )


def _execution(record: LogRecord, found: re.Match[str]) -> Execution | None:
    duration_s = float(found["ms"]) / 1000 if found["ms"] else None
    body = record.message[found.end() :]
    what = found["what"]
    if what == "plan":
        # A plan with a context is of a statement inside a function, whose caller is counted.
        return None if record.context else _explained(record, body, duration_s)
    if what in ("parse", "bind") or (what is None and body.strip()):
        return None
    text, parameters = body, _bound(record.detail)
    if record.detail.startswith("prepare: ") and body.lstrip()[:7].lower() == "execute":
        text = without_prepare(record.detail.removeprefix("prepare: "))
        parameters = _given(body)
    return Execution(
        session=record.session,
        text=_tidy(text),
        parameters=parameters,
        calls=0 if what == "execute fetch from" else 1,
        duration_s=duration_s,
        query_id=record.query_id,
    )


def _explained(record: LogRecord, body: str, duration_s: float | None) -> Execution | None:
    is_json = body.lstrip().startswith("{")
    text, told = _json_head(body) if is_json else _text_head(body)
    if not text or is_several(text):
        # Of a text of several statements nobody can say whose plan this is.
        return None
    return Execution(
        session=record.session,
        text=_tidy(without_prepare(text)),
        parameters=_bound(f"Parameters: {told}"),
        duration_s=duration_s,
        query_id=record.query_id,
        plan_text=body if is_json else "",
    )


class _Head(msgspec.Struct, rename={"text": "Query Text", "parameters": "Query Parameters"}):
    text: str = ""
    parameters: str = ""


_HEAD = msgspec.json.Decoder(_Head)


def _json_head(body: str) -> tuple[str, str]:
    try:
        head = _HEAD.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return "", ""
    return head.text, head.parameters


def _text_head(body: str) -> tuple[str, str]:
    """Text and parameters above a plan of FORMAT TEXT."""
    if not body.startswith(_QUERY_TEXT):
        return "", ""
    end = _PLAN_LINE.search(body, len(_QUERY_TEXT))
    text = body[len(_QUERY_TEXT) : end.start() if end is not None else None]
    if end is None or not end.group().startswith("Query Parameters"):
        return text, ""
    plan = re.compile(r"^\S[^\n]*  \(cost=\d", re.MULTILINE).search(body, end.end())
    return text, body[end.end() : plan.start() if plan is not None else None]


def read_logged_plan(text: str) -> Plan | None:
    """The plan of auto_explain's JSON; None where it is cut or too deep."""
    try:
        document: Any = msgspec.json.decode(text)
        return read_plan(document)
    except (msgspec.MsgspecError, RecursionError, PerfloopError):
        return None


def _bound(detail: str) -> tuple[Parameter, ...] | None:
    """The values of `Parameters: $1 = '…', $2 = NULL`, or None where there are none or they are cut."""
    found = _PARAMETERS.match(detail)
    if found is None:
        return None
    bound: list[Parameter] = []
    position = found.end()
    while position < len(detail):
        value = _PARAMETER.match(detail, position)
        if value is None:
            return None
        quoted = "NULL" if value[2] else f"'{value[3]}'"
        bound.append(Parameter(number=int(value[1]), sql=quoted, is_cut=quoted.endswith("...'")))
        position = value.end()
    return tuple(bound)


def _given(text: str) -> tuple[Parameter, ...] | None:
    """The arguments of `EXECUTE name (…)`."""
    found = _EXECUTE.match(text)
    if found is None:
        return None
    parts, depth = [""], 0
    try:
        for token in tokens(found[1]):
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
            if token.text == "," and depth == 0:
                parts.append("")
            elif token.kind is not TokenKind.PARAMETER:
                parts[-1] += token.text
    except UnsupportedStatement:
        return None
    return tuple(Parameter(number=number, sql=part.strip()) for number, part in enumerate(parts, start=1))


def _tidy(text: str) -> str:
    return text.strip().rstrip(";").rstrip()
