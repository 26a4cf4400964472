"""Pipelines whose stages run in processes: what is sent, what dies, and that nothing is left."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests import pipeline_functions as functions
from tests.awaiting import wait_until

from perfloop.errors import InvalidInput, StageFailed
from perfloop.process import DeadLetter, Pipeline, PipelineSummary
from perfloop.process.pipeline import run

INTERRUPTED = """
import itertools, os, sys, threading
from perfloop.process import Pipeline
from tests.pipeline_functions import process_id, sleeping

def tell(worker):
    print(worker, flush=True)

if __name__ == "__main__":
    try:
        Pipeline(itertools.count()).stage(process_id, executor="processes", workers=1).stage(tell).stage(
            sleeping, executor="processes", workers=1
        ).run()
    except KeyboardInterrupt:
        print("interrupted with", threading.active_count(), "thread", flush=True)
        sys.exit(130)
"""

SIGNALLED = """
import signal, sys
from perfloop.process import Pipeline
from tests.pipeline_functions import SlowToCome

def exit(*_):
    raise SystemExit(143)

pipeline = Pipeline(range(20)).stage(SlowToCome(sys.argv[1]), name="slow", executor="processes", workers=2)
signal.signal(signal.SIGTERM, exit if sys.argv[2] == "exit" else lambda *_: pipeline.stop())
summary = pipeline.run()
print(summary.stages[0].items, "of", summary.items_read)
"""


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield

    assert [] == multiprocessing.active_children()


def test_items_are_worked_on_in_other_processes() -> None:
    seen: list[float] = []
    workers: set[int] = set()
    Pipeline(range(2000)).stage(functions.halves, executor="processes", workers=2).batch(
        seen.extend, limiter=1
    ).run()
    Pipeline(range(10)).stage(functions.process_id, executor="processes", workers=2).stage(workers.add).run()

    assert sorted(number / 2 for number in [*range(2000)] * 2) == sorted(seen)
    assert workers
    assert os.getpid() not in workers


def test_order_is_kept_among_processes() -> None:
    seen: list[int] = []
    Pipeline(range(1000)).stage(functions.squared, executor="processes", workers=2, ordered=True).batch(
        seen.extend, limiter=1
    ).run()

    assert [number * number for number in range(1000)] == seen


def test_an_item_that_ends_its_process_is_given_up_alone() -> None:
    seen: list[int] = []
    letters: list[DeadLetter] = []
    Pipeline(range(60), dead_letter=letters.append).stage(
        functions.ending_its_process, executor="processes", workers=2
    ).batch(seen.extend, limiter=1).run()

    assert [number for number in range(60) if number != 7] == sorted(seen)
    assert [7] == [letter.item for letter in letters]
    assert "died, and so did the next" in str(letters[0].error)


def test_a_process_that_is_killed_once_costs_nothing(tmp_path: Path) -> None:
    seen: list[int] = []
    mark = str(tmp_path / "killed")
    Pipeline([(number, mark) for number in range(60)]).stage(
        functions.ending_its_process_once, executor="processes", workers=1
    ).batch(seen.extend, limiter=1).run()

    assert list(range(60)) == sorted(seen)


def test_a_process_that_is_killed_as_it_starts_is_started_again(tmp_path: Path) -> None:
    seen: list[int] = []
    function = functions.EndingItsProcessAsItComes(str(tmp_path / "killed"))
    Pipeline(range(20)).stage(function, executor="processes", workers=1).batch(seen.extend, limiter=1).run()

    assert list(range(20)) == sorted(seen)


def test_errors_come_back_from_the_process() -> None:
    letters: list[DeadLetter] = []
    Pipeline(range(30), dead_letter=letters.append).stage(
        functions.refusing_tens, executor="processes", workers=1
    ).run()

    assert [(0, "0 is refused"), (10, "10 is refused"), (20, "20 is refused")] == sorted(
        (letter.item, str(letter.error)) for letter in letters
    )


def test_a_result_that_cannot_be_sent_is_a_failure_of_its_item() -> None:
    seen: list[int] = []
    letters: list[DeadLetter] = []
    Pipeline(range(10), dead_letter=letters.append).stage(
        functions.returning_what_cannot_be_sent, executor="processes", workers=1
    ).batch(seen.extend, limiter=1).run()

    assert ([3], 9) == ([letter.item for letter in letters], len(seen))


def test_a_failure_ends_processes_that_are_at_work() -> None:
    def refuse(number: int) -> int:
        if number == 3:
            raise ValueError("refused")
        return number

    with pytest.raises(StageFailed, match="refuse failed on 3"):
        Pipeline(itertools.count()).stage(refuse, limiter=1).stage(
            functions.sleeping, executor="processes", workers=2
        ).run()


def test_processes_that_are_slow_to_come_are_named_as_what_took_the_time(tmp_path: Path) -> None:
    slow = functions.SlowToCome(str(tmp_path))
    summary = Pipeline(range(600)).stage(int).stage(slow, name="slow", executor="processes", workers=1).run()

    assert "the start of slow" == summary.bottleneck
    assert summary.stages[0].start_s < 0.5 <= summary.stages[1].start_s <= summary.elapsed_s


def stopped_at_work(tmp_path: Path, length_s: float) -> tuple[PipelineSummary, list[DeadLetter]]:
    """A pipeline that is stopped at once while its one process works for so long on the first item."""
    letters: list[DeadLetter] = []
    mark = tmp_path / "at-work"
    pipeline = Pipeline([(mark, length_s)] * 50, dead_letter=letters.append).stage(
        functions.marking_and_sleeping, executor="processes", workers=1
    )

    def stop_when_at_work() -> None:
        wait_until(mark.exists)
        pipeline.stop(drain=False)

    stopper = threading.Thread(target=stop_when_at_work)
    stopper.start()
    summary = pipeline.run()
    stopper.join()
    return summary, letters


def test_a_call_under_way_in_a_process_may_end_when_the_pipeline_is_stopped_at_once(tmp_path: Path) -> None:
    summary, letters = stopped_at_work(tmp_path, 0.2)

    assert (1, 49, []) == (summary.stages[0].items, summary.dropped, letters)


def test_items_in_a_process_that_is_ended_are_dropped_and_no_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "GRACE_S", 0.1)
    summary, letters = stopped_at_work(tmp_path, 60.0)

    assert (0, 0, []) == (summary.stages[0].items, summary.stages[0].dead_letters, letters)
    assert (50, 50) == (summary.items_read, summary.dropped)


@pytest.mark.parametrize("answer", ["stop", "exit"])
def test_a_signal_to_all_processes_while_they_start_ends_the_run_as_its_handler_says(
    tmp_path: Path, answer: str
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SIGNALLED, str(tmp_path), answer],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    wait_until((tmp_path / "starting").exists)
    os.killpg(child.pid, signal.SIGTERM)
    told, complaints = child.communicate(timeout=60)

    expected = (0, "20 of 20\n", "") if answer == "stop" else (143, "", "")
    assert expected == (child.returncode, told, complaints)


def test_ctrl_c_leaves_no_process() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.replace('__name__ == "__main__"', "True")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    worker = int(child.stdout.readline())
    family = psutil.Process(child.pid).children(recursive=True)
    child.send_signal(signal.SIGINT)
    told = child.stdout.read()
    child.stdout.close()

    assert (130, "interrupted with 1 thread") == (child.wait(60), told.splitlines()[-1])
    gone, alive = psutil.wait_procs(family, timeout=60)
    assert [] == alive
    assert worker in {process.pid for process in gone}


def test_a_process_ends_with_the_one_that_started_it() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.replace('__name__ == "__main__"', "True")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    child.stdout.readline()
    family = psutil.Process(child.pid).children(recursive=True)
    child.kill()
    child.wait()
    child.stdout.close()

    assert [] == psutil.wait_procs(family, timeout=60)[1]


def test_a_function_that_no_other_process_can_load_is_told_of(tmp_path: Path) -> None:
    script = (
        "from perfloop.process import Pipeline\n"
        "def work(n): return n\n"
        'Pipeline([1]).stage(work, executor="processes").run()\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )

    assert 1 == done.returncode
    assert "another process cannot load the function of the stage work" in done.stderr
    assert "define it at the top of a module that can be imported" in done.stderr


def test_a_script_without_a_guard_is_told_of(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from perfloop.process import Pipeline\n"
        "def work(n): return n\n"
        'Pipeline([1]).stage(work, executor="processes", workers=1).run()\n'
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)

    assert 1 == done.returncode
    assert 'if __name__ == "__main__"' in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_cluster_gives_the_results_of_the_local_run() -> None:
    distributed = pytest.importorskip("distributed")
    local = [functions.napping(number) for number in range(1000)]
    twice = [*range(500), *range(500)]
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        seen: list[int] = []
        executor = client.get_executor()
        summary = (
            Pipeline(range(1000))
            .stage(functions.napping, executor=executor, workers=2, ordered=True)
            .batch(seen.extend, limiter=1, ordered=True)
            .run()
        )
        again: list[int] = []
        Pipeline(twice).stage(functions.squared, executor=executor, workers=2).batch(
            again.extend, limiter=1
        ).run()
        with pytest.raises(InvalidInput, match="ClientExecutor does not tell how many workers it has"):
            Pipeline([1]).stage(functions.squared, executor=executor)

    assert local == seen
    assert sorted(number * number for number in twice) == sorted(again)
    assert 4 == summary.stages[0].limit
