"""What the workers of launchers under test do; they import it by this name."""

from __future__ import annotations

import atexit
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any


def _tell(channel: int, value: Any) -> None:
    with socket.socket(fileno=channel) as end:
        end.sendall(json.dumps(value).encode())


def arguments(name: str, channel: int, *given: str) -> None:
    _tell(channel, [name, *given])


def surroundings(name: str, channel: int) -> None:
    sys.stdout.write("said\n")
    sys.stdout.flush()  # it may be ended before it comes to its end
    sys.stderr.write("complained\n")
    _tell(channel, [os.getcwd(), dict(os.environ), sys.stdin.read()])


def descriptors(name: str, channel: int) -> None:
    fds = {each: os.stat(each).st_ino for each in range(64) if os.path.exists(f"/dev/fd/{each}")}
    _tell(channel, [sorted(fds), channel])


def signals(name: str, channel: int) -> None:
    handled = [each for each in range(1, 32) if callable(signal.getsignal(each))]
    ignored = [each for each in range(1, 32) if signal.getsignal(each) is signal.SIG_IGN]
    blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    _tell(channel, [handled, ignored, blocked])


def identity(name: str, channel: int) -> None:
    drawn = [random.random(), str(uuid.uuid1()), str(uuid.uuid4())]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        drawn.append(float(numpy.random()))
    _tell(channel, [*drawn, os.getsid(0) == os.getpid()])


def limits(name: str, channel: int) -> None:
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    _tell(channel, [os.nice(0), affinity, resource.getrlimit(resource.RLIMIT_NOFILE)[0]])


def exit_with(name: str, channel: int, code: str) -> int:
    return int(code)


def system_exit(name: str, channel: int, text: str) -> None:
    sys.exit(text)


def fault(name: str, channel: int) -> None:
    raise LookupError("nothing here")


def killed(name: str, channel: int, number: str) -> None:
    os.kill(os.getpid(), int(number))
    time.sleep(10)


def burn(name: str, channel: int, cpu_s: str) -> None:
    while time.process_time() < float(cpu_s):
        pass


def lasting_thread(name: str, channel: int, path: str) -> None:
    """Leaves while a thread and an exit function have something to do."""
    atexit.register(lambda: Path(path).write_text(Path(path).read_text() + " exit"))
    threading.Thread(target=lambda: (time.sleep(0.05), Path(path).write_text("thread"))).start()


def wait(name: str, channel: int) -> None:
    with socket.socket(fileno=channel) as end:
        end.sendall(b"here")
        while end.recv(100):
            pass


def deaf(name: str, channel: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait(name, channel)


def parent(name: str, channel: int) -> None:
    """Starts a program that outlives it, unless somebody ends both."""
    child = subprocess.Popen(["sleep", "600"])
    with socket.socket(fileno=channel) as end:
        end.sendall(json.dumps(child.pid).encode())
        end.recv(100)


def loaded(name: str, channel: int, module: str) -> None:
    _tell(channel, module in sys.modules)
