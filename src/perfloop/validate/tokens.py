"""Reads SQL as the server's lexer does, as far as it takes to find `$n`, `;` and `:name` safely.

What stands in quotes, dollar quotes, identifiers and comments is never touched. String constants
follow `standard_conforming_strings = on`; block comments nest.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping

from perfloop.errors import UnsupportedStatement
from perfloop.model.value import Value

_LEXEMES = re.compile(
    r"""
      (?P<space> \s+ )
    | (?P<line_comment> --[^\n\r]* )
    | (?P<block_comment> /\* )
    | (?P<string> [eE]'(?:[^'\\]|\\.|'')*' | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*' )
    | (?P<dollar> \$(?:[^\W\d]\w*)?\$ )
    | (?P<parameter> \$\d+ )
    | (?P<identifier> (?:[uU]&)?"(?:[^"]|"")*" )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<number> (?:\d|\.\d)[\w.]* )
    | (?P<cast> :: | := )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_TYPE_WORDS = frozenset({"date", "interval", "time", "timestamp", "timestamptz", "timetz", "zone"})
_OPEN_QUOTES = {"'": "a string", '"': "a quoted name"}
_NEEDS_NO_SPACE_BEFORE = frozenset(" \t\r\n\f\v([,;=<>+*/%|")
_JOINS_ON = re.compile(r"[\w'\"$&]")


class TokenKind(enum.Enum):
    """What a stretch of SQL is. SPACE covers comments too."""

    SPACE = "space"
    STRING = "string"
    PARAMETER = "parameter"
    NAME = "name"
    WORD = "word"
    NUMBER = "number"
    SIGN = "sign"


class Token(Value, frozen=True, kw_only=True):
    """A stretch of the text; all tokens joined give the text again."""

    kind: TokenKind
    text: str

    @property
    def number(self) -> int:
        """The n of a PARAMETER `$n`; cut where it has more digits than any server takes."""
        return int(self.text[1:11])


_KINDS = {
    "space": TokenKind.SPACE,
    "line_comment": TokenKind.SPACE,
    "string": TokenKind.STRING,
    "parameter": TokenKind.PARAMETER,
    "identifier": TokenKind.NAME,
    "word": TokenKind.WORD,
    "number": TokenKind.NUMBER,
    "cast": TokenKind.SIGN,
    "sign": TokenKind.SIGN,
}


def tokens(text: str) -> Iterator[Token]:
    """The text's tokens in order. Raises UnsupportedStatement where a quote or comment does not end."""
    position = 0
    while position < len(text):
        match = _LEXEMES.match(text, position)
        group = match.lastgroup if match is not None else None
        if match is None or group is None:
            raise UnsupportedStatement(f"character {position + 1} cannot be read as SQL")
        kind, end = _KINDS.get(group, TokenKind.SPACE), match.end()
        if group == "block_comment":
            end = _comment_end(text, match.end())
        elif group == "dollar":
            kind, end = TokenKind.STRING, _dollar_end(text, match)
        elif group == "sign" and match.group() in _OPEN_QUOTES:
            raise UnsupportedStatement(
                f"{_OPEN_QUOTES[match.group()]} that starts at character {position + 1} does not end"
            )
        yield Token(kind=kind, text=text[position:end])
        position = end


def parameter_numbers(text: str) -> tuple[int, ...]:
    """The n of every `$n`, ascending, each once."""
    return tuple(sorted({token.number for token in tokens(text) if token.kind is TokenKind.PARAMETER}))


def with_parameters(text: str, values: Mapping[int, str]) -> str:
    """The text with SQL in place of each `$n` of `values`; spaces keep it from merging with a neighbour."""
    parts: list[str] = []
    spaced = False
    for token in tokens(text):
        value = values.get(token.number) if token.kind is TokenKind.PARAMETER else None
        if value is None:
            parts.append(f" {token.text}" if spaced and _JOINS_ON.match(token.text) else token.text)
            spaced = False
            continue
        before = parts[-1][-1:] if parts else " "
        parts.append(value if before in _NEEDS_NO_SPACE_BEFORE and not spaced else f" {value}")
        spaced = True
    return "".join(parts)


def typed_parameters(text: str) -> frozenset[int]:
    """The n of every `$n` that stands for the constant of `date '…'` or `extract('…' FROM …)`.

    pg_stat_statements writes them so; as a parameter the server's grammar does not take them.
    """
    found = set()
    before = ("", "")
    for token in tokens(text):
        if token.kind is TokenKind.SPACE:
            continue
        if token.kind is TokenKind.PARAMETER and (before[1] in _TYPE_WORDS or before == ("extract", "(")):
            found.add(token.number)
        before = (before[1], token.text.lower())
    return frozenset(found)


def split_statements(text: str) -> tuple[str, ...]:
    """The statements between the semicolons, without those that hold nothing but comments.

    A semicolon inside BEGIN ATOMIC … END of a function body counts as one; such a function is no
    operation of a workload anyway.
    """
    statements: list[str] = []
    parts: list[str] = []
    has_content = False
    for token in (*tokens(text), Token(kind=TokenKind.SIGN, text=";")):
        if token.kind is TokenKind.SIGN and token.text == ";":
            if has_content:
                statements.append("".join(parts).strip())
            parts, has_content = [], False
            continue
        parts.append(token.text)
        has_content = has_content or token.kind is not TokenKind.SPACE
    return tuple(statements)


def _comment_end(text: str, position: int) -> int:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise UnsupportedStatement("a comment does not end")


def _dollar_end(text: str, opening: re.Match[str]) -> int:
    start = text.find(opening.group(), opening.end())
    if start < 0:
        raise UnsupportedStatement(
            f"a dollar quote that starts at character {opening.start() + 1} does not end"
        )
    return start + len(opening.group())
