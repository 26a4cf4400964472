"""What this process has of the machine's memory: as the allocators tell it, not as the kernel does.

A resident set also grows while memory is fragmented and shrinks while it is swapped. What glibc's malloc and
Python's own allocator say is in use tells a leak from both, for microseconds. musl has no mallinfo2 and
macOS other calls; what cannot be read is None.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any, Final, NamedTuple

from perfloop.errors import InvalidInput, MissingRights
from perfloop.model.value import Value

_MALLINFO2: Final = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
                     "fordblks", "keepcost")  # fmt: skip  # the order of the structure
_KERNEL_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class OwnMemory(NamedTuple):
    """A reading of this process; a tuple, for it is made every few seconds in all workers."""

    rss_bytes: int
    anonymous_bytes: int
    """Of the resident set, without files and shared memory; the resident set where it is not told apart."""
    malloc_in_use_bytes: int | None
    malloc_free_bytes: int | None
    """Kept by malloc for later."""
    malloc_held_bytes: int | None
    """Taken from the kernel: in use and free."""
    blocks: int
    """Of Python's own allocator, for objects up to 512 bytes."""
    descriptors: int
    threads: int


class OutsideMemory(Value, frozen=True, kw_only=True):
    """What can be seen of another process."""

    rss_bytes: int
    private_bytes: int
    """That would be free if it ended: its own pages, not those shared with a parent or with others."""
    descriptors: int | None
    threads: int


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _MALLINFO2]


class _ZoneStatistics(ctypes.Structure):
    _fields_ = [
        ("blocks_in_use", ctypes.c_uint),
        ("size_in_use", ctypes.c_size_t),
        ("max_size_in_use", ctypes.c_size_t),
        ("size_allocated", ctypes.c_size_t),
    ]


class MemoryReader:
    """Reads this process again and again; a fork needs one of its own."""

    def __init__(self) -> None:
        self._libc = ctypes.PyDLL(
            None
        )  # keeps the interpreter's lock: to let go of it costs more than the call
        self._mallinfo2 = getattr(self._libc, "mallinfo2", None)
        if self._mallinfo2 is not None:
            self._mallinfo2.restype = _Mallinfo2
        self._statm = _opened("/proc/self/statm")
        self._descriptors = _opened("/proc/self/fd")
        self._tasks = _opened("/proc/self/task")

    def close(self) -> None:
        """Close what is read from."""
        for number in (self._statm, self._descriptors, self._tasks):
            if number is not None:
                os.close(number)
        self._statm = self._descriptors = self._tasks = None

    def read(self) -> OwnMemory:
        """What there is now."""
        rss, anonymous = self._resident()
        in_use, free, held = self._malloc()
        return OwnMemory(
            rss,
            anonymous,
            in_use,
            free,
            held,
            sys.getallocatedblocks(),
            _descriptors(self._descriptors),
            threading.active_count() if self._tasks is None else os.fstat(self._tasks).st_nlink - 2,
        )

    def trim(self) -> None:
        """Collect garbage, and give what is free back to the kernel."""
        gc.collect()
        malloc_trim = getattr(self._libc, "malloc_trim", None)
        if malloc_trim is not None:
            malloc_trim(0)
        relief = getattr(self._libc, "malloc_zone_pressure_relief", None)
        if relief is not None:
            relief(None, ctypes.c_size_t(0))

    def _resident(self) -> tuple[int, int]:
        if self._statm is None:
            # Imported here, and only where /proc is missing: every worker reads its memory.
            import psutil  # type: ignore[import-untyped]  # ships no types

            rss = int(psutil.Process().memory_info().rss)
            return rss, rss
        fields = os.pread(self._statm, 128, 0).split()
        resident, shared = int(fields[1]), int(fields[2])
        return resident * _KERNEL_PAGE, (resident - shared) * _KERNEL_PAGE

    def _malloc(self) -> tuple[int | None, int | None, int | None]:
        if self._mallinfo2 is not None:
            found = self._mallinfo2()
            return found.uordblks + found.hblkhd, found.fordblks, found.arena + found.hblkhd
        zones = getattr(self._libc, "malloc_zone_statistics", None)
        if zones is None:
            return None, None, None
        statistics = _ZoneStatistics()
        zones(None, ctypes.byref(statistics))
        used, held = statistics.size_in_use, statistics.size_allocated
        return used, max(0, held - used), held


def outside_memory(pid: int) -> OutsideMemory:
    """What can be seen of a process.

    Raises:
        InvalidInput: There is no such process.
        MissingRights: It belongs to somebody else.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        full: Any = process.memory_full_info()
        descriptors = process.num_fds() if hasattr(process, "num_fds") else None
        return OutsideMemory(
            rss_bytes=full.rss,
            private_bytes=full.uss,
            descriptors=descriptors,
            threads=process.num_threads(),
        )
    except psutil.NoSuchProcess as error:
        raise InvalidInput(f"there is no process {pid}; `ps` lists them") from error
    except psutil.AccessDenied as error:
        raise MissingRights(
            f"this user may not look into process {pid}; run perfloop as its user or as root, in a container"
            " with --cap-add SYS_PTRACE"
        ) from error


def _opened(path: str) -> int | None:
    """To be read again and again; None where there is none, as on macOS."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _descriptors(folder: int | None) -> int:
    """The kernel tells their number as the size of the folder, from Linux 6.2 on; else they are counted."""
    if folder is not None:
        return os.fstat(folder).st_size or len(os.listdir("/proc/self/fd"))
    return len(os.listdir("/dev/fd")) if Path("/dev/fd").is_dir() else 0
