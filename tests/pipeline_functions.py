"""Functions for stages in other processes, which have to be in a module that can be imported there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def squared(number: int) -> int:
    return number * number


def halves(number: int) -> list[float]:
    return [number / 2, number / 2]


def refusing_tens(number: int) -> int:
    if number % 10 == 0:
        raise ValueError(f"{number} is refused")
    return number


def ending_its_process(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def ending_its_process_once(given: tuple[int, str]) -> int:
    number, mark = given
    if number == 7 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


class EndingItsProcessAsItComes:
    """Kills the first process that it is loaded in."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def __setstate__(self, state: dict[str, str]) -> None:
        self._mark = state["_mark"]
        if not Path(self._mark).exists():
            Path(self._mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, number: int) -> int:
        return number


class SlowToCome:
    """Takes half a second to load, and marks that it is being loaded."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __setstate__(self, state: dict[str, str]) -> None:
        self._folder = state["_folder"]
        (Path(self._folder) / "starting").touch()
        time.sleep(0.5)

    def __call__(self, number: int) -> int:
        return number


def marking_and_sleeping(given: tuple[Path, float]) -> None:
    mark, length_s = given
    mark.touch()
    time.sleep(length_s)


def returning_what_cannot_be_sent(number: int) -> object:
    return (lambda: number) if number == 3 else number


def sleeping(number: int) -> int:
    time.sleep(60)
    return number


def napping(number: int) -> int:
    time.sleep(0.001)
    return number * number


def process_id(number: int) -> int:
    return os.getpid()
