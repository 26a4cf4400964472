"""The feed reader of examples/feeds: what it makes of odd documents; the same rows however it is run."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

feedparser = pytest.importorskip("feedparser")
from examples.feeds.classify import classify  # noqa: E402  # it needs feedparser
from examples.feeds.command import DATA  # noqa: E402
from examples.feeds.generate import ENTRIES, generate  # noqa: E402
from examples.feeds.parsing import Entry, NotAFeed, fetch, parse  # noqa: E402
from examples.feeds.reader import read_by_pipeline, read_on_dask, read_plainly  # noqa: E402
from examples.feeds.store import Store  # noqa: E402

SAMPLES = sorted(DATA.glob("*.xml"))
NO_FEEDS = ("empty.xml", "error_page.xml", "picture.xml")


@pytest.fixture
def store(postgres_dsn: str) -> Iterator[Store]:
    with Store(postgres_dsn) as store:
        yield store


def entries(name: str) -> list[Entry]:
    return parse(fetch(DATA / name))


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        (
            "rss20.xml",
            ["PostgreSQL 18: an index that skips", "Vacuum that keeps up", "Ein Spiel in der Nachspielzeit"],
        ),
        ("atom.xml", ["A vulnerability in parse()", "No link, only an id"]),
        ("rdf.xml", ["Researchers measured a galaxy"]),
        ("latin1.xml", ["Version 2 veröffentlicht: release für München"]),
        ("koi8.xml", ["Матч: гол на последней минуте"]),
        ("utf16.xml", ["新版本 released"]),
        ("mislabelled.xml", ["The “query” that wasn\u2019t"]),
        ("unclosed.xml", ["The first came through", "The second did not, quite"]),
        ("undated.xml", ["", "Only a title"]),
        ("no_entries.xml", []),
    ],
)
def test_entries_are_read_from_every_format_and_encoding(name: str, titles: list[str]) -> None:
    assert titles == [entry.title for entry in entries(name)]


@pytest.mark.parametrize("name", NO_FEEDS)
def test_what_is_no_feed_is_said_to_be_none(name: str) -> None:
    with pytest.raises(NotAFeed, match=name):
        entries(name)


def test_a_label_says_which_words_decided() -> None:
    labels = [(made.label, made.because) for made in map(classify, entries("atom.xml"))]

    assert [("security", "exploit patch vulnerability"), ("other", "")] == labels


def test_what_a_mirror_repeats_is_stored_once_and_seen_twice(store: Store) -> None:
    read = read_plainly(SAMPLES, store)
    counts = store.counts()

    assert NO_FEEDS == read.unreadable
    assert (len(SAMPLES), 15, 16) == (read.documents, counts.entries, counts.sightings)


def test_the_newest_of_a_label_are_cached_until_one_is_stored(store: Store) -> None:
    before = store.newest("database")
    read_plainly([DATA / "rss20.xml"], store)
    after = store.newest("database")

    assert () == before
    assert ["Vacuum that keeps up", "PostgreSQL 18: an index that skips"] == [title for title, _ in after]
    assert after is store.newest("database")


def test_a_pipeline_makes_the_rows_of_the_plain_loop_in_whatever_order(store: Store, tmp_path: Path) -> None:
    paths = [*SAMPLES, *generate(tmp_path, 20)]
    plain = read_plainly(paths, store)
    expected = store.checksum(), store.counts()
    store.empty()
    random.Random(3).shuffle(paths)
    made = read_by_pipeline(paths, store, workers=2)

    assert expected == (store.checksum(), store.counts())
    assert (plain.documents, plain.unreadable) == (made.documents, made.unreadable)
    assert made.summary is not None
    assert ["fetch", "parse", "classify", "store"] == [stage.name for stage in made.summary.stages]
    assert 20 * ENTRIES * 0.9 < made.summary.stages[-1].items


def test_reading_twice_changes_nothing(store: Store) -> None:
    read_plainly(SAMPLES, store)
    expected = store.checksum()
    read_by_pipeline(SAMPLES, store, executor="threads")

    assert expected == store.checksum()


@pytest.mark.slow  # starting the cluster takes ten seconds where the machine is busy
def test_workers_of_a_cluster_make_the_same_rows(store: Store, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    paths = [*SAMPLES, *generate(tmp_path, 30)]
    read_plainly(paths, store)
    expected = store.checksum(), store.counts()
    store.empty()
    made = read_on_dask(paths, store)

    assert expected == (store.checksum(), store.counts())
    assert NO_FEEDS == tuple(name for name in made.unreadable if not name.startswith("feed0"))


def test_the_same_seed_makes_the_same_feeds(tmp_path: Path) -> None:
    first, second = (generate(tmp_path / name, 12, seed=5) for name in "ab")

    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_command_says_what_it_read_and_where_the_time_went(postgres_dsn: str) -> None:
    command = [sys.executable, "-m", "examples.feeds", postgres_dsn, "--latency", "0.001"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "3 of them no feeds; there are 15 entries of 11 feeds, seen 16 times" in told
    assert "the bottleneck is" in told


def test_a_connection_that_broke_is_not_used_again(store: Store) -> None:
    samples = [classify(entry) for entry in entries("rss20.xml")]
    with store._connection() as connection, suppress(psycopg.OperationalError):
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    store.add(samples)

    assert len(samples) == store.counts().entries


def test_what_the_command_cannot_use_is_told_in_a_line(postgres_dsn: str) -> None:
    command = [sys.executable, "-m", "examples.feeds", make_conninfo(postgres_dsn, dbname="nonesuch")]
    told = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (1, 1) == (told.returncode, len(told.stderr.splitlines()))
    assert 'database "nonesuch" does not exist' in told.stderr
