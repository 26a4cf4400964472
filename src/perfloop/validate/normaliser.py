"""Makes one shape of texts that differ in their constants only, as pg_stat_statements does.

`shape_key` is fast and only an identity; `normalised` gives the text that people read and that parameters
can be drawn for.
"""

from __future__ import annotations

import re

from perfloop.validate.tokens import Token, TokenKind, parameter_numbers, tokens

_KEYED = re.compile(
    r"""
      (?P<constant> [eE]'(?:[^'\\]|\\.|'')*' | (?:[bBxXnN]|[uU]&)?'[^']*(?:''[^']*)*'
        | \$(?P<tag>(?:[^\W\d]\w*)?)\$ .*? \$(?P=tag)\$ | \$\d+ | (?<![\w$])(?:\d|\.\d)[\w.]* )
    | (?P<kept> (?:[uU]&)?"[^"]*(?:""[^"]*)*" )
    | (?P<gap> (?: \s+ | --[^\n]* | /\*.*?\*/ )+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_SQUASHED = "/*, ... */"
"""What PostgreSQL 18 writes in place of a list's other constants."""
_LISTS = frozenset({("in", "("), ("array", "[")})
_LIST = re.compile(r"\b(in ?\(|array ?\[) ?\?(?: ?, ?\?)+ ?([\])])", re.IGNORECASE)


def shape_key(text: str) -> str:
    """What texts have in common that differ only in constants, spaces, comments and the length of lists."""
    return _LIST.sub(r"\1?, …\2", _KEYED.sub(_key_part, text.replace(_SQUASHED, ", 1"))).strip(" ;")


def normalised(text: str) -> str:
    """The text with `$n` in place of every constant; lists of constants become one, as PostgreSQL 18 has it.

    Raises UnsupportedStatement where a quote or comment does not end.
    """
    found = tuple(tokens(text))
    number = max(parameter_numbers(text), default=0)
    parts: list[str] = []
    before, position = "", 0
    while position < len(found):
        token = found[position]
        is_constant = token.kind in (TokenKind.STRING, TokenKind.NUMBER)
        end = _list_end(found, position) if (before, token.text) in _LISTS else None
        if end is not None or is_constant:
            number += 1
        if end is not None:
            parts.append(f"{token.text}${number} {_SQUASHED}{found[end].text}")
            position = end
        elif is_constant:
            glued = bool(parts) and parts[-1][-1:].isalnum()
            parts.append(f" ${number}" if glued else f"${number}")
        else:
            parts.append(token.text)
        before = before if token.kind is TokenKind.SPACE else token.text.lower()
        position += 1
    return "".join(parts).strip().rstrip(";").rstrip()


def _key_part(found: re.Match[str]) -> str:
    if found["constant"] is not None:
        return "?"
    return " " if found["gap"] is not None else found["kept"]


def _list_end(found: tuple[Token, ...], start: int) -> int | None:
    """Where a list of two constants or more closes that opens at `start`; None where it is none."""
    constants, wants_constant = 0, True
    for position in range(start + 1, len(found)):
        token = found[position]
        if token.kind is TokenKind.SPACE:
            continue
        is_constant = token.kind in (TokenKind.STRING, TokenKind.NUMBER)
        if is_constant is not wants_constant or not (is_constant or token.text == ","):
            closes = token.text in (")", "]") and not wants_constant and constants > 1
            return position if closes else None
        constants += is_constant
        wants_constant = not wants_constant
    return None
