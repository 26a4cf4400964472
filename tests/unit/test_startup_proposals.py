"""Reading `-X importtime`, and what is proposed of it."""

from __future__ import annotations

import pytest

from perfloop.process.startup.imports import Import, below, combined
from perfloop.process.startup.proposals import (
    Deferrable,
    deferrable,
    expected_cpu_s,
    preload_candidates,
    worth_putting_off,
)

RUN = """
import time: self [us] | cumulative | imported package
import time:       400 |        400 |   encodings
import time:      3000 |       3400 | site
import time:      2000 |       2000 |     shop.prices
import time:        50 |         50 |       shop
import time:      7000 |       7050 |     shop.tax
import time:      1000 |      10050 |   shop
import time:       500 |      10550 | bot
said by the program itself
import time:       700 |        700 | json
"""


def lines(text: str = RUN) -> list[str]:
    return text.splitlines()


def a_module(name: str, self_s: float, cumulative_s: float, importer: str | None = None) -> Import:
    return Import(name=name, self_s=self_s, cumulative_s=cumulative_s, importer=importer)


IMPORTS = (
    a_module("bot", 0.001, 0.1),
    a_module("pool", 0.01, 0.09, "bot"),
    a_module("driver", 0.05, 0.05, "pool"),
    a_module("drawing", 0.03, 0.03, "pool"),
    a_module("json", 0.0005, 0.0005),
)


def test_a_module_counts_with_what_it_was_the_first_to_import() -> None:
    found = {each.name: each for each in combined([lines()])}

    assert ["bot", "shop", "shop.tax", "shop.prices", "json"] == list(found)
    assert a_module("shop.tax", 0.007, 0.007, "shop") == found["shop.tax"]
    assert pytest.approx(0.01055) == found["bot"].cumulative_s
    assert ("bot", None, None) == (found["shop"].importer, found["bot"].importer, found["json"].importer)


def test_a_module_that_is_imported_in_a_circle_is_where_it_is_indented_least() -> None:
    (shop,) = [each for each in combined([lines()]) if each.name == "shop"]

    assert (0.00105, "bot") == (pytest.approx(shop.self_s), shop.importer)


def test_the_least_of_all_runs_counts() -> None:
    slower = RUN.replace(" 7000 ", " 9000 ").replace("  500 ", "  100 ")
    found = {each.name: each.self_s for each in combined([lines(), lines(slower)])}

    assert (0.007, 0.0001) == (found["shop.tax"], found["bot"])


def test_modules_that_not_all_runs_import_are_left_out() -> None:
    without = "\n".join(each for each in lines() if not each.endswith(" shop.tax"))

    assert "shop.tax" not in {each.name for each in combined([lines(), lines(without)])}


def test_what_stands_below_a_module_is_found_at_any_depth() -> None:
    assert {"pool", "driver", "drawing"} == below(IMPORTS, ["pool"])


def test_the_fewest_modules_that_load_all_are_preloaded() -> None:
    assert ("bot",) == preload_candidates(IMPORTS, {})


def test_what_is_unfit_is_replaced_by_what_it_imports() -> None:
    assert ("pool",) == preload_candidates(IMPORTS, {"bot": "opens a socket"})
    assert ("driver", "drawing") == preload_candidates(
        IMPORTS, dict.fromkeys(["bot", "pool"], "opens a socket")
    )


def test_only_dear_modules_are_worth_to_be_put_off() -> None:
    assert ("bot", "pool", "driver", "drawing") == worth_putting_off(IMPORTS)


def test_of_what_was_put_off_and_not_used_the_uppermost_is_named_with_who_can_change_it() -> None:
    found = deferrable(
        IMPORTS, put_off=["bot", "pool", "driver", "drawing"], used=["bot", "pool"], ours=["bot"]
    )

    assert (
        Deferrable(name="driver", cumulative_s=0.05, importer="pool", is_ours=False),
        Deferrable(name="drawing", cumulative_s=0.03, importer="pool", is_ours=False),
    ) == found
    assert (Deferrable(name="pool", cumulative_s=0.09, importer="bot", is_ours=True),) == deferrable(
        IMPORTS, put_off=["pool", "driver"], used=[], ours=["bot"]
    )


def test_a_forked_worker_is_expected_to_pay_for_what_is_not_preloaded_and_for_its_own_work() -> None:
    expected_s = expected_cpu_s(IMPORTS, cpu_s=0.2, preload=["pool"])

    # A fork, the bot itself and json, and of 200 ms what neither imports nor Python took.
    assert pytest.approx(0.003 + 0.0015 + (0.2 - 0.0915 - 0.015)) == expected_s
