"""Sequences that run out, or overflow the column that they fill before."""

from __future__ import annotations

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.health import Sequence
from perfloop.model.snapshot import Snapshot
from perfloop.model.units import count_text, share_text
from perfloop.model.value import Value

USED_RATIO = 0.90
"""The limit of PgHero and postgres-mcp, which both look at the sequence alone."""


class _Range(Value, frozen=True, kw_only=True):
    """Where a sequence runs, counted upwards: a descending one is mirrored."""

    first: int
    last_value: int
    end: int
    by_column: bool

    @property
    def used_ratio(self) -> float:
        return (self.last_value - self.first) / max(1, self.end - self.first)


def sequences_near_end(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Sequences that have used up nine tenths of what they, or the columns they fill, can hold."""
    return tuple(
        _finding(sequence, span)
        for sequence in snapshot.health.sequences
        if (span := _range(sequence)) is not None and span.used_ratio >= USED_RATIO
    )


def _range(sequence: Sequence) -> _Range | None:
    """None where there is no end: never used, or it starts over before the column is full."""
    if sequence.last_value is None:
        return None
    sign = 1 if sequence.increment > 0 else -1
    least, most = (sequence.minimum, sequence.maximum)[::sign]
    held = _column_end(sequence, ascending=sign > 0)
    own_end = sign * most
    end = own_end if held is None else min(own_end, sign * held)
    if sequence.cycles and end == own_end:
        return None
    return _Range(
        first=max(sign * least, min(sign * sequence.start, 0)),
        last_value=sign * sequence.last_value,
        end=end,
        by_column=end < own_end,
    )


def _column_end(sequence: Sequence, *, ascending: bool) -> int | None:
    if sequence.column_bytes is None:
        return None
    half: int = 2 ** (8 * sequence.column_bytes - 1)
    return half - 1 if ascending else -half


def _finding(sequence: Sequence, span: _Range) -> Finding:
    left = max(0, (span.end - span.last_value) // abs(sequence.increment))
    what = f"column {sequence.column}" if span.by_column else f"sequence {sequence}"
    column = sequence.column or ""
    return Finding(
        check="sequence-end",
        severity=Severity.HIGH,
        title=f"{what[0].upper()}{what[1:]} has {count_text(left)} values left: then inserts fail",
        location=str(sequence),
        evidence=(
            Evidence(label="used", value=share_text(span.used_ratio)),
            Evidence(label="last value", value=count_text(sequence.last_value or 0)),
            Evidence(label="sequence", value=f"{sequence}, {sequence.minimum:,} to {sequence.maximum:,}"),
            *((Evidence(label="fills", value=column),) if column else ()),
        ),
        would_try=(
            f"nothing in a lab: bigint for {column}, in steps (new column, trigger, backfill, swap), and for"
            " what refers to it"
            if sequence.column_bytes in (2, 4)
            else f"nothing in a lab: ALTER SEQUENCE {sequence} with a wider range"
        ),
    )
