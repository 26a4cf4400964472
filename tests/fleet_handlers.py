"""What the workers of fleets under test do; they import it by this name."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perfloop.process import Worker


def who(message: Any) -> list[Any]:
    return [message, os.getpid(), os.environ["PERFLOOP_WORKER"]]


def act(message: dict[str, Any]) -> Any:
    """Do as the message says."""
    return ACTS[message["do"]](message.get("value"))


def fail(value: Any) -> None:
    raise LookupError(value)


def wait(path: Any) -> None:
    while not Path(path).exists():
        time.sleep(0.002)


ACTS: dict[str, Callable[[Any], Any]] = {
    "echo": lambda value: value,
    "raise": fail,
    "exit": os._exit,
    "stop": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
    "sleep": time.sleep,
    "wait": wait,
    "pid": lambda _: os.getpid(),
    "write": print,
}


def note(message: list[Any]) -> None:
    """Write to a file what is done: number and key, in one write."""
    path, number, key = message
    with open(path, "ab", buffering=0) as file:
        file.write(f"{number} {key}\n".encode())


HERE: set[int] = set()
ALL_HERE = asyncio.Event()


async def together(message: int) -> None:
    """Done when ten of them are in hand at once."""
    HERE.add(message)
    if len(HERE) == 10:
        ALL_HERE.set()
    await ALL_HERE.wait()


async def cancelled(message: int) -> int:
    if message:
        raise asyncio.CancelledError
    return message


def own_loop(worker: Worker, greeting: str) -> int:
    worker.ready()
    for delivery in worker:
        worker.reply(delivery, [greeting, delivery.message, delivery.is_again])
    return 0


def never_ready(worker: Worker) -> None:
    for _ in worker:
        pass


def ends(worker: Worker, code: str) -> int:
    worker.ready()
    return int(code)


def lasts(worker: Worker) -> None:
    """Is done at once, and takes a minute to end."""
    worker.ready()
    atexit.register(time.sleep, 60)


def deaf(worker: Worker) -> None:
    worker.ready()
    signal.pause()
