"""Checks of the server and its machine, and the sizes they read from settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from perfloop.analyze.host import host_pressure
from perfloop.analyze.server import cache_hit_ratio, connections, memory_sum
from perfloop.errors import InvalidInput
from perfloop.model.advice import Finding, Severity
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Setting
from perfloop.model.units import setting_bytes, size_bytes
from perfloop.model.value import from_json

QUIET = from_json((Path(__file__).parent / "data" / "snapshot.json").read_text(), Snapshot)
"""A healthy target on 8 GB of which 6 GB are available; perfloop runs on another machine."""
GIB = 1024**3


def with_activity(**figures: object) -> Snapshot:
    return replace(QUIET, activity=replace(QUIET.activity, **figures))


def with_host(**figures: object) -> Snapshot:
    return replace(QUIET, host=replace(QUIET.host, **{"runs_server": True, **figures}))


def only(findings: tuple[Finding, ...]) -> Finding:
    assert 1 == len(findings), findings
    return findings[0]


@pytest.mark.parametrize(
    ("hit", "read", "severity"),
    [(920_000, 80_000, Severity.LOW), (500_000, 500_000, Severity.MEDIUM)],
)
def test_a_low_hit_ratio_is_found(hit: int, read: int, severity: Severity) -> None:
    finding = only(cache_hit_ratio(with_activity(hit_blocks=hit, read_blocks=read, counted_for_s=86_400.0)))

    assert ("shared_buffers", severity) == (finding.location, finding.severity)


@pytest.mark.parametrize(
    ("hit", "read", "counted_for_s"),
    [(990_000, 10_000, 86_400.0), (500, 500, 86_400.0), (500_000, 500_000, 60.0)],
    ids=["good", "few blocks", "just started"],
)
def test_a_good_or_unproven_hit_ratio_is_not_found(hit: int, read: int, counted_for_s: float) -> None:
    snapshot = with_activity(hit_blocks=hit, read_blocks=read, counted_for_s=counted_for_s)

    assert () == cache_hit_ratio(snapshot)


@pytest.mark.parametrize(("memory_mib", "severity"), [(800, Severity.HIGH), (1000, Severity.MEDIUM)])
def test_settings_that_promise_more_memory_than_there_is_are_found(
    memory_mib: int, severity: Severity
) -> None:
    """64 MB of buffers, 1.5 x 4 MB for each of 100 connections, 64 MB for each of 3 workers: 856 MB."""
    snapshot = with_host(memory_bytes=memory_mib * 1024**2)
    finding = only(memory_sum(snapshot))

    assert severity is finding.severity
    assert ["64 MB", "600 MB", "192 MB"] == [each.value for each in finding.evidence]


@pytest.mark.parametrize(
    "snapshot", [with_host(), with_host(memory_bytes=1024**2, runs_server=False)], ids=["fits", "elsewhere"]
)
def test_settings_that_fit_or_a_server_elsewhere_are_not_judged(snapshot: Snapshot) -> None:
    assert () == memory_sum(snapshot)


@pytest.mark.parametrize(("taken", "severity"), [(70, Severity.MEDIUM), (90, Severity.HIGH)])
def test_connections_near_the_limit_are_found(taken: int, severity: Severity) -> None:
    finding = only(connections(with_activity(connections=taken)))

    assert ("max_connections", severity) == (finding.location, finding.severity)


def test_connections_idle_in_a_transaction_are_found() -> None:
    finding = only(connections(with_activity(connections=20, idle_in_transaction=6)))

    assert "6 of 20 connections are idle in a transaction" == finding.title


@pytest.mark.parametrize(("taken", "idle"), [(50, 0), (3, 3), (50, 6)])
def test_a_usual_number_of_connections_is_not_found(taken: int, idle: int) -> None:
    assert () == connections(with_activity(connections=taken, idle_in_transaction=idle))


@pytest.mark.parametrize(
    ("figures", "location"),
    [
        ({"busy_ratio": 0.97}, "host: processors"),
        ({"steal_ratio": 0.12}, "host: steal"),
        ({"available_bytes": GIB // 2}, "host: memory"),
    ],
)
def test_pressure_on_the_machine_is_found(figures: dict[str, float], location: str) -> None:
    assert location == only(host_pressure(with_host(**figures))).location
    assert () == host_pressure(with_host(**figures, runs_server=False))


def test_a_limit_of_the_cgroup_is_named() -> None:
    finding = only(host_pressure(with_host(available_bytes=GIB // 2, memory_limited=True)))

    assert "8 GB, its cgroup's limit" in [each.value for each in finding.evidence]


def test_an_idle_machine_is_not_found() -> None:
    assert () == host_pressure(with_host())


@pytest.mark.parametrize(
    ("text", "unit", "size"),
    [("16384", "8kB", 128 * 1024**2), ("4096", "kB", 4 * 1024**2), ("1.5GB", None, GIB + GIB // 2)],
)
def test_sizes_are_read_in_their_unit(text: str, unit: str | None, size: int) -> None:
    assert size == size_bytes(text, unit)


@pytest.mark.parametrize("text", ["", "64", "64 parsecs", "on"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a size"):
        size_bytes(text)


def test_a_setting_left_to_the_server_has_no_size() -> None:
    setting = Setting(name="autovacuum_work_mem", value="-1", unit="kB", context="sighup", kind="integer")

    assert setting_bytes(setting) is None
    assert setting_bytes(None) is None
