"""One server process: started in a session of its own, watched until ready, stopped for certain."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from perfloop.adapters.servers.folders import ServerFolder
from perfloop.errors import ServerFailed

POLL_S: Final = 0.002
STOP_DEADLINE_S: Final = 30.0
LOG_LINES: Final = 12

# The number is written through a file that we opened: a server may not choose whom a guard of root ends.
ANNOUNCE_AND_BECOME: Final = 'echo $$ && exec "$@" >&2'


class ServerProcess:
    """A running server, from `start` until `stop`."""

    def __init__(self, *, name: str, folder: ServerFolder, command: Sequence[str]) -> None:
        self._name = name
        self._folder = folder
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the server itself.

        Raises:
            ServerFailed: It is not running.
        """
        if self._process is None or self._poll() is not None:
            raise self.failure("is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server, out of reach of a Ctrl-C that is meant for us."""
        with self._pid_path.open("wb") as pid_file, self._log_path.open("ab") as log_file:
            self._process = spawn(
                ["/bin/sh", "-c", ANNOUNCE_AND_BECOME, "perfloop", *self._command],
                folder=self._folder,
                stdout=pid_file.fileno(),
                stderr=log_file.fileno(),
            )

    def wait_until(self, ready: Callable[[], bool], *, deadline_s: float) -> None:
        """Poll every two milliseconds.

        Raises:
            ServerFailed: The server died, or the deadline passed.
        """
        give_up_s = time.monotonic() + deadline_s
        while True:
            if (code := self._poll()) is not None:
                raise self.failure(f"ended with code {code} while it was starting")
            if ready():
                return
            if time.monotonic() > give_up_s:
                raise self.failure(f"was not ready after {deadline_s:g} s")
            time.sleep(POLL_S)

    def stop(self, how: signal.Signals) -> None:
        """Ask, and after thirty seconds insist."""
        if self._process is None:
            return
        for request in (how, signal.SIGQUIT, signal.SIGKILL):
            self._process.send_signal(request)
            try:
                self._process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                continue
            break
        self._process = None

    def failure(self, what: str) -> ServerFailed:
        """An error with the last words of the server."""
        return ServerFailed(f"{self._name} {what}; its last words:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of the log."""
        if not self._log_path.exists():
            return "(it wrote no log)"
        lines = self._log_path.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "(its log is empty)"

    def _poll(self) -> int | None:
        return None if self._process is None else self._process.poll()

    @property
    def _pid_path(self) -> Path:
        return self._folder.path / "pid"

    @property
    def _log_path(self) -> Path:
        return self._folder.path / "log"


def spawn(
    command: Sequence[str], *, folder: ServerFolder, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    """Start a command as the server's account, in its folder, with none of our secrets in its environment.

    Raises:
        ServerFailed: There is no such program, or the step down to the account is not permitted.
    """
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=folder.server_path,
            env=_environment(folder.server_path),
            start_new_session=True,
            **folder.account.spawn_identity,
        )
    except OSError as error:
        message = f"cannot start {command[0]}: {error}"
        if folder.account.uid is not None:
            message += "; without the rights to step down from root, run perfloop as an ordinary user"
        raise ServerFailed(message) from error


def _environment(home: Path) -> dict[str, str]:
    passed_on = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {"HOME": str(home), "LC_ALL": "C"} | {
        name: os.environ[name] for name in passed_on if name in os.environ
    }
