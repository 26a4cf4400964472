"""What a worker may have of the machine, and what is said where the host does not allow it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from perfloop.adapters.control_groups import ControlGroup, group_rights
from perfloop.errors import InvalidValue, LaunchFailed
from perfloop.process.launching import WorkerLimits
from perfloop.process.resources.host import group_of, hold, host_rights
from perfloop.process.resources.limits import HostRights, ResourceLimits, plan

MB = 1024**2
ABLE = HostRights(
    cpus=(0, 1, 2, 3), group_controllers=("memory", "cpu"), holds_data=True, may_raise_priority=True
)
BARE = HostRights(cpus=(0, 1), group_reason="there are no control groups", holds_data=True, most_files=1024)
MAC = HostRights(cpus=(), group_reason="there are no control groups")


def test_without_limits_nothing_is_asked_for() -> None:
    found = plan(ResourceLimits(), place=0, host=ABLE)

    assert (WorkerLimits(), None, None, ()) == (
        found.worker,
        found.group_memory_bytes,
        found.group_weight,
        found.words,
    )


def test_control_groups_bound_memory_and_share_the_cpu_where_they_can_be_made() -> None:
    found = plan(ResourceLimits(memory_bytes=200 * MB, weight=50), place=0, host=ABLE)

    assert (200 * MB, 50, ()) == (found.group_memory_bytes, found.group_weight, found.words)
    assert {} == found.worker.rlimits


def test_elsewhere_the_growth_of_memory_is_bounded() -> None:
    found = plan(ResourceLimits(memory_bytes=200 * MB), place=0, host=BARE)

    assert (None, 200 * MB) == (found.group_memory_bytes, found.data_bytes)
    assert found.words[0].startswith("memory is bounded to 200 MB by RLIMIT_DATA")
    assert found.words[0].endswith("there are no control groups")


def test_where_nothing_bounds_memory_it_is_said_what_is_done_instead() -> None:
    found = plan(ResourceLimits(memory_bytes=200 * MB, cpus=(0,)), place=0, host=MAC)

    assert WorkerLimits() == found.worker
    assert [
        "memory cannot be bounded on this system; max_own_bytes of the memory table recycles instead",
        "processes cannot be bound to processors on this system; the scheduler places them",
    ] == list(found.words)


@pytest.mark.parametrize(("weight", "nice"), [(10, 10), (50, 3), (1, 19)])
def test_a_smaller_weight_is_given_as_nice(weight: int, nice: int) -> None:
    found = plan(ResourceLimits(weight=weight), place=0, host=BARE)

    assert nice == found.worker.nice


def test_a_priority_above_the_usual_needs_a_right() -> None:
    limits = ResourceLimits(weight=400)

    assert 0 == plan(limits, place=0, host=BARE).worker.nice
    assert "CAP_SYS_NICE" in plan(limits, place=0, host=BARE).words[1]


def test_workers_are_spread_over_the_processors_in_turn() -> None:
    limits = ResourceLimits(spread=True)
    places = [plan(limits, place=each, host=ABLE).worker.cpus for each in range(6)]

    assert [(0,), (1,), (2,), (3,), (0,), (1,)] == places


def test_processors_and_files_that_are_not_there_are_left_out() -> None:
    found = plan(ResourceLimits(cpus=(1, 7), open_files=4096), place=0, host=BARE)

    assert ((1,), {"NOFILE": 1024}) == (found.worker.cpus, found.worker.rlimits)
    assert {
        "processor 7 is not this process's to use; the others are",
        "open_files is 1024 and not 4096: that is the hard limit of this user",
    } == set(found.words)


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidValue, match="weight: from 1 to 10000"):
        ResourceLimits(weight=0)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts all private memory on Linux only")
def test_a_worker_beyond_its_memory_gets_a_memory_error_and_goes_on() -> None:
    program = (
        "import sys\n"
        "sys.stdin.readline()\n"
        "try:\n    bytearray(400 << 20)\n"
        "except MemoryError:\n    print('refused')\n"
        "print(len(bytearray(50 << 20)))\n"
    )
    found = plan(ResourceLimits(memory_bytes=200 * MB), place=0, host=BARE)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        hold(found, process.pid, None)
        out, _ = process.communicate("go\n")

    assert ["refused", str(50 << 20)] == out.split()


def test_this_host_says_what_it_allows() -> None:
    rights = host_rights()

    assert set(rights.group_controllers) <= {"memory", "cpu"}
    assert bool(rights.group_reason) == (len(rights.group_controllers) < 2)


@pytest.fixture
def delegated(tmp_path: Path) -> Path:
    """A system on which the group of this process is its own to divide, as files."""
    folder = tmp_path / "sys/fs/cgroup/app"
    folder.mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/app\n")
    (folder / "cgroup.controllers").write_text("cpu memory pids")
    (folder / "cgroup.subtree_control").write_text("cpu memory")
    (folder / "cgroup.procs").write_text("")
    return tmp_path


def test_a_group_that_is_delegated_can_be_divided(delegated: Path) -> None:
    rights = group_rights(delegated)

    assert (("memory", "cpu"), "") == (rights.controllers, rights.reason)
    assert str(delegated / "sys/fs/cgroup/app") == rights.folder


def test_a_worker_s_group_has_its_bounds(delegated: Path) -> None:
    found = plan(ResourceLimits(memory_bytes=64 * MB, weight=20), place=0, host=ABLE)
    group = group_of(found, "bots-1", root=delegated)
    assert group is not None
    with group as made:
        (path,) = (delegated / "sys/fs/cgroup/app").glob("perfloop-*-bots-1")
        made.join(4711)
        (path / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")

        assert (str(64 * MB), "20", "4711") == tuple(
            (path / name).read_text() for name in ("memory.max", "cpu.weight", "cgroup.procs")
        )
        assert 2 == made.out_of_memory_kills()


def test_a_group_that_cannot_be_made_says_the_way_out(tmp_path: Path) -> None:
    group = ControlGroup(tmp_path / "missing", "bots-1", memory_bytes=None, weight=None)

    with pytest.raises(LaunchFailed, match=r"cannot make the control group .* writable"):
        group.__enter__()


def test_a_system_without_control_groups_says_so(tmp_path: Path) -> None:
    assert "this system has no control groups of version 2" == group_rights(tmp_path).reason
