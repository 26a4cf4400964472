"""What a rewriting rule is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from perfloop.tune.rewrites.catalogue import Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """What a rule made of a statement, and what it takes for granted of parameters or sessions."""

    tree: exp.Query
    assumes: tuple[str, ...] = ()


Rewrite = Callable[[exp.Query, Catalogue], Rewritten | None]
"""Takes a tree of its own, which it may change, and returns None where it proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A way to ask for the same rows in other words.

    `reason` is the one line of the proposal: what the words as they are cost.
    """

    name: str
    reason: str
    rewrite: Rewrite
