"""What a machine is short of: read from its files, and judged."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from perfloop.adapters.cgroup import throttled_ratio
from perfloop.adapters.pressure import read_pressure
from perfloop.analyze.host import host_pressure
from perfloop.model.advice import Severity
from perfloop.model.snapshot import Host, Snapshot
from perfloop.model.value import from_json

GIB = 1024**3
SNAPSHOT = from_json((Path(__file__).parent / "data" / "snapshot.json").read_text(), Snapshot)
WELL = Host(
    cpus=4,
    memory_bytes=8 * GIB,
    available_bytes=6 * GIB,
    load_1m=0.5,
    load_5m=0.5,
    busy_ratio=0.1,
    steal_ratio=0.0,
    runs_server=True,
    disk_bytes=200 * GIB,
    disk_free_bytes=100 * GIB,
)


def on(**figures: object) -> Snapshot:
    return replace(SNAPSHOT, host=replace(WELL, **figures))


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("load_1m", "load_5m", "severity"),
    [(0.5, 0.5, Severity.LOW), (6.0, 1.0, Severity.MEDIUM), (6.0, 5.0, Severity.HIGH)],
    ids=["for a moment", "for a minute", "for minutes"],
)
def test_busy_processors_weigh_as_much_as_they_last(
    load_1m: float, load_5m: float, severity: Severity
) -> None:
    (finding,) = host_pressure(on(busy_ratio=0.97, load_1m=load_1m, load_5m=load_5m))

    assert ("host: processors", severity) == (finding.location, finding.severity)


@pytest.mark.parametrize(
    ("figures", "location", "severity"),
    [
        ({"throttled_ratio": 0.1}, "host: CPU quota", Severity.MEDIUM),
        ({"throttled_ratio": 0.4}, "host: CPU quota", Severity.HIGH),
        ({"swap_used_bytes": 2 * GIB, "memory_stall_ratio": 0.2}, "host: swap", Severity.HIGH),
        ({"io_stall_ratio": 0.6}, "host: disk time", Severity.MEDIUM),
        ({"disk_free_bytes": 10 * GIB}, "host: disk space", Severity.MEDIUM),
        ({"disk_free_bytes": 1 * GIB}, "host: disk space", Severity.HIGH),
    ],
)
def test_what_is_short_is_found(figures: dict[str, object], location: str, severity: Severity) -> None:
    (finding,) = host_pressure(on(**figures))

    assert (location, severity) == (finding.location, finding.severity)


@pytest.mark.parametrize(
    "figures",
    [
        {},
        {"swap_used_bytes": 2 * GIB},
        {"throttled_ratio": 0.01},
        {"io_stall_ratio": 0.2},
        {"disk_bytes": 8000 * GIB, "disk_free_bytes": 400 * GIB},
        {"disk_bytes": None, "disk_free_bytes": None},
        {"throttled_ratio": 0.4, "disk_free_bytes": 0, "runs_server": False},
    ],
    ids=["well", "old swap", "hardly throttled", "some waits", "large disk", "unknown disk", "elsewhere"],
)
def test_a_machine_that_is_well_is_left_in_peace(figures: dict[str, object]) -> None:
    assert () == host_pressure(on(**figures))


def test_throttling_is_that_of_the_servers_own_group(tmp_path: Path) -> None:
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user",
            "proc/77/cgroup": "0::/system/postgresql",
            "sys/fs/cgroup/system/postgresql/cpu.max": "100000 100000",
            "sys/fs/cgroup/system/postgresql/cpu.stat": "usage_usec 9\nnr_periods 1000\nnr_throttled 120",
            "sys/fs/cgroup/system/cpu.stat": "usage_usec 9\nnr_periods 1000\nnr_throttled 900",
        },
    )

    assert 0.12 == throttled_ratio(root, "77")
    assert None is throttled_ratio(root, "self")


def test_a_young_group_is_not_judged(tmp_path: Path) -> None:
    root = lay_out(
        tmp_path,
        {
            "proc/77/cgroup": "0::/pod",
            "sys/fs/cgroup/pod/cpu.max": "100000 100000",
            "sys/fs/cgroup/pod/cpu.stat": "nr_periods 10\nnr_throttled 9",
        },
    )

    assert None is throttled_ratio(root, "77")


def test_stalls_are_those_of_the_last_minute(tmp_path: Path) -> None:
    line = "some avg10=1.00 avg60={} avg300=3.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    root = lay_out(
        tmp_path, {"proc/pressure/memory": line.format("7.50"), "proc/pressure/io": line.format("41.00")}
    )
    pressure = read_pressure(root, process="self", data_directory=tmp_path)

    assert (0.075, 0.41) == (pressure.memory_stall_ratio, pressure.io_stall_ratio)
    assert pressure.disk_bytes is not None
    assert 0 <= (pressure.disk_free_bytes or -1) <= pressure.disk_bytes


def test_a_system_that_tells_nothing_leaves_it_unknown(tmp_path: Path) -> None:
    pressure = read_pressure(tmp_path, process="self", data_directory=None)

    assert (None, None, None, None) == (
        pressure.throttled_ratio,
        pressure.memory_stall_ratio,
        pressure.io_stall_ratio,
        pressure.disk_bytes,
    )


def test_a_data_folder_that_is_closed_to_us_is_found_by_its_mount() -> None:
    pressure = read_pressure(Path("/"), process="self", data_directory=Path("/nowhere/data"))

    assert pressure.disk_bytes
