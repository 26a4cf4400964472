"""What perfloop refuses to set, and why."""

from __future__ import annotations

import re

import pytest

from perfloop.database.knobs import KNOBS, forbid, knob, refuse, refuse_memory, safe_range
from perfloop.errors import ChangeForbidden, InvalidInput
from perfloop.model.advice import SettingScope
from perfloop.model.memory import memory_sum_bytes
from perfloop.model.target import Setting

GIB = 1024**3
SYSTEM, DATABASE, ROLE = SettingScope.SYSTEM, SettingScope.DATABASE, SettingScope.ROLE


def setting(name: str, value: str, kind: str = "integer", context: str = "user", **facts: object) -> Setting:
    return Setting(name=name, value=value, kind=kind, context=context, unit=facts.pop("unit", None), **facts)  # type: ignore[arg-type]  # facts are typed where they are used


WORK_MEM = setting("work_mem", "4096", unit="kB", minimum=64, maximum=2147483647)
SERVER = (
    WORK_MEM,
    setting("shared_buffers", "16384", context="postmaster", unit="8kB"),
    setting("max_connections", "100", context="postmaster"),
    setting("autovacuum_max_workers", "3", context="postmaster"),
    setting("maintenance_work_mem", "65536", unit="kB"),
)


@pytest.mark.parametrize(
    "name",
    [
        "fsync",
        "full_page_writes",
        "data_checksums",
        "wal_level",
        "archive_mode",
        "archive_command",
        "restore_command",
        "recovery_target_time",
        "zero_damaged_pages",
        "enable_seqscan",
        "shared_preload_libraries",
        "FSYNC",
    ],
)
@pytest.mark.parametrize("scope", list(SettingScope))
def test_what_guards_data_and_plans_is_never_touched(name: str, scope: SettingScope) -> None:
    with pytest.raises(ChangeForbidden, match="never touched"):
        forbid(name, "off", scope)


@pytest.mark.parametrize("value", ["off", "FALSE", "0", "no", " off "])
def test_autovacuum_is_never_turned_off(value: str) -> None:
    with pytest.raises(ChangeForbidden, match="never turns autovacuum off"):
        forbid("autovacuum", value, SYSTEM)


def test_synchronous_commit_may_change_for_a_role_only() -> None:
    forbid("synchronous_commit", "off", ROLE)

    for scope in (SYSTEM, DATABASE):
        with pytest.raises(ChangeForbidden, match="give it to one role"):
            forbid("synchronous_commit", "off", scope)


def test_no_knob_is_forbidden() -> None:
    for each in KNOBS:
        forbid(each.name, "on", ROLE)

    assert len(KNOBS) == len({each.name for each in KNOBS})


def test_a_setting_without_a_known_range_is_refused() -> None:
    with pytest.raises(ChangeForbidden, match="does not tune log_statement"):
        refuse("log_statement", "all", SYSTEM, setting("log_statement", "none", kind="enum"))


def test_a_setting_that_the_server_lacks_is_refused() -> None:
    with pytest.raises(InvalidInput, match="this server has no setting io_method"):
        refuse("io_method", "worker", SYSTEM, None)


def test_a_setting_of_the_whole_server_is_refused_for_a_database() -> None:
    max_wal_size = setting("max_wal_size", "1024", context="sighup", unit="MB", minimum=2, maximum=2147483647)
    refuse("max_wal_size", "4GB", SYSTEM, max_wal_size)

    with pytest.raises(InvalidInput, match="set it with scope system"):
        refuse("max_wal_size", "4GB", DATABASE, max_wal_size)


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        ("32kB", "lies below this server's minimum 64 kB"),
        ("4TB", "lies above this server's maximum"),
        ("a lot", "is no number"),
        ("10s", "it takes B, kB, MB, GB, TB"),
        ("10mb", "the unit is not known"),
    ],
)
def test_the_limits_of_the_live_server_are_told(value: str, fact: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(fact)):
        refuse("work_mem", value, DATABASE, WORK_MEM)


def test_a_word_that_this_build_lacks_is_refused() -> None:
    compression = setting(
        "wal_compression", "off", kind="enum", context="superuser", choices=("pglz", "on", "off")
    )

    with pytest.raises(InvalidInput, match="wal_compression = lz4 is not one of pglz, on, off"):
        refuse("wal_compression", "lz4", SYSTEM, compression)


def test_more_memory_than_the_machine_has_is_refused() -> None:
    refuse_memory(SERVER, "work_mem", "16MB", 4 * GIB)

    with pytest.raises(InvalidInput, match=r"15\.3 GiB in the worst case, and its machine has 4\.0"):
        refuse_memory(SERVER, "work_mem", "102MB", 4 * GIB)


def test_autovacuum_workers_take_their_own_limit_where_they_have_one() -> None:
    """128 MB of buffers, 600 MB for sorts; three workers of 64 MB, or of 1 GB each."""
    left = setting("autovacuum_work_mem", "-1", context="sighup", unit="kB")
    given = setting("autovacuum_work_mem", "1048576", context="sighup", unit="kB")

    assert (128 + 600 + 192) * 1024**2 == memory_sum_bytes((*SERVER, left))
    assert (128 + 600 + 3072) * 1024**2 == memory_sum_bytes((*SERVER, given))
    with pytest.raises(InvalidInput, match=r"lets the server take 3\.7 GiB"):
        refuse_memory((*SERVER, left), "autovacuum_work_mem", "1GB", 2 * GIB)


def test_a_lesser_value_is_never_refused_for_memory() -> None:
    refuse_memory(SERVER, "work_mem", "3MB", GIB // 8)


def test_a_setting_that_takes_no_memory_is_not_counted() -> None:
    refuse_memory(
        (*SERVER, setting("effective_cache_size", "1", unit="8kB")), "effective_cache_size", "1TB", GIB
    )


def test_a_search_range_narrows_with_the_machine() -> None:
    assert (4 * 1024.0**2, 256 * 1024.0**2) == safe_range("work_mem", memory_bytes=None, cpus=None)
    assert (GIB / 20, 0.4 * GIB) == safe_range("shared_buffers", memory_bytes=GIB, cpus=2)
    assert (0.0, 1.0) == safe_range("max_parallel_workers_per_gather", memory_bytes=GIB, cpus=2)
    assert safe_range("jit", memory_bytes=GIB, cpus=2) is None
    assert knob("fsync") is None


def test_a_search_range_is_never_upside_down() -> None:
    for each in KNOBS:
        found = safe_range(each.name, memory_bytes=GIB // 4, cpus=1)

        assert found is None or found[0] <= found[1], each.name
