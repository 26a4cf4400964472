"""Which template a key belongs to: one of a decorated function, else one that its shape tells. Pure.

A key is cut at its signs. A part that is a number, a UUID or a long word with digits stands for a value, and
is `{}` in the template. Whether a plain word is a value too, as in `user:alice`, only its neighbours tell:
where a place has seen MAX_WORDS of them, all words of it are values. What was taken for a template of its own
before that is joined with them when it is told, by `folded`.

The idea of cutting at fixed places and folding those with too many words is that of He, Zhu, Zheng, Lyu,
"Drain: An Online Log Parsing Approach with Fixed Depth Tree", ICWS 2017; similarity between whole keys, which
it uses below the tree, is left out: keys have few parts, and those are written by programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from perfloop.cache.keys import parsed, separators_of

MAX_WORDS: Final = 16
MAX_FIRST_WORDS: Final = 64
"""At the beginning of the keys, where the parts of a service stand side by side."""
MAX_PARTS: Final = 8
"""What follows is one value."""
MAX_NODES: Final = 4096
_VALUE: Final = "{}"
_PART: Final = re.compile(
    r"([^0-9A-Za-z_{}]*)"
    r"((?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9A-Za-z_{}]+|\Z)(?![0-9A-Za-z_{}]))"
)
_STATEMENT: Final = re.compile(r"query:[0-9a-f]{12}:")
"""As `query_key` writes it: one statement's results belong together, and no other's to them."""
_NUMBER: Final = re.compile(r"(?<![0-9A-Za-z_{}-])[0-9]+(?![0-9A-Za-z_{}-])")
_LONG_WORD: Final = re.compile(r"(?=.*[0-9])(?:[0-9a-fA-F_]{8,}|.{20,}|.{8}-.*)")


class KeyShapes:
    """Templates of one cache, a bounded number of them."""

    def __init__(self) -> None:
        self._declared: list[str] = []
        self._pattern: re.Pattern[str] | None = None
        self._root = _Place(MAX_FIRST_WORDS)
        self._known: dict[str, str] = {}
        self._nodes = 0

    def declare(self, template: str) -> None:
        """The template of a decorated function; keys that it could have made belong to it."""
        if template in self._declared:
            return
        # The one with the most fixed text first, as it says the most.
        self._declared = sorted([*self._declared, template], key=_fixed_signs, reverse=True)
        self._pattern = re.compile("|".join(f"{_matching(each)}()" for each in self._declared), re.DOTALL)

    def template(self, key: str) -> str | None:
        """The template of a key, as far as is known by now; None where there are too many shapes."""
        if self._pattern is not None:
            found = self._pattern.fullmatch(key)
            if found is not None and found.lastindex is not None:
                return self._declared[found.lastindex - 1]
        found = _STATEMENT.match(key)
        if found is not None:
            return f"{found.group()}{_VALUE}"
        # Most keys differ in their numbers alone, and finding that out is the cheaper way.
        form = _NUMBER.sub("0", key)
        known = self._known.get(form)
        if known is None and (known := self._shape(key)) is not None:
            if len(self._known) >= MAX_NODES:
                self._known.clear()
            self._known[form] = known
        return known

    def is_declared(self, template: str) -> bool:
        return template in self._declared

    def folded(self, template: str) -> str:
        """What a template is by all that has been seen since."""
        if template in self._declared or _STATEMENT.match(template):
            return template
        place = self._root
        parts = []
        for signs, word in _parts(template):
            if place.is_folded:
                word = _VALUE
            following = place.words.get(signs + word)
            parts.append(signs + word)
            if following is None:
                break
            place = following
        return "".join(parts)

    def _shape(self, key: str) -> str | None:
        place = self._root
        parts = []
        for signs, word in _parts(key):
            if place.is_folded and signs + word not in place.words:
                word = _VALUE
            following = place.words.get(signs + word)
            if following is None:
                if self._nodes >= MAX_NODES:
                    return None
                following = place.add(signs, word)
                self._nodes += 1
                if place.is_folded:
                    word = _VALUE
            parts.append(signs + word)
            place = following
        return "".join(parts)


class _Place:
    """What came after one beginning."""

    __slots__ = ("_max_words", "is_folded", "words")

    def __init__(self, max_words: int = MAX_WORDS) -> None:
        self.words: dict[str, _Place] = {}
        self.is_folded = False
        self._max_words = max_words

    def add(self, signs: str, word: str) -> _Place:
        if word != _VALUE and len(self.words) >= self._max_words:
            self.is_folded = True
            word = _VALUE
        return self.words.setdefault(signs + word, _Place())


def _parts(key: str) -> Iterator[tuple[str, str]]:
    """Signs and the word after them; a word that is a value is `{}`."""
    end = 0
    for _ in range(MAX_PARTS):
        found = _PART.match(key, end)
        if found is None or not found.group():
            return
        signs, word = found.groups()
        end = found.end()
        yield signs, _VALUE if word.isdigit() or _LONG_WORD.fullmatch(word) else word
    if end < len(key):
        yield "", _VALUE


def _matching(template: str) -> str:
    parts = parsed(template)
    separators = separators_of(parts)
    value = f"[^{re.escape(separators)}]*" if separators else ".*"
    return "".join(re.escape(part) if isinstance(part, str) else value for part in parts)


def _fixed_signs(template: str) -> int:
    return sum(len(part) for part in parsed(template) if isinstance(part, str))
