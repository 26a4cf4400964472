"""Feeds in any number: RSS, RDF and Atom in several encodings, some broken, some saying what others say."""

from __future__ import annotations

import argparse
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from xml.sax.saxutils import escape

from examples.feeds.classify import WEIGHTS

ENTRIES = 20
"""In each feed."""
SHARED_RATIO = 0.2
"""Of the entries, which other feeds have too."""
BROKEN_RATIO = 0.03
"""Of the feeds: half of them are cut off, the others are no feeds."""
ENCODINGS = ("utf-8", "utf-8", "utf-8", "iso-8859-1", "utf-16")
SINCE = datetime(2026, 11, 1, tzinfo=UTC)

_FILLERS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "with",
    "as",
    "was",
    "on",
    "be",
    "by",
    "this",
    "are",
    "from",
    "at",
    "which",
    "have",
    "not",
    "can",
    "will",
    "our",
    "more",
    "about",
    "after",
    "before",
    "every",
    "first",
    "small",
    "large",
    "new",
    "old",
    "Zürich",
    "café",
    "naïve",
    "people",
    "work",
    "day",
    "week",
    "found",
    "made",
    "says",
]
_WORDS = sorted({word for words in WEIGHTS.values() for word in words})


def generate(folder: Path, count: int, *, seed: int = 1) -> list[Path]:
    """Write feeds into a folder and return their paths, in order. The same seed makes the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    random_ = random.Random(seed)
    shared = [
        _entry(random_, f"https://example.org/shared/{number}") for number in range(max(10, count // 4))
    ]
    paths = []
    for number in range(count):
        entries = [
            random_.choice(shared)
            if random_.random() < SHARED_RATIO
            else _entry(random_, f"https://example.org/{number}/{position}")
            for position in range(ENTRIES)
        ]
        path = folder / f"feed{number:06d}.xml"
        path.write_bytes(_document(random_, entries))
        paths.append(path)
    return paths


Parts = tuple[str, str, str, datetime]


def _entry(random_: random.Random, link: str) -> Parts:
    def text(words: int, about: list[str]) -> str:
        chosen = random_.choices(about, k=words // 6 + 1) + random_.choices(_FILLERS, k=words - words // 6)
        random_.shuffle(chosen)
        return " ".join(chosen)

    label = random_.choice([*WEIGHTS, None])
    about = _FILLERS if label is None else list(WEIGHTS[label])
    title = text(7, about).capitalize()
    body = " ".join(f"<p>{text(30, about)} &amp; <a href='{link}'>more</a>.</p>" for _ in range(3))
    return title, link, body, SINCE + timedelta(seconds=random_.randrange(20 * 86_400))


def _document(random_: random.Random, entries: list[Parts]) -> bytes:
    encoding = random_.choice(ENCODINGS)
    content = random_.choice((_rss, _rss, _atom, _rdf))(entries, encoding).encode(encoding)
    if random_.random() >= BROKEN_RATIO:
        return content
    if random_.random() < 0.5:
        return content[: len(content) * 2 // 3]
    return b"<!DOCTYPE html>\n<html><head><title>503</title></head><body>Try again later</body></html>\n"


def _rss(entries: list[Parts], encoding: str) -> str:
    items = "\n".join(
        f"<item><title>{escape(title)}</title><link>{link}</link><description>{escape(body)}</description>"
        f"<pubDate>{format_datetime(moment)}</pubDate></item>"
        for title, link, body, moment in entries
    )
    return (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<rss version="2.0"><channel><title>Generated</title>'
        f"<link>https://example.org/</link><description>Made up</description>\n{items}\n</channel></rss>\n"
    )


def _atom(entries: list[Parts], encoding: str) -> str:
    items = "\n".join(
        f'<entry><title>{escape(title)}</title><link href="{link}"/><id>{link}</id>'
        f'<updated>{moment.isoformat()}</updated><summary type="html">{escape(body)}</summary></entry>'
        for title, link, body, moment in entries
    )
    return (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<feed xmlns="http://www.w3.org/2005/Atom">'
        f"<title>Generated</title><id>urn:generated</id><updated>{SINCE.isoformat()}</updated>\n{items}\n</feed>\n"
    )


def _rdf(entries: list[Parts], encoding: str) -> str:
    items = "\n".join(
        f'<item rdf:about="{link}"><title>{escape(title)}</title><link>{link}</link>'
        f"<description>{escape(body)}</description><dc:date>{moment.isoformat()}</dc:date></item>"
        for title, link, body, moment in entries
    )
    return (
        f'<?xml version="1.0" encoding="{encoding}"?>\n'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="https://example.org/">'
        f"<title>Generated</title><link>https://example.org/</link></channel>\n{items}\n</rdf:RDF>\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m examples.feeds.generate",
        description=__doc__,
        epilog="example: python -m examples.feeds.generate /tmp/feeds 500",
    )
    parser.add_argument("folder", type=Path, help="where to write them")
    parser.add_argument("count", type=int, help="how many feeds")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other feeds (default 1)")
    options = parser.parse_args()
    paths = generate(options.folder, options.count, seed=options.seed)
    size = sum(path.stat().st_size for path in paths)
    print(f"{len(paths):,} feeds, {size / 1e6:.1f} MB, in {options.folder}")


if __name__ == "__main__":
    main()
