"""Between text and SI units: sizes as PostgreSQL writes them, figures as people read them."""

from __future__ import annotations

import re

from perfloop.errors import InvalidInput
from perfloop.model.target import Setting

_BYTES = {"B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_SIZE = re.compile(r"(-?\d+(?:\.\d+)?)(?:\s*([kMGT]?B))?")
_LONGEST_SIZE = 100
"""Characters; what is longer is no size."""
_UNIT = re.compile(r"(\d*)([kMGT]?B)")


def size_bytes(text: str, unit: str | None = None) -> int:
    """Read a size in bytes, as '64MB', or '128' counted in `unit` ('8kB'). Raises InvalidInput otherwise.

    >>> size_bytes("64MB"), size_bytes("128", "8kB")
    (67108864, 1048576)
    """
    match = _SIZE.fullmatch(text.strip()) if len(text) <= _LONGEST_SIZE else None
    counted_in = _UNIT.fullmatch(unit) if unit else None
    if match is None or (match[2] is None and counted_in is None):
        raise InvalidInput(f"{text[:_LONGEST_SIZE]!r} is not a size; write it as 64MB")
    if match[2] is not None:
        return int(float(match[1]) * _BYTES[match[2]])
    assert counted_in is not None
    return int(float(match[1]) * int(counted_in[1] or 1) * _BYTES[counted_in[2]])


def setting_bytes(setting: Setting | None) -> int | None:
    """The size that a setting stands for; None where it is absent or -1, which leaves it to the server."""
    if setting is None or setting.value.startswith("-"):
        return None
    return size_bytes(setting.value, setting.unit)


def bytes_text(size: float) -> str:
    """A size for people, in powers of 1024.

    >>> bytes_text(0), bytes_text(8192), bytes_text(25 * 1024**2), bytes_text(1.5 * 1024**3)
    ('0 B', '8 kB', '25 MB', '1.5 GB')
    """
    for unit in reversed(_BYTES):
        if abs(size) >= _BYTES[unit]:
            return f"{_rounded(size / _BYTES[unit])} {unit}"
    return f"{size:.0f} B"


def seconds_text(seconds: float) -> str:
    """A duration for people, with about three digits.

    >>> seconds_text(0.000021), seconds_text(0.0042), seconds_text(12), seconds_text(7200), seconds_text(1e6)
    ('0.021 ms', '4.2 ms', '12 s', '2 hours', '11.6 days')
    """
    if abs(seconds) < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    for length, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if abs(seconds) >= 2 * length:
            return f"{_rounded(seconds / length)} {name}"
    return f"{_rounded(seconds)} s"


def share_text(ratio: float) -> str:
    """A ratio as a percentage.

    >>> share_text(0.62), share_text(0.031), share_text(0.0004)
    ('62 %', '3.1 %', '0.04 %')
    """
    percent = ratio * 100
    return f"{percent:.0f} %" if abs(percent) >= 10 else f"{percent:.2g} %"


def count_text(number: float) -> str:
    """A whole number with separators.

    >>> count_text(29000.4)
    '29,000'
    """
    return f"{number:,.0f}"


def _rounded(number: float) -> str:
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"
