"""Explained statements as one HTML page and as JSON."""

from __future__ import annotations

import msgspec

from perfloop.model.explained import Explanation
from perfloop.model.value import to_json
from perfloop.tune.report.page import render

EXPLANATION_FORMAT = "perfloop-explanation-1"


def explanations_html(explained: tuple[Explanation, ...]) -> str:
    """One self-contained page: no network, no script, light and dark, for screens and for paper."""
    return render("explained.html.j2", explained=explained)


def explanations_json(explained: tuple[Explanation, ...]) -> str:
    """The explanations as JSON, with the parameters that they were made with.

    Top-level keys, which are never renamed or removed under the same format: format
    ("perfloop-explanation-1") and statements, a list of `Explanation` with its fields' own names.
    """
    document = {"format": EXPLANATION_FORMAT, "statements": explained}
    return msgspec.json.format(to_json(document), indent=2).decode() + "\n"
