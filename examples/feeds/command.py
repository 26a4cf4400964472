"""Read feeds into PostgreSQL, and say how long that took and where the time went."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import psycopg

from examples.feeds.classify import OTHER, WEIGHTS
from examples.feeds.reader import Read, read_by_pipeline, read_on_dask, read_plainly
from examples.feeds.store import Store

DATA = Path(__file__).parent / "data"


def main() -> None:
    options = _options()
    paths = sorted(options.folder.glob("*.xml"))
    if not paths:
        raise SystemExit(
            f"there is no .xml in {options.folder}; python -m examples.feeds.generate makes some"
        )
    try:
        with Store(options.dsn) as store:
            began_s = time.perf_counter()
            read = _read(options, paths, store)
            _tell(read, time.perf_counter() - began_s, store)
    except psycopg.Error as error:
        fact = str(error).partition("\n")[0]
        raise SystemExit(
            f"the database cannot be used: {fact}; name one that is there, as postgresql:///feeds"
        ) from error
    except KeyboardInterrupt:
        raise SystemExit("interrupted; what was stored stays, and another run does the rest") from None


def _tell(read: Read, took_s: float, store: Store) -> None:
    if read.summary is not None:
        print(read.summary.text())
    counts = store.counts()
    print(
        f"{read.documents} documents in {took_s:.1f} s, {len(read.unreadable)} of them no feeds; there"
        f" are {counts.entries:,} entries of {counts.feeds:,} feeds, seen {counts.sightings:,} times"
    )
    for label in (*WEIGHTS, OTHER):
        newest = store.newest(label)
        if newest:
            print(f"  {label:9} {newest[0][0][:80]}")


def _read(options: argparse.Namespace, paths: list[Path], store: Store) -> Read:
    if options.plain:
        return read_plainly(paths, store, latency_s=options.latency)
    if options.dask:
        return read_on_dask(paths, store, latency_s=options.latency, workers=options.dask, progress=True)
    return read_by_pipeline(paths, store, latency_s=options.latency, progress=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.feeds",
        description=__doc__,
        epilog="example: python -m examples.feeds postgresql:///feeds --plain",
    )
    parser.add_argument("dsn", help="the database to fill; its tables are in the schema reader, and are kept")
    parser.add_argument(
        "--folder", type=Path, default=DATA, help="of .xml files (default: examples/feeds/data)"
    )
    parser.add_argument(
        "--latency",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="that a network would take for each feed",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--plain", action="store_true", help="in a plain loop, not in a pipeline")
    how.add_argument(
        "--dask",
        type=workers,
        metavar="WORKERS",
        help="parse on so many workers of dask.distributed; needs perfloop[dask]",
    )
    return parser.parse_args()


def seconds(text: str) -> float:
    if float(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return float(text)


def workers(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return int(text)
