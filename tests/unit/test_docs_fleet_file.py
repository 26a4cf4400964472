"""The page on the fleet file has every key with its default, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from perfloop.control.budget import ConnectionBudget
from perfloop.process import GroupSpec, HealthPolicy, ReadyPolicy, RestartPolicy, StopPolicy
from perfloop.process.leaks.ladder import LadderPolicy
from perfloop.process.resources.limits import ResourceLimits
from perfloop.process.scaling.policy import ScalingPolicy
from perfloop.process.scaling.season import SeasonPolicy

PAGE = Path(__file__).parents[2] / "docs/reference/fleet-file.md"
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \|", re.MULTILINE)
TABLES = [
    ("[groups.NAME]", GroupSpec),
    ("restart", RestartPolicy),
    ("ready", ReadyPolicy),
    ("health", HealthPolicy),
    ("stop", StopPolicy),
    ("limits", ResourceLimits),
    ("memory", LadderPolicy),
    ("scaling", ScalingPolicy),
    ("season", SeasonPolicy),
    ("[connections]", ConnectionBudget),
]


@pytest.mark.parametrize(("title", "kind"), TABLES, ids=[title for title, _ in TABLES])
def test_the_page_on_the_fleet_file_has_every_key_and_its_default(
    title: str, kind: type[msgspec.Struct]
) -> None:
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## `{title}`\n")[2].partition("\n## ")[0]
    told = dict(ROW.findall(text))
    others = {"name", *(name for name, inner in TABLES if inner is not kind)}
    fields = {each.name: each for each in msgspec.structs.fields(kind) if each.name not in others}

    assert set(fields) == set(told)
    for name, default in told.items():
        if default.startswith("`"):
            found = fields[name].default
            made = fields[name].default_factory if found is msgspec.NODEFAULT else None
            value = made() if callable(made) else found
            shown = list(value) if isinstance(value, tuple) else value
            written = str(shown).lower() if isinstance(shown, bool) else str(shown)

            assert default.strip("`").strip('"') == written
