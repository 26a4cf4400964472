"""The whole loop on feedshop: a server of its own, data, traffic, analysis, trials, report.

python -m examples.feedshop.demo
python -m examples.feedshop.demo --html /tmp/feedshop.html
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import psycopg

from examples.feedshop.load import load
from examples.feedshop.traffic import run_traffic
from perfloop import StudyOptions, optimize
from perfloop.adapters.servers import PostgresServer, find_postgres
from perfloop.adapters.store import Journal
from perfloop.cli.progress import Progress
from perfloop.cli.terminal import write_file
from perfloop.cli.verdicts import show_study
from perfloop.errors import PerfloopError
from perfloop.tune.report.study import study_html

SETTINGS = {"shared_preload_libraries": "pg_stat_statements", "fsync": "off"}
TRAFFIC_S = 8.0


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--html", type=Path, default=Path("feedshop.perfloop.html"), help="where the report goes"
    )
    chosen = options.parse_args()
    # Also where the shell ignores Ctrl-C for what runs in the background; the servers are ended either way.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        run(chosen.html)
    except PerfloopError as error:
        print(f"perfloop: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def run(html: Path) -> None:
    binaries = find_postgres()
    with PostgresServer(binaries, settings=SETTINGS) as server, Journal() as journal:
        with Progress() as progress:
            progress.phase(f"filling feedshop on PostgreSQL {binaries.version}")
            dsn = _fill(server)
            progress.phase(f"its users are at work for {TRAFFIC_S:g} s")
            run_traffic(dsn, seconds=TRAFFIC_S)
            study = optimize(dsn, StudyOptions(), journal, progress)
        show_study(study)
        write_file(html, study_html(study))
        print(f"\nthe report: {html.resolve()}")


def _fill(server: PostgresServer) -> str:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE feedshop")
    dsn = server.dsn("feedshop")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
    load(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_statements_reset()")
    return dsn


if __name__ == "__main__":
    sys.exit(main())
