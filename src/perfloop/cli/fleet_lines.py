"""What a supervised fleet writes and what happens to it, on the terminal."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from queue import Full, Queue
from typing import Any, Final, Self, TextIO

from perfloop.model.value import to_json
from perfloop.process.supervisor.events import Event

_ROOM: Final = 20_000
_END_S: Final = 5.0
"""To write what waits, when the fleet is over."""


class FleetLines:
    """Writes in a thread of its own: who reads slowly, or not at all, must not hold up the fleet.

    Lines for which there is no room are counted, and told as a number.

    Args:
        as_json: One object a line.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._queue: Queue[tuple[TextIO, str] | None] = Queue(_ROOM)
        self._lost = 0
        self._thread = threading.Thread(target=self._write, name="fleet-lines", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Full):  # nobody reads
            self._queue.put(None, timeout=_END_S)
            self._thread.join(_END_S)

    def line(self, name: str, stream: str, text: str) -> None:
        """A worker wrote a line."""
        told = f"{name} {stream} | {text}"
        if self._as_json:
            told = _json(at_s=time.time(), name=name, stream=stream, line=text)
        self._put(sys.stdout if stream == "out" else sys.stderr, told)

    def event(self, event: Event) -> None:
        """Something happened."""
        at = time.strftime("%H:%M:%S", time.localtime(event.at_s))
        told = to_json(event).decode() if self._as_json else f"{at} {event.name}: {event.text()}"
        self._put(sys.stderr, told)

    def _put(self, stream: TextIO | None, text: str) -> None:
        if stream is None:  # a shell has closed it
            return
        try:
            self._queue.put_nowait((stream, text))
        except Full:
            self._lost += 1

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            stream, text = item
            if self._lost:
                lost, self._lost = self._lost, 0
                text = f"{text}\n({lost} lines were lost here: nobody read them in time)"
            try:
                stream.write(text + "\n")
                if self._queue.empty():
                    stream.flush()
            except (OSError, ValueError):
                continue  # its reader is gone; the fleet goes on


def _json(**fields: Any) -> str:
    return to_json(fields).decode()
