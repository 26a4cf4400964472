"""Readings as text: Prometheus 0.0.4 and OpenMetrics 1.0.

Both formats know only classic buckets in text, so they are derived here from the exponential ones by joining
neighbours: every `le` is an edge, and no count is interpolated. Negative values, zeros and NaN follow the
rules of Prometheus: what is below an edge is in its bucket, NaN only in the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from perfloop.metrics.buckets import Buckets, coarsen, edge

Kind = Literal["counter", "gauge", "histogram"]

BASE_UNITS: Final = ("seconds", "bytes", "ratio", "celsius", "joules", "grams", "meters", "volts", "amperes")
"""The units OpenMetrics knows; a name that ends in one of them declares it."""
DEFAULT_BUCKET_SCALE: Final = 1
"""Two buckets an octave: each `le` is 1.41 times the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One set of label values with what was counted under it; a histogram's value is its buckets."""

    label_values: tuple[str, ...] = ()
    value: float | Buckets


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One metric as it stood at one moment. A counter's name comes without its `_total`."""

    name: str
    kind: Kind
    help_text: str = ""
    label_names: tuple[str, ...] = ()
    series: tuple[Series, ...]

    @property
    def unit(self) -> str | None:
        """The base unit that the name ends in."""
        ending = self.name.rpartition("_")[2]
        return ending if ending in BASE_UNITS and ending != self.name else None


def joined(readings: Iterable[Reading]) -> tuple[Reading, ...]:
    """One reading a name, with the series of all that have it; the first says the rest."""
    by_name: dict[str, Reading] = {}
    for reading in readings:
        known = by_name.get(reading.name)
        by_name[reading.name] = (
            reading if known is None else replace(known, series=(*known.series, *reading.series))
        )
    return tuple(by_name.values())


def prometheus_text(readings: Iterable[Reading], *, bucket_scale: int = DEFAULT_BUCKET_SCALE) -> str:
    """Render for a scraper that accepts `text/plain; version=0.0.4`."""
    lines: list[str] = []
    for reading in readings:
        name = f"{reading.name}_total" if reading.kind == "counter" else reading.name
        if reading.help_text:
            lines.append(f"# HELP {name} {_escaped(reading.help_text)}")
        lines.append(f"# TYPE {name} {reading.kind}")
        lines.extend(_samples(reading, bucket_scale))
    return "".join(f"{line}\n" for line in lines)


def openmetrics_text(
    readings: Iterable[Reading], *, created_s: float, bucket_scale: int = DEFAULT_BUCKET_SCALE
) -> str:
    """Render for a scraper that accepts `application/openmetrics-text; version=1.0.0`.

    `created_s` is when all of them started from zero, in seconds since the epoch.
    """
    lines: list[str] = []
    for reading in readings:
        lines.append(f"# TYPE {reading.name} {reading.kind}")
        if reading.unit:
            lines.append(f"# UNIT {reading.name} {reading.unit}")
        if reading.help_text:
            lines.append(f"# HELP {reading.name} {_escaped(reading.help_text, quote=True)}")
        lines.extend(_samples(reading, bucket_scale, created_s=created_s))
    return "".join(f"{line}\n" for line in (*lines, "# EOF"))


def _samples(reading: Reading, bucket_scale: int, *, created_s: float | None = None) -> Iterator[str]:
    for series in reading.series:
        labels = _pairs(reading.label_names, series.label_values)
        if isinstance(series.value, Buckets):
            yield from _classic(reading.name, labels, coarsen(series.value, bucket_scale))
        else:
            suffix = "_total" if reading.kind == "counter" else ""
            yield _line(reading.name + suffix, labels, _number(series.value))
        if created_s is not None and reading.kind != "gauge":
            yield _line(f"{reading.name}_created", labels, _number(created_s))


def _classic(name: str, labels: Sequence[str], buckets: Buckets) -> Iterator[str]:
    count = buckets.count
    below = buckets.negative + buckets.zero
    if buckets.counts.size:
        # The edge below the first bucket, so that zeros and negative values can be told from it.
        cumulative = [below, *(int(n) + below for n in buckets.counts.cumsum())]
        for position, at_most in enumerate(cumulative):
            upper = edge(buckets.offset + position, buckets.scale)
            if math.isfinite(upper):
                yield _line(f"{name}_bucket", (*labels, f'le="{_number(upper)}"'), str(at_most))
    yield _line(f"{name}_bucket", (*labels, 'le="+Inf"'), str(count))
    yield _line(f"{name}_sum", labels, _number(buckets.total))
    yield _line(f"{name}_count", labels, str(count))


def _line(name: str, labels: Sequence[str], number: str) -> str:
    return f"{name}{{{','.join(labels)}}} {number}" if labels else f"{name} {number}"


def _pairs(names: tuple[str, ...], values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f'{name}="{_escaped(value, quote=True)}"' for name, value in zip(names, values, strict=True))


def _escaped(text: str, *, quote: bool = False) -> str:
    # A lone surrogate (an undecodable file name) would make the whole page impossible to encode.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
