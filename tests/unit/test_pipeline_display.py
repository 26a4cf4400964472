"""What a terminal shows of a pipeline that runs, and that nothing else does."""

from __future__ import annotations

import io
import subprocess
import sys

from rich.console import Console

from perfloop.process import Pipeline
from perfloop.process.pipeline.display import shown


def test_a_terminal_shows_the_stages() -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=100, color_system=None)
    pipeline = Pipeline(range(700)).stage(str, name="spell").batch(len, name="count")
    pipeline.run()
    with shown(pipeline.statistics, console):
        pass

    assert "spell" in drawn.getvalue()
    assert "count" in drawn.getvalue()
    assert "700 read in" in drawn.getvalue()


def test_a_file_gets_nothing() -> None:
    script = "from perfloop.process import Pipeline; Pipeline(range(10)).stage(str).run(progress=True)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert (b"", b"") == (done.stdout, done.stderr)


def test_who_shows_nothing_does_not_load_what_draws() -> None:
    script = (
        "import sys; from perfloop.process import Pipeline; Pipeline(range(10)).stage(str).run(); "
        "sys.exit('rich' in sys.modules)"
    )

    assert 0 == subprocess.run([sys.executable, "-c", script], check=False).returncode
