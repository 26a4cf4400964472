"""Control groups of version 2 that this process may make, for a worker's memory and share of the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Self

from perfloop.errors import LaunchFailed
from perfloop.model.value import Value

_MOUNTS: Final = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
_WANTED: Final = ("memory", "cpu")


class GroupRights(Value, frozen=True, kw_only=True):
    """Where groups can be made, and with which controllers."""

    folder: str | None = None
    """None where none can be."""
    controllers: tuple[str, ...] = ()
    reason: str = ""
    """Why something of it is missing; empty where nothing is."""


def group_rights(root: Path = Path("/")) -> GroupRights:
    """What this process may do, found out by looking; nothing is made."""
    mount = next((root / each for each in _MOUNTS if (root / each / "cgroup.controllers").exists()), None)
    if mount is None:
        return GroupRights(reason="this system has no control groups of version 2")
    folder = mount / _own_path(root).lstrip("/")
    if not os.access(folder, os.W_OK) or not os.access(folder / "cgroup.procs", os.W_OK):
        return GroupRights(
            reason="the control group of this process is not writable; let systemd delegate it (Delegate=yes)"
            " or give the container its own, writable one"
        )
    enabled = _words(folder / "cgroup.subtree_control")
    can_enable = os.access(folder / "cgroup.subtree_control", os.W_OK) and _is_free(folder)
    offered = _words(folder / "cgroup.controllers") if can_enable else ()
    controllers = tuple(each for each in _WANTED if each in enabled or each in offered)
    missing = [each for each in _WANTED if each not in controllers]
    reason = f"its control groups have no controller for {' and '.join(missing)}" if missing else ""
    return GroupRights(folder=str(folder) if controllers else None, controllers=controllers, reason=reason)


class ControlGroup:
    """A group for one worker; as a context it is made, and removed when its processes have ended.

    Args:
        folder: In which it is made.
        name: Of the worker.
        memory_bytes: All that its processes may have; beyond it the kernel ends one of them.
        weight: Its share of the CPU where there is too little, from 1 to 10000; 100 is usual.
    """

    def __init__(self, folder: Path, name: str, *, memory_bytes: int | None, weight: int | None) -> None:
        self._path = folder / f"perfloop-{os.getpid()}-{name}"
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._weight = weight

    def __enter__(self) -> Self:
        """Make it.

        Raises:
            LaunchFailed: That is not allowed after all.
        """
        try:
            for each in _WANTED:
                is_needed = self._memory_bytes is not None if each == "memory" else self._weight is not None
                if is_needed and each not in _words(self._folder / "cgroup.subtree_control"):
                    (self._folder / "cgroup.subtree_control").write_text(f"+{each}")
            self._path.mkdir()
            if self._memory_bytes is not None:
                (self._path / "memory.max").write_text(str(self._memory_bytes))
            if self._weight is not None:
                (self._path / "cpu.weight").write_text(str(self._weight))
        except OSError as error:
            raise LaunchFailed(
                f"cannot make the control group {self._path}: {error.strerror}; take memory and weight from"
                " the group's limits, or run where control groups are writable"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._path.rmdir()
        except OSError:
            return  # something that the worker started still runs in it; the kernel keeps it until then

    def join(self, pid: int) -> None:
        """Bring a process into it, with all that it will start."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def out_of_memory_kills(self) -> int:
        """How many of its processes the kernel has ended because the memory was used up."""
        for line in _text(self._path / "memory.events").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
        return 0


def _own_path(root: Path) -> str:
    """Of this process, in the hierarchy of version 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            return line[3:]
    return "/"


def _is_free(folder: Path) -> bool:
    """Whether controllers can be handed down: from the root, or where no process is in the group itself."""
    return not (folder / "cgroup.type").exists() or not _text(folder / "cgroup.procs").strip()


def _words(file: Path) -> tuple[str, ...]:
    return tuple(_text(file).split())


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
