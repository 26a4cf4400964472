"""What the documentation names exists, and what exists is named: commands, options, names, nouns, links."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import click
import msgspec
import pytest

import perfloop
import perfloop.cache
import perfloop.cache.invalidation
import perfloop.metrics
import perfloop.model
from perfloop.cli.later import LaterCommand
from perfloop.cli.main import cli
from perfloop.model.value import Value

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FIRST_CELL = re.compile(r"^\| ([^|]+?) \|", re.MULTILINE)
OPTION = re.compile(r"--[a-z][a-z-]*")


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    cleaned = (re.sub(r"[^\w\- ]", "", title.lower()) for title in HEADING.findall(prose(page)))
    return {title.replace(" ", "-") for title in cleaned}


def links() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for link in LINK.findall(prose(page)):
            if "://" not in link:
                yield str(page.relative_to(ROOT)), link


def section(page: str, title: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(title)}$(.*?)(?=^#{{1,2}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page} has no section {title}"
    return found[2]


def cells(text: str) -> list[str]:
    """The first column of a table, without its head."""
    rows = FIRST_CELL.findall(text)
    return [row for row, next_row in zip(rows[1:], rows, strict=False) if not row.startswith("---")]


def parameters_of(command: click.Command) -> Iterator[click.Parameter]:
    """Its own, and those of the commands in it."""
    command = command.load() if isinstance(command, LaterCommand) else command
    yield from command.params
    for inner in getattr(command, "commands", {}).values():
        yield from parameters_of(inner)


def options_of(command: click.Command) -> set[str]:
    return {
        name
        for parameter in parameters_of(command)
        if isinstance(parameter, click.Option)
        for name in parameter.opts
        if name.startswith("--")
    }


@pytest.mark.parametrize(("page", "link"), sorted(set(links())))
def test_every_link_within_the_repository_leads_somewhere(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    there = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page

    assert there.exists()
    if anchor:
        assert anchor in anchors(there)


def test_every_command_has_its_section_and_no_other_has() -> None:
    documented = re.findall(r"^## `perfloop (\w+)`$", (DOCS / "reference/cli.md").read_text(), re.MULTILINE)

    assert sorted(cli.commands) == sorted(documented)


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_option_of_a_command_is_in_its_table_and_no_other_is(name: str) -> None:
    documented = [cell for cell in cells(section("reference/cli.md", f"`perfloop {name}`")) if "--" in cell]
    named = [OPTION.search(cell) for cell in documented]

    assert sorted(options_of(cli.commands[name])) == sorted({found[0] for found in named if found})


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_choices_and_defaults_of_the_options_are_documented(name: str) -> None:
    text = section("reference/cli.md", f"`perfloop {name}`")
    for option in parameters_of(cli.commands[name]):
        if not isinstance(option, click.Option):
            continue
        row = next(line for line in text.splitlines() if f"`{option.opts[0]}" in line)
        choices = option.type.choices if isinstance(option.type, click.Choice) else []

        assert [] == [choice for choice in choices if str(choice) not in row]
        if option.show_default:
            default = option.default
            assert f"{default:g}" if isinstance(default, float) else str(default) in row


def test_no_page_names_an_option_that_no_command_has() -> None:
    known = {"--help", "--version"}.union(*(options_of(command) for command in cli.commands.values()))
    line = re.compile(rf"perfloop (?:{'|'.join(cli.commands)})\b[^`\n]*")
    named = {
        option
        for page in PAGES
        for found in line.findall(page.read_text(encoding="utf-8"))
        for option in OPTION.findall(found)
    }

    assert set() == named - known


def test_exit_codes_are_those_of_the_command() -> None:
    documented = cells(section("reference/cli.md", "Exit codes"))
    told = re.findall(r"(\d+) [a-z]", inspect.getdoc(import_module("perfloop.cli.main")) or "")

    assert documented == told


@pytest.mark.parametrize(
    "module",
    [perfloop, perfloop.metrics, perfloop.cache, perfloop.cache.invalidation],
    ids=lambda module: module.__name__,
)
def test_public_names_are_sorted_and_there(module: object) -> None:
    names = list(module.__all__)

    assert sorted(names, key=lambda name: (not name.isupper(), name)) == names
    assert [] == [name for name in names if not hasattr(module, name)]


def test_the_names_for_type_checkers_are_the_public_names() -> None:
    source = inspect.getsource(perfloop)
    imported = re.findall(r"^    from perfloop\S* import (.+)$", source, re.MULTILINE)
    names = {name for line in imported for name in line.split(", ")}

    assert names | {"__version__"} == set(perfloop.__all__)


def test_the_page_on_python_has_a_heading_for_each_public_name() -> None:
    text = section("reference/python.md", "perfloop")

    assert list(perfloop.__all__) == re.findall(r"^### `(\w+)`$", text, re.MULTILINE)


def test_the_page_on_python_has_a_row_for_each_name_of_metrics() -> None:
    text = section("reference/python.md", "perfloop.metrics")

    assert list(perfloop.metrics.__all__) == [cell.strip("`") for cell in cells(text)]


def test_the_signatures_on_the_page_on_python_are_those_of_the_functions() -> None:
    text = section("reference/python.md", "perfloop")
    told = {
        name: [each.partition("=")[0] for each in parameters.split(", ") if each != "*"]
        for name, parameters in re.findall(r"^`(\w+)\((.*)\) -> .+`$", text, re.MULTILINE)
    }
    functions = [name for name in perfloop.__all__ if inspect.isfunction(getattr(perfloop, name))]

    assert {name: list(inspect.signature(getattr(perfloop, name)).parameters) for name in functions} == told


def test_the_fields_of_study_options_are_documented() -> None:
    text = section("reference/python.md", "perfloop").partition("### `StudyOptions`")[2].partition("###")[0]

    assert list(perfloop.StudyOptions.__struct_fields__) == [cell.strip("`") for cell in cells(text)]


CACHE_MODULES = (perfloop.cache, perfloop.cache.invalidation)
CACHE_NAMES = [(module.__name__, name) for module in CACHE_MODULES for name in module.__all__]


def told_of(module: str, name: str) -> str:
    """What the page on the cache says under a name."""
    text = section("reference/cache.md", f"`{module}`")
    return text.partition(f"### `{name}`\n")[2].partition("\n### ")[0]


def shown(default: object) -> str:
    """A default as the page has it: what a test may replace is an ellipsis."""
    if isinstance(default, Value) and default == type(default)():
        return f"{type(default).__name__}()"
    is_named = not callable(default) and type(default).__repr__ is not object.__repr__
    return repr(default) if is_named else "…"


def signature_of(name: str, function: Callable[..., object]) -> str:
    parts: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not any(part.startswith("*") for part in parts):
            parts.append("*")
        mark = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={shown(parameter.default)}"
        parts.append(f"{mark}{parameter.name}{default}")
    return f"{name}({', '.join(parts)})"


def fields_of(kind: object) -> list[tuple[str, str]]:
    """Names and defaults of a value's fields, as the page has them."""
    if not isinstance(kind, type) or issubclass(kind, Enum):
        return []
    if dataclasses.is_dataclass(kind):
        return [
            (each.name, "" if each.default is dataclasses.MISSING else f"`{shown(each.default)}`")
            for each in dataclasses.fields(kind)
        ]
    found = []
    for each in msgspec.structs.fields(kind) if issubclass(kind, msgspec.Struct) else ():
        made = each.default if each.default_factory is msgspec.NODEFAULT else each.default_factory()
        found.append((each.encode_name, "" if each.required else f"`{shown(made)}`"))
    return found


@pytest.mark.parametrize("module", CACHE_MODULES, ids=lambda module: module.__name__)
def test_the_page_on_the_cache_has_a_heading_for_each_public_name(module: Any) -> None:
    text = section("reference/cache.md", f"`{module.__name__}`")

    assert list(module.__all__) == re.findall(r"^### `(\w+)`$", text, re.MULTILINE)


@pytest.mark.parametrize(("module", "name"), CACHE_NAMES)
def test_the_page_on_the_cache_has_the_signatures(module: str, name: str) -> None:
    kind, text = getattr(import_module(module), name), told_of(module, name)
    if text.strip().startswith("The same as "):
        return
    told = set(re.findall(r"^(?:\| )?`([^`]+)`(?: \||$)", text, re.MULTILINE))
    wanted = set()
    if inspect.isfunction(kind):
        wanted = {signature_of(name, kind)}
    elif isinstance(kind, type) and not fields_of(kind):
        if told & {part for part in told if part.startswith(f"{name}(")}:
            wanted = {signature_of(name, kind)}
        for member, value in vars(kind).items():
            if not member.startswith("_"):
                wanted.add(signature_of(member, value) if inspect.isfunction(value) else member)

    assert set() == wanted - told


@pytest.mark.parametrize(("module", "name"), CACHE_NAMES)
def test_the_page_on_the_cache_has_the_fields_and_their_defaults(module: str, name: str) -> None:
    text = told_of(module, name)
    _, _, table = text.partition("| field | default | meaning |\n|---|---|---|\n")
    told = re.findall(r"^\| `(\w+)` \| (.*?) \| [^|]", table.partition("\n\n")[0], re.MULTILINE)

    assert fields_of(getattr(import_module(module), name)) == told


def test_a_class_for_threads_has_the_members_and_the_words_of_the_one_for_asyncio() -> None:
    """The sync one is generated; what it says must not be of asyncio."""
    twins = [
        (getattr(module, name), getattr(module, f"Async{name}"))
        for module in CACHE_MODULES
        for name in module.__all__
        if f"Async{name}" in module.__all__
    ]
    for plain, asynchronous in twins:
        members = {name for name in vars(plain) if not name.startswith("_")}
        docs = [inspect.getdoc(plain), *(inspect.getdoc(getattr(plain, name)) for name in members)]
        words = " ".join(each or "" for each in docs)

        assert {name for name in vars(asynchronous) if not name.startswith("_")} == members
        assert [] == re.findall(r"\basync\b|\bawait\w*|\bAsync\w+|asyncio|event loop", words)


def nouns() -> list[str]:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    return [cell for cell in FIRST_CELL.findall(text) if cell != "noun" and not cell.startswith("---")]


def test_every_noun_of_the_glossary_stands_there_once() -> None:
    found = nouns()

    assert sorted(set(found)) == sorted(found)


def test_every_noun_of_the_model_is_in_the_glossary() -> None:
    modules = [import_module(f"perfloop.model.{each.name}") for each in iter_modules(perfloop.model.__path__)]
    classes = {
        name
        for module in modules
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__ and (issubclass(kind, Value) or name == name.capitalize())
    }

    assert set() == classes - set(nouns())
