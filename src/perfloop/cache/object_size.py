"""What a value costs in memory, near enough to bound a cache by it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from itertools import chain, islice
from typing import Final

WALKED_ITEMS: Final = 32
"""Items of one collection that are looked at; the others are taken to be like them."""
DEPTH: Final = 4
_UNKNOWN_BYTES: Final = 64
_PLAIN: Final = (str, bytes, bytearray, int, float, complex, bool, type(None))


def object_bytes(value: object, depth: int = DEPTH) -> int:
    """Bytes of a value with what it holds, as `sys.getsizeof` counts them.

    What two values share is counted in both; large collections are extrapolated from their first items. A
    value with a `nbytes` of its own (an array) is believed; one whose code fails counts as an empty object.
    Where that is too wrong, give the size yourself.
    """
    try:
        return _walked_bytes(value, depth)
    except Exception:  # noqa: BLE001 - of the value's own code, any: to be measured is no reason to fail
        return _UNKNOWN_BYTES


def _walked_bytes(value: object, depth: int) -> int:
    if isinstance(value, _PLAIN):
        return sys.getsizeof(value)
    nbytes = getattr(value, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes + sys.getsizeof(value, _UNKNOWN_BYTES)
    own_bytes = sys.getsizeof(value, _UNKNOWN_BYTES)
    if depth == 0:
        return own_bytes
    if isinstance(value, dict):
        return own_bytes + _items_bytes(chain.from_iterable(value.items()), 2 * len(value), depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return own_bytes + _items_bytes(value, len(value), depth)
    return own_bytes + _attributes_bytes(value, depth)


def _items_bytes(items: Iterable[object], count: int, depth: int) -> int:
    # A copy first, made without running any Python code: another thread may be changing the collection.
    copied = list(islice(items, WALKED_ITEMS))
    walked = [object_bytes(item, depth - 1) for item in copied]
    return sum(walked) * count // len(walked) if walked else 0


def _attributes_bytes(value: object, depth: int) -> int:
    own = getattr(value, "__dict__", None)
    held = 0 if own is None else object_bytes(own, depth)
    return held + sum(
        object_bytes(getattr(value, name), depth - 1) for name in _slots(type(value)) if hasattr(value, name)
    )


def _slots(kind: type) -> Collection[str]:
    names: list[str] = []
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return names
