"""Reads .sql files: one or several statements each, with comments that say how often and under what name.

`-- weight: 3` above a statement means three calls for each call of a statement of weight 1, and
`-- name: …` what reports call it. Above a file's first statement, the weight holds for the whole file.
"""

from __future__ import annotations

import re
from pathlib import Path

from perfloop.adapters.statements import statement_kind
from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.model.value import Value
from perfloop.model.workload import SkippedStatement, Statement, StatementKind
from perfloop.validate.given_source import SQL_SUFFIXES, files_below
from perfloop.validate.operations import Counted, query_id
from perfloop.validate.tokens import TokenKind, split_statements, tokens

LONGEST_FILE = 64 * 1024**2
TRANSACTION_WORDS = frozenset(
    {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE", "ABORT"}
)

_LONGEST_WORD = 40
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_HEADER = re.compile(r"^--\s*(weight|name):\s*(.+?)\s*$", re.MULTILINE)


class Found(Value, frozen=True, kw_only=True):
    """What a file or folder holds."""

    counted: tuple[Counted, ...] = ()
    skipped: tuple[SkippedStatement, ...] = ()


def files_of(path: Path) -> tuple[tuple[Path, ...], tuple[SkippedStatement, ...]]:
    """The file itself, or the .sql and .pgbench files below a folder, and the folders that are closed.

    Raises InvalidInput where there are none.
    """
    if path.is_file():
        return (path,), ()
    if not path.is_dir():
        raise InvalidInput(f"there is no file or folder {path}; give .sql files, a folder of them, or a log")
    files, closed = files_below(path)
    found = tuple(each for each in files if each.suffix in SQL_SUFFIXES)
    if not found:
        raise InvalidInput(
            f"{path} has no .sql files and no server's log; put each statement of the service into one"
        )
    return found, tuple(_skipped(name, f"{name} {reason}") for name, reason in closed)


def read_text(path: Path) -> str:
    """The file's text. Raises UnsupportedStatement where it is no text in UTF-8 or UTF-16, or too long."""
    try:
        if path.stat().st_size > LONGEST_FILE:
            raise UnsupportedStatement(
                f"{path.name} has more than {LONGEST_FILE // 1024**2} MB; spread it over several files"
            )
        content = path.read_bytes()
    except OSError as error:
        raise UnsupportedStatement(f"{path.name} cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnsupportedStatement(
            f"{path.name} is not UTF-8 at byte {error.start + 1}; convert it"
        ) from error
    if "\0" in text:
        raise UnsupportedStatement(f"{path.name} has NUL characters, which no statement may have")
    return text.replace("\r\n", "\n")


def unreadable(path: Path, reason: str) -> Found:
    """A whole file that makes no operation."""
    return Found(skipped=(_skipped(path.stem, reason),))


def _skipped(name: str, reason: str) -> SkippedStatement:
    statement = Statement(query_id=query_id(name), text="", kind=StatementKind.READ, name=name)
    return SkippedStatement(statement=statement, reason=reason)


def read_statements(text: str, name: str, *, calls: float = 1.0) -> Found:
    """The statements of one file. Raises UnsupportedStatement where a quote or comment does not end."""
    counted: list[Counted] = []
    skipped: list[SkippedStatement] = []
    parts = split_statements(text)
    weight = calls
    for position, part in enumerate(parts):
        header = dict(_HEADER.findall(part))
        own_name = header.get("name", name if len(parts) == 1 else f"{name}:{position + 1}")
        body = without_leading_comments(part)
        try:
            own_weight = _weight(header["weight"]) if "weight" in header else weight
            weight = own_weight if position == 0 else weight
            if first_word(body) not in TRANSACTION_WORDS:
                counted.append(Counted(statement=statement(body, own_name), calls=own_weight))
        except UnsupportedStatement as error:
            skipped.append(SkippedStatement(statement=_any_statement(body, own_name), reason=str(error)))
    return Found(counted=tuple(counted), skipped=tuple(skipped))


def statement(text: str, name: str) -> Statement:
    """A Statement of its own identity. Raises UnsupportedStatement for what is no query."""
    kind = statement_kind(text)
    if kind is None:
        raise UnsupportedStatement(
            f"{first_word(text)} is not tried: only SELECT, INSERT, UPDATE, DELETE, MERGE and VALUES are"
        )
    return Statement(query_id=query_id(text), text=text, kind=kind, name=name)


def first_word(text: str) -> str:
    """The first word in upper case, cut where no keyword is so long, or the empty string."""
    words = (token.text[:_LONGEST_WORD].upper() for token in tokens(text) if token.kind is TokenKind.WORD)
    return next(words, "")


def without_leading_comments(text: str) -> str:
    """The statement without what stands above it."""
    position = 0
    for token in tokens(text):
        if token.kind is not TokenKind.SPACE:
            break
        position += len(token.text)
    return text[position:]


def _any_statement(text: str, name: str) -> Statement:
    return Statement(
        query_id=query_id(text), text=text, kind=statement_kind(text) or StatementKind.READ, name=name
    )


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise UnsupportedStatement(f"its weight is {text!r}; write a number above 0, as in -- weight: 3")
    return weight
