"""A rewritten statement as people compare it: line by line, with what its rows were held to."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from perfloop.model.advice import Change, RewriteQuery
from perfloop.model.outcome import SameRows, Study, TrialRecord
from perfloop.model.units import count_text


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffLine:
    """One line: `sign` is + for the new text, - for the old one, and a space for both."""

    sign: str
    text: str

    def __str__(self) -> str:
        return f"{self.sign} {self.text}"


def diff(change: RewriteQuery) -> tuple[DiffLine, ...]:
    """The whole of both texts, which are laid out alike, so that only what differs has a sign."""
    lines = difflib.ndiff(change.before.splitlines(), change.after.splitlines())
    return tuple(DiffLine(sign=line[0], text=line[2:]) for line in lines if line[0] != "?")


def diff_text(change: RewriteQuery) -> str:
    """The same as text.

    >>> print(diff_text(RewriteQuery(query_id="1", rule="r", before="a\\nb", after="a\\nc", label="l")))
      a
    - b
    + c
    """
    return "\n".join(str(line) for line in diff(change))


def is_rewriting(change: Change) -> bool:
    """Whether people bring the change into the service's code, and not `apply` to a server."""
    return isinstance(change, RewriteQuery)


def by_hand(study: Study) -> tuple[TrialRecord, ...]:
    """The kept rewritings, in the order of trying."""
    return tuple(trial for trial in study.kept() if is_rewriting(trial.proposal.change))


def rows_text(same_rows: SameRows) -> str:
    """What the rows were held to, in one sentence.

    >>> rows_text(SameRows(instances=3, rows=1200, varied_runs=18))
    'the rows are the same: 1,200 of 3 calls, and in 18 rounds of made-up rows with NULLs and duplicates'
    """
    if same_rows.difference is not None:
        return f"the rows are not the same: {same_rows.difference}"
    calls = "1 call" if same_rows.instances == 1 else f"{same_rows.instances} calls"
    made_up = (
        f", and in {same_rows.varied_runs} rounds of made-up rows with NULLs and duplicates"
        if same_rows.varied_runs
        else "; made-up rows could not be tried"
    )
    return f"the rows are the same: {count_text(same_rows.rows)} of {calls}{made_up}"
