"""What a start of the command loads: no driver, parser or mathematics for those who do not use them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perfloop.cli.later import LaterCommand
from perfloop.cli.main import cli

HEAVY = {"jinja2", "numpy", "psycopg", "rich", "sqlglot"}

PROGRAM = """
import atexit, sys
sys.argv[0] = "perfloop"
atexit.register(lambda: print("loaded:", *sys.modules, file=sys.stderr))
from perfloop.__main__ import main
main()
"""


def loaded(folder: Path, *arguments: str, **variables: str) -> set[str]:
    """The heavy packages that a command has loaded when it ends."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "PERFLOOP_STATE": str(folder), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return HEAVY & set(ended.stderr.rpartition("loaded:")[2].split())


@pytest.mark.parametrize(
    ("expected", "arguments"),
    [
        (set(), ["--help"]),
        (set(), ["--version"]),
        ({"rich"}, ["studies"]),
        ({"rich", "psycopg"}, ["apply", "--help"]),
        ({"rich", "psycopg"}, ["report", "--help"]),
        ({"rich", "psycopg", "sqlglot"}, ["analyze", "--help"]),
        ({"rich", "psycopg", "sqlglot"}, ["explain", "--help"]),
    ],
    ids=lambda value: " ".join(sorted(value) if isinstance(value, set) else value),
)
def test_a_command_loads_what_it_works_with(tmp_path: Path, expected: set[str], arguments: list[str]) -> None:
    assert expected == loaded(tmp_path, *arguments)


def test_a_shell_completes_the_names_of_commands_without_loading_them(tmp_path: Path) -> None:
    variables = {"_PERFLOOP_COMPLETE": "bash_complete", "COMP_WORDS": "perfloop ", "COMP_CWORD": "1"}

    assert set() == loaded(tmp_path, **variables)


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_a_name_stands_for_the_command_of_that_name(name: str) -> None:
    command = cli.commands[name]

    assert isinstance(command, LaterCommand)
    assert name == command.load().name
