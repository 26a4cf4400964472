"""How advice on caching looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from perfloop.cli.findings import show_limitation
from perfloop.cli.terminal import show, show_table
from perfloop.model.units import bytes_text, count_text, seconds_text, share_text
from perfloop.tune.cache_advice_decision import LEAST_TIME_SHARE
from perfloop.tune.cache_advice_values import CacheAdvice, StatementAdvice

_REFUSED_SHOWN = 12
_INDENT = 4


def show_advice(console: Console, advice: CacheAdvice) -> None:
    """Print what to keep, the best first, and why the rest is not proposed."""
    proposed = advice.proposed
    over = f"counted over {seconds_text(advice.counted_for_s)}"
    if not advice.is_window:
        over += " since the last reset"
    about = f"{_statements(len(advice.statements))} that read; {over}"
    show(console, Text.assemble((advice.database, "bold"), f"  {about}"))
    if proposed:
        share = advice.saved_s_per_s / advice.database_s_per_s if advice.database_s_per_s else 0.0
        show(
            console,
            f"worth keeping: {len(proposed)}, which spares {_per_s(advice.saved_s_per_s)} of the database, "
            f"{share_text(share)} of its time, in a cache of {count_text(advice.capacity)} entries",
        )
        console.print()
        _show_proposed(console, proposed)
        _show_setup(console, advice.setup)
    else:
        console.print("no statement is worth keeping in a cache")
    _show_refused(console, [each for each in advice.statements if not each.is_proposed])
    for limitation in advice.limitations:
        show_limitation(console, limitation)


def _show_proposed(console: Console, proposed: Iterable[StatementAdvice]) -> None:
    rows = [_row(number, each) for number, each in enumerate(proposed, 1)]
    header = ("", "spares", "hits", "old", "calls/s", "a call", "memory", "kept until")
    show_table(console, header, rows)
    for number, each in enumerate(proposed, 1):
        console.print()
        lead = Text(f"{number}", style="bold green")
        show(console, Text(each.label, style="bold"), lead=lead, indent=_INDENT)
        show(console, Text(each.reason, style="dim"), indent=_INDENT)
        # Not wrapped: it is there to be copied.
        console.print(Text(f"{' ' * _INDENT}{each.code}"), soft_wrap=True)


def _row(number: int, advice: StatementAdvice) -> tuple[str | Text, ...]:
    chosen = advice.chosen
    assert chosen is not None
    memory = advice.memory_bytes
    return (
        Text(f"{number}", style="bold green"),
        Text(_per_s(advice.saved_s_per_s), style="bold"),
        share_text(chosen.hit_ratio),
        share_text(chosen.stale_ratio) if chosen.stale_ratio else "0",
        f"{advice.calls_per_s:.3g}",
        seconds_text(advice.mean_s),
        "?" if memory is None else bytes_text(memory),
        chosen.until.value if chosen.stale_ratio == 0 else f"{seconds_text(chosen.ttl_s)} are over",
    )


def _show_setup(console: Console, setup: Iterable[str]) -> None:
    for number, line in enumerate(setup):
        if number == 0:
            console.print()
            show(console, "once, so that a change clears what is kept:")
        console.print(Text(f"{' ' * _INDENT}{line}"), soft_wrap=True)


def _show_refused(console: Console, refused: list[StatementAdvice]) -> None:
    if not refused:
        return
    console.print()
    console.print("not proposed", style="bold")
    told = [each for each in refused if each.time_share >= LEAST_TIME_SHARE][:_REFUSED_SHOWN]
    for each in told:
        lead = Text(f"{share_text(each.time_share):>6}  ", style="dim")
        show(console, each.label, lead=lead, indent=8)
        show(console, Text(each.reason, style="dim"), indent=8)
    rest = refused[len(told) :]
    if rest:
        share = share_text(sum(each.time_share for each in rest))
        more = "more " if told else ""
        told_of = f"and {_statements(len(rest), more)} with {share} of the time, in the JSON"
        show(console, Text(told_of, style="dim"))


def _per_s(seconds_per_s: float) -> str:
    return f"{seconds_text(seconds_per_s)}/s"


def _statements(count: int, more: str = "") -> str:
    return f"1 {more}statement" if count == 1 else f"{count} {more}statements"
