"""The reader three times: as a plain loop, as a pipeline, and as the same pipeline on a cluster."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.feeds.classify import classify
from examples.feeds.parsing import NotAFeed, fetch, parse
from examples.feeds.store import Store
from perfloop.process import DeadLetter, Pipeline, PipelineSummary


@dataclass(frozen=True, slots=True)
class Read:
    """What came of a run. `summary` is None of a plain loop."""

    documents: int
    unreadable: tuple[str, ...]
    """Names, sorted."""
    summary: PipelineSummary | None = None


def read_plainly(paths: Iterable[Path], store: Store, *, latency_s: float = 0.0) -> Read:
    """One after the other: what everybody writes first."""
    unreadable: list[str] = []
    documents = 0
    for path in paths:
        documents += 1
        document = fetch(path, latency_s)
        try:
            entries = parse(document)
        except NotAFeed:
            unreadable.append(document.name)
            continue
        if entries:
            store.add([classify(entry) for entry in entries])
    return Read(documents, tuple(sorted(unreadable)))


def read_by_pipeline(
    paths: Iterable[Path],
    store: Store,
    *,
    latency_s: float = 0.0,
    executor: str | Executor = "processes",
    workers: int | None = None,
    progress: bool = False,
) -> Read:
    """The same functions, each in a stage of its own: fetching waits, parsing computes, storing does both.

    Args:
        paths: of the feeds; read as fast as they are worked on.
        store: takes the entries.
        latency_s: that a network would take.
        executor: of parsing: "processes", or an Executor as dask's `Client.get_executor()` gives it.
        workers: of that executor; a cluster does not tell.
        progress: draw the stages on standard error.
    """
    given_up: list[DeadLetter] = []
    summary = (
        Pipeline(paths, dead_letter=given_up.append)
        .stage(functools.partial(fetch, latency_s=latency_s), name="fetch", limiter="adaptive")
        .stage(parse, executor=executor, workers=workers)
        .stage(classify)
        .batch(store.add, name="store", size="adaptive", linger_s=0.05, workers=4, retries=2)
        .run(progress=progress)
    )
    others = [each for each in given_up if each.stage != "parse"]
    if others:
        raise others[0].error
    unreadable = sorted(each.item.name for each in given_up)
    return Read(summary.items_read, tuple(unreadable), summary)


def read_on_dask(
    paths: Iterable[Path], store: Store, *, latency_s: float = 0.0, workers: int = 2, progress: bool = False
) -> Read:
    """The same pipeline, parsing on a cluster of dask."""
    with dask_executor(workers) as executor:
        return read_by_pipeline(
            paths, store, latency_s=latency_s, executor=executor, workers=workers, progress=progress
        )


@contextmanager
def dask_executor(workers: int) -> Iterator[Executor]:
    """A cluster of this machine for as long as it is used; elsewhere it is `Client(address)`."""
    try:
        from distributed import Client, LocalCluster  # loaded by those alone who have it
    except ModuleNotFoundError:
        raise SystemExit("dask.distributed is not installed; pip install 'perfloop[dask]'") from None

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor()
