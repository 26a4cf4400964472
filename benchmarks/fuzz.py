"""Feeds every parser with damaged real input: only errors of perfloop's own may come out, in time.

    python -m benchmarks.fuzz --minutes 60 --seed 1

Inputs are run in a child process under a limit of time and memory. A failing input is made smaller, and
the smallest is printed and kept; a failure is told once. Seed and number of an input give it again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from types import FrameType
from typing import NamedTuple

from benchmarks.fuzz_targets import TARGETS, Target
from perfloop.errors import PerfloopError

INPUT_LIMIT_S = 10.0
"""Of processor time: a busy machine is no fault of a parser."""
MEMORY_LIMIT_BYTES = 2 * 1024**3
BATCH = 50
MINIMISE_S = 10.0
DEFAULT_FOLDER = Path("fuzz-failures")


class TooSlow(BaseException):
    """The time of one input is over; no handler of the code under test may swallow it."""


class Failure(NamedTuple):
    """What came out that should not have."""

    target: str
    number: int
    fault: str
    """The type of the error and where it was raised; equal for the same defect."""
    input: bytes
    trace: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=sorted(TARGETS), action="append")
    parser.add_argument("--failures", type=Path, default=DEFAULT_FOLDER)
    options = parser.parse_args()
    names = tuple(options.target or TARGETS)
    ends_s = time.monotonic() + 60 * options.minutes
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    faults: dict[str, Failure] = {}
    batch = 0
    while time.monotonic() < ends_s:
        name = names[batch % len(names)]
        first = batch // len(names) * BATCH
        done, refusals, failures = _run_batch(name, options.seed, first)
        counts[name] += done
        refused[name] += refusals
        for failure in failures:
            if failure.fault not in faults:
                faults[failure.fault] = failure
                _tell(failure, options.seed, options.failures)
        batch += 1
    for name in names:
        print(f"{name}: {counts[name]} inputs, {refused[name]} refused as they should be")
    print(f"{sum(counts.values())} inputs, seed {options.seed}, {len(faults)} different failures")
    return 1 if faults else 0


def _run_batch(name: str, seed: int, first: int) -> tuple[int, int, list[Failure]]:
    """(inputs run, refused, failures); a child that dies is a failure of the input it was at."""
    done, refusals = 0, 0
    failures: list[Failure] = []
    while done < BATCH:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(
            target=_run_inputs, args=(name, seed, first + done, first + BATCH, sender)
        )
        child.start()
        sender.close()
        try:
            while True:
                refusal, failure = receiver.recv()
                done += 1
                refusals += refusal
                if failure is not None:
                    failures.append(failure)
        except EOFError:
            child.join()
        if done < BATCH:
            number = first + done
            text = _input(TARGETS[name], name, seed, number)
            failures.append(Failure(name, number, f"{name} died with {child.exitcode}", text, ""))
            done += 1
    return done, refusals, failures


def _run_inputs(name: str, seed: int, first: int, end: int, sender: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _stop)
    target = TARGETS[name]
    for number in range(first, end):
        text = _input(target, name, seed, number)
        fault, trace = _fault(target, text)
        if fault in ("", "refused"):
            sender.send((fault == "refused", None))
            continue
        sender.send((False, Failure(name, number, fault, _smaller(target, text, fault), trace)))
    sender.close()


def _input(target: Target, name: str, seed: int, number: int) -> bytes:
    return target.mutate(target.corpus, Random(f"{seed} {name} {number}"))


def _stop(signal_number: int, frame: FrameType | None) -> None:
    raise TooSlow


def _fault(target: Target, text: bytes) -> tuple[str, str]:
    """Empty where all is well, "refused" for a PerfloopError, or the type and place of the fault."""
    signal.setitimer(signal.ITIMER_PROF, INPUT_LIMIT_S)
    try:
        target.run(text)
    except PerfloopError:
        return "refused", ""
    except (Exception, TooSlow) as error:  # noqa: BLE001 - to find whatever comes out is what this is for
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "/perfloop/" in frame.filename] or frames
        place = f"{Path(own[-1].filename).name}:{own[-1].name}"
        return f"{type(error).__name__} in {place}", traceback.format_exc()[-2000:]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "", ""


def _smaller(target: Target, text: bytes, fault: str) -> bytes:
    """Leave out pieces, large ones first, as long as the fault stays the same."""
    ends_s = time.monotonic() + MINIMISE_S
    size = len(text) // 2
    while size and time.monotonic() < ends_s:
        position = 0
        while position < len(text) and time.monotonic() < ends_s:
            without = text[:position] + text[position + size :]
            if _fault(target, without)[0] == fault:
                text = without
            else:
                position += size
        size //= 2
    return text


def _tell(failure: Failure, seed: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{failure.target}_{seed}_{failure.number}"
    folder.joinpath(f"{name}.input").write_bytes(failure.input)
    print(f"{failure.fault}: target {failure.target}, seed {seed}, number {failure.number}")
    print(f"  {json.dumps(failure.input[:300].decode('latin-1'))}")
    print("  " + "\n  ".join(failure.trace.splitlines()[-8:]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
