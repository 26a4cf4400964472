"""The private folder of one server, and the guard that removes both when we can not.

The folder lies in the system's temporary folder, because a socket path may have some 104 bytes at most::

    perfloop-server-x1y2z3/ ours; as root, only the server's private group may pass
    ├── owner               locked for as long as we live, so that a sweep knows stale from used
    ├── pid                 of the server, written before it becomes the server
    ├── log                 what the server said
    ├── postgresql.conf     its settings; it can read but not replace them, for we may be root
    └── x1y2z3/             the server's own: its socket, and its data unless they are kept elsewhere

Rejected: a parent-death signal (Linux only, lost on a change of user, tied to a thread rather than a process)
and `atexit` (does not run on SIGKILL). A pipe that the kernel closes needs no cooperation from whoever dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from perfloop.adapters.servers.account import server_account
from perfloop.adapters.servers.placement import scatter_children
from perfloop.errors import ServerFailed

PREFIX: Final = "perfloop-server-"
GUARD: Final = Path(__file__).with_name("guard.sh")

# macOS allows 104 bytes with the closing zero, Linux 108.
LONGEST_FOLDER_BYTES: Final = 103 - len("/12345678/.s.PGSQL.5432")

_lifelines: set[int] = set()


class ServerFolder:
    """A private folder that never outlives this process.

    As a context manager it exists between entry and exit.
    """

    def __init__(self, *, parent: Path | None = None) -> None:
        self._parent = parent
        self._undo = contextlib.ExitStack()
        self._owner_pid = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self.account = server_account()
            self.path = _make_folder(self._parent)
            undo.callback(shutil.rmtree, self.path, ignore_errors=True)
            self._furnish()
            undo.enter_context(_locked(self.path / "owner"))
            undo.enter_context(_guarded(self.path))
            # Before the pipe is closed, so that the guard finds nothing left to do; and not in the generator
            # that closes it, which a forked child finalises as it exits.
            undo.callback(shutil.rmtree, self.path, ignore_errors=True)
            self._owner_pid = os.getpid()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        # A forked child holds a copy of this object, but not the server.
        if os.getpid() == self._owner_pid:
            self._undo.close()

    @property
    def server_path(self) -> Path:
        """The part that belongs to the server's account."""
        return self.path / self.path.name.removeprefix(PREFIX)

    def publish(self, name: str, text: str) -> Path:
        """Write a file that the server can read and not replace."""
        path = self.path / name
        path.write_text(text)
        if self.account.gid is not None:
            os.chown(path, -1, self.account.gid)
        path.chmod(0o640)
        return path

    def _furnish(self) -> None:
        scatter_children(self.path)
        self.server_path.mkdir(mode=0o700)
        self.account.own(self.server_path)
        if self.account.gid is not None:
            os.chown(self.path, -1, self.account.gid)
            self.path.chmod(0o710)


def sweep_stale_servers(parent: Path | None = None) -> list[Path]:
    """End servers and remove folders whose owner died together with its guard; returns the folders.

    Folders of other users, and those that do not look like ours, are left alone.
    """
    stale = [folder for folder in sorted(_temporary_folder(parent).glob(f"{PREFIX}*")) if _is_stale(folder)]
    for folder in stale:
        # With nothing to read the guard acts at once.
        subprocess.run(["/bin/sh", str(GUARD), str(folder)], stdin=subprocess.DEVNULL, check=True)
    return stale


def _make_folder(parent: Path | None) -> Path:
    where = _temporary_folder(parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where)).resolve()
    except OSError as error:
        message = f"cannot make a folder for a server in {where}: {error.strerror}; name another with TMPDIR"
        raise ServerFailed(message) from error
    if len(os.fsencode(folder)) > LONGEST_FOLDER_BYTES:
        folder.rmdir()
        message = f"{where} is too long a path for a server's socket; name a shorter one with TMPDIR"
        raise ServerFailed(message)
    return folder


def _temporary_folder(parent: Path | None) -> Path:
    return Path(tempfile.gettempdir()) if parent is None else parent


@contextlib.contextmanager
def _locked(owner: Path) -> Iterator[None]:
    """Hold a lock that the kernel drops when we die, so that no process id has to be believed."""
    unlocked = owner.with_name("owner.new")
    with unlocked.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        unlocked.rename(owner)  # a sweep never sees it without its lock
        yield


@contextlib.contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    guard = subprocess.Popen(
        ["/bin/sh", str(GUARD), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    with guard:
        assert guard.stdin is not None  # PIPE was asked for
        lifeline = guard.stdin.fileno()
        _keep_from_children(lifeline)
        try:
            yield
        finally:
            _lifelines.discard(lifeline)


def _keep_from_children(lifeline: int) -> None:
    """Close the pipe in forked children: a worker that outlives us must not keep our servers alive."""
    _watch_forks()
    _lifelines.add(lifeline)


@functools.cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_cut_lifelines)


def _cut_lifelines() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    for lifeline in _lifelines:
        # The number stays taken, so that the copied file object closes nothing that is opened there later.
        os.dup2(nowhere, lifeline, inheritable=False)
    os.close(nowhere)
    _lifelines.clear()


def _is_stale(folder: Path) -> bool:
    try:
        facts = folder.lstat()
        if facts.st_uid != os.geteuid() or not folder.is_dir() or folder.is_symlink():
            return False
        with (folder / "owner").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return False
    return True
