"""A Study as people and programs see it. The sample is feedshop's, with figures of its README's order."""

# ruff: noqa: RUF001  the sentences under test have typographic signs

from __future__ import annotations

import html.parser
import itertools
import re

import msgspec
import pytest

from perfloop.model.advice import (
    AlterSetting,
    AnalyzeTable,
    Change,
    CreateIndex,
    DropIndex,
    Evidence,
    Finding,
    Proposal,
    Risk,
    Severity,
)
from perfloop.model.outcome import (
    Confirmation,
    Effect,
    GuardrailReading,
    HostReading,
    LabKind,
    StatementEffect,
    Study,
    StudyState,
    TrialRecord,
    Verdict,
    Work,
)
from perfloop.model.snapshot import Limitation
from perfloop.model.target import Fingerprint, IndexKey, TableName
from perfloop.model.value import from_json
from perfloop.model.workload import SkippedStatement, Statement, StatementKind
from perfloop.tune.report.study import study_html, study_json, study_markdown

POSTS, ORDERS, FEEDS = (TableName(schema="public", name=name) for name in ("posts", "orders", "feeds"))
FINGERPRINT = Fingerprint(
    server_version=150018,
    server_text="PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu",
    block_bytes=8192,
    data_checksums=True,
    jit_available=True,
    wal_compressions=("lz4", "pglz", "zstd"),
    io_methods=(),
    extensions=("hypopg", "pg_stat_statements", "pgstattuple"),
)
TEXTS = {
    "feed_timeline": "SELECT id, title FROM posts WHERE feed_id = $1\nORDER BY published_at DESC LIMIT 20",
    "orders_of_user": "SELECT id, status, total FROM orders WHERE user_id = $1 ORDER BY placed_at DESC",
    "order_by_reference": 'SELECT * FROM orders WHERE "externalRef" = $1',
    "posts_of_campaign": "SELECT id FROM posts WHERE attrs @> $1 LIMIT 50",
    "lapsed_customers": "SELECT id FROM users WHERE id NOT IN (SELECT user_id FROM orders WHERE id > $1)",
    "quiet_feeds": "SELECT id, name FROM feeds ORDER BY last_seen_at LIMIT 20",
    "user_by_email": "SELECT * FROM users WHERE lower(email) = $1 AND deleted_at IS NULL",
    "disputed_campaign_orders": "SELECT id FROM orders WHERE disputed ORDER BY total DESC LIMIT 10",
    "mark_feed_seen": "UPDATE feeds SET last_seen_at = now() WHERE id = $1",
    "publish_post": "INSERT INTO posts (feed_id, title, attrs) VALUES ($1, $2, $3) RETURNING id",
    "settle_order": "UPDATE orders SET status = $2 WHERE id = $1",
}
WRITES = {"mark_feed_seen", "publish_post", "settle_order"}


def statement(name: str) -> Statement:
    kind = StatementKind.WRITE if name in WRITES else StatementKind.READ
    return Statement(query_id=f"{name}-id", text=TEXTS[name], kind=kind, name=name)


def effect(metric: str, ratio: float, spread: float = 0.05, *, control: float | None = None) -> Effect:
    return Effect(
        metric=metric,
        ratio=ratio,
        low=ratio / (1 + spread),
        high=ratio * (1 + spread),
        pairs=20,
        control=control,
        treatment=None if control is None else control * ratio,
    )


def statement_effect(
    name: str, ratio: float, control_s: float, share: float, *, metric: str = "cpu_s", blocks: float = 800
) -> StatementEffect:
    wal_bytes = 310.0 if name in WRITES else 0.0
    return StatementEffect(
        statement=statement(name),
        time=effect(metric, ratio, control=control_s),
        control_work=Work(blocks=blocks, temp_blocks=0, wal_bytes=wal_bytes, rows=20),
        treatment_work=Work(blocks=blocks * min(1, ratio), wal_bytes=wal_bytes * max(1, ratio), rows=20),
        plan_changed=name not in WRITES,
        mix_share=share,
    )


def trial(
    change: Change,
    verdict: Verdict,
    reason: str,
    cpu: Effect | None,
    statements: tuple[StatementEffect, ...] = (),
    **more: object,
) -> TrialRecord:
    return TrialRecord(
        proposal=Proposal(
            change=change,
            reason="serves the statements that filter and sort so",
            findings=("missing-index:posts(feed_id)",) if isinstance(change, CreateIndex) else (),
            expected_ratio=0.21,
            risk=Risk.MEDIUM,
        ),
        lab=LabKind.SESSIONS if isinstance(change, AlterSetting) else LabKind.DATABASES,
        verdict=verdict,
        reason=reason,
        cpu=cpu,
        mix_ratio=None if cpu is None else 1 - 0.3 * (1 - cpu.ratio),
        wall=cpu and msgspec.structs.replace(cpu, metric="wall_s"),
        control_work=Work(blocks=1200.5, temp_blocks=12, wal_bytes=310) if statements else Work(),
        treatment_work=Work(blocks=24.25, wal_bytes=402) if statements else Work(),
        statements=statements,
        host=HostReading(neighbour_ratio=0.041, steal_ratio=0.002, voided_pairs=1) if cpu else None,
        took_s=21.4,
        started_at_s=1795248000.0,
        **more,
    )


def index(table: TableName, *columns: str, name: str | None = None, **more: object) -> CreateIndex:
    keys = tuple(IndexKey(text=column) for column in columns)
    return CreateIndex(table=table, name=name or f"{table.name}_{columns[0]}_idx", keys=keys, **more)


TIMELINE = CreateIndex(
    table=POSTS,
    name="posts_feed_id_published_at_idx",
    keys=(IndexKey(text="feed_id"), IndexKey(text="published_at", descending=True)),
    predicate="deleted_at IS NULL",
)
RAIL = GuardrailReading(
    name="size of all kept changes over the database's size", ratio=0.04, limit_ratio=0.5, broken=False
)
BROKEN = GuardrailReading(name="mark_feed_seen", ratio=41.7, limit_ratio=2.0, broken=True)
OVERLAP = index(POSTS, "feed_id", name="posts_feed_id_idx")
TRIALS = (
    trial(
        TIMELINE,
        Verdict.KEEP,
        "the statements it reaches cost 98.5 % less CPU time",
        effect("cpu_s", 0.0147),
        (
            statement_effect("feed_timeline", 0.0147, 0.0142, 0.31),
            statement_effect("publish_post", 1.08, 0.00021, 0.01),
        ),
        guardrails=(RAIL,),
        size_bytes=9_420_800,
        build_s=0.41,
    ),
    trial(
        index(ORDERS, "user_id"),
        Verdict.KEEP,
        "the statements it reaches cost 99.5 % less CPU time",
        effect("cpu_s", 0.005),
        (statement_effect("orders_of_user", 0.005, 0.0181, 0.22),),
        guardrails=(RAIL,),
        size_bytes=2_310_144,
        build_s=0.12,
    ),
    trial(
        index(ORDERS, "externalRef"),
        Verdict.KEEP,
        "the statements it reaches cost 99.9 % less CPU time",
        effect("cpu_s", 0.0014, 0.3),
        (statement_effect("order_by_reference", 0.0014, 0.0162, 0.17),),
        guardrails=(RAIL,),
        size_bytes=4_710_144,
        build_s=0.3,
    ),
    trial(
        index(POSTS, "attrs", method="gin"),
        Verdict.KEEP,
        "the statements it reaches cost 96.9 % less CPU time",
        effect("cpu_s", 0.031),
        (
            statement_effect("posts_of_campaign", 0.031, 0.041, 0.09),
            statement_effect("publish_post", 1.31, 0.00021, 0.01),
        ),
        guardrails=(RAIL,),
        size_bytes=13_910_144,
        build_s=0.9,
    ),
    trial(
        AlterSetting(name="work_mem", value="8MB"),
        Verdict.KEEP,
        "the statements it reaches cost 83.1 % less CPU time",
        effect("cpu_s", 0.169),
        (statement_effect("lapsed_customers", 0.169, 0.47, 0.06),),
        guardrails=(RAIL,),
    ),
    trial(
        DropIndex(
            table=ORDERS,
            name="orders_report_idx",
            definition="CREATE INDEX orders_report_idx ON public.orders USING btree (updated_at)",
        ),
        Verdict.KEEP,
        "no plan of the workload uses it, and writes have less to maintain",
        None,
        (msgspec.structs.replace(statement_effect("settle_order", 1.0, 0.0002, 0.01), time=None),),
        guardrails=(RAIL,),
        size_bytes=-3_400_000,
    ),
    trial(
        OVERLAP,
        Verdict.KEEP,
        "the statements it reaches cost 6.2 % less CPU time",
        effect("cpu_s", 0.938, 0.02),
        (statement_effect("feed_timeline", 0.938, 0.0009, 0.04),),
        guardrails=(RAIL,),
        size_bytes=1_400_000,
        build_s=0.2,
    ),
    trial(
        AnalyzeTable(table=POSTS),
        Verdict.REVERT,
        "no statement of the workload changed its plan or its work",
        None,
        guardrails=(RAIL,),
    ),
    trial(
        index(FEEDS, "last_seen_at"),
        Verdict.REVERT,
        "mark_feed_seen costs 41.70 times as much, limit 2.00",
        effect("cpu_s", 2.1, 0.1),
        (
            statement_effect("quiet_feeds", 0.0053, 0.0038, 0.05),
            statement_effect("mark_feed_seen", 41.7, 0.00001, 0.02),
        ),
        guardrails=(RAIL, BROKEN),
        size_bytes=300_000,
        build_s=0.05,
    ),
    trial(
        AlterSetting(name="random_page_cost", value="1.1"),
        Verdict.REVERT,
        "disputed_campaign_orders costs 20.80 times as much, limit 1.15",
        effect("cpu_s", 1.74, 0.06),
        (statement_effect("disputed_campaign_orders", 20.8, 0.0024, 0.03),),
        guardrails=(RAIL,),
    ),
    trial(
        AlterSetting(name="work_mem", value="64MB"),
        Verdict.UNCLEAR,
        "40 pairs on a crowded host cannot tell: between 4.1 % less and 3.3 % more CPU time",
        effect("cpu_s", 0.995, 0.038),
        (statement_effect("lapsed_customers", 0.995, 0.08, 0.06),),
        guardrails=(RAIL,),
    ),
)
CONFIRMATION = Confirmation(
    effects=(
        effect("cpu_s", 0.147, 0.03, control=0.00912),
        effect("mean_s", 0.16, 0.04, control=0.0113),
        effect("p95_s", 0.21, 0.12, control=0.0418),
        effect("throughput_per_s", 6.25, 0.04, control=88.5),
    ),
    statements=(
        statement_effect("feed_timeline", 0.0147, 0.0151, 0.31, metric="mean_s", blocks=4210),
        statement_effect("orders_of_user", 0.005, 0.0188, 0.22, metric="mean_s", blocks=2900),
        statement_effect("order_by_reference", 0.0014, 0.017, 0.17, metric="mean_s", blocks=2900),
        statement_effect("posts_of_campaign", 0.031, 0.043, 0.09, metric="mean_s"),
        statement_effect("lapsed_customers", 0.169, 0.49, 0.06, metric="mean_s"),
        statement_effect("quiet_feeds", 1.01, 0.004, 0.05, metric="mean_s"),
        statement_effect("user_by_email", 0.99, 0.00008, 0.02, metric="mean_s", blocks=4),
        statement_effect("mark_feed_seen", 1.0, 0.00002, 0.02, metric="mean_s", blocks=6),
        statement_effect("publish_post", 1.44, 0.00024, 0.01, metric="mean_s", blocks=22),
        statement_effect("settle_order", 0.82, 0.00017, 0.01, metric="mean_s", blocks=31),
    ),
    control_work=Work(blocks=1834.2, temp_blocks=41.3, wal_bytes=412.0, rows=18.2),
    treatment_work=Work(blocks=37.9, temp_blocks=0.0, wal_bytes=455.5, rows=18.2),
    size_bytes=27_000_000,
    host=HostReading(neighbour_ratio=0.05, steal_ratio=0.001),
)
FINDINGS = (
    Finding(
        check="missing-index",
        severity=Severity.HIGH,
        title="A sequential scan of posts reads 200,000 rows to keep 20, filtering on feed_id",
        location="posts(feed_id)",
        evidence=(
            Evidence(label="filter", value="feed_id = $1 AND deleted_at IS NULL"),
            Evidence(label="rows kept", value="0.01 % of 200,000"),
        ),
        would_try="an index on posts (feed_id, published_at desc) for the rows not deleted",
        query_ids=("feed_timeline-id",),
        time_share=0.31,
    ),
    Finding(
        check="unused-index",
        severity=Severity.LOW,
        title="orders_report_idx was never scanned in 41 days",
        location="orders_report_idx",
        evidence=(Evidence(label="scans", value="0"),),
        would_try="drop it, and build it again if a trial needs it",
        space_bytes=3_400_000,
    ),
)
STUDY = Study(
    study_id="20261121-4f2c9a",
    target="host=db.internal port=5432 dbname=feedshop user=feedshop",
    started_at_s=1795248000.0,
    finished_at_s=1795248412.0,
    state=StudyState.FINISHED,
    seed=7,
    fingerprint=FINGERPRINT,
    lab_fingerprint=FINGERPRINT,
    workload_origin="pg_stat_statements",
    statements=tuple(statement(name) for name in TEXTS),
    skipped=(
        SkippedStatement(
            statement=Statement(
                query_id="-8812", text="SELECT pg_advisory_lock($1)", kind=StatementKind.READ
            ),
            reason="takes a lock of its session",
            time_share=0.004,
        ),
    ),
    findings=FINDINGS,
    limitations=(
        Limitation(
            subject="track_io_timing",
            reason="it is off, so time spent reading is not told from computing",
            remedy="ALTER SYSTEM SET track_io_timing = on;\nSELECT pg_reload_conf();",
        ),
    ),
    unexplained=(
        "label_drift (4.1 % of the time) spends 88 % of it aggregating; an index would not help",
        "user_by_email (2 % of the time) already uses index users_lower_idx, 0.08 ms per call",
    ),
    trials=TRIALS,
    rechecks=(
        *(
            trial(each.proposal.change, Verdict.KEEP, "still pays", effect("cpu_s", 0.4))
            for each in TRIALS[:6]
        ),
        trial(OVERLAP, Verdict.REVERT, "no statement of the workload changed its plan or its work", None),
    ),
    confirmation=CONFIRMATION,
    notes=("the lab's build has no io_uring: nothing is decided about it",),
)

HOSTILE = "</script><img src=x onerror=alert(1)>\"'`|${{7*7}}\n; DROP TABLE users; --"
OUTSIDE = (
    *("text", "title", "reason", "name", "target", "study_id", "label", "value", "location", "would_try"),
    *("remedy", "subject", "workload_origin", "server_text"),
)
EMPTY = Study(
    study_id="20261121-000000",
    target="dbname=shop",
    started_at_s=1795248000.0,
    state=StudyState.FINISHED,
    seed=1,
    fingerprint=FINGERPRINT,
)
UNSHOWN = (
    r"started_at_s",  # to the minute only, and of trials not at all
    r"fingerprint\.server_version",  # shown as the major version
    r"wall\.pairs",  # the same as the CPU time's
    r"statements\.\d+\.time\.pairs",  # the same as the whole's
    r"confirmation\.effects\.[0-9]\.pairs",  # all the same, shown once
    r"confirmation\.host",  # shown where it is crowded
    r"rechecks\.\d+\.(?!cpu\.(ratio|low|high))",  # shown with their verdict, reason and effect
    r"trials\.\d+\.(control|treatment)_work\.rows",  # rows do not change
    r"trials\.\d+\.statements\.\d+\.(control|treatment)_work\.rows",
    r"trials\.([1-7]|9|10)\.|rechecks\.[1-9]|confirmation\.statements\.[1-7]\.",  # like the others, for speed
)
BLOCKS = frozenset(
    {"address", "div", "dl", "details", "ol", "ul", "p", "pre", "section", "table", "h1", "h2", "h3", "nav"}
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
VOID = frozenset({"meta", "br", "link", "img", "hr", "input"})


class Page(html.parser.HTMLParser):
    """Parses strictly: every element is closed, in order, and no block stands in a paragraph."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not (tag in BLOCKS and "p" in self.open), f"<{tag}> in a paragraph: {self.getpos()}"
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing: {self.getpos()}"
        assert self.open.pop() == tag, f"</{tag}> is out of order: {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def parse(study: Study) -> Page:
    page = Page(study_html(study))
    assert page.open == []
    return page


def words(text: str) -> str:
    return " ".join(text.split())


def numbers(document: object, path: str = "") -> list[str]:
    """The paths of all numbers in a JSON document."""
    if isinstance(document, bool) or document is None or isinstance(document, str):
        return []
    if isinstance(document, dict):
        parts = document.items()
    elif isinstance(document, list | tuple):
        parts = enumerate(document)
    else:
        return [path]
    return [found for name, part in parts for found in numbers(part, f"{path}.{name}".lstrip("."))]


def changed(study: Study, path: str) -> Study:
    """The study with another number at that path; a ratio takes the end of its interval with it."""
    document = msgspec.to_builtins(study)
    *way, last = path.split(".")
    node = document
    for name in way:
        node = node[int(name) if isinstance(node, list | tuple) else name]
    if last in ("ratio", "low", "high") and "metric" in node:
        moved = {"low": {"low": node["low"] / 2}, "high": {"high": node["high"] * 2}}
        node.update(moved.get(last, {"ratio": node["low"] / 2, "low": node["low"] / 2}))
    else:
        node[last] = node[last] * 3 + 1 if isinstance(node[last], int) else node[last] * 1.7 + 0.01
    return msgspec.convert(document, Study, strict=False)


SHOWN = [
    path for path in numbers(msgspec.to_builtins(STUDY)) if not any(re.search(each, path) for each in UNSHOWN)
]


def test_every_figure_of_a_study_moves_its_page() -> None:
    page = study_html(STUDY)
    deaf = [path for path in SHOWN if study_html(changed(STUDY, path)) == page]

    assert [] == deaf
    assert len(SHOWN) > 120


def test_the_result_is_the_confirmations_mean_time_and_nothing_else() -> None:
    without_trials = msgspec.structs.replace(STUDY, rechecks=(), trials=TRIALS[:1])

    for study in (STUDY, without_trials):
        assert "The workload’s mean time fell by 84 % [83, 85]: 11.3 ms → 1.81 ms." in words(
            study_markdown(study).replace("\\", "")
        )
        assert "fell by 84\N{NO-BREAK SPACE}%" in parse(study).text


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (1.5, "The workload’s mean time rose by 50 % [44, 56]: 11.3 ms → 16.9 ms."),
        (
            1.01,
            "6 changes kept, but together they made no proven difference "
            "to the workload’s mean time: +1.0 % [−2.9, +5.0].",
        ),
    ],
)
def test_a_stack_that_does_not_help_is_not_sold_as_one(ratio: float, expected: str) -> None:
    effects = (effect("mean_s", ratio, 0.04, control=0.0113),)
    study = msgspec.structs.replace(
        STUDY, confirmation=msgspec.structs.replace(CONFIRMATION, effects=effects)
    )

    assert expected == words(parse(study).text.split("UTC")[1]).split(" 11 changes")[0].replace("\xa0", " ")


def test_kept_and_reverted_changes_are_both_on_the_page_with_their_reasons() -> None:
    text = words(parse(STUDY).text)

    for each in TRIALS:
        assert words(each.proposal.change.title) in text
        assert each.reason in text or each.proposal.change == OVERLAP
    assert "11 changes tried: 6 kept, 1 taken out, 1 unclear, 3 reverted." in text
    assert "Kept · 6" in text
    assert "Not kept · 5" in text
    assert "kept at first, then tried again beside the others: no statement" in text


def test_a_change_taken_out_by_its_recheck_is_in_neither_script() -> None:
    document = msgspec.json.decode(study_json(STUDY))

    assert OVERLAP.title not in document["kept"]
    assert OVERLAP.name not in document["apply_sql"] + document["undo_sql"]


def test_json_reads_back_as_the_study() -> None:
    text = study_json(STUDY)

    assert STUDY == from_json(text, Study)
    assert {field.name for field in msgspec.structs.fields(Study)} | {
        "format",
        "result",
        "kept",
        "apply_sql",
        "undo_sql",
    } == set(msgspec.json.decode(text))


def hostile(study: Study) -> Study:
    """The study with hostile text for every text that comes from outside."""
    document = msgspec.json.decode(
        re.sub(
            rb'"(%s)":"(?:[^"\\\\]|\\\\.)*"' % "|".join(OUTSIDE).encode(),
            lambda match: b'"' + match[1] + b'":' + msgspec.json.encode(HOSTILE),
            msgspec.json.encode(study),
        )
    )
    document["notes"] = document["unexplained"] = document["fingerprint"]["extensions"] = [HOSTILE]
    return msgspec.convert(document, Study)


def test_hostile_text_stays_text() -> None:
    study = hostile(
        msgspec.structs.replace(
            STUDY,
            trials=tuple(
                each for each in TRIALS if not isinstance(each.proposal.change, DropIndex | AlterSetting)
            ),
            rechecks=(),
        )
    )
    page = parse(study)

    assert {"img", "script"} & set(page.tags) == set()
    assert [] == [name for name, _ in page.attributes if name.startswith("on")]
    assert "</script><img src=x onerror=alert(1)>" in page.text
    assert "${{7*7}}" in page.text
    assert "<img" not in re.sub(r"```.*?```", "", study_markdown(study).replace("\\<", ""), flags=re.S)


def test_a_line_break_in_a_name_does_not_leave_the_comments_of_a_script() -> None:
    study = msgspec.structs.replace(
        STUDY, study_id="x\n; DROP TABLE a; --", target="dbname=x\r; DROP TABLE b"
    )
    document = msgspec.json.decode(study_json(study))

    for script in (document["apply_sql"], document["undo_sql"]):
        assert [] == [
            line for line in re.split(r"[\r\n]", script) if "DROP TABLE" in line and not line.startswith("--")
        ]


@pytest.mark.parametrize("study", [STUDY, EMPTY, hostile(EMPTY)])
def test_the_page_asks_the_network_for_nothing_and_runs_no_script(study: Study) -> None:
    text = study_html(study)
    page = parse(study)
    references = [
        value for name, value in page.attributes if name in ("src", "href", "action", "srcset", "data")
    ]

    assert [] == [value for value in references if not value.startswith("#")]
    assert [] == re.findall(r"url\(|@import", text)
    assert "script" not in page.tags
    assert POLICY in [value for _, value in page.attributes]


def test_every_link_of_the_page_leads_somewhere() -> None:
    page = parse(STUDY)
    anchors = [value for name, value in page.attributes if name == "id"]
    links = {value[1:] for name, value in page.attributes if name == "href"}

    assert set() == links - set(anchors)
    assert len(anchors) == len(set(anchors))


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        (EMPTY, "Nothing was found that is worth trying."),
        (
            msgspec.structs.replace(EMPTY, state=StudyState.INTERRUPTED),
            "Nothing was tried. The study was interrupted.",
        ),
        (
            msgspec.structs.replace(EMPTY, trials=TRIALS[7:8]),
            "The one change tried could not be shown to help, so nothing was kept.",
        ),
        (
            msgspec.structs.replace(EMPTY, trials=TRIALS[7:]),
            "None of the 4 changes tried could be shown to help, so nothing was kept.",
        ),
        (
            msgspec.structs.replace(EMPTY, trials=TRIALS[:2], state=StudyState.RUNNING),
            "2 changes kept so far; nothing is quoted in sum before the confirmation. "
            "The study is still running.",
        ),
        (
            msgspec.structs.replace(EMPTY, trials=TRIALS[:1], state=StudyState.FAILED),
            "1 change kept so far; nothing is quoted in sum before the confirmation. "
            "The study failed before its end.",
        ),
    ],
)
def test_a_study_without_an_end_says_so_and_quotes_no_sum(study: Study, expected: str) -> None:
    text = words(parse(study).text)

    assert expected in text
    assert "Before and after" not in text
    assert f"# {expected}" == study_markdown(study).splitlines()[0]
    assert study == from_json(study_json(study), Study)


def test_why_nothing_was_proposed_and_what_could_not_be_read_are_told_with_the_remedy() -> None:
    for text in (words(parse(STUDY).text), words(study_markdown(STUDY).replace("\\", ""))):
        for sentence in STUDY.unexplained:
            assert sentence in text
        assert "ALTER SYSTEM SET track_io_timing = on; SELECT pg_reload_conf();" in text
        assert "takes a lock of its session" in text


def test_a_crowded_host_is_told_at_the_top() -> None:
    crowded = HostReading(neighbour_ratio=0.43, steal_ratio=0.012, crowded=True)
    study = msgspec.structs.replace(
        STUDY,
        confirmation=msgspec.structs.replace(CONFIRMATION, host=crowded),
        trials=(*TRIALS[:-1], msgspec.structs.replace(TRIALS[-1], host=crowded)),
    )
    told = words(parse(study).text).split("Before and after")[0]

    assert "during the confirmation (43 % of the CPU, 1.2 % stolen), trial 11 (43 %" in told
    assert "Crowded host" in told
    assert "Crowded host" not in study_html(STUDY)


def test_a_huge_statement_is_cut_on_the_page_and_whole_in_json() -> None:
    text = "SELECT " + "x, " * 40_000 + "the_end FROM t"
    big = msgspec.structs.replace(
        CONFIRMATION.statements[0],
        statement=Statement(query_id="9", text=text, kind=StatementKind.READ, name="big"),
    )
    study = msgspec.structs.replace(
        STUDY, confirmation=msgspec.structs.replace(CONFIRMATION, statements=(big,))
    )

    assert "118,021 more characters are in the JSON report." in parse(study).text
    assert "the_end" not in study_html(study)
    assert "the_end" in study_json(study)


def test_two_hundred_trials_are_all_there_and_most_are_folded_away() -> None:
    trials = tuple(
        msgspec.structs.replace(
            each, proposal=msgspec.structs.replace(each.proposal, change=index(POSTS, f"column_{number}"))
        )
        for number, each in zip(range(200), itertools.cycle(TRIALS), strict=False)
    )
    page = parse(msgspec.structs.replace(STUDY, trials=trials, rechecks=()))

    assert 200 == sum(
        1 for name, value in page.attributes if name == "id" and re.fullmatch(r"trial-\d+", value)
    )
    assert "170 more" in page.text


def test_a_nameless_statement_is_shown_without_the_marks_of_code() -> None:
    text = "SELECT title FROM posts WHERE feed_id = $1 AND body <> '`' ORDER BY published_at"
    nameless = Statement(query_id="71234", text=text, kind=StatementKind.READ)
    seen = msgspec.structs.replace(CONFIRMATION.statements[0], statement=nameless)
    study = msgspec.structs.replace(
        STUDY, confirmation=msgspec.structs.replace(CONFIRMATION, statements=(seen,))
    )

    assert nameless.label.startswith("`")
    assert words(nameless.label.replace("…`", "…").removeprefix("`")) in words(parse(study).text)
