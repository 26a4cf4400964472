"""One metric split by labels, with a sealed number of label sets."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Final, Generic, Protocol, TypeVar

from perfloop.errors import InvalidInput

DEFAULT_MAX_LABEL_SETS: Final = 1000
OVERFLOW: Final = "_overflow"
"""The value of every label of the child that takes what the seal keeps out."""

LabelSet = str | tuple[str, ...]


class Child(Protocol):
    """What a family needs of a metric."""

    def restart(self) -> None: ...


C = TypeVar("C", bound=Child)


class Family(dict[LabelSet, C], Generic[C]):
    """The children of one metric by their label values; made by a Registry.

    `family["GET", "200"].observe(x)` is the fast way: a lookup in C. `family.labels("GET", "200")` and
    `family.labels(method="GET", status="200")` are the verbs of prometheus_client; they cost a Python call,
    so keep the child they return. A family of one label is asked with the bare value: `family["GET"]`.

    Values become strings. Once there are `max_label_sets` children, each further label set gets the one child
    whose labels all read "_overflow": nothing is lost, and a label that turns out to be a user's id cannot
    fill the memory. Children are never removed; treat the mapping as read-only.
    """

    __slots__ = ("_lock", "_make", "_relieve", "label_names", "max_label_sets")

    def __init__(
        self,
        label_names: tuple[str, ...],
        make: Callable[[], C],
        *,
        max_label_sets: int,
        relieve: Callable[[C], None] | None = None,
    ) -> None:
        super().__init__()
        self.label_names = label_names
        self.max_label_sets = max_label_sets
        self._make = make
        self._relieve = relieve
        self._lock = RLock()

    def labels(self, *values: object, **by_name: object) -> C:
        """The child of these label values, in order or by name.

        Raises:
            InvalidInput: values are missing, too many, or of unknown names.
        """
        if by_name:
            if values or by_name.keys() != set(self.label_names):
                raise self._wrong((*values, *by_name))
            values = tuple(by_name[name] for name in self.label_names)
        # Anything may be asked for: what is not a known tuple of strings is turned into one by __missing__.
        return self[values[0] if len(values) == 1 else values]  # type: ignore[index]

    def __missing__(self, key: object) -> C:
        values = tuple(map(str, key if isinstance(key, tuple) else (key,)))
        if len(values) != len(self.label_names):
            raise self._wrong(values)
        with self._lock:
            child = self._find(values)
            if child is None and len(self) >= self.max_label_sets:
                # The overflow child is one more than the seal allows, so that none is turned out for it.
                values = self._overflow
                child = self._find(values)
            if child is None:
                return self._insert(values)
        # Python runs here anyway, so it is a moment to look at the buffer; the hot path has none.
        if self._relieve is not None:
            self._relieve(child)
        return child

    def _find(self, values: tuple[str, ...]) -> C | None:
        return self.get(values[0] if len(values) == 1 else values)

    def _insert(self, values: tuple[str, ...]) -> C:
        if self._relieve is not None:
            for sibling in self.values():
                self._relieve(sibling)
        child = self._make()
        self[values[0] if len(values) == 1 else values] = child
        return child

    @property
    def _overflow(self) -> tuple[str, ...]:
        return (OVERFLOW,) * len(self.label_names)

    def _wrong(self, given: tuple[object, ...]) -> InvalidInput:
        return InvalidInput(
            f"the labels are {', '.join(self.label_names)}; give each of them one value, not {given!r}"
        )

    def children(self) -> tuple[tuple[tuple[str, ...], C], ...]:
        """All label sets with their children, in the order in which they were first seen."""
        with self._lock:
            return tuple(((key,) if isinstance(key, str) else key, child) for key, child in self.items())

    @property
    def overflowed(self) -> bool:
        """Whether the seal has kept a label set out."""
        return self._find(self._overflow) is not None

    def restart(self) -> None:
        """Start every child from zero; in a forked child only."""
        self._lock = RLock()
        for child in self.values():
            child.restart()
