"""What the fuzzer found once: each input ends at once, with an error of perfloop's own or with none."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from perfloop.adapters.connection import safe_dsn
from perfloop.adapters.statements import parameter_count
from perfloop.analyze.expressions import wraps_a_column
from perfloop.database.knobs import in_unit
from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.model.plan import read_plan
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Setting
from perfloop.model.units import size_bytes
from perfloop.model.value import from_json
from perfloop.tune.advisor.conditions import read_conditions
from perfloop.tune.advisor.predicates import read_written
from perfloop.tune.rewrites.texts import called_names
from perfloop.validate.expressions import evaluate
from perfloop.validate.literals import as_type, fresh_value, operand
from perfloop.validate.parameters import draw_instances
from perfloop.validate.tokens import parameter_numbers

SNAPSHOT = from_json((Path(__file__).parent / "data" / "snapshot.json").read_bytes(), Snapshot)
LONG = 20_000
NODE = {"Node Type": "Seq Scan"}

pytestmark = pytest.mark.timeout(20)


def nested(depth: int) -> dict[str, object]:
    node: dict[str, object] = NODE
    for _ in range(depth):
        node = {"Node Type": "Append", "Plans": [node]}
    return node


@pytest.mark.parametrize(
    "plan",
    [
        NODE | {"Plan Rows": "x"},
        NODE | {"Plan Rows": None},
        NODE | {"Total Cost": {}},
        NODE | {"Actual Rows": float("nan")},
        NODE | {"Actual Rows": -1},
        NODE | {"JIT": {"Timing": {"Total": []}}},
        NODE | {"Relation Name": ["a"]},
        NODE | {"Sort Key": [9]},
        NODE | {"Plans": ["a"]},
        NODE | {"Plans": {"a": 1}},
        NODE | {"Workers": [{"Disk Usage": {}}]},
        nested(900),
    ],
)
def test_a_plan_that_no_server_prints_is_refused(plan: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        read_plan([{"Plan": plan}])


@pytest.mark.parametrize("text", ["(" * LONG, "NOT " * LONG])
def test_a_condition_that_is_too_deep_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedStatement):
        read_conditions(text)


def test_an_operator_without_sides_is_no_condition() -> None:
    assert () == read_conditions("@@\u00ac").comparisons


def test_a_long_chain_of_comparisons_is_read_in_linear_time() -> None:
    text = "SELECT * FROM a WHERE ip" + " = $1" * 7_000

    assert {"ip"} == read_written(text, (text,)).bound


@pytest.mark.parametrize(
    "text", ["SELECT " + "(" * LONG + "$1", "SELECT $1" + "'" * 7, "SELECT $1 " + "{" * LONG]
)
def test_a_statement_that_nobody_can_read_is_refused(text: str) -> None:
    assert not read_written(text, (text,)).is_read
    with pytest.raises(UnsupportedStatement):
        draw_instances(text, SNAPSHOT, rng=Random(1))


@pytest.mark.parametrize("expression", ["- " * LONG + "1", "1or 2", "((((1"])
def test_an_expression_that_is_none_is_refused(expression: str) -> None:
    with pytest.raises(UnsupportedStatement):
        evaluate(expression, {}, Random(1))


@pytest.mark.parametrize("dsn", ["postgresql://%db", "postgresql://u@h/\0", "\udcff=1"])
def test_a_dsn_that_is_no_text_is_refused(dsn: str) -> None:
    with pytest.raises(InvalidInput):
        safe_dsn(dsn)


def test_a_number_without_end_is_no_setting() -> None:
    setting = Setting(name="work_mem", value="64", unit="kB", context="user", kind="integer")
    with pytest.raises(InvalidInput):
        in_unit(setting, "3" * 400)


def test_long_words_and_spaces_take_no_time() -> None:
    with pytest.raises(InvalidInput):
        size_bytes("8" + "\v" * LONG + "x")
    with pytest.raises(InvalidInput):
        size_bytes("3" * 400 + "TB")
    assert 1 == len(draw_instances("SELECT 1 WHERE $1" + " = $1" * 800, SNAPSHOT, rng=Random(1), count=1))
    assert frozenset() == called_names("lu" * LONG)
    assert not wraps_a_column("atd_" * LONG, ("id",))
    assert as_type("3" * LONG + "x", "numeric", of="text") is None
    assert operand("3" * LONG + "x", "numeric").startswith("'")


def test_a_parameter_of_endless_digits_is_still_a_parameter() -> None:
    assert 3_333_333_333 == parameter_count("SELECT $" + "3" * LONG)
    assert (3_333_333_333,) == parameter_numbers("SELECT $" + "3" * LONG)


def test_a_fresh_number_is_found_beyond_what_is_no_number() -> None:
    values = [
        fresh_value(kind, largest, Random(1))
        for kind in ("numeric", "bigint")
        for largest in ("NaN", "B", None)
    ]

    assert [] == [value for value in values if value is None or not value.isdigit()]
