"""The whole loop on a database whose statements are the problem, with right rules and with wrong ones."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from sqlglot import exp

from perfloop.adapters.store import Journal
from perfloop.errors import InvalidInput
from perfloop.model.advice import RewriteQuery
from perfloop.model.outcome import Study, Verdict
from perfloop.tune.apply import apply_study
from perfloop.tune.observer import Silence
from perfloop.tune.report.study import apply_sql, study_html, study_json, study_markdown
from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.rule import Rewritten, Rule
from perfloop.tune.rewrites.rules import RULES
from perfloop.tune.study import StudyOptions, optimize

TARGET_SQL = """
CREATE TABLE users (id int PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL, voucher int);
INSERT INTO users SELECT g, 'user ' || g FROM generate_series(1, 250) g;
INSERT INTO orders SELECT g, g % 200 + 1, g FROM generate_series(1, 30000) g;
CREATE INDEX ON orders (user_id);
VACUUM ANALYZE;
"""
BUYERS = """
SELECT u.id, u.name FROM users AS u WHERE (SELECT count(*) FROM orders AS o WHERE o.user_id = u.id) > 0;
"""
UNREDEEMED = """
SELECT u.id FROM users AS u WHERE u.id NOT IN (SELECT o.voucher FROM orders AS o);
"""


def careless(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """NOT IN as NOT EXISTS whatever may be NULL: right on these rows, since no voucher is NULL."""
    members = [each for each in tree.find_all(exp.Not) if isinstance(each.this, exp.In)]
    for each in members:
        inner = each.this.args["query"].unnest()
        matching = exp.EQ(this=each.this.this.copy(), expression=inner.expressions[0].copy())
        each.set("this", exp.Exists(this=inner.copy().where(matching)))
    return Rewritten(tree=tree) if members else None


def forgetful(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """Much faster, and other rows."""
    tree.set("where", None)
    return Rewritten(tree=tree)


CARELESS = Rule(name="careless", reason="NOT IN is slow", rewrite=careless)
FORGETFUL = Rule(name="forgetful", reason="conditions are slow", rewrite=forgetful)


@pytest.fixture
def target(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("PERFLOOP_STATE", str(tmp_path / "state"))
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        for statement in TARGET_SQL.split(";"):
            connection.execute(statement.encode())
    return postgres_dsn


def tried(target: str, tmp_path: Path, text: str, *rules: Rule) -> Study:
    workload = tmp_path / "workload"
    workload.mkdir()
    (workload / "statement.sql").write_text(text)
    options = StudyOptions(workload_source=str(workload), most_trials=1)
    with Journal(tmp_path / "journal.sqlite3") as journal:
        return optimize(target, options, journal, Silence(), rules=rules)


@pytest.mark.slow
def test_a_rewriting_that_keeps_the_rows_and_is_faster_is_kept_and_left_to_people(
    target: str, tmp_path: Path
) -> None:
    study = tried(target, tmp_path, BUYERS, *RULES)
    (kept,) = study.kept()
    change = kept.proposal.change

    assert isinstance(change, RewriteQuery)
    assert "count-exists" == change.rule
    assert "EXISTS" in change.after
    assert kept.same_rows is not None
    assert (1, 200, None) == (kept.same_rows.instances, kept.same_rows.rows, kept.same_rows.difference)
    assert kept.same_rows.varied_runs >= 5
    assert kept.cpu is not None
    assert kept.cpu.ratio < 0.5
    assert study.confirmation is not None
    assert study.confirmation.statements[0].time is not None
    assert study.confirmation.statements[0].time.ratio < 0.5

    for page in (study_html(study), study_markdown(study)):
        assert "By hand" in page
        assert "EXISTS" in page
    assert change.after == json.loads(study_json(study))["trials"][-1]["proposal"]["change"]["after"]
    assert "" == "".join(line for line in apply_sql(study).splitlines() if line[:1] not in {"\\", "-"})
    with (
        Journal(tmp_path / "journal.sqlite3") as journal,
        pytest.raises(InvalidInput, match="service's code"),
    ):
        apply_study(study, lambda: psycopg.connect(target, autocommit=True), journal, report=lambda _: None)


def test_a_rule_that_is_right_on_these_rows_only_is_refused(target: str, tmp_path: Path) -> None:
    study = tried(target, tmp_path, UNREDEEMED, CARELESS)
    (trial,) = study.trials

    assert Verdict.REVERT is trial.verdict
    assert "made-up rows" in trial.reason
    assert trial.same_rows is not None
    assert trial.same_rows.rows == 0
    assert trial.cpu is None
    assert () == study.kept()


def test_a_rule_that_gives_other_rows_is_refused_however_fast(target: str, tmp_path: Path) -> None:
    study = tried(target, tmp_path, BUYERS, FORGETFUL)
    (trial,) = study.trials

    assert "does not keep the rows: it returns 250 rows instead of 200" in trial.reason
    assert trial.cpu is None
    assert () == study.kept()
