"""Reads a fleet from TOML; what is not understood is refused with its place and the way out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from perfloop.control.budget import ConnectionBudget
from perfloop.errors import InvalidInput, InvalidValue
from perfloop.process.supervisor.ordering import start_order
from perfloop.process.supervisor.specs import FleetSpec, GroupSpec, mistakable_name

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_TOP: Final = ("connections", "control", "groups", "preload")
_CONNECTIONS: Final = ConnectionBudget.__struct_fields__
_UNKNOWN: Final = re.compile(
    r"Object contains unknown field `(?P<key>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?"
)
_PLACE: Final = re.compile(r"\[[^\]]*\]")
_WRONG: Final = re.compile(r"(?P<fact>.*?) - at `\$\.?(?P<path>[^`]*)`")


def parse_fleet(text: str, place: str, *, folder: str) -> FleetSpec:
    """The fleet that a text describes.

    Args:
        text: TOML.
        place: What to call the text in errors.
        folder: That relative ones are relative to.

    Raises:
        InvalidInput: Something is not understood.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{place}: {error}") from error
    document = _Document(text, place)
    for key in tables:
        if key not in _TOP:
            raise document.error((key,), f"{key} is not known; there are {', '.join(_TOP)}")
    groups = tables.get("groups", {})
    if not isinstance(groups, dict) or not groups:
        raise document.error((), "there is no group; add [groups.NAME] with a handler, a target or a command")
    specs = tuple(_group(document, name, table, folder) for name, table in groups.items())
    needs = {each.name: each.needs for each in specs}
    try:
        start_order(needs)
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from error
    mistakable = mistakable_name(needs)
    if mistakable is not None:
        raise document.error(("groups", mistakable[0], ""), mistakable[1])
    rest = {key: value for key, value in tables.items() if key != "groups"}
    try:
        return FleetSpec(groups=specs, path=(folder,), **_options(document, rest, folder))
    except InvalidValue as error:
        raise document.error(("connections",), str(error)) from error


class _Document:
    """A text and where in it things stand.

    Args:
        text: TOML that can be read.
        place: What to call it.
    """

    def __init__(self, text: str, place: str) -> None:
        self._lines = text.splitlines()
        self._place = place

    def error(self, path: tuple[str, ...], fact: str) -> InvalidInput:
        """What is wrong at this path of keys."""
        told = ".".join(path[:-1])
        at = f"[{told}] " if told else ""
        return InvalidInput(f"{self._place}:{self._line(path)}: {at}{fact}")

    def _line(self, path: tuple[str, ...]) -> int:
        """Of the key, of its table, or of a table around it; the first where none is found."""
        table: tuple[str, ...] = ()
        best = (0, 1)
        for number, line in enumerate(self._lines, 1):
            header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
            key = re.match(r"\s*([\w\-.\"']+)\s*=", line)
            if header:
                table = _keys(header[1])
            elif not key:
                continue
            here = table if header else (*table, *_keys(key[1])) if key else table
            if here == path[: len(here)] and len(here) > best[0]:
                best = (len(here), number)
        return best[1]


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(each.strip().strip("\"'") for each in dotted.split("."))


def _group(document: _Document, name: str, table: Any, folder: str) -> GroupSpec:
    path = ("groups", name)
    if not _NAME.fullmatch(name):
        raise document.error(path, f"{name} is no name of a group; use letters, digits, - and _")
    if not isinstance(table, dict):
        raise document.error(path, f"{name} has to be a table; write [groups.{name}]")
    if "name" in table:
        raise document.error((*path, "name"), "name is not known; the name stands in [groups.NAME]")
    given = dict(table)
    if isinstance(given.get("command"), str):
        raise document.error((*path, "command"), 'command has to be a list, as ["python", "-m", "bots"]')
    try:
        spec = msgspec.convert({"name": name, **given}, GroupSpec)
    except msgspec.ValidationError as error:
        raise _fault(document, path, str(error)) from error
    return msgspec.structs.replace(spec, folder=_below(folder, spec.folder))


def _options(document: _Document, table: Mapping[str, Any], folder: str) -> dict[str, Any]:
    control, preload = table.get("control"), table.get("preload", [])
    if control is not None and not isinstance(control, str):
        raise document.error(("control",), "control has to be the path of a socket")
    if not isinstance(preload, list) or not all(isinstance(each, str) for each in preload):
        raise document.error(("preload",), 'preload has to be a list of modules, as ["httpx"]')
    found: dict[str, Any] = {"preload": tuple(preload)}
    if control is not None:
        found["control"] = _below(folder, control)
    if "connections" in table:
        found["connections"] = _connections(document, table["connections"])
    return found


def _connections(document: _Document, table: Any) -> ConnectionBudget:
    for key in table if isinstance(table, dict) else ():
        if key not in _CONNECTIONS:
            fact = f"{key} is not known; there are {', '.join(_CONNECTIONS)}"
            raise document.error(("connections", key), fact)
    try:
        return msgspec.convert(table, ConnectionBudget)
    except msgspec.ValidationError as error:
        raise _fault(document, ("connections",), str(error)) from error


def _fault(document: _Document, path: tuple[str, ...], told: str) -> InvalidInput:
    unknown = _UNKNOWN.match(told)
    if unknown:
        inner = tuple(filter(None, (unknown["path"] or "").split(".")))
        known = ", ".join(each for each in _known(inner) if each != "name")
        fact = f"{unknown['key']} is not known; there are {known}"
        return document.error((*path, *inner, unknown["key"]), fact)
    wrong = _WRONG.match(told)
    fact, at = (wrong["fact"], wrong["path"]) if wrong else (told, "")
    inner = tuple(each for each in _PLACE.sub("", at).split(".") if each)
    rule = re.match(r"(\w+): ", fact)
    if rule and not at.endswith("]"):
        return document.error((*path, *inner, rule[1]), fact)
    fact = fact[:1].lower() + fact[1:]
    if not inner:
        return document.error((*path, ""), fact)
    words = f"; there are {', '.join(_words(inner))}" if "enum value" in fact else ""
    return document.error((*path, *inner), f"{inner[-1]}: {fact}{words}")


def _known(path: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of the table at this path of a group."""
    names: tuple[str, ...] = _kind(path).__struct_fields__
    return names


def _words(path: tuple[str, ...]) -> list[str]:
    """What may stand at this path of a group, where that is one of some words."""
    return [each.value for each in _kind(path)]


def _kind(path: tuple[str, ...]) -> Any:
    """Of what stands at this path of a group."""
    kind: Any = GroupSpec
    for key in path:
        kind = next(each.type for each in msgspec.structs.fields(kind) if each.name == key)
        kind = next((each for each in get_args(kind) if each is not type(None)), kind)  # a table, or none
    return kind


def _below(folder: str, path: str | None) -> str:
    return folder if path is None else str(Path(folder, path))
