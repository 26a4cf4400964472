"""`perfloop leaks` on programs that leak in different ways, and on some that only seem to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from perfloop.adapters.process_memory import outside_memory
from perfloop.errors import InvalidInput
from perfloop.process.leaks.examination import Examination
from perfloop.process.leaks.examining import examine_command, examine_process

KINDS = """
import json, time
kept = []
def dicts(): kept.extend({"id": at, "price": 0.5} for at in range(40))
def small(): kept.append([bytes(300) for _ in range(30)])
def large(): kept.append(bytearray(9000))
def library(): kept.extend(json.loads('{"a": [1.5, 2.5]}') for _ in range(30))
while True:
    for each in (dicts, small, large, library): each()
    time.sleep(0.01)
"""
CYCLES = """
import gc, time
gc.disable()
def cycle(): one = [bytes(300)]; one.append(one)
while True:
    for _ in range(50): cycle()
    time.sleep(0.01)
"""
NATIVE = """
import ctypes, time
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
while True:
    malloc(30000)
    time.sleep(0.01)
"""
HANDLES = """
import socket, threading, time
kept, never = [], threading.Event()
while True:
    kept.append(socket.socket())
    threading.Thread(target=never.wait, daemon=True).start()
    time.sleep(0.05)
"""
HEALTHY = """
import collections, time
peak = [bytearray(2000) for _ in range(60000)]
kept = peak[::300]
del peak
last = collections.deque(maxlen=200)
while True:
    last.append([str(at) for at in range(100)])
    time.sleep(0.002)
"""
PROGRAMS = {"kinds": KINDS, "cycles": CYCLES, "native": NATIVE, "handles": HANDLES, "healthy": HEALTHY}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's words on what is in use")


Told = dict[str, Examination]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What is said of each program; all of them run at once, for they mostly sleep."""
    folder = tmp_path_factory.mktemp("programs")
    for name, text in PROGRAMS.items():
        (folder / f"{name}.py").write_text(text)

    def examine(name: str) -> Examination:
        return examine_command([str(folder / f"{name}.py")], after_s=0.3, for_s=3.0)

    with ThreadPoolExecutor(len(PROGRAMS)) as pool:
        return dict(zip(PROGRAMS, pool.map(examine, PROGRAMS), strict=True))


def own_lines(found: Examination) -> list[int]:
    """The lines of the program itself."""
    places = [each.called_from or each.place for each in found.lines]
    return [each.line for each in places if Path(each.file).stem in PROGRAMS]


@pytest.mark.parametrize(("kind", "line"), [("dicts", 4), ("small", 5), ("large", 6), ("library", 7)])
def test_the_line_that_leaks_is_named(kind: str, line: int, told: Told) -> None:
    assert told["kinds"].bytes_per_s is not None
    assert line in own_lines(told["kinds"])


def test_cycles_that_nobody_collects_are_told_apart(told: Told) -> None:
    assert 4 in own_lines(told["cycles"])
    assert told["cycles"].collected_bytes > 500_000


def test_what_a_library_allocates_past_python_is_said_to_be_native(told: Told) -> None:
    assert told["native"].is_native
    assert [] == own_lines(told["native"])


def test_descriptors_and_threads_are_counted_and_their_lines_are_named(told: Told) -> None:
    found = told["handles"]

    assert found.descriptors_per_s is not None
    assert found.threads_per_s is not None
    assert {5, 6} <= set(own_lines(found))


def test_a_program_that_does_not_leak_is_not_accused(told: Told) -> None:
    assert not told["healthy"].grows
    assert () == told["healthy"].lines


def test_memory_that_malloc_keeps_is_told_as_that(told: Told) -> None:
    assert told["healthy"].free_bytes > 64 * 1024**2


@pytest.fixture
def sleeper() -> Iterator[int]:
    code = "import time; kept = []\nwhile True: kept.append(bytearray(20000)); time.sleep(0.002)"
    process = subprocess.Popen([sys.executable, "-c", code])
    yield process.pid
    process.kill()
    process.wait()


def test_a_process_is_seen_from_outside(sleeper: int, perfloop: Any) -> None:
    found = perfloop("leaks", "--for", "1", str(sleeper))

    assert 0 == found.code
    assert found.out.startswith("Memory grows by ")
    assert "From outside neither the line can be seen" in " ".join(found.out.split())


def test_what_cannot_be_looked_at_says_why(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("print()\n")

    with pytest.raises(InvalidInput, match="there is no process 4194305; `ps` lists them"):
        examine_process(4194305, for_s=1)
    with pytest.raises(InvalidInput, match=r"/bin/ls is no Python program; name a \.py file"):
        examine_command(["/bin/ls"], after_s=0, for_s=1)
    assert not examine_command([str(tmp_path / "short.py")], after_s=0, for_s=1).is_whole


def test_a_program_that_fails_is_told_with_what_it_wrote(perfloop: Any) -> None:
    (perfloop.folder / "broken.py").write_text("import nosuch\n")

    told = perfloop("leaks", "--after", "0", "--for", "1", "broken.py")

    assert (3, "") == (told.code, told.out)
    assert "No module named 'nosuch'" in told.err
    assert "perfloop: broken.py ended with 1; what it wrote is above" in " ".join(told.err.split())


def test_private_memory_is_what_would_be_free() -> None:
    memory = outside_memory(os.getpid())

    assert 0 < memory.private_bytes <= memory.rss_bytes
