"""What workers write, as lines."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final

LONGEST: Final = 16 * 1024
"""Bytes of a line; a longer one is told in several, each but the last ending with `CUT`."""
CUT: Final = " …"
_READ: Final = 64 * 1024
_LAST_READS: Final = 16
"""As much as a pipe holds: what the worker started may write for ever."""


class Lines:
    """Cuts what comes into lines.

    Args:
        on_line: Is told each, without its end.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def add(self, part: bytes) -> None:
        """Tell the lines that are whole now."""
        *whole, self._rest = (self._rest + part).split(b"\n")
        for line in whole:
            self._tell(line)
        while len(self._rest) > LONGEST:
            self._on_line(_text(self._rest[:LONGEST]) + CUT)
            self._rest = self._rest[LONGEST:]

    def end(self) -> None:
        """Tell what was left without an end."""
        if self._rest:
            self._tell(self._rest)
            self._rest = b""

    def _tell(self, line: bytes) -> None:
        while len(line) > LONGEST:
            self._on_line(_text(line[:LONGEST]) + CUT)
            line = line[LONGEST:]
        self._on_line(_text(line.removesuffix(b"\r")))


class Output:
    """The two pipes of one worker.

    Args:
        on_line: Is told the stream, `out` or `err`, and the line.
    """

    def __init__(self, on_line: Callable[[str, str], None]) -> None:
        self._on_line = on_line
        self._lines: dict[int, Lines] = {}
        self.last_error = ""
        """The last line of the standard error."""
        self.last_error_s = 0.0
        """When it was read, on the monotonic clock."""

    def open(self) -> tuple[int, int]:
        """Begin to read; the ends that the worker writes to, for the caller to close."""
        return self._pipe("out"), self._pipe("err")

    def end(self) -> None:
        """Tell what is there, and read no more: what the worker started may hold its ends."""
        for reading in list(self._lines):
            for _ in range(_LAST_READS):
                if reading not in self._lines or not self._read(reading):
                    break
            self._close(reading)

    def _pipe(self, stream: str) -> int:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self._lines[reading] = Lines(lambda line: self._tell(stream, line))
        asyncio.get_running_loop().add_reader(reading, self._read, reading)
        return writing

    def _tell(self, stream: str, line: str) -> None:
        if stream == "err":
            self.last_error, self.last_error_s = line, time.monotonic()
        self._on_line(stream, line)

    def _read(self, reading: int) -> bool:
        """Take a part; whether there was one."""
        try:
            part = os.read(reading, _READ)
        except BlockingIOError:
            return False
        if part:
            self._lines[reading].add(part)
            return True
        self._close(reading)
        return False

    def _close(self, reading: int) -> None:
        lines = self._lines.pop(reading, None)
        if lines is not None:
            asyncio.get_running_loop().remove_reader(reading)
            os.close(reading)
            lines.end()


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")
