"""Where a fleet's control socket is, and who answers there."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final

import msgspec

from perfloop.errors import FleetNotFound, InvalidInput
from perfloop.model.value import Value

_LONGEST: Final = 100
"""Bytes of a path that every system takes for a socket."""
CONNECT_S: Final = 5.0


class Asked(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a fleet is to do, in one line of JSON."""

    act: str
    """status, restart, scale, drain, examine, or events."""
    name: str = ""
    count: int = 0
    follow: bool = False
    for_s: float = 0.0


class Answer(Value, frozen=True, kw_only=True):
    """What came of it, in one line of JSON; events are one answer each."""

    value: Any = None
    error: str | None = None
    is_last: bool = True


def runtime_folder() -> Path:
    """Where the sockets of this user's fleets are."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    return Path(given, "perfloop") if given else Path(gettempdir(), f"perfloop-{os.geteuid()}")


def usual_place(fleet_file: Path) -> Path:
    """The socket of the fleet of this file, if the file names none."""
    digest = sha256(os.fsencode(fleet_file.resolve())).hexdigest()[:8]
    return runtime_folder() / f"{fleet_file.stem[:30]}-{digest}.sock"


def running_fleets() -> list[Path]:
    """The sockets of this user's fleets that answer, but for those whose file names a place of its own."""
    return [each for each in sorted(runtime_folder().glob("*.sock")) if is_answered(each)]


def only_fleet() -> Path:
    """The socket of the one fleet that runs.

    Raises:
        FleetNotFound: None runs, or several do.
    """
    found = running_fleets()
    if not found:
        raise FleetNotFound(
            "no fleet runs for this user; start one with `perfloop supervise FILE`, or name its file with"
            " --fleet"
        )
    if len(found) > 1:
        names = ", ".join(each.stem.rpartition("-")[0] for each in found)
        raise FleetNotFound(f"several fleets run: {names}; name the file of one with --fleet")
    return found[0]


def is_answered(place: Path) -> bool:
    """Whether somebody listens at a socket; who is too busy to answer does."""
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(CONNECT_S)
        try:
            end.connect(str(place))
        except TimeoutError:
            return True
        except OSError:
            return False
        return True


def free_place(place: Path) -> None:
    """Take away what a fleet that is gone has left.

    Raises:
        InvalidInput: A fleet answers there, or something else than a socket is there.
    """
    if is_answered(place):
        raise InvalidInput(f"a fleet answers at {place} already; end it, or name another path as `control`")
    if place.exists() and not place.is_socket():
        raise InvalidInput(f"{place} is there and is no socket; name another path as `control`")
    place.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other supervisors from this folder: two that find a place free at once would both take it."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def make_place(place: Path) -> None:
    """Make the folder of a socket, for this user alone.

    Raises:
        InvalidInput: No socket can be made at this path, or others could replace it.
    """
    if len(os.fsencode(place)) > _LONGEST:
        raise InvalidInput(f"{place} is too long for a socket; name a shorter path as `control`")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.parent.lstat()
    except OSError as error:
        raise InvalidInput(f"no socket can be made at {place}: {error.strerror}") from error
    if place.parent == runtime_folder() and (found.st_uid != os.geteuid() or found.st_mode & 0o077):
        raise InvalidInput(f"{place.parent} belongs to others too; name another path as `control`")


def to_line(value: object) -> bytes:
    """As it goes over the socket."""
    return msgspec.json.encode(value) + b"\n"
