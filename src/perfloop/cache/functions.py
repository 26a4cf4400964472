"""What a cache asks of the functions that it decorates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from perfloop.cache.usage_counts import UsageCounts
from perfloop.errors import InvalidInput


class Templates:
    """Which function each template of one cache belongs to."""

    __slots__ = ("_owners", "_usage")

    def __init__(self, usage: UsageCounts | None = None) -> None:
        self._owners: dict[str, object] = {}
        self._usage = usage

    def take(self, template: str, function: Callable[..., Any]) -> None:
        """Have a template for a function; one that is defined anew, by a reload or a factory, is the same.

        Raises:
            InvalidInput: Another function has it, and either would get the other's values.
        """
        identity = _identity(function)
        owner = self._owners.setdefault(template, identity)
        if owner != identity:
            raise InvalidInput(
                f"{_name(owner)} has the key {template!r} already, so that {_name(identity)} would get its"
                " values; give each function a key of its own"
            )
        if self._usage is not None:
            self._usage.tallies.declare(template)


def _identity(function: Callable[..., Any]) -> object:
    name = getattr(function, "__qualname__", None)
    return function if name is None else (function.__module__, name)


def _name(identity: object) -> str:
    return ".".join(identity) if isinstance(identity, tuple) else repr(identity)


def require_batch(function: Callable[..., Any]) -> None:
    """Raise InvalidInput unless the members alone are enough to call it."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # of a built-in that tells none
        return
    try:
        signature.bind([])
    except TypeError:
        raise InvalidInput(
            f"{_name(_identity(function))}{signature} has to take the list of members and nothing else; of a"
            " method, decorate a bound one: `self.many = cache.cached_many(…)(self.load)`"
        ) from None


def by_member(returned: Mapping[Any, Any], function: Callable[..., Any]) -> Mapping[Any, Any]:
    """What a function of many members returned; raises InvalidInput unless that says whose each value is."""
    if isinstance(returned, Mapping):
        return returned
    raise InvalidInput(
        f"{_name(_identity(function))} returned a {type(returned).__name__}; it has to return a mapping of"
        " the members that it was given to their values, as {member: value}"
    )
