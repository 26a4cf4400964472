"""`perfloop startup` as its users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULES = {
    "bot.py": "import dear, idle, threaded\nprint('at', dear.VALUE)\nprint('ready to serve', flush=True)\n",
    "dear.py": "import time\ntime.sleep(0.02)\nVALUE = 7\n",
    "idle.py": "import time\ntime.sleep(0.03)\n",
    "threaded.py": "import threading, time\nimport below\n"
    "threading.Thread(target=time.sleep, args=[9], daemon=True).start()\n",
    "below.py": "import time\ntime.sleep(0.02)\n",
}

MODULES_NAMED = {name.removesuffix(".py") for name in MODULES}


def startup(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    for name, code in MODULES.items():
        (folder / name).write_text(code)
    command = [sys.executable, "-m", "perfloop", "startup", *arguments]
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def report(folder: Path, *arguments: str) -> dict[str, Any]:
    told = startup(folder, "--json", "--runs", "1", *arguments)
    assert 0 == told.returncode, told.stderr
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def test_what_may_be_preloaded_and_what_may_be_put_off_is_tried(tmp_path: Path) -> None:
    found = report(tmp_path, sys.executable, "bot.py")

    assert {"idle", "dear", "below"} <= set(found["preload"])
    assert {"threaded": "starts a thread when it is imported"} == found["unfit"]
    assert {("idle", True), ("threaded", True)} == {
        (each["name"], each["is_ours"]) for each in found["deferrable"] if each["name"] in MODULES_NAMED
    }
    assert "ended" == found["how"]
    assert found["ready_s"] > 0.07


def test_a_program_that_goes_on_is_ended_when_it_says_that_it_is_ready(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text("import bot, time\ntime.sleep(600)\n")
    found = report(tmp_path, "--ready", "^ready to", sys.executable, "serve.py")

    assert "said so" == found["how"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonesuch"], "perfloop: cannot run nonesuch: No such file or directory"),
        (["sh", "-c", "exit 0"], "perfloop: sh told of no imports"),
        ([sys.executable, "-c", "1/0"], f"perfloop: {sys.executable} ended with 1: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_measured_ends_with_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    told = startup(tmp_path, *arguments)

    assert (3, "") == (told.returncode, told.stdout)
    assert sentence in told.stderr


def test_the_text_has_lines_for_the_fleet_file(tmp_path: Path) -> None:
    told = startup(tmp_path, "--runs", "1", sys.executable, "bot.py").stdout

    (line,) = [each for each in told.splitlines() if each.startswith("preload = [")]
    assert {"idle", "dear", "below"} <= set(json.loads(line.partition("= ")[2]))
    assert "not threaded: it starts a thread when it is imported" in told
    assert "import it in the program where it is used" in told


def test_a_pattern_that_is_none_is_refused_and_one_that_nothing_matches_is_told(tmp_path: Path) -> None:
    refused = startup(tmp_path, "--ready", "(", sys.executable, "bot.py")
    unmatched = startup(tmp_path, "--ready", "^never", "--runs", "1", sys.executable, "bot.py")

    assert (2, True) == (refused.returncode, "( is no regular expression: missing )" in refused.stderr)
    assert (0, True) == (unmatched.returncode, "no line that it wrote matches ^never" in unmatched.stdout)
