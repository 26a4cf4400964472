"""The whole advisor on a small service with the shapes that services have, on every installed server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
import pytest

from perfloop.adapters.postgres import take_snapshot
from perfloop.analyze.checks import analyze
from perfloop.model.advice import CreateIndex, DropIndex, Proposal, Risk
from perfloop.model.snapshot import Host, Snapshot
from perfloop.model.workload import Operation, Statement, StatementKind, Workload
from perfloop.tune.acts import act, undo
from perfloop.tune.advisor.advice import Advice, propose
from perfloop.tune.advisor.extend import SearchPolicy
from perfloop.tune.advisor.lab_what_if import open_what_if

HOST = Host(cpus=2, memory_bytes=2**32, available_bytes=2**31, load_1m=0.1, busy_ratio=0.1, steal_ratio=0.0)

SCHEMA = """
CREATE TABLE accounts (id bigint PRIMARY KEY, email text NOT NULL, plan text NOT NULL,
                       profile jsonb NOT NULL);
CREATE TABLE items (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts,
                    kind integer NOT NULL, hits integer NOT NULL, body text NOT NULL,
                    created_at timestamptz NOT NULL, deleted_at timestamptz);
INSERT INTO accounts SELECT i, 'User' || i || '@Example.org', 'free', jsonb_build_object('ref', 'r' || i)
FROM generate_series(1, 5000) AS i;
INSERT INTO items SELECT i, i % 50 + 1, i % 7, i % 13, repeat('x', 100),
                         '2026-01-01'::timestamptz + i * interval '1 second',
                         CASE WHEN i % 10 < 9 THEN '2026-06-01'::timestamptz END
FROM generate_series(1, 50000) AS i;
CREATE INDEX items_kind_idx ON items (kind);
CREATE INDEX items_kind_again_idx ON items (kind);
ANALYZE;
"""
LATEST = "SELECT id FROM items WHERE account_id = {} AND kind = 3 ORDER BY created_at DESC LIMIT 10"


@pytest.fixture
def lab(each_postgres_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(each_postgres_dsn, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute("SET random_page_cost = 1.1; SET jit = off")
        connection.execute("SET max_parallel_workers_per_gather = 0")
        yield connection


@pytest.fixture
def snapshot(lab: psycopg.Connection) -> Snapshot:
    return take_snapshot(lab, taken_at_s=0.0, host=HOST)


def operation(name: str, *instances: str, text: str | None = None, share: float = 0.1) -> Operation:
    kind = StatementKind.READ if instances[0].startswith("SELECT") else StatementKind.WRITE
    statement = Statement(query_id=name, text=text or instances[0], kind=kind, name=name)
    return Operation(statement=statement, calls_share=share, instances=instances)


def advise(
    lab: psycopg.Connection, snapshot: Snapshot, *operations: Operation, policy: SearchPolicy | None = None
) -> Advice:
    workload = Workload(origin="test", operations=operations)
    with open_what_if(lab, snapshot.tables) as what_if:
        return propose(snapshot, analyze(snapshot), workload, what_if, policy=policy)


def titles(proposals: Sequence[Proposal]) -> list[str]:
    return [each.change.title for each in proposals if isinstance(each.change, CreateIndex)]


def test_equality_comes_first_and_the_order_of_a_limit_last(
    lab: psycopg.Connection, snapshot: Snapshot
) -> None:
    text = LATEST.replace("{}", "$1").replace("3", "$2")
    advice = advise(lab, snapshot, operation("latest", LATEST.format(17), LATEST.format(40), text=text))
    index = next(each.change for each in advice.proposals if isinstance(each.change, CreateIndex))

    assert {"account_id", "kind"} == {key.text for key in index.keys[:2]}
    assert "created_at" == index.keys[-1].text


def test_orders_of_mixed_direction_keep_their_directions(lab: psycopg.Connection, snapshot: Snapshot) -> None:
    text = "SELECT id FROM items ORDER BY hits DESC, created_at LIMIT 5"
    advice = advise(lab, snapshot, operation("top", text))

    assert ["create index on items (hits desc, created_at)"] == [
        title.split(" include")[0] for title in titles(advice.proposals)[:1]
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT id FROM accounts WHERE lower(email) = 'user17@example.org'", "lower(email)"),
        ("SELECT id FROM accounts WHERE profile ->> 'ref' = 'r17'", "profile ->> 'ref'"),
    ],
)
def test_a_compared_expression_gets_an_index_of_its_own(
    lab: psycopg.Connection, snapshot: Snapshot, text: str, expected: str
) -> None:
    advice = advise(lab, snapshot, operation("expression", text))

    assert [f"create index on accounts ({expected})"] == titles(advice.proposals)[:1]


def test_a_prefix_search_gets_pattern_operators(lab: psycopg.Connection, snapshot: Snapshot) -> None:
    advice = advise(lab, snapshot, operation("prefix", "SELECT id FROM accounts WHERE email LIKE 'User17%'"))
    index = next(each.change for each in advice.proposals if isinstance(each.change, CreateIndex))

    assert "text_pattern_ops" == index.keys[0].operator_class


def test_rows_that_nobody_reads_are_left_out_of_the_index(
    lab: psycopg.Connection, snapshot: Snapshot
) -> None:
    texts = [
        f"SELECT * FROM items WHERE hits = {n} AND deleted_at IS NULL AND created_at > '2026-01-01 13:00'"
        for n in (3, 5)
    ]
    advice = advise(lab, snapshot, operation("live", *texts))

    assert [] != [title for title in titles(advice.proposals) if title.endswith("where deleted_at IS NULL")]


def test_every_proposal_can_be_applied_and_undone(lab: psycopg.Connection, snapshot: Snapshot) -> None:
    advice = advise(
        lab,
        snapshot,
        operation("latest", LATEST.format(17)),
        operation("mail", "SELECT id FROM accounts WHERE lower(email) = 'x'"),
        operation("live", "SELECT * FROM items WHERE hits = 3 AND deleted_at IS NULL"),
        operation("prefix", "SELECT id FROM accounts WHERE email LIKE 'User17%'"),
    )
    there = lab.execute("SELECT count(*) FROM pg_index").fetchone()
    for proposal in advice.proposals:
        if isinstance(proposal.change, CreateIndex):
            act(lab, proposal.change, concurrently=False)
            undo(lab, proposal.change, None, concurrently=False)

    assert there == lab.execute("SELECT count(*) FROM pg_index").fetchone()
    assert [] != titles(advice.proposals)


def test_what_is_indexed_already_is_not_proposed_again(lab: psycopg.Connection, snapshot: Snapshot) -> None:
    advice = advise(lab, snapshot, operation("known", "SELECT * FROM items WHERE id = 5"))

    assert [] == [title for title in titles(advice.proposals) if title == "create index on items (id)"]


def test_an_index_that_writes_pay_for_and_reads_hardly_use_is_not_chosen(
    lab: psycopg.Connection, snapshot: Snapshot
) -> None:
    read = operation("rare", "SELECT id FROM items WHERE hits = 3", share=0.0001)
    update = operation("count", "UPDATE items SET hits = hits + 1 WHERE id = 17", share=0.9999)
    alone = advise(lab, snapshot, read)
    together = advise(lab, snapshot, read, update)

    assert [] != [title for title in titles(alone.proposals) if "(hits" in title]
    assert [] == [title for title in titles(together.proposals) if "hits" in title]


def test_a_foreign_key_without_an_index_is_proposed_for_its_finding(
    lab: psycopg.Connection, snapshot: Snapshot
) -> None:
    advice = advise(lab, snapshot, operation("other", "SELECT id FROM accounts WHERE plan = 'none'"))
    demanded = [each for each in advice.proposals if each.findings and isinstance(each.change, CreateIndex)]

    assert ["create index on items (account_id)"] == titles(demanded)
    assert ("foreign-key-without-index:items(account_id)",) == demanded[0].findings


def test_a_duplicate_is_to_be_dropped_and_comes_last(lab: psycopg.Connection, snapshot: Snapshot) -> None:
    advice = advise(lab, snapshot, operation("latest", LATEST.format(17)))
    last = advice.proposals[-1]

    assert isinstance(last.change, DropIndex)
    assert last.change.name in ("items_kind_idx", "items_kind_again_idx")
    assert Risk.HIGH == last.risk


def test_one_bad_statement_never_stops_the_others(lab: psycopg.Connection, snapshot: Snapshot) -> None:
    advice = advise(
        lab,
        snapshot,
        operation("broken", "SELECT nothing FROM nowhere"),
        operation("latest", LATEST.format(17)),
        operation("words", "SELECT id FROM items WHERE body LIKE '%word%'"),
        operation("one", "SELECT 1"),
    )
    told = "\n".join(advice.unexplained)

    assert "broken: not analysed, because the server cannot plan it" in told
    assert "one gets no index, because it reads no table" in told
    assert [] != titles(advice.proposals)


def test_a_spent_budget_ends_the_search_and_is_told(lab: psycopg.Connection, snapshot: Snapshot) -> None:
    operations = [
        operation("latest", LATEST.format(17)),
        operation("top", "SELECT id FROM items WHERE hits = 3"),
    ]
    advice = advise(lab, snapshot, *operations, policy=SearchPolicy(max_questions=4))

    assert 4 == advice.statistics.costs.asked
    assert "the index search ended early" in advice.unexplained[-1]


def test_the_same_input_gives_the_same_advice(lab: psycopg.Connection, snapshot: Snapshot) -> None:
    operations = [
        operation("latest", LATEST.format(17)),
        operation("top", "SELECT id FROM items WHERE hits = 3"),
    ]
    first = advise(lab, snapshot, *operations)
    second = advise(lab, snapshot, *operations)

    assert first.proposals == second.proposals
