"""The Jinja environment of the reports' templates. Names and texts are hostile, so HTML escapes them all."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from perfloop.model.units import bytes_text, count_text, seconds_text, share_text
from perfloop.model.workload import Statement
from perfloop.tune.report import figures, plans, rewritings, story

if TYPE_CHECKING:
    import jinja2

SHOWN_CHARACTERS = 2000
"""A statement's text is shown so far; the rest is folded away."""

_MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]<>|#~&$])")
_INSEPARABLE = re.compile(r" (?=%|ms\b|s\b)|(?<=,) (?=[^\[\]]*\])")
_BACKTICKS = re.compile(r"`+")
_CODE_MARKS = re.compile(r"^`(.*)`( #\S+)?$")


def render(template: str, **values: object) -> str:
    """A template of this package with its values."""
    return _environment().get_template(template).render(**values)


def markdown_text(text: object) -> str:
    """Text that Markdown shows as it is, in one line.

    >>> markdown_text("a|b <img> *x*")
    'a\\\\|b \\\\<img\\\\> \\\\*x\\\\*'
    """
    return _MARKDOWN_SIGNS.sub(r"\\\1", " ".join(str(text).split()))


def markdown_block(text: str, language: str = "sql") -> str:
    """A fenced block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def unbroken(text: str) -> str:
    """Text whose intervals, and figures with their units, stay on one line.

    >>> unbroken("fell by 84 % [82, 86]").split(" ")
    ['fell', 'by', '84\\xa0%', '[82,\\xa086]']
    """
    return _INSEPARABLE.sub("\N{NO-BREAK SPACE}", text)


def _label(statement: Statement) -> str:
    """A statement's label without the backticks that mark code in a terminal: pages have a font for it."""
    return _CODE_MARKS.sub(r"\1\2", statement.label)


_FILTERS: Final[dict[str, Callable[..., object]]] = {
    "amount": figures.amount_text,
    "bytes": bytes_text,
    "change": figures.change_text,
    "count": count_text,
    "diff": rewritings.diff,
    "diff_text": rewritings.diff_text,
    "effect": figures.effect_text,
    "label": _label,
    "markdown": markdown_text,
    "metric": figures.metric_text,
    "moment": figures.moment_text,
    "same_rows": rewritings.rows_text,
    "seconds": seconds_text,
    "share": share_text,
    "sql_block": markdown_block,
    "times": figures.times_text,
    "unbroken": unbroken,
}

_GLOBALS: Final[dict[str, object]] = {
    "by_hand": rewritings.by_hand,
    "attempt_lines": plans.attempt_lines,
    "direction": story.direction,
    "node_facts": plans.facts,
    "node_is_wrong": plans.is_wrong,
    "node_rows": plans.rows_text,
    "part_text": plans.part_text,
    "plan_about_whole": plans.about_whole,
    "plan_at_node": plans.at_node,
    "plan_title": plans.plan_title,
    "plan_totals": plans.totals,
    "is_rewriting": rewritings.is_rewriting,
    "shown_characters": SHOWN_CHARACTERS,
    "value_text": figures.value_text,
}


@functools.cache
def _environment() -> jinja2.Environment:
    # Imported here: what is shown in the terminal or as JSON needs no templates.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("perfloop.tune.report"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    environment.globals |= _GLOBALS
    return environment
