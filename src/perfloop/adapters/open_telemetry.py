"""Numbers that somebody else counts, as observable instruments of OpenTelemetry.

Needs `opentelemetry-api`, which whoever has a Meter has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from perfloop.errors import InvalidInput

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

Measured = Iterable[tuple[float, Mapping[str, str]]]
"""Values with their attributes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One instrument, and what it shows at each collection."""

    name: str
    unit: str
    description: str
    kind: Literal["counter", "up_down_counter", "gauge"]
    """A gauge does not add up over processes; an up_down_counter does."""
    read: Callable[[], Measured]


def observe(meter: Meter, instruments: Sequence[Instrument]) -> None:
    """Have the meter show these. The API has no way to take them back: `read` may return nothing later.

    Raises:
        InvalidInput: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.metrics import Observation
    except ImportError:
        raise InvalidInput("OpenTelemetry is not installed; pip install 'perfloop[otel]'") from None

    def callback(read: Callable[[], Measured]) -> Callable[[CallbackOptions], list[Observation]]:
        return lambda options: [Observation(value, dict(attributes)) for value, attributes in read()]

    creators = {
        "counter": meter.create_observable_counter,
        "up_down_counter": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }
    for each in instruments:
        creators[each.kind](each.name, [callback(each.read)], each.unit, each.description)
