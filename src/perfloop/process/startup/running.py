"""Runs a program until it is ready, and listens to what its Python tells of imports."""

from __future__ import annotations

import ast
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import psutil  # type: ignore[import-untyped]  # ships no types

from perfloop.errors import InvalidInput
from perfloop.model.value import Value
from perfloop.process.startup.imports import is_import_line

_TOLD: Final = "perfloop start: "
_CALM_S: Final = 1.0
"""After which a program that imports nothing more, and computes next to nothing, counts as ready."""
_CALM_SHARE: Final = 0.05
"""Of a processor."""
_TERM_S: Final = 3.0
_KEPT_LINES: Final = 5
HOOK: Final = str(Path(__file__).with_name("hook"))


class StartPolicy(Value, frozen=True, kw_only=True):
    """When a program is ready."""

    ready: str | None = None
    """When a line that it writes matches this regular expression; None for when it ends or comes to rest."""
    within_s: float = 30.0
    """It is ended then, whatever it does."""


class Start(Value, frozen=True, kw_only=True):
    """One start of a program."""

    ready_s: float
    """By the clock; where it came to rest, until its last import."""
    cpu_s: float
    """Of the program and its children, until it was ready."""
    how: str
    """`ended`, `said so`, `came to rest`, or `time is up`."""
    code: int | None
    """Its exit code, where it ended by itself."""
    import_lines: tuple[str, ...]
    told: tuple[tuple[Any, ...], ...]
    """Words of the hook."""
    last_lines: tuple[str, ...]
    """Of what it wrote to the standard error itself."""


def start_once(command: Sequence[str], policy: StartPolicy, put_off: Sequence[str] | None = None) -> Start:
    """Run a program until it is ready, and end it then with all it has started.

    Args:
        command: The program and its arguments.
        policy: When it is ready.
        put_off: Modules to be loaded when they are used first; None leaves imports as they are.

    Raises:
        InvalidInput: It cannot be run.
    """
    try:
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_variables(put_off)},
            start_new_session=True,
        )
    except OSError as error:
        raise InvalidInput(
            f"cannot run {command[0]}: {error.strerror}; give the command as a shell takes it"
        ) from error
    with program:
        listening = _Listening(program, policy)
        try:
            how = listening.until_ready()
            return listening.start(how)
        finally:
            _end(program)


def _variables(put_off: Sequence[str] | None) -> Mapping[str, str]:
    told = {"PYTHONPROFILEIMPORTTIME": "1"}
    if put_off is None:
        return told
    path = os.pathsep.join(filter(None, [HOOK, os.environ.get("PYTHONPATH", "")]))
    return {**told, "PYTHONPATH": path, "PERFLOOP_PUT_OFF": ",".join(put_off)}


class _Listening:
    """Takes down what a program writes until it is ready."""

    def __init__(self, program: subprocess.Popen[bytes], policy: StartPolicy) -> None:
        self._program = program
        self._process = psutil.Process(program.pid)
        self._policy = policy
        self._ready = None if policy.ready is None else re.compile(policy.ready)
        self._begun_s = self._last_import_s = time.monotonic()
        self._cpu_s = self._calm_cpu_s = 0.0
        self._looked_s = self._begun_s
        self._rests: dict[int, bytes] = {}
        self._imports: list[str] = []
        self._told: list[tuple[Any, ...]] = []
        self._lines: list[str] = []
        self._has_said_so = False

    def until_ready(self) -> str:
        """Listen; how it came to be ready."""
        assert self._program.stdout is not None
        assert self._program.stderr is not None
        with selectors.DefaultSelector() as selector:
            for stream in (self._program.stdout, self._program.stderr):
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                left_s = self._begun_s + self._policy.within_s - time.monotonic()
                if left_s <= 0:
                    return "time is up"
                for key, _ in selector.select(min(left_s, 0.1)):
                    if not self._take(key.fileobj):  # type: ignore[arg-type]  # they are what was registered
                        selector.unregister(key.fileobj)
                if self._has_said_so:
                    return "said so"
                if self._ready is None and self._is_calm():
                    return "came to rest"
        return "ended"

    def start(self, how: str) -> Start:
        """What was taken down."""
        cpu_s, code = self._cpu_now_s(), None
        until_s = self._last_import_s if how == "came to rest" else time.monotonic()
        if how == "ended":
            cpu_s, code = self._reaped()
        return Start(
            ready_s=until_s - self._begun_s,
            cpu_s=cpu_s,
            how=how,
            code=code,
            import_lines=tuple(self._imports),
            told=tuple(self._told),
            last_lines=tuple(self._lines[-_KEPT_LINES:]),
        )

    def _reaped(self) -> tuple[float, int]:
        _, status, usage = os.wait4(self._program.pid, 0)
        self._program.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_utime + usage.ru_stime, self._program.returncode

    def _take(self, stream: IO[bytes]) -> bool:
        parts = os.read(stream.fileno(), 1 << 16)
        *lines, rest = (self._rests.get(stream.fileno(), b"") + parts).split(b"\n")
        self._rests[stream.fileno()] = rest
        for line in lines:
            self._hear(line.decode(errors="replace"), is_error=stream is self._program.stderr)
        return bool(parts)

    def _hear(self, line: str, *, is_error: bool) -> None:
        if is_error and is_import_line(line):
            self._imports.append(line)
            self._last_import_s = time.monotonic()
        elif is_error and line.startswith(_TOLD):
            self._told.append(ast.literal_eval(line.removeprefix(_TOLD)))
        else:
            if is_error:
                self._lines.append(line)
            if self._ready is not None and self._ready.search(line):
                self._has_said_so = True

    def _is_calm(self) -> bool:
        """Whether nothing was imported for a while in which next to nothing was computed."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _CALM_S:
            return False
        before_s, self._calm_cpu_s = self._calm_cpu_s, self._cpu_now_s()
        spent_s, self._looked_s = now_s - self._looked_s, now_s
        is_calm = self._calm_cpu_s - before_s <= _CALM_SHARE * spent_s
        return is_calm and bool(self._imports) and now_s - self._last_import_s >= _CALM_S

    def _cpu_now_s(self) -> float:
        with suppress(psutil.Error):
            each = [self._process, *self._process.children(recursive=True)]
            times = [process.cpu_times() for process in each]
            self._cpu_s = sum(took.user + took.system for took in times)
        return self._cpu_s


def _end(program: subprocess.Popen[bytes]) -> None:
    """End it with its whole session, politely first."""
    for number, within_s in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, None)):
        if program.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, number)
            with suppress(subprocess.TimeoutExpired):
                _wait(program, within_s)


def _wait(program: subprocess.Popen[bytes], within_s: float | None) -> None:
    """Wait while the output goes on to be read, so that a program that says farewell does not hang on it."""
    program.communicate(timeout=within_s)
