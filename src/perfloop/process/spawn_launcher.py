"""Starts each worker in a Python of its own, for where a process with loaded modules must not be forked.

On macOS the system's own frameworks do not survive a fork without an exec; everywhere some libraries do not,
and then it is safer to pay for the imports of each worker than to guess. The zygote stays: bare, it starts
workers, tells of their ends, and ends them when the supervisor is gone.
"""

from __future__ import annotations

import sys
from typing import Final

from perfloop.process.zygote_launcher import ZygoteLauncher


class SpawnLauncher(ZygoteLauncher):
    """A Launcher by fork and exec; nothing is loaded before, whatever `preload` says."""

    is_afresh = True


BEST_LAUNCHER: Final = SpawnLauncher if sys.platform == "darwin" else ZygoteLauncher
"""What fits this system."""
