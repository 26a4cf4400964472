"""The base of every value: frozen, slotted, keyword-only, and with one JSON form for journal and reports."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from perfloop.errors import InvalidValue

ValueT = TypeVar("ValueT")


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Base of the model's values. Subclasses repeat `kw_only=True`, which msgspec does not inherit.

    Unknown fields are ignored when decoding, so that an older perfloop reads a newer journal.
    """


def to_json(value: object) -> bytes:
    """Encode a value, or a collection of values, as JSON."""
    return msgspec.json.encode(value)


def from_json(document: bytes | str, kind: type[ValueT]) -> ValueT:
    """Decode what `to_json` wrote. Raises InvalidValue when the document does not describe a `kind`."""
    try:
        return msgspec.json.decode(document, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InvalidValue(f"this is not the JSON of a {kind.__name__}: {error}") from error


def require(condition: bool, fact: str) -> None:
    """Raise InvalidValue with the `fact` unless the `condition` holds; for `__post_init__`."""
    if not condition:
        raise InvalidValue(fact)
