"""Every block of the documentation does what it says: it is run here, word for word, on a small feedshop.

A page is read from top to bottom in a folder of its own, against one target, with a finished study in the
journal. `text` marks what is only shown. `<!-- slow -->` above a block puts it among the slow tests, and
`<!-- exit: 1 -->` tells how it ends.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from examples.feedshop.load import load
from examples.feedshop.traffic import run_traffic

from perfloop.adapters.servers import PostgresBinaries, PostgresServer, RedisServer

ROOT = Path(__file__).parents[2]
SETTINGS = {"shared_preload_libraries": "pg_stat_statements", "fsync": "off"}
STATEMENT = ROOT / "examples/feedshop/workload/feed_timeline.sql"
SCALE = 0.05
DEADLINE_S = 900

# The blocks of grants.md are run in tests/integration/test_probe_grants.py, those of the decisions are none.
ELSEWHERE = {ROOT / "docs/how-to/grants.md", ROOT / "docs/benchmarks.md"}
PAGES = sorted({ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")} - ELSEWHERE)

BLOCK = re.compile(
    r"^(?P<marks>(?:<!--[^\n]*-->\n)*)```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
END_OF_STATEMENT = re.compile(r";\n")
STEP = re.compile(r"^- run: (?P<command>.+)$", re.MULTILINE)
SET_UP = ("make ", "pip install ")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block and what its marks say."""

    language: str
    text: str
    is_slow: bool
    exit_code: int

    @property
    def lines(self) -> list[str]:
        """The commands of a workflow's steps, or the lines as they stand."""
        return STEP.findall(self.text) if self.language == "yaml" else self.text.splitlines()

    @property
    def script(self) -> str:
        """What is run: all but the lines that set perfloop up, which are looked at instead."""
        return "\n".join(line for line in self.lines if not line.startswith(SET_UP))


def blocks_of(page: Path) -> list[Block]:
    return [
        Block(
            language=found["language"],
            text=found["text"],
            is_slow="<!-- slow -->" in found["marks"],
            exit_code=int((re.search(r"<!-- exit: (\d+) -->", found["marks"]) or ["", "0"])[1]),
        )
        for found in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


def pages_with(*, is_slow: bool) -> list[Path]:
    run = [page for page in PAGES if any(block.language != "text" for block in blocks_of(page))]
    return [page for page in run if not is_slow or any(block.is_slow for block in blocks_of(page))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def set_up_lines() -> list[str]:
    lines = [line for page in PAGES for block in blocks_of(page) for line in block.lines]
    return sorted({line.strip() for line in lines if line.strip().startswith(SET_UP)})


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the blocks of a page are run."""

    folder: Path
    environment: dict[str, str]
    scratch_dsn: str

    def run(self, block: Block) -> None:
        if block.language == "sql":
            # As in psql, where each statement is a transaction of its own.
            with psycopg.connect(self.scratch_dsn, autocommit=True) as connection:
                for statement in END_OF_STATEMENT.split(block.text.strip()):
                    connection.execute(statement)
            return
        command = ["bash", "-euo", "pipefail", "-c", block.script]
        if block.language == "python":
            command = [sys.executable, "-W", "error", "-c", block.script]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

        assert (block.exit_code, block.text) == (done.returncode, block.text), done.stdout + done.stderr


def environment_of(
    binaries: PostgresBinaries, state: Path, dsn: str, lab_dsn: str, redis_url: str
) -> dict[str, str]:
    folders = [str(Path(sys.executable).parent), str(binaries.bin_dir), os.environ["PATH"]]
    return {
        **os.environ,
        "PATH": os.pathsep.join(folders),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "PERFLOOP_STATE": str(state),
        "DATABASE_URL": dsn,
        "LAB_URL": lab_dsn,
        "REDIS_URL": redis_url,
        "SESSION_SECRET": "5e" * 32,
        "COLUMNS": "100",
        "FEEDSHOP_SCALE": str(SCALE),
    }


@pytest.fixture(scope="module")
def shop(
    postgres_binaries: PostgresBinaries, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    """A small feedshop whose users were at work, an empty scratch server, and a study in the journal."""
    folder = tmp_path_factory.mktemp("shop")
    with (
        PostgresServer(postgres_binaries, settings=SETTINGS) as server,
        PostgresServer(postgres_binaries, settings=SETTINGS) as scratch,
    ):
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE feedshop")
        dsn = server.dsn("feedshop")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            load(dsn, scale=SCALE)
            # Undo does not build an invalid index again, and several pages apply and undo the same study.
            connection.execute("DROP INDEX users_session_key")
            connection.execute("VACUUM ANALYZE")
            connection.execute("SELECT pg_stat_statements_reset()")
        run_traffic(dsn, seconds=60, operations=400)
        environment = environment_of(
            postgres_binaries, folder / "state", dsn, scratch.dsn(), redis_server.url
        )
        desk = Desk(folder=folder, environment=environment, scratch_dsn=scratch.dsn())
        desk.run(Block("sh", f"perfloop optimize --workload {STATEMENT}", is_slow=False, exit_code=0))
        yield desk


@pytest.fixture
def desk(shop: Desk, tmp_path: Path) -> Iterator[Desk]:
    """A folder for one page, with a journal of its own that holds the study.

    The next page's scratch server is not to log all that this one told it to.
    """
    shutil.copytree(shop.folder / "state", tmp_path / "state")
    environment = {**shop.environment, "PERFLOOP_STATE": str(tmp_path / "state")}
    folder = tmp_path / "desk"
    folder.mkdir()
    yield Desk(folder=folder, environment=environment, scratch_dsn=shop.scratch_dsn)
    with psycopg.connect(shop.scratch_dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM RESET ALL")
        connection.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("page", pages_with(is_slow=False), ids=name_of)
def test_the_blocks_of_a_page_run_as_they_stand(desk: Desk, page: Path) -> None:
    for block in blocks_of(page):
        if block.language != "text" and not block.is_slow and block.script.strip():
            desk.run(block)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", pages_with(is_slow=True), ids=name_of)
def test_the_slow_blocks_of_a_page_run_as_they_stand(desk: Desk, page: Path) -> None:
    for block in blocks_of(page):
        if block.is_slow:
            desk.run(block)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_has_a_language_that_says_how_it_is_run(page: Path) -> None:
    languages = {block.language for block in blocks_of(page)}

    assert set() == languages - {"python", "sh", "sql", "text", "yaml"}


def test_every_make_line_names_a_target_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {line.split()[1] for line in set_up_lines() if line.startswith("make ")}

    assert set() == named - targets
    assert "demo" in named


def test_every_install_line_names_this_checkout_and_an_extra_that_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    known = {"pip install .", *(f"pip install '.[{extra}]'" for extra in extras)}

    assert set() == {line for line in set_up_lines() if line.startswith("pip ")} - known


@pytest.mark.parametrize(
    ("section", "command"),
    [("## A study", "report latest --format json"), ("## An analysis", "analyze --json")],
)
def test_the_page_on_json_names_the_keys_that_are_there(shop: Desk, section: str, command: str) -> None:
    page = (ROOT / "docs/reference/report-json.md").read_text(encoding="utf-8")
    text = page.partition(f"{section}\n")[2].partition("\n## ")[0]
    shop.run(Block("sh", f"perfloop {command} > document.json", is_slow=False, exit_code=0))
    document = json.loads((shop.folder / "document.json").read_text(encoding="utf-8"))

    assert list(document) == re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
