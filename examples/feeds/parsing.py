"""From a file to entries, with feedparser: functions alone, so that any process can run them."""

from __future__ import annotations

import hashlib
import re
import time
from calendar import timegm
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import feedparser  # type: ignore[import-untyped]  # ships no types

_MARKUP = re.compile(r"<[^>]*>")
_SPACE = re.compile(r"\s+")


class NotAFeed(Exception):
    """A document in which no feed can be found: an error page, an empty file, a picture."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file as it was fetched."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of one feed. Entries of several feeds that say the same have the same digest."""

    feed: str
    digest: bytes
    title: str
    link: str
    summary: str
    published: datetime | None


def fetch(path: Path, latency_s: float = 0.0) -> Document:
    """Read a file, after as long as a network would take."""
    if latency_s:
        time.sleep(latency_s)
    return Document(path.name, path.read_bytes())


def parse(document: Document) -> list[Entry]:
    """The entries of a feed in RSS, RDF or Atom.

    A feed that is cut off or not well-formed has the entries that can be read. Raises NotAFeed where there is
    none, and nothing says that it is a feed.
    """
    found = feedparser.parse(BytesIO(document.content))
    if not found.entries and not found.get("version"):
        raise NotAFeed(f"{document.name}: {found.get('bozo_exception', 'no feed')}")
    return [_entry(document.name, each) for each in found.entries]


def _entry(feed: str, raw: Any) -> Entry:
    title, summary = _plain(raw.get("title", "")), _plain(raw.get("summary", ""))
    link = raw.get("link") or raw.get("id") or ""
    digest = hashlib.sha256("\0".join((link, title, summary)).encode("utf-8", "replace")).digest()
    return Entry(feed, digest, title, link, summary, _moment(raw))


def _plain(text: str) -> str:
    """Text without markup, without NUL (which PostgreSQL does not take) and without runs of space."""
    return _SPACE.sub(" ", _MARKUP.sub(" ", text).replace("\0", "")).strip()


def _moment(raw: Any) -> datetime | None:
    """When it was published, or else updated; feedparser has it in UTC."""
    parsed = dict.get(raw, "published_parsed") or dict.get(raw, "updated_parsed")  # its own get guesses
    return datetime.fromtimestamp(timegm(parsed), UTC) if parsed else None
