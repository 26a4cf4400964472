"""What a statement's text does, and what pg_stat_statements counted for it.

`statement_kind` reads tokens instead of parsing: it has to judge every dialect feature of
every server version, must not fail on any text, and errs towards WRITE, because a WRITE
is rolled back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from perfloop.adapters.blocks import MARK
from perfloop.model.workload import StatementKind

_TOKEN = re.compile(
    r"""
      (?P<skip> \s+ | --[^\n]* )
    | (?P<comment> /\* )
    | (?P<quoted> [eE]'(?:[^'\\]|\\.|'')*'? | [uU]&'(?:[^']|'')*'? | '(?:[^']|'')*'? )
    | (?P<dollar> (?P<tag> \$(?:[A-Za-z_\x80-\uffff][\w]*)?\$ ) .*? (?:(?P=tag)|\Z) )
    | (?P<parameter> \$[0-9]+ )
    | (?P<identifier> "(?:[^"]|"")*"? )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<number> \d[\w.]* )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_PREPARE = re.compile(
    r"^\s*prepare\s+(?:\w+|\"[^\"]+\")\s*(?:\([^()]*(?:\(\d[^()]*\)[^()]*)*\)\s*)?as\s+", re.I
)
_READS = frozenset({"SELECT", "VALUES", "TABLE", "WITH"})
_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})
_LOCKS = frozenset({"UPDATE", "SHARE", "NO", "KEY"})
_WRITING_FUNCTIONS = frozenset({"NEXTVAL", "SETVAL"})


def statement_kind(text: str) -> StatementKind | None:
    """What one statement does; None for utility statements, transaction control and empty text.

    A data-modifying WITH, SELECT … FOR UPDATE or FOR SHARE, SELECT INTO and sequence
    functions are WRITE. What a user's function does inside is not seen.
    """
    words = tuple(_words(text))
    first = next((word for word in words if word != "("), None)
    if first in _WRITES:
        return StatementKind.WRITE
    if first not in _READS:
        return None
    return StatementKind.WRITE if _writes_within(words) else StatementKind.READ


def parameter_count(text: str) -> int:
    """The highest `$n` outside of literals and comments; 0 where there is none.

    A number is cut where it has more digits than any server takes.
    """
    return max((int(word[1:11]) for word in _words(text) if word[0] == "$" != word), default=0)


def without_prepare(text: str) -> str:
    """The statement inside `PREPARE name (types) AS …`; any other text as it is."""
    return _PREPARE.sub("", text, count=1)


def is_our_own(text: str) -> bool:
    """Whether the statement came from perfloop's own queries."""
    return MARK in text


def _writes_within(words: tuple[str, ...]) -> bool:
    pairs = zip(("", *words), (*words, ""), strict=True)
    return any(_is_write_pair(before, word) for before, word in pairs)


def _is_write_pair(before: str, word: str) -> bool:
    if before == "FOR":
        return word in _LOCKS
    if before in ("(", ")"):
        return word in _WRITES or word in _WRITING_FUNCTIONS
    return word == "INTO" or word in _WRITING_FUNCTIONS


def _words(text: str) -> Iterator[str]:
    """Keywords and names in upper case, parameters, and signs; literals and comments are left out."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return
        position = match.end()
        if match.lastgroup == "comment":
            position = _comment_end(text, position)
        elif match.lastgroup == "word":
            yield match.group().upper()
        elif match.lastgroup in ("parameter", "sign"):
            yield match.group()


def _comment_end(text: str, position: int) -> int:
    """Where a block comment ends whose opening lies before `position`; they nest in PostgreSQL."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)
