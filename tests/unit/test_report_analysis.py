"""An Analysis as people and programs see it."""

from __future__ import annotations

import json
import re

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.analysis import Analysis
from perfloop.model.snapshot import Activity, Host, Limitation, Snapshot, StatementCounters
from perfloop.model.target import Fingerprint, Setting
from perfloop.model.workload import Operation, SkippedStatement, Statement, StatementKind, Workload
from perfloop.tune.report.analysis import analysis_html, analysis_json

HOSTILE = "</script><img src=x onerror=alert(1)>"
COUNTERS = tuple(
    StatementCounters(
        statement=Statement(
            query_id=str(number),
            text=f"SELECT * FROM orders WHERE column_{number} = $1",
            kind=StatementKind.READ,
            name=name,
        ),
        calls=calls,
        total_s=total_s,
        rows=calls,
    )
    for number, (name, calls, total_s) in enumerate(
        [
            ("session_user", 120_000, 9.0),
            ("orders_of_user", 4_000, 60.0),
            (None, 812, 24.0),
            ("user_by_email", 50_000, 7.0),
        ]
    )
)
SNAPSHOT = Snapshot(
    taken_at_s=1795248000.0,
    database="feedshop",
    user="feedshop",
    fingerprint=Fingerprint(
        server_version=150018,
        server_text="PostgreSQL 15.18 on x86_64-pc-linux-gnu",
        block_bytes=8192,
        data_checksums=False,
        jit_available=True,
        wal_compressions=("pglz",),
        io_methods=(),
        extensions=("pg_stat_statements",),
    ),
    settings=(
        Setting(
            name="primary_conninfo", value="password=hunter2", unit=None, context="sighup", kind="string"
        ),
    ),
    tables=(),
    indexes=(),
    statements=COUNTERS,
    activity=Activity(
        connections=4,
        active=1,
        idle_in_transaction=0,
        hit_blocks=1,
        read_blocks=1,
        temp_bytes=0,
        temp_files=0,
        database_bytes=277_872_640,
        counted_for_s=86_400.0 * 3,
    ),
    host=Host(cpus=2, memory_bytes=1, available_bytes=1, load_1m=0.1, busy_ratio=0.1, steal_ratio=0.0),
    limitations=(
        Limitation(
            subject="pg_stats", reason="the role owns no table", remedy="GRANT pg_read_all_stats TO feedshop;"
        ),
    ),
)
FINDING = Finding(
    check="missing-index",
    severity=Severity.HIGH,
    title="A sequential scan of orders reads 150,000 rows to keep 3, filtering on user_id",
    location="orders(user_id)",
    evidence=(Evidence(label="filter", value="user_id = $1"),),
    would_try="an index on orders (user_id)",
    query_ids=("1",),
    time_share=0.6,
)
ANALYSIS = Analysis(
    snapshot=SNAPSHOT,
    workload=Workload(
        origin="pg_stat_statements",
        operations=(
            Operation(
                statement=COUNTERS[1].statement, calls_share=1.0, instances=("SELECT 'secret of a user'",)
            ),
        ),
        skipped=(
            SkippedStatement(
                statement=COUNTERS[2].statement, reason="needs a temporary table", time_share=0.24
            ),
        ),
    ),
    findings=(FINDING,),
    unexplained=("session_user (9 % of the time) spends it in primary key look-ups on users",),
)


def words(text: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def test_the_page_says_what_was_found_with_its_evidence_and_where_the_time_goes() -> None:
    text = words(analysis_html(ANALYSIS))

    for expected in (
        "1 finding: 1 high.",
        FINDING.title,
        "60 % of the statements’ time",  # noqa: RUF001 (as the page prints it)
        "filter user_id = $1",
        "To try: an index on orders (user_id)",
        "265 MB, 0 tables",
        "4, taking 100 s",
        "GRANT pg_read_all_stats TO feedshop;",
        *ANALYSIS.unexplained,
        "needs a temporary table (24 % of the time)",
    ):
        assert expected in text
    assert text.index("4,000 calls") < text.index("812 calls") < text.index("120,000 calls")


def test_an_analysis_without_findings_says_why() -> None:
    empty = Analysis(snapshot=SNAPSHOT, workload=None, findings=(), unexplained=ANALYSIS.unexplained)
    text = words(analysis_html(empty))

    assert "Nothing was found that costs time or space." in text
    assert "Why nothing was found" in text
    assert ANALYSIS.unexplained[0] in text


def test_json_has_its_documented_keys_and_the_statements_by_time() -> None:
    document = json.loads(analysis_json(ANALYSIS))

    assert [
        *("format", "database", "user", "taken_at_s", "counted_for_s", "fingerprint", "findings"),
        *("limitations", "unexplained", "statement_count", "total_s", "statements", "workload_origin"),
        "skipped",
        "comparison",
    ] == list(document)
    assert ["1", "2", "0", "3"] == [each["query_id"] for each in document["statements"]]
    assert [0.6, 0.24, 0.09, 0.07] == [each["time_share"] for each in document["statements"]]


def test_neither_settings_nor_parameters_leave_the_analysis() -> None:
    for text in (analysis_json(ANALYSIS), analysis_html(ANALYSIS)):
        assert "hunter2" not in text
        assert "secret of a user" not in text


def test_hostile_names_stay_text() -> None:
    statement = Statement(query_id="1", text=HOSTILE, kind=StatementKind.READ, name=HOSTILE)
    hostile = Analysis(
        snapshot=Snapshot(
            **{
                name: getattr(SNAPSHOT, name)
                for name in SNAPSHOT.__struct_fields__
                if name not in ("database", "statements")
            },
            database=HOSTILE,
            statements=(StatementCounters(statement=statement, calls=1, total_s=1.0, rows=1),),
        ),
        workload=None,
        findings=(),
        unexplained=(HOSTILE,),
    )
    text = analysis_html(hostile)

    assert "<img" not in text
    assert "<script" not in text
    assert 5 <= text.count("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;")
