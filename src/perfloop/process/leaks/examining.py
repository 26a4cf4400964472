"""Has a program examined: one that is started for it, from within; one that runs, from outside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import structs

from perfloop.adapters.process_memory import outside_memory
from perfloop.errors import InvalidInput, LaunchFailed
from perfloop.model.value import from_json
from perfloop.process.leaks.examination import Examination, watched
from perfloop.process.leaks.floors import MemorySample
from perfloop.process.leaks.growing import GrowthPolicy
from perfloop.process.leaks.tracing import watch

_END_S: Final = 5.0
_FLAGS_WITH_VALUES: Final = ("-W", "-X")


def examine_command(command: Sequence[str], *, after_s: float, for_s: float) -> Examination:
    """Run a Python program for so long, say what grows in it, and end it. Its output goes to ours for errors.

    Args:
        command: `python app.py`, `app.py`, `python -m app`, or a script that Python runs, with its arguments.
        after_s: For its start and warm-up, in which nothing is looked at.
        for_s: The rest of its time.

    Raises:
        InvalidInput: It is no Python program.
        LaunchFailed: It failed, or ended before anything could be seen.
    """
    interpreter, program = python_program(command)
    read, write = os.pipe()
    line = [*interpreter, "-m", "perfloop.process.leaks.watched", str(write), str(after_s), str(for_s)]
    with os.fdopen(read, "rb") as report, _running([*line, *program], write) as process:
        document = report.read()
        if not document:
            code = process.wait()
            raise LaunchFailed(
                f"{' '.join(command)} ended with {code} before its memory could be looked at; what it wrote"
                f" is above, and {interpreter[0]} needs perfloop installed"
            )
        found = from_json(document, Examination)
        failure = None if found.is_whole else _exit_code(process)
        if failure:
            raise LaunchFailed(f"{' '.join(command)} ended with {failure}; what it wrote is above")
    return found


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """None where threads of its own hold it up."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(_END_S)
    return None


def examine_process(pid: int, *, for_s: float, pause: Callable[[float], None] = time.sleep) -> Examination:
    """Say what grows in a process that runs.

    Raises:
        InvalidInput: There is no such process.
        MissingRights: It is another user's.
    """

    def wait(seconds: float) -> bool:
        pause(seconds)
        return False

    began_s = time.monotonic()
    samples = watch(lambda: outside_sample(pid, began_s), for_s, wait)
    return structs.replace(watched(samples, GrowthPolicy()), is_outside=True)


def outside_sample(pid: int, began_s: float) -> MemorySample:
    """What is seen of a process now; its private pages count as in use.

    Raises:
        InvalidInput: There is no such process.
        MissingRights: It is another user's.
    """
    memory = outside_memory(pid)
    return MemorySample(
        at_s=time.monotonic() - began_s,
        in_use_bytes=memory.private_bytes,
        rss_bytes=memory.rss_bytes,
        descriptors=memory.descriptors or 0,
        threads=memory.threads,
    )


def python_program(command: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command's interpreter with its flags, and the program: a file or `-m module`, with its arguments.

    Raises:
        InvalidInput: It is no Python program.
    """
    first, rest = command[0], list(command[1:])
    if Path(first).name.startswith("python"):
        flags, program = _flags(rest)
        if program and program[0] not in ("-c", "-"):
            return [first, *flags], program
        raise InvalidInput(f"{' '.join(command)} has no file; name a .py file or -m MODULE")
    if first.endswith(".py"):
        return [sys.executable], list(command)
    found = shutil.which(first)
    interpreter = None if found is None else _shebang(Path(found))
    if found is None or interpreter is None:
        fact = "is not found" if found is None else "is no Python program"
        raise InvalidInput(f"{first} {fact}; name a .py file, a script of Python, or python -m MODULE")
    return interpreter, [found, *rest]


def _flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The interpreter's own flags, and what comes after them."""
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] not in ("-m", "-c", "-"):
        at += 2 if words[at] in _FLAGS_WITH_VALUES else 1
    return list(words[:at]), list(words[at:])


def _shebang(script: Path) -> list[str] | None:
    with script.open("rb") as file:
        line = file.readline(512)
    if not line.startswith(b"#!") or b"python" not in line:
        return None
    words = line[2:].decode(errors="replace").split()
    return words[1:] if Path(words[0]).name == "env" else words


@contextmanager
def _running(line: Sequence[str], report: int) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(line, pass_fds=[report], stdout=sys.stderr.fileno())
    except OSError as error:
        raise LaunchFailed(f"cannot run {line[0]}: {error.strerror}; name another Python") from error
    finally:
        os.close(report)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
