r"""pgbench's `\set` expressions give the numbers that pgbench gives."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from perfloop.errors import UnsupportedStatement
from perfloop.validate.expressions import evaluate


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * -3", -9),
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("7.0 / 2", 3.5),
        ("-7 % 3", -1),
        ("100000 * :scale", 500_000),
        ("greatest(1, :scale, 3)", 5),
        ("int(2.9) + abs(-1)", 3),
    ],
)
def test_arithmetic_is_that_of_pgbench(expression: str, expected: float) -> None:
    assert expected == evaluate(expression, {"scale": 5}, Random(1))


@pytest.mark.parametrize(
    "expression",
    ["random(1, 9)", "random_zipfian(1, 9, 1.2)", "random_exponential(1, 9, 4)", "random_gaussian(1, 9, 3)"],
)
def test_random_functions_reach_the_whole_range_and_stay_in_it(expression: str) -> None:
    rng = Random(1)

    assert set(range(1, 10)) == {evaluate(expression, {}, rng) for _ in range(5000)}


def test_skewed_functions_have_their_weight_where_pgbench_has_it() -> None:
    rng = Random(1)

    def most_common(expression: str) -> float:
        return Counter(evaluate(expression, {}, rng) for _ in range(3000)).most_common(1)[0][0]

    assert 1 == most_common("random_zipfian(1, 100, 1.5)")
    assert 1 == most_common("random_exponential(1, 10, 5)")
    assert 5 == most_common("random_gaussian(1, 9, 4)")


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        (":missing + 1", ":missing has no value"),
        ("permute(1, 10)", "permute"),
        ("CASE WHEN 1 THEN 2 END", "not understood"),
        ("1 / 0", "not understood"),
        ("random(9, 1)", "not understood"),
        ("random(1)", "not understood"),
        ("__import__('os')", "does not know"),
    ],
)
def test_what_is_not_understood_is_refused(expression: str, reason: str) -> None:
    with pytest.raises(UnsupportedStatement, match=reason):
        evaluate(expression, {}, Random(1))
