"""Puts real values in place of `$n`: drawn from pg_stats, so that plans are like those of the service.

The positions of the draws are stratified over the instances (a Latin hypercube over the parameters): five
instances hold common and rare values alike. Bounds of one range are drawn together, in order. Values
come from the table itself and are never interpolated, so that a key drawn is a key that exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

import msgspec

from perfloop.errors import UnsupportedStatement
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import TableName
from perfloop.validate.choices import Choices
from perfloop.validate.literals import (
    TypeKind,
    array_literal,
    as_type,
    default_value,
    literal,
    operand,
    quoted,
    type_kind,
)
from perfloop.validate.tokens import parameter_numbers, typed_parameters, with_parameters
from perfloop.validate.uses import Role, Use, read_uses

Sampler = Callable[[TableName, str], tuple[str, ...]]
"""Some values of a column in text form; asked only where pg_stats has none."""

ParameterTypes = Callable[[str], tuple[str, ...]]
"""The types that the server infers for $1, $2, …; empty where it cannot say."""

UNTYPED = ("'1'", "1", "'a'", "'2026-01-01'")
"""What stands for a `$n` of which the text tells nothing; the server says which one plans."""

_ANY_PATTERN = "%a%"
_LIST_LENGTHS = (5, 2, 10, 3, 20)
_OFFSETS = ("0", "20", "100")


def draw_instances(
    text: str,
    snapshot: Snapshot,
    *,
    rng: Random,
    count: int = 5,
    sample: Sampler | None = None,
    types: ParameterTypes | None = None,
    untyped: str = UNTYPED[0],
    limit: int = 20,
) -> tuple[str, ...]:
    """Up to `count` different texts with literals in place of `$n`; the text itself where it has none.

    The same generator state, text and snapshot give the same instances in every process. No
    parameter is ever NULL. Whether an instance plans is for the server to say.

    Raises UnsupportedStatement when the text cannot be parsed, or a parameter has no plausible value.
    """
    if not parameter_numbers(text):
        return (text,)
    uses = read_uses(text, snapshot)
    if types is not None:
        uses = _with_types(text, uses, types)
    draw = _Draw(uses, Choices(snapshot, sample), rng, count, untyped, limit)
    return tuple(dict.fromkeys(with_parameters(text, draw.instance(index)) for index in range(count)))


class _Draw:
    """The positions of all draws of one statement."""

    def __init__(
        self, uses: tuple[Use, ...], choices: Choices, rng: Random, count: int, untyped: str, limit: int
    ) -> None:
        self._uses = uses
        self._choices = choices
        self._rng = rng
        self._untyped = untyped
        self._limit = limit
        self._positions: dict[str, list[float]] = {}
        self._bounds: dict[tuple[Role, str], list[Use]] = {}
        for use in uses:
            self._bounds.setdefault((use.role, use.target), []).append(use)
            if _group(use) not in self._positions:
                strata = list(range(count))
                rng.shuffle(strata)
                self._positions[_group(use)] = [(stratum + rng.random()) / count for stratum in strata]

    def instance(self, index: int) -> Mapping[int, str]:
        """The SQL of every parameter in one instance."""
        return {use.number: self._sql(use, index) for use in self._uses}

    def _sql(self, use: Use, index: int) -> str:
        constant = self._constant(use, index)
        if constant is not None:
            return constant
        position = self._positions[_group(use)][index]
        match use.role:
            case Role.VALUE:
                return self._default(use.type_name or "", index)
            case Role.ELEMENTS:
                return array_literal(self._several(use, position, index))
            case Role.INSERTED | Role.ASSIGNED:
                return self._stored(use, position, index)
        if use.many:
            return ", ".join(literal(value, _type(use)) for value in self._several(use, position, index))
        value = self._value(use, position, index)
        return (
            operand(value, _type(use))
            if use.shifted and use.type_name is None
            else literal(value, _type(use))
        )

    def _constant(self, use: Use, index: int) -> str | None:
        """What a parameter becomes whose role says all, or None."""
        match use.role:
            case Role.LIMIT:
                return str(self._limit)
            case Role.OFFSET:
                return _OFFSETS[index % len(_OFFSETS)]
            case Role.INTERVAL:
                return self._default("interval", index) + ("" if use.type_name else "::interval")
            case Role.UNIT:
                return quoted(use.key or "day")
            case Role.SHIFT:
                return self._shift(use, index)
            case Role.CONFIGURATION:
                return quoted(self._choices.configuration(use.site))
            case Role.KEY if use.key is not None:
                return array_literal((self._value(use, 0.0, index),))
        unknown = quoted(_ANY_PATTERN) if use.is_pattern else self._untyped
        return unknown if use.site is None and use.type_name is None else None

    def _value(self, use: Use, position: float, index: int) -> str:
        found = self._choices.value(use, position, self._partners(use), index)
        fitting = found
        is_cast = use.type_name is not None and use.role is not Role.ELEMENTS
        if found is not None and is_cast and use.site is not None:
            fitting = as_type(found, use.type_name, of=use.site.column.type_name)
        value = fitting if fitting is not None else default_value(_type(use), index)
        if value is None:
            raise UnsupportedStatement(f"no plausible value for ${use.number} {_whereabouts(use)}")
        if found is None and use.is_pattern:
            value = f"%{value}%"
        return value.lower() if use.ignores_case else value

    def _several(self, use: Use, position: float, index: int) -> tuple[str, ...]:
        length = _LIST_LENGTHS[index % len(_LIST_LENGTHS)]
        spread = ((position + step / length) % 1.0 for step in range(length))
        return tuple(dict.fromkeys(self._value(use, each, index) for each in spread))

    def _stored(self, use: Use, position: float, index: int) -> str:
        may_exist = use.role is Role.INSERTED and use.upserts and index % 2 == 0
        fresh = None if may_exist else self._choices.fresh(use, self._rng)
        if fresh is not None:
            return literal(fresh, _type(use))
        return literal(self._value(use, position, index), _type(use))

    def _shift(self, use: Use, index: int) -> str:
        if type_kind(_type(use)) in (TypeKind.TIMESTAMP, TypeKind.DATE, TypeKind.TIME):
            return self._default("interval", index) + "::interval"
        return "1"

    def _default(self, type_name: str, index: int) -> str:
        value = default_value(type_name, index)
        if value is None:
            raise UnsupportedStatement(f"no plausible value of type {type_name}")
        return literal(value, type_name)

    def _partners(self, use: Use) -> tuple[Use, ...]:
        """The other bounds of the same range."""
        if use.role not in (Role.LOW, Role.HIGH):
            return ()
        opposite = Role.HIGH if use.role is Role.LOW else Role.LOW
        return tuple(self._bounds.get((opposite, use.target), ()))


def _with_types(text: str, uses: tuple[Use, ...], types: ParameterTypes) -> tuple[Use, ...]:
    """Add the server's types to the uses of which the text alone tells neither column nor type."""
    constants = {use.number: _typed_constant(use) for use in uses if use.number in typed_parameters(text)}
    asked = [use.number for use in uses if use.number not in constants]
    renumbered = {number: f"${place}" for place, number in enumerate(asked, start=1)}
    found = dict(zip(asked, types(with_parameters(text, renumbered | constants)), strict=False))
    return tuple(
        msgspec.structs.replace(use, type_name=found[use.number])
        if use.number in found and use.site is None and use.type_name is None
        else use
        for use in uses
    )


def _typed_constant(use: Use) -> str:
    if use.role is Role.UNIT:
        return quoted(use.key or "day")
    return quoted(default_value(use.type_name, 0) or "")


def _group(use: Use) -> str:
    """Parameters of one group move together: bounds of one range, and ids of the same name."""
    if use.role in (Role.LOW, Role.HIGH):
        return f"range {use.target}"
    if use.role is Role.EQUAL and use.site is not None and not use.many:
        name = use.site.column.name
        if name.endswith("_id"):
            return f"id {name}"
    return f"${use.number}"


def _type(use: Use) -> str | None:
    if use.type_name is not None:
        return use.type_name
    return use.site.column.type_name if use.site is not None else None


def _whereabouts(use: Use) -> str:
    if use.site is None:
        return "(its type is not known)"
    return f"for {use.site.table.name}.{use.site.column.name} of type {use.site.column.type_name}"
