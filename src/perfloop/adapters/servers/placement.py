"""Where ext4 puts the thousand files of a cluster."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
from pathlib import Path
from typing import Final

# From linux/fs.h; the request numbers hold the size of a long, though the value is an int.
_LONG_BYTES: Final = struct.calcsize("l")
FS_IOC_GETFLAGS: Final = 2 << 30 | _LONG_BYTES << 16 | ord("f") << 8 | 1
FS_IOC_SETFLAGS: Final = 1 << 30 | _LONG_BYTES << 16 | ord("f") << 8 | 2
FS_TOPDIR_FL: Final = 0x20000


def scatter_children(folder: Path) -> None:
    """Let ext4 put each folder in here into a block group of its own, picked by its name.

    Within a group, ext4 steps over every recently deleted inode for each file it makes. Without this a
    cluster laid out soon after others were removed took 1 s to copy instead of 0.05 s (Linux 6.18).
    """
    if sys.platform != "linux":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # other file systems have no such flag
            (flags,) = struct.unpack("i", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(4)))
            fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("i", flags | FS_TOPDIR_FL))
    finally:
        os.close(descriptor)
