"""Compression with zstd, where Python has it: in the library from 3.14 on, below by an extra.

Level 1: a cache compresses on every store, and higher levels cost more than the bytes that they spare. What
others wrote is decompressed only where its frame says its size, so that a few bytes cannot fill the memory.
"""

from __future__ import annotations

import importlib
from typing import Any, Final, Protocol

MAX_BODY_BYTES: Final = 256 * 2**20
"""No more is decompressed: half of what Redis keeps in one value."""
_LEVEL: Final = 1


class _Zstd(Protocol):
    """As much of `compression.zstd` as is used."""

    ZstdError: type[Exception]
    ZstdDecompressor: Any

    def compress(self, data: bytes, level: int, /) -> bytes: ...

    def get_frame_info(self, frame_buffer: bytes, /) -> Any: ...


def _find_zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


_zstd: _Zstd | None = _find_zstd()


def is_there() -> bool:
    """Whether this Python can do it; the other functions are called only then."""
    return _zstd is not None


def compressed(body: bytes) -> bytes:
    """A frame that says its size."""
    assert _zstd is not None
    return _zstd.compress(body, _LEVEL)


def decompressed(body: bytes) -> bytes | None:
    """None where the frame is damaged, says no size, or is larger than any value may be."""
    assert _zstd is not None
    try:
        size = _zstd.get_frame_info(body).decompressed_size
        if size is None or size > MAX_BODY_BYTES:
            return None
        decompressor = _zstd.ZstdDecompressor()
        whole: bytes = decompressor.decompress(body, size + 1)
    except _zstd.ZstdError:
        return None
    is_whole = decompressor.eof and not decompressor.unused_data and len(whole) == size
    return whole if is_whole else None
