"""What processes of other libraries call in benchmarks/startup.py; loaded by the parent too, and so light."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def over_pipe(end: Connection) -> None:
    """Answer until the other end is gone."""
    from benchmarks.startup_workers import answer

    while True:
        try:
            end.send(answer(end.recv()))
        except EOFError:
            return


def answer_with_all(message: dict[str, Any], folder: str, count: int) -> int:
    """Answer when as many processes are there to do so: none takes a second message before."""
    from benchmarks.startup_workers import answer

    pid = answer(message)
    Path(folder, str(pid)).touch()
    while len(os.listdir(folder)) < count:
        time.sleep(0.0005)
    return pid
