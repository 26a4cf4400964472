"""Under which key a result is kept: all that it depends on besides the rows of its tables."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from perfloop.cache.query_text import ReadStatement
from perfloop.cache.rows import encoded
from perfloop.errors import InvalidInput
from perfloop.model.value import Value

VERSION: Final = 1
"""Of how rows are made; another one finds none of the earlier results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """As whom a statement runs, and what its transaction has done."""

    identity: Any
    """Database, roles and settings, or the name that stands for them."""
    bypasses: bool = False
    """It has written, or sees an older state than others."""
    has_temporary: bool = False
    """It has had temporary tables, which hide others of the same name."""


class QueryStatistics(Value, frozen=True, kw_only=True):
    """What a QueryCache counts besides what its cache counts."""

    bypasses: int
    """Statements that ran as they are because their transaction had written, or sees an older state."""


def query_key(form: Any, identity: Any, read: ReadStatement, params: Any) -> str:
    """`query:`, the statement's own part, by which its keys belong together, and that of the rest.

    Raises:
        InvalidInput: A parameter has a type that no key can be made of.
    """
    statement = hashlib.blake2b(read.normal.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    whole = encoded([VERSION, form, identity, read.normal, list(read.names), _typed(params)])
    return f"query:{statement}:{hashlib.blake2b(whole, digest_size=20).hexdigest()}"


def _typed(params: Any) -> Any:
    if isinstance(params, Mapping):
        return [[name, _member(value)] for name, value in sorted(params.items())]
    if params is None or isinstance(params, list | tuple):
        return [_member(value) for value in params or ()]
    raise InvalidInput(f"parameters are a list, a tuple or a mapping, not a {type(params).__qualname__}")


def _member(value: Any) -> Any:
    if isinstance(value, Enum):
        return (type(value).__module__, type(value).__qualname__, value.name)
    return value
