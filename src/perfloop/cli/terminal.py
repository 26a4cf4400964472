"""The two consoles, and text that keeps its indentation when it wraps.

Results go to standard output, progress and faults to standard error. In a file or a pipe nothing is
padded, coloured or cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from perfloop.errors import InvalidInput
from perfloop.model.units import bytes_text

WIDEST = 120
"""Prose in longer lines is hard to read."""


class _Console(Console):
    """A console that leaves it to the caller what the end of its reader means."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def result_console() -> Console:
    """Standard output."""
    return _Console(highlight=False)


def error_console(*, quiet: bool = False) -> Console:
    """Standard error."""
    return _Console(stderr=True, quiet=quiet, highlight=False)


def output(text: str) -> None:
    """Print a result as it is, without styles or wrapping."""
    result_console().print(text, markup=False, soft_wrap=True)


def write_file(path: Path, text: str) -> None:
    """Write a result to the file that the user named; raises InvalidInput where that cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}; name another file") from error


def width_of(console: Console) -> int:
    """How many characters a line may have."""
    return min(console.width, WIDEST)


def show(console: Console, text: Text | str, *, lead: Text | str = "", indent: int = 0) -> None:
    """Print text behind its `lead`, and wrap it so that all lines begin `indent` characters from the left."""
    head = Text(lead) if isinstance(lead, str) else lead.copy()
    head.pad_right(max(0, indent - head.cell_len))
    body = Text(text) if isinstance(text, str) else text
    room = max(20, width_of(console) - indent)
    for number, line in enumerate(body.wrap(console, room)):
        line.rstrip()
        before = head if number == 0 else Text(" " * indent)
        console.print(Text.assemble(before, line), soft_wrap=True)


def show_table(console: Console, header: Iterable[str], rows: Iterable[tuple[str | Text, ...]]) -> None:
    """Print columns under a header, the first to the left and all others to the right."""
    titles = [Text(title, style="dim") for title in header]
    lines = [titles, *([Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)]
    widths = [max(line[column].cell_len for line in lines) for column in range(len(titles))]
    for line in lines:
        joined = Text()
        for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
            room = " " * (width - cell.cell_len)
            joined = joined + (cell + room if column == 0 else Text("  " + room) + cell)
        joined.rstrip()
        console.print(joined, soft_wrap=True)


def signed_bytes_text(size_bytes: int) -> str:
    """A difference in space for people; empty where there is none."""
    return f"{'+' if size_bytes > 0 else '-'}{bytes_text(abs(size_bytes))}" if size_bytes else ""


class OutputFile(click.ParamType[Any]):
    """A file to write: looked at before the work of minutes, not after it."""

    name = "file"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(str(value))
        if path.is_dir():
            self.fail(f"{path} is a folder; name a file in it", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"there is no folder {path.parent}; make it first", param, ctx)
        return path
