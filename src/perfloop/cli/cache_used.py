"""How the profile of a running cache looks in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from perfloop.cache.usage import TemplateUsage, UsageProfile
from perfloop.cli.findings import show_finding
from perfloop.cli.terminal import show, show_table, width_of
from perfloop.model.units import bytes_text, count_text, seconds_text, share_text
from perfloop.tune.cache_advice_values import UsageAdvice

_TEMPLATES_SHOWN = 20
_HOT_SHOWN = 5
_TIMES = {0.5: "half of it", 2.0: "twice", 4.0: "four times"}
_LEAST_MISSES = 300
"""Of the sample behind an estimate for another capacity; fewer say little."""


def show_usage(console: Console, usage: UsageAdvice) -> None:
    """Print what a cache was used for, template by template, and what to make of it."""
    profile = usage.profile
    processes = "1 process" if profile.processes == 1 else f"{profile.processes} processes"
    about = f"{processes}, {seconds_text(profile.observed_s)}; {count_text(profile.requests)} requests"
    show(console, Text.assemble((f"cache {profile.cache}", "bold"), f"  {about}"))
    if profile.requests:
        _show_worth(console, profile)
    if profile.templates:
        console.print()
        _show_templates(console, profile)
    _show_hot_keys(console, profile)
    _show_capacity(console, profile)
    for finding in usage.findings:
        show_finding(console, finding)


def _show_worth(console: Console, profile: UsageProfile) -> None:
    misses = sum(each.misses for each in profile.templates)
    share = share_text(1 - misses / profile.requests)
    saved = profile.saved_s
    verb = "spared" if saved >= 0 else "lost"
    show(console, f"{share} hits, which {verb} {seconds_text(abs(saved))} of loaders")


def _show_templates(console: Console, profile: UsageProfile) -> None:
    rows = [_cells(each) for each in profile.templates[:_TEMPLATES_SHOWN]]
    header = ("template", "requests", "hits", "spared", "a load", "size", "unread")
    others = sum(2 + max(len(cells[column]) for cells in (header, *rows)) for column in range(1, len(header)))
    room = max(16, width_of(console) - others)
    show_table(console, header, [(_cut(cells[0], room), *cells[1:]) for cells in rows])
    rest = profile.templates[_TEMPLATES_SHOWN:]
    if rest:
        requests = count_text(sum(each.requests for each in rest))
        show(console, Text(f"and {len(rest)} more with {requests} requests, in the JSON", style="dim"))


def _cells(usage: TemplateUsage) -> tuple[str, ...]:
    load_s, saved_s = usage.load_mean_s, usage.saved_s
    return (
        usage.template,
        count_text(usage.requests),
        "" if usage.hit_ratio is None else share_text(usage.hit_ratio),
        "" if saved_s is None else seconds_text(saved_s),
        "" if load_s is None else seconds_text(load_s),
        bytes_text(usage.size_bytes),
        share_text(usage.left_unread / usage.left) if usage.left else "",
    )


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _show_hot_keys(console: Console, profile: UsageProfile) -> None:
    hits = sum(each.hits + each.stale_hits for each in profile.templates)
    if not profile.hot_keys or not hits:
        return
    console.print()
    told = ", ".join(f"{each.key} {share_text(each.hits / hits)}" for each in profile.hot_keys[:_HOT_SHOWN])
    show(console, told, lead=Text("hot keys, of all hits: ", style="dim"), indent=4)


def _show_capacity(console: Console, profile: UsageProfile) -> None:
    told = [
        f"{_TIMES.get(each.capacity_ratio, each.capacity_ratio)} {each.gain_points:+.1f} points"
        for each in profile.capacity_estimates
        if each.capacity_ratio != 1 and each.sampled_misses >= _LEAST_MISSES
    ]
    if told:
        size = bytes_text(profile.capacity) if profile.by_bytes else f"{count_text(profile.capacity)} entries"
        show(
            console,
            f"{', '.join(told)} of hit ratio",
            lead=Text(f"capacity {size}: ", style="dim"),
            indent=23,
        )
