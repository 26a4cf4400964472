"""Asks a running fleet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from perfloop.errors import FleetFailed, FleetNotFound
from perfloop.process.supervisor.control_place import CONNECT_S, Answer, Asked, to_line
from perfloop.process.supervisor.events import Event
from perfloop.process.supervisor.statistics import FleetStatistics

_decode: Final = msgspec.json.Decoder(Answer).decode


def ask(place: Path, asked: Asked) -> FleetStatistics:
    """Have a fleet do something; what it is afterwards.

    Raises:
        FleetNotFound: No fleet answers.
        FleetFailed: It could not do it.
    """
    for value in _answers(place, asked):
        return msgspec.convert(value, FleetStatistics)
    raise FleetFailed("the fleet ended before it answered; see its log")


def events(place: Path, *, count: int, follow: bool) -> Iterator[Event]:
    """The last events of a fleet, and those that follow until it ends.

    Raises:
        FleetNotFound: No fleet answers.
    """
    for value in _answers(place, Asked(act="events", count=count, follow=follow)):
        if value is not None:
            yield msgspec.convert(value, Event)


def _answers(place: Path, asked: Asked) -> Iterator[Any]:
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(CONNECT_S)
        try:
            end.connect(str(place))
        except OSError as error:
            raise FleetNotFound(
                f"no fleet answers at {place}: {error.strerror or error}; start it with `perfloop supervise`"
            ) from error
        end.settimeout(None)
        end.sendall(to_line(asked))
        with end.makefile("rb") as lines:
            for line in lines:
                answer = _decode(line)
                if answer.error is not None:
                    raise FleetFailed(answer.error)
                yield answer.value
                if answer.is_last:
                    return
