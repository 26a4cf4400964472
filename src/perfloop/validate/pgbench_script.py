r"""Reads pgbench scripts: `\set` draws the variables, and every SQL command is an operation of its own.

One draw runs the whole script, so that the statements of one instance share their variables as they
do under pgbench. BEGIN and COMMIT are left out: the trial gives every statement its transaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from perfloop.errors import UnsupportedStatement
from perfloop.model.snapshot import Snapshot
from perfloop.model.value import Value
from perfloop.model.workload import SkippedStatement, Statement, StatementKind
from perfloop.validate.expressions import Number, evaluate
from perfloop.validate.literals import quoted
from perfloop.validate.operations import Counted
from perfloop.validate.sql_folder import (
    TRANSACTION_WORDS,
    Found,
    first_word,
    statement,
    without_leading_comments,
)
from perfloop.validate.tokens import Token, TokenKind, split_statements, tokens

_META = re.compile(r"^\s*\\", re.MULTILINE)
_SET = re.compile(r"\\set\s+(\w+)\s+(.+)", re.DOTALL)
_WITHOUT_EFFECT = frozenset({"sleep", "startpipeline", "endpipeline", "syncpipeline"})
_COMMAND = re.compile(r"\\(\w+)")


class _Step(Value, frozen=True, kw_only=True):
    """A `\\set`, or a SQL command with the position it has among them."""

    variable: str = ""
    text: str


def is_pgbench(text: str, suffix: str) -> bool:
    """Whether a file is a script for pgbench: by its suffix, a meta command, or a `:variable`."""
    if suffix == ".pgbench" or _META.search(text):
        return True
    try:
        return bool(variables_of(text))
    except UnsupportedStatement:
        return False


def read_script(
    text: str, name: str, snapshot: Snapshot, *, calls: float, instances: int, rng: Random
) -> Found:
    """The operations of a script, each with the values of `instances` runs.

    Raises UnsupportedStatement for meta commands and expressions that are not understood; nothing
    of such a script is run, because its parts belong together.
    """
    steps = tuple(_steps(text))
    commands = [step for step in steps if not step.variable]
    drawn: list[list[str]] = [[] for _ in commands]
    for _ in range(instances):
        for column, instance in zip(drawn, _run(steps, snapshot, rng), strict=True):
            column.append(instance)
    counted: list[Counted] = []
    skipped: list[SkippedStatement] = []
    for position, (command, texts) in enumerate(zip(commands, drawn, strict=True)):
        own_name = f"{name}:{position + 1}"
        try:
            normalised = statement(_numbered(command.text), own_name)
            unique = tuple(dict.fromkeys(texts))
            counted.append(Counted(statement=normalised, calls=calls, instances=unique))
        except UnsupportedStatement as error:
            unread = Statement(query_id=own_name, text=command.text, kind=StatementKind.READ, name=own_name)
            skipped.append(SkippedStatement(statement=unread, reason=str(error)))
    return Found(counted=tuple(counted), skipped=tuple(skipped))


def variables_of(text: str) -> tuple[str, ...]:
    """The names of all `:variables`, in order, each once."""
    return tuple(dict.fromkeys(token.text[1:] for token in _with_variables(text) if _is_variable(token)))


def _steps(text: str) -> Iterator[_Step]:
    lines: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        if not line.lstrip().startswith("\\"):
            lines.append(line)
            continue
        yield from _commands("\n".join(lines))
        lines = []
        yield from _meta(line.strip())
    yield from _commands("\n".join(lines))


def _commands(text: str) -> Iterator[_Step]:
    for part in split_statements(text):
        body = without_leading_comments(part)
        backslash = re.search(r"\\(\w+)\s*$", body)
        if backslash is not None:
            raise UnsupportedStatement(rf"\{backslash[1]} is not supported in a script")
        if first_word(body) not in TRANSACTION_WORDS:
            yield _Step(text=body)


def _meta(line: str) -> Iterator[_Step]:
    found = _SET.match(line)
    if found is not None:
        yield _Step(variable=found[1], text=found[2])
        return
    command = _COMMAND.match(line)
    name = command[1] if command is not None else line
    if name not in _WITHOUT_EFFECT:
        raise UnsupportedStatement(rf"\{name} is not supported in a script; only \set is")


def _run(steps: tuple[_Step, ...], snapshot: Snapshot, rng: Random) -> Iterator[str]:
    variables: dict[str, Number] = {"scale": _scale(snapshot), "client_id": 0, "random_seed": 0}
    for step in steps:
        if step.variable:
            variables[step.variable] = evaluate(step.text, variables, rng)
        else:
            yield _filled(step.text, variables)


def _scale(snapshot: Snapshot) -> int:
    """Pgbench's scale is the number of branches."""
    branches = next((each for each in snapshot.tables if each.name.name == "pgbench_branches"), None)
    return max(1, int(branches.rows)) if branches is not None else 1


def _filled(text: str, variables: dict[str, Number]) -> str:
    parts = []
    for token in _with_variables(text):
        if not _is_variable(token):
            parts.append(token.text)
            continue
        name = token.text[1:]
        if name not in variables:
            raise UnsupportedStatement(rf"the variable :{name} has no value; add \set {name} above it")
        number = variables[name]
        parts.append(str(number) if number >= 0 else quoted(str(number)))
    return "".join(parts)


def _numbered(text: str) -> str:
    """The text with `$n` in place of the variables."""
    numbers = {name: number for number, name in enumerate(variables_of(text), start=1)}
    return "".join(
        f"${numbers[token.text[1:]]}" if _is_variable(token) else token.text
        for token in _with_variables(text)
    )


def _with_variables(text: str) -> Iterator[Token]:
    """The tokens, with `:name` as one; in an array's slice and in `:=` the colon is only a sign."""
    colon: Token | None = None
    before: Token | None = None
    for token in tokens(text):
        if colon is not None:
            is_name = token.kind is TokenKind.WORD and (before is None or before.kind is not TokenKind.NUMBER)
            if is_name:
                token = Token(kind=TokenKind.PARAMETER, text=f":{token.text}")
            else:
                yield colon
            colon = None
        if token.kind is TokenKind.SIGN and token.text == ":":
            colon = token
            continue
        before = token
        yield token
    if colon is not None:
        yield colon


def _is_variable(token: Token) -> bool:
    return token.kind is TokenKind.PARAMETER and token.text.startswith(":")
