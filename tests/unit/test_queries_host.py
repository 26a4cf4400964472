"""This machine's limits from cgroup files, and how its CPU was used between two readings."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfloop.adapters.cgroup import CgroupLimits, read_limits
from perfloop.adapters.host import CpuTimes, NeighbourUse, cpu_times, neighbour_use, read_host

MIB = 2**20


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


def test_version_2_limits_are_read_with_the_page_cache_counted_as_free(tmp_path):
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/app",
            "sys/fs/cgroup/pod/app/cpu.max": "150000 100000",
            "sys/fs/cgroup/pod/app/memory.max": str(512 * MIB),
            "sys/fs/cgroup/pod/app/memory.current": str(300 * MIB),
            "sys/fs/cgroup/pod/app/memory.stat": f"anon {100 * MIB}\ninactive_file {200 * MIB}",
        },
    )

    expected = CgroupLimits(cpus=1.5, memory_bytes=512 * MIB, memory_used_bytes=100 * MIB)
    assert expected == read_limits(root)


def test_the_tightest_level_holds(tmp_path):
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/app",
            "sys/fs/cgroup/pod/cpu.max": "100000 100000",
            "sys/fs/cgroup/pod/app/cpu.max": "max 100000",
            "sys/fs/cgroup/pod/memory.max": str(64 * MIB),
            "sys/fs/cgroup/pod/app/memory.max": str(512 * MIB),
        },
    )

    assert CgroupLimits(cpus=1.0, memory_bytes=64 * MIB) == read_limits(root)


def test_version_1_limits_are_read_though_the_path_is_not_visible_inside_the_container(tmp_path):
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(256 * MIB),
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(100 * MIB),
            "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {40 * MIB}",
        },
    )

    expected = CgroupLimits(cpus=0.5, memory_bytes=256 * MIB, memory_used_bytes=60 * MIB)
    assert expected == read_limits(root)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/cpu.max": "max 100000",
            "sys/fs/cgroup/memory.max": "max",
        },
        {"proc/self/cgroup": "3:cpu:/", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"},
    ],
    ids=["no cgroups", "version 2", "version 1"],
)
def test_no_limit_is_none(tmp_path, files):
    assert CgroupLimits() == read_limits(lay_out(tmp_path, files))


def test_neighbours_are_what_is_left_of_the_busy_time_without_our_own():
    before = CpuTimes(busy_s=10.0, idle_s=10.0, steal_s=1.0, own_s=2.0)
    after = CpuTimes(busy_s=16.0, idle_s=13.0, steal_s=2.0, own_s=3.0)

    assert NeighbourUse(busy_ratio=0.6, neighbour_ratio=0.3, steal_ratio=0.1) == neighbour_use(
        before, after, own_s=2.0
    )


def test_two_equal_readings_tell_nothing():
    reading = CpuTimes(busy_s=1.0, idle_s=1.0, steal_s=0.0, own_s=0.0)

    assert NeighbourUse(busy_ratio=0.0, neighbour_ratio=0.0, steal_ratio=0.0) == neighbour_use(
        reading, reading
    )


def test_own_time_beyond_the_kernels_coarse_count_leaves_no_negative_neighbour():
    before = CpuTimes(busy_s=0.0, idle_s=0.0, steal_s=0.0, own_s=0.0)
    after = CpuTimes(busy_s=0.5, idle_s=0.5, steal_s=0.0, own_s=0.0)

    assert 0.0 == neighbour_use(before, after, own_s=0.6).neighbour_ratio


def test_our_own_work_is_no_neighbour():
    before = cpu_times()
    while cpu_times().own_s - before.own_s < 0.3:
        sum(range(10_000))
    after = cpu_times()
    use = neighbour_use(before, after)

    own_ratio = (after.own_s - before.own_s) / (after.total_s - before.total_s)
    assert max(0.0, use.busy_ratio - own_ratio) == pytest.approx(use.neighbour_ratio)


def test_this_machine_has_a_processor_and_memory_that_fit_together():
    host = read_host(runs_server=False, window_s=0.05)

    assert host.cpus >= 1
    assert 0 <= host.available_bytes <= host.memory_bytes
    assert 0 <= host.busy_ratio <= 1
