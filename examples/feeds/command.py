"""Read feeds into PostgreSQL, and say how long that took and where the time went."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

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
    with Store(options.dsn) as store:
        began_s = time.perf_counter()
        read = _read(options, paths, store)
        took_s = time.perf_counter() - began_s
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
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="that a network would take for each feed",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--plain", action="store_true", help="in a plain loop, not in a pipeline")
    how.add_argument(
        "--dask", type=int, metavar="WORKERS", help="parse on so many workers of dask.distributed"
    )
    return parser.parse_args()
