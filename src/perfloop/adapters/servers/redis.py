"""A Redis or Valkey server of our own, for labs and tests: on a socket, in memory only."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from perfloop.adapters.servers.binaries import RedisBinary
from perfloop.adapters.servers.folders import ServerFolder
from perfloop.adapters.servers.process import ServerProcess

START_DEADLINE_S: Final = 20.0
ANSWER_DEADLINE_S: Final = 1.0


class RedisServer:
    """A server that exists while it is open, and not a moment longer, however we end.

    Args:
        binary: The server to run.
        settings: By name, as in redis.conf: `maxmemory`, `maxmemory-policy`.
        parent: Where the private folder is made; its path must be short.
    """

    def __init__(
        self, binary: RedisBinary, *, settings: Mapping[str, str] | None = None, parent: Path | None = None
    ) -> None:
        self.binary = binary
        self.settings = dict(settings or {})
        self._parent = parent
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Start, and return once the server answers.

        Raises:
            ServerFailed: With the last words of the server.
        """
        with contextlib.ExitStack() as undo:
            self._folder = undo.enter_context(ServerFolder(parent=self._parent))
            name = f"{self.binary.flavour.capitalize()} {self.binary.version}"
            self._process = ServerProcess(name=name, folder=self._folder, command=self._command())
            undo.callback(self._process.stop, signal.SIGTERM)
            self._process.start()
            self._process.wait_until(self._answers, deadline_s=START_DEADLINE_S)
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Stop the server; what it held is gone."""
        self._undo.close()

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def socket_path(self) -> Path:
        return self._folder.server_path / "redis.sock"

    @property
    def pid(self) -> int:
        return self._process.pid

    def _command(self) -> list[str]:
        fixed = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "save": "",
            "appendonly": "no",
            "dir": str(self._folder.server_path),
        }
        options = [word for name, value in (self.settings | fixed).items() for word in (f"--{name}", value)]
        return [str(self._readable_binary()), *options]

    def _readable_binary(self) -> Path:
        """A copy where a closed home keeps the account from it: one file of a few megabytes."""
        if self._folder.account.may_reach(self.binary.path):
            return self.binary.path
        copy = self._folder.server_path / self.binary.path.name
        shutil.copy(self.binary.path, copy)
        copy.chmod(0o755)
        return copy

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_DEADLINE_S)
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except (FileNotFoundError, ConnectionError, TimeoutError):
            return False
