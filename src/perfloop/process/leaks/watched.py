"""Runs a program and traces it from within: `python -m perfloop.process.leaks.watched FD AFTER_S FOR_S …`.

What is found goes to the descriptor, as JSON; then the program is left to whoever started it.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from perfloop.model.value import to_json
from perfloop.process.leaks.sampler import Sampler
from perfloop.process.leaks.tracing import examine

_LAST_S: Final = 30.0
"""For the report, when the program ends before its time."""


def main() -> None:
    """Run the program of the arguments as Python would, with the tracing beside it."""
    report, after_s, for_s, *program = sys.argv[1:]
    os.set_inheritable(int(report), False)
    over = threading.Event()
    tracing = threading.Thread(
        target=_trace,
        args=(int(report), float(after_s), float(for_s), over),
        daemon=True,
        name="perfloop-leaks",
    )
    tracing.start()
    try:
        _run(program)
    finally:
        over.set()
        tracing.join(_LAST_S)


def _trace(report: int, after_s: float, for_s: float, over: threading.Event) -> None:
    over.wait(after_s)
    sampler = Sampler()
    found = examine(sampler, for_s=for_s, pause=over.wait)
    with suppress(BrokenPipeError), open(report, "wb") as out:
        out.write(to_json(found))


def _run(program: Sequence[str]) -> None:
    if program[0] == "-m":
        sys.argv = list(program[1:])
        sys.path.insert(0, os.getcwd())
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = list(program)
    sys.path.insert(0, os.path.dirname(os.path.abspath(program[0])))
    runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main()
