"""Opens server logs whatever they are: plain or gzip, UTF-8 or not, whole or cut, and gives their lines.

A line is never longer than LONGEST_LINE, so that a file without line ends does not fill the memory.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from perfloop.errors import UnsupportedStatement

LONGEST_LINE = 4 * 1024**2
"""Characters; what is beyond is dropped."""

_GZIP = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_TELL_EVERY_LINES = 20_000
_UNZIPPED_TIMES_AT_MOST = 200
"""A log shrinks tenfold; what shrinks more is a bomb."""
_BEGINNING_BYTES = 65_536


class LogLines:
    """The lines of one log, without their ends; `notes` says afterwards what was wrong with it.

    Bytes that are not UTF-8 come as surrogates; see `repaired`.
    """

    def __init__(self, path: Path, tell: Callable[[str], None] | None = None) -> None:
        self._path = path
        self._tell = tell
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[str]:
        """Raises UnsupportedStatement where the file cannot be read at all."""
        try:
            with _opened(self._path) as (raw, text):
                yield from self._lines(raw, text)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.notes.append(f"it is cut or damaged as a gzip file: {error}")
        except OSError as error:
            raise UnsupportedStatement(f"{self._path.name} cannot be read: {error.strerror}") from error

    def _lines(self, raw: BinaryIO, text: io.TextIOWrapper) -> Iterator[str]:
        size = os.fstat(raw.fileno()).st_size
        unread = size * _UNZIPPED_TIMES_AT_MOST
        count = 0
        while line := text.readline(LONGEST_LINE):
            unread -= len(line)
            if unread < 0:
                self.notes.append(f"it unpacks to more than {_UNZIPPED_TIMES_AT_MOST} times its size")
                return
            count += 1
            if count % _TELL_EVERY_LINES == 0 and self._tell is not None:
                self._tell(f"reading {self._path.name}, {raw.tell() / max(1, size):.0%}")
            if not line.endswith("\n") and len(line) >= LONGEST_LINE:
                self.notes.append(f"line {count} is longer than {LONGEST_LINE:,} characters")
                while (rest := text.readline(LONGEST_LINE)) and not rest.endswith("\n"):
                    unread -= len(rest)
            yield line.rstrip("\r\n")


def repaired(text: str) -> str:
    """The text with bytes that were not UTF-8 read as Latin-1, which every byte can be."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    return text


def beginning_of(path: Path) -> str:
    """The first lines of a file, unpacked, as far as it is whole; may end in the middle of one.

    Raises UnsupportedStatement where it cannot be read.
    """
    read = ""
    try:
        with _opened(path) as (_, text):
            while len(read) < _BEGINNING_BYTES and (more := text.readline(_BEGINNING_BYTES)):
                read += more
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return read
    except OSError as error:
        raise UnsupportedStatement(f"{path.name} cannot be read: {error.strerror}") from error
    return read


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, io.TextIOWrapper]]:
    with path.open("rb") as raw:
        first = raw.read(2)
        raw.seek(0)
        packed = first == _GZIP
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb")) if packed else raw
        encoding = "utf-16" if first in _UTF_16 else "utf-8-sig"
        errors = "replace" if encoding == "utf-16" else "surrogateescape"
        with io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline="\n") as text:
            yield raw, text
