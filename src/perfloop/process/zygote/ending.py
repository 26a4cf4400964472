"""Runs a forked worker's code and ends its process as Python would, without taking Python itself apart.

To clear every module out of the memory of a process that ends would copy each page that it shares.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import NoReturn


def call(target: str, name: str, channel: int, arguments: Sequence[str]) -> int:
    """Call `module:function`; its exit code, if it returns one."""
    module, _, function = target.partition(":")
    code = getattr(import_module(module), function)(name, channel, *arguments)
    return code if isinstance(code, int) else 0


def run_and_end(target: str, name: str, channel: int, arguments: Sequence[str]) -> NoReturn:
    """Be the worker, from here to the end of this process."""
    code = 1
    try:
        code = call(target, name, channel, arguments)
    except SystemExit as end:
        code = _said(end)
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        code = -signal.SIGINT
    except BaseException:  # noqa: BLE001  # the end of a process: told where its supervisor reads, as Python does
        sys.excepthook(*sys.exc_info())
    _finish()
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


def _said(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{end.code}\n")
    return 1


def _finish() -> None:
    """Wait for threads, call what is to be called at the end, and write what is still in buffers."""
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
