"""The page on the supervisor has what is public of it, and no more than is there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import msgspec
import pytest

import perfloop.process
from perfloop.process import (
    Delivery,
    Event,
    FleetStatistics,
    GroupStatistics,
    Supervisor,
    Worker,
    WorkerStatistics,
)

PAGES = Path(__file__).parents[2] / "docs/reference"
PAGE = PAGES.joinpath("supervisor.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([a-z]\w*)(?:\([^`]*\))?`")


def told_of(name: str) -> str:
    return PAGE.partition(f"\n### `{name}`\n")[2].partition("\n### ")[0]


def signature(name: str, function: object) -> str:
    """As the page has it: a default that is a sentence or a function is an ellipsis."""
    parameters = list(inspect.signature(function).parameters.values())  # type: ignore[arg-type]  # it is a function
    return f"{name}({', '.join(each.name for each in parameters if each.name != 'self')})"


@pytest.mark.parametrize("kind", [Supervisor, Worker])
def test_the_page_has_the_methods_and_their_arguments(kind: type) -> None:
    listed = re.findall(r"`(\w+\([^`]*\))`", told_of(kind.__name__))
    bare = {re.sub(r"=[^,)]+|\*, |\*\*", "", each) for each in listed}
    public = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    functions = {name: getattr(kind, name) for name, value in public.items() if callable(getattr(kind, name))}

    assert set() == {signature(name, function) for name, function in functions.items()} - bare


@pytest.mark.parametrize("kind", [Event, FleetStatistics, GroupStatistics, WorkerStatistics])
def test_the_page_has_the_fields_of_what_is_told(kind: type[msgspec.Struct]) -> None:
    told = set(CODE.findall(told_of(kind.__name__)))

    assert set() == {each.name for each in msgspec.structs.fields(kind)} - told


def test_the_page_has_the_fields_of_a_delivery() -> None:
    assert set(Delivery._fields) <= set(CODE.findall(told_of("Delivery")))


def test_every_public_name_is_on_a_page() -> None:
    told = "".join(each.read_text(encoding="utf-8") for each in PAGES.glob("*.md"))

    assert [] == [name for name in perfloop.process.__all__ if f"`{name}" not in told]


def test_every_kind_of_event_is_on_the_page() -> None:
    sources = Path(perfloop.process.__file__).parent.rglob("*.py")
    calls = [
        re.findall(r'(?:log\.add|note)\(\s*"([a-z-]+)"', each.read_text(encoding="utf-8")) for each in sources
    ]
    kinds = {kind for found in calls for kind in found}

    assert set() == {kind for kind in kinds if f"`{kind}`" not in told_of("Event")}
    assert len(kinds) > 10
