"""Help that helps: every command shows how it is called, and what is not understood ends with 2."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from perfloop.cli.main import cli


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_help_of_every_command_has_an_example(name: str) -> None:
    told = CliRunner().invoke(cli, [name, "--help"])

    assert 0 == told.exit_code
    assert f"\n  perfloop {name}" in told.output


def test_the_short_help_of_every_command_is_whole() -> None:
    told = CliRunner().invoke(cli, ["--help"])

    assert "..." not in told.output.partition("Commands:")[2]


def test_without_a_command_the_help_is_shown(perfloop: Any) -> None:
    told = perfloop()

    assert 2 == told.code
    assert "analyze" in told.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["analyze"],
        ["apply"],
        ["analyze", "dbname=x", "--fail-on", "bogus"],
        ["apply", "latest", "--watch", "10"],
        ["optimize", "dbname=x", "--max-lab-size", "huge"],
        ["optimize", "dbname=x", "--html", "no/such/folder/report.html"],
        ["optimize", "dbname=x", "--html", "."],
    ],
    ids=" ".join,
)
def test_what_is_not_understood_ends_with_2_before_anything_is_done(arguments: list[str]) -> None:
    told = CliRunner(env={"DATABASE_URL": ""}).invoke(cli, arguments)

    assert 2 == told.exit_code
    assert "Error: " in told.output


def test_the_module_is_the_command(perfloop: Any) -> None:
    told = perfloop("--version")

    assert (0, True) == (told.code, told.out.startswith("perfloop, version "))
