"""What an entry is about, by the weights of its words: small, and each label says which words it is for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from examples.feeds.parsing import Entry

OTHER = "other"
LEAST_SCORE = 3
TITLE_FACTOR = 2
"""A word in a title says more than one in a text."""

WEIGHTS: dict[str, dict[str, int]] = {
    "database": {
        "postgresql": 3, "postgres": 3, "sql": 2, "index": 2, "vacuum": 3, "query": 2, "database": 2,
        "replication": 2, "transaction": 2, "redis": 3, "schema": 1,
    },
    "security": {
        "vulnerability": 3, "cve": 3, "exploit": 3, "patch": 1, "security": 2, "password": 2, "breach": 3,
        "encryption": 2, "advisory": 2, "malware": 3,
    },
    "release": {
        "release": 2, "released": 3, "version": 2, "changelog": 3, "beta": 2, "announcing": 2, "upgrade": 1,
        "deprecated": 2,
    },
    "science": {
        "study": 2, "researchers": 3, "telescope": 3, "galaxy": 3, "species": 2, "climate": 2, "protein": 3,
        "physics": 3, "measured": 1,
    },
    "sport": {
        "match": 2, "goal": 2, "league": 3, "coach": 3, "championship": 3, "season": 1, "player": 2,
        "final": 1,
    },
}  # fmt: skip

_LABELS_OF: dict[str, list[tuple[str, int]]] = {}
for _label, _words in WEIGHTS.items():
    for _word, _weight in _words.items():
        _LABELS_OF.setdefault(_word, []).append((_label, _weight))
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class Classified:
    """An entry with its label, and the words that decided."""

    entry: Entry
    label: str
    score: int
    because: str


def classify(entry: Entry) -> Classified:
    """The label with the most weight, of equal ones the first by name; `other` where all are light."""
    scores: dict[str, int] = {}
    words: dict[str, set[str]] = {}
    for text, factor in ((entry.title, TITLE_FACTOR), (entry.summary, 1)):
        for word in _WORD.findall(text.lower()):
            for label, weight in _LABELS_OF.get(word, ()):
                scores[label] = scores.get(label, 0) + weight * factor
                words.setdefault(label, set()).add(word)
    best = min(scores, key=lambda label: (-scores[label], label), default=OTHER)
    if scores.get(best, 0) < LEAST_SCORE:
        return Classified(entry, OTHER, 0, "")
    return Classified(entry, best, scores[best], " ".join(sorted(words[best])))
