"""Says by its content whether a given path is SQL or a server's log, and walks folders without harm.

Links to folders are not followed, so that a loop of them ends; what is no plain file is passed over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.validate.log_lines import beginning_of
from perfloop.validate.log_records import LogFormat, format_of
from perfloop.validate.server_log import LogNote

SQL_SUFFIXES = (".sql", ".pgbench")
_NO_LOG = "it has no line that a PostgreSQL server writes"
_BEST_FIRST = (LogFormat.JSON, LogFormat.CSV, LogFormat.STDERR)


def logs_of(path: Path) -> tuple[tuple[Path, ...], tuple[LogNote, ...]]:
    """The logs that a path names, and what is said of the rest; no logs where it is SQL, or nothing.

    A server that writes several formats writes everything in each; of a folder the one that tells most
    is read. A folder with .sql files is a folder of SQL.
    """
    if path.is_file():
        return ((path,), ()) if _format(path) is not None else ((), ())
    if not path.is_dir():
        return (), ()
    files, unread = files_below(path)
    if any(each.suffix in SQL_SUFFIXES for each in files):
        return (), ()
    notes = [LogNote(name=name, reason=reason) for name, reason in unread]
    by_format: dict[LogFormat | None, list[Path]] = {}
    for each in files:
        by_format.setdefault(_format(each), []).append(each)
    best = next((form for form in _BEST_FIRST if form in by_format), None)
    if best is None:
        return (), ()
    notes += [LogNote(name=each.name, reason=_NO_LOG) for each in by_format.pop(None, ())]
    logs = tuple(by_format.pop(best))
    reason = f"left out: {best.value} is there, too, and has the same statements"
    notes += [LogNote(name=each.name, reason=reason) for paths in by_format.values() for each in paths]
    return logs, tuple(notes)


def required_logs(path: Path) -> tuple[tuple[Path, ...], tuple[LogNote, ...]]:
    """As `logs_of`, for an option that takes nothing else. Raises InvalidInput where there is no log."""
    if not path.exists():
        raise InvalidInput(f"there is no file or folder {path}; give a server's log or a folder of logs")
    found, notes = logs_of(path)
    if not found:
        raise InvalidInput(
            f"{path} is no log of a PostgreSQL server; give one in stderr format, csvlog or jsonlog, "
            "plain or gzip, or a folder of them"
        )
    return found, notes


def files_below(folder: Path) -> tuple[tuple[Path, ...], tuple[tuple[str, str], ...]]:
    """The plain files below a folder by path, and (name, reason) of the folders that cannot be read."""
    unread: list[tuple[str, str]] = []

    def refused(error: OSError) -> None:
        unread.append((Path(str(error.filename)).name, f"cannot be read: {error.strerror}"))

    return tuple(sorted(_walked(folder, refused))), tuple(unread)


def _walked(folder: Path, refused: Callable[[OSError], None]) -> Iterator[Path]:
    for root, _, names in os.walk(folder, onerror=refused, followlinks=False):
        for name in names:
            path = Path(root, name)
            if _is_plain(path):
                yield path


def _is_plain(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _format(path: Path) -> LogFormat | None:
    if path.suffix in SQL_SUFFIXES:
        return None
    try:
        return format_of(beginning_of(path))
    except UnsupportedStatement:
        return None
