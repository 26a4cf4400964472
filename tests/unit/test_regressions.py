"""What counts as worse than a baseline, and how much it matters: from counters made up for it."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from perfloop.analyze.changes import kept_settings
from perfloop.analyze.regressions import judge, regressions
from perfloop.model.advice import Severity
from perfloop.model.baseline import Baseline, BaselinePlan
from perfloop.model.plan import Plan, PlanNode
from perfloop.model.snapshot import Activity, Host, Snapshot, StatementCounters, StatementPlan
from perfloop.model.target import Fingerprint, Setting
from perfloop.model.workload import Statement, StatementKind

FINGERPRINT = Fingerprint(
    server_version=150018,
    server_text="PostgreSQL 15.18",
    block_bytes=8192,
    data_checksums=False,
    jit_available=True,
    wal_compressions=(),
    io_methods=(),
    extensions=(),
)
ACTIVITY = msgspec.convert(
    dict.fromkeys(
        (
            *("connections", "active", "idle_in_transaction", "hit_blocks", "read_blocks", "temp_bytes"),
            *("temp_files", "database_bytes"),
        ),
        0,
    )
    | {"counted_for_s": None},
    Activity,
)
HOST = Host(cpus=2, memory_bytes=1, available_bytes=1, load_1m=0.0, busy_ratio=0.0, steal_ratio=0.0)


def counted(
    query_id: str,
    *,
    mean_s: float,
    calls: int = 1000,
    blocks: float = 10.0,
    temp: float = 0.0,
    wal_records: float = 0.0,
    spread: float = 1.0,
) -> StatementCounters:
    """A statement whose calls' times have a deviation of `spread` times their mean."""
    return StatementCounters(
        statement=Statement(query_id=query_id, text=f"SELECT {query_id}", kind=StatementKind.READ),
        calls=calls,
        total_s=mean_s * calls,
        rows=calls,
        hit_blocks=round(blocks * calls),
        temp_blocks=round(temp * calls),
        wal_records=round(wal_records * calls),
        squared_s2=calls * mean_s**2 * (1 + spread**2),
    )


OTHERS = tuple(counted(name, mean_s=0.01) for name in ("b", "c", "d"))


def snapshot(*statements: StatementCounters, plans: tuple[StatementPlan, ...] = ()) -> Snapshot:
    return Snapshot(
        taken_at_s=2.0,
        database="shop",
        user="app",
        fingerprint=FINGERPRINT,
        settings=(),
        tables=(),
        indexes=(),
        statements=statements,
        plans=plans,
        activity=ACTIVITY,
        host=HOST,
    )


def baseline(*statements: StatementCounters, plans: tuple[BaselinePlan, ...] = ()) -> Baseline:
    return Baseline(
        name="then",
        target="dbname=shop",
        database="shop",
        taken_at_s=1.0,
        fingerprint=FINGERPRINT,
        statements=statements,
        plans=plans,
    )


def found(before: StatementCounters, now: StatementCounters) -> list[tuple[str, Severity]]:
    findings = regressions(snapshot(now, *OTHERS), baseline(before, *OTHERS))
    return [(each.check, each.severity) for each in findings]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (counted("a", mean_s=0.01), []),
        (counted("a", mean_s=0.012), []),
        (counted("a", mean_s=0.02, blocks=30.0), [("slower-statement", Severity.HIGH)]),
        (counted("a", mean_s=0.03), [("slower-statement", Severity.MEDIUM)]),
        (counted("a", mean_s=0.015), []),
        (counted("a", mean_s=0.01, blocks=30.0), [("more-work", Severity.LOW)]),
        (counted("a", mean_s=0.01, temp=5.0), [("more-work", Severity.LOW)]),
        (counted("a", mean_s=0.01, wal_records=3.0), [("more-work", Severity.LOW)]),
        (counted("a", mean_s=0.01, blocks=11.0), []),
        (counted("a", mean_s=0.02, calls=19, blocks=300.0), []),
        (counted("a", mean_s=0.02, calls=30, blocks=30.0, spread=5.0), []),
        (counted("a", mean_s=0.001, blocks=1.0), []),
    ],
    ids=[
        "the same",
        "a little slower",
        "slower with more work",
        "three times as long for the same work",
        "half as long again for the same work",
        "more blocks",
        "temporary blocks",
        "WAL records",
        "a block more",
        "too few calls",
        "too wide a spread",
        "faster",
    ],
)
def test_worse_is_what_is_beyond_noise(now: StatementCounters, expected: list[tuple[str, Severity]]) -> None:
    assert expected == found(counted("a", mean_s=0.01), now)


def test_what_is_not_felt_in_the_whole_is_not_told() -> None:
    tiny = counted("a", mean_s=0.00001)

    assert [] == found(tiny, counted("a", mean_s=0.00005, blocks=100.0))


def test_time_that_all_lose_alike_is_the_machines() -> None:
    slow = [replace(each, total_s=3 * each.total_s, squared_s2=9 * each.squared_s2) for each in OTHERS]
    judgement = judge(snapshot(*slow), baseline(*OTHERS))

    assert () == judgement.findings
    assert any("take 3.0 times as long for the same work" in note for note in judgement.notes)


def test_where_the_spread_is_not_known_a_wide_one_is_taken() -> None:
    before, now = (replace(counted("a", mean_s=mean_s, calls=25), squared_s2=0.0) for mean_s in (0.01, 0.022))

    assert [] == found(before, now)


def scan(relation: str, cost: float, index: str | None = None) -> Plan:
    kind = "Seq Scan" if index is None else "Index Scan"
    fields = {"Relation Name": relation, "Alias": relation, "Total Cost": cost}
    return Plan(root=PlanNode(kind=kind, fields=fields | ({"Index Name": index} if index else {})))


PLANNED = BaselinePlan(
    query_id="a",
    label="a",
    instance="SELECT 7",
    shape=scan("t", 10.0, "t_idx").shape,
    total_cost=10.0,
    outline="Index Scan using t_idx on t",
)


@pytest.mark.parametrize(
    ("cost", "now", "expected"),
    [
        (100.0, None, [("plan-flip", Severity.MEDIUM)]),
        (15.0, None, [("plan-flip", Severity.LOW)]),
        (11.0, None, []),
        (5.0, None, []),
        (100.0, counted("a", mean_s=0.05, blocks=90.0), [("plan-flip", Severity.HIGH)]),
        (100.0, counted("a", mean_s=0.01), [("plan-flip", Severity.LOW)]),
        (15.0, counted("a", mean_s=0.01), []),
        (5.0, counted("a", mean_s=0.05, blocks=90.0), [("plan-flip", Severity.HIGH)]),
    ],
)
def test_another_plan_is_high_only_where_it_is_slower(
    cost: float, now: StatementCounters | None, expected: list[tuple[str, Severity]]
) -> None:
    plans = (StatementPlan(query_id="a", instance="SELECT 7", plan=scan("t", cost)),)
    statements = OTHERS if now is None else (now, *OTHERS)
    before = baseline(counted("a", mean_s=0.01), *OTHERS, plans=(PLANNED,))
    findings = regressions(snapshot(*statements, plans=plans), before)

    assert expected == [(each.check, each.severity) for each in findings if each.check != "gone-statement"]


def test_a_statement_is_known_by_its_text_where_its_id_has_changed() -> None:
    now = replace(
        counted("a", mean_s=0.05, blocks=90.0),
        statement=Statement(query_id="z", text="SELECT  a", kind=StatementKind.READ),
    )
    (finding,) = regressions(snapshot(now, *OTHERS), baseline(counted("a", mean_s=0.01), *OTHERS))

    assert ("slower-statement", ("z",)) == (finding.check, finding.query_ids)


def setting(name: str, value: str, **fields: str) -> Setting:
    known = {"unit": None, "context": "user", "kind": "integer", "boot_value": "1"} | fields
    return Setting(name=name, value=value, **known)  # type: ignore[arg-type]


def test_settings_that_may_hold_secrets_are_not_kept() -> None:
    settings = (
        setting("work_mem", "9"),
        setting("unchanged", "1"),
        setting("primary_conninfo", "password=x", kind="string"),
        setting("server_version_num", "150018", context="internal"),
    )

    assert ["work_mem"] == [each.name for each in kept_settings(settings)]


def test_a_setting_that_went_back_to_its_default_is_told() -> None:
    before = replace(baseline(), settings=(setting("work_mem", "9"),))
    (finding,) = regressions(replace(snapshot(), settings=(setting("work_mem", "1"),)), before)

    assert "work_mem was 9 and is 1" == finding.title
