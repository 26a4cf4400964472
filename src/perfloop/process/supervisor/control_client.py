"""Asks a running fleet."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from perfloop.errors import FleetFailed, FleetNotFound
from perfloop.process.supervisor.control_place import CONNECT_S, Answer, Asked, to_line
from perfloop.process.supervisor.events import Event
from perfloop.process.supervisor.statistics import FleetStatistics

if TYPE_CHECKING:
    from perfloop.process.leaks.examination import Examination

_decode: Final = msgspec.json.Decoder(Answer).decode


def ask(place: Path, asked: Asked) -> FleetStatistics:
    """Have a fleet do something; what it is afterwards.

    Raises:
        FleetNotFound: No fleet answers.
        FleetFailed: It could not do it.
    """
    is_look = asked.act == "status"
    if not is_look:  # which may take as long as a worker takes
        _require_awake(place)
    for value in _answers(place, asked, within_s=CONNECT_S if is_look else None):
        return msgspec.convert(value, FleetStatistics)
    raise FleetFailed("the fleet ended before it answered; see its log")


def examine(place: Path, worker: str, *, for_s: float) -> Examination | None:
    """Have a fleet look for so long which lines of a worker hold more and more; None where it cannot.

    Raises:
        FleetNotFound: No fleet answers.
        FleetFailed: It could not do it.
    """
    # Who asks for no examination does not wait for numpy.
    from perfloop.process.leaks.examination import Examination

    _require_awake(place)
    for value in _answers(place, Asked(act="examine", name=worker, for_s=for_s)):
        return msgspec.convert(value, Examination | None)
    raise FleetFailed("the fleet ended before it answered; see its log")


def worker_of(pid: int, places: Iterable[Path]) -> tuple[Path, str] | None:
    """Of which of these fleets a process is a worker, and its name; who does not answer is passed over."""
    for place in places:
        with suppress(OSError, FleetNotFound, FleetFailed):
            for value in _answers(place, Asked(act="status"), within_s=CONNECT_S):
                told = msgspec.convert(value, FleetStatistics)
                found = [each.name for group in told.groups for each in group.workers if each.pid == pid]
                if found:
                    return place, found[0]
    return None


def events(place: Path, *, count: int, follow: bool) -> Iterator[Event]:
    """The last events of a fleet, and those that follow until it ends.

    Raises:
        FleetNotFound: No fleet answers.
        FleetFailed: Its supervisor does not.
    """
    _require_awake(place)
    for value in _answers(place, Asked(act="events", count=count, follow=follow)):
        if value is not None:
            yield msgspec.convert(value, Event)


def _require_awake(place: Path) -> None:
    for _ in _answers(place, Asked(act="events"), within_s=CONNECT_S):
        return


def _answers(place: Path, asked: Asked, *, within_s: float | None = None) -> Iterator[Any]:
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(CONNECT_S)
        try:
            end.connect(str(place))
        except OSError as error:
            raise FleetNotFound(
                f"no fleet answers at {place}: {error.strerror or error}; start it with `perfloop supervise`"
            ) from error
        end.settimeout(within_s)
        try:
            yield from _read(end, asked)
        except TimeoutError as error:
            raise FleetFailed(
                f"the supervisor at {place} did not answer within {within_s:g} s; it is stopped,"
                " as by SIGSTOP, or something in it holds up its event loop"
            ) from error


def _read(end: socket.socket, asked: Asked) -> Iterator[Any]:
    end.sendall(to_line(asked))
    with end.makefile("rb") as lines:
        for line in lines:
            answer = _decode(line)
            if answer.error is not None:
                raise FleetFailed(answer.error)
            yield answer.value
            if answer.is_last:
                return
