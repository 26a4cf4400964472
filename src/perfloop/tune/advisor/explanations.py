"""One sentence for each statement without an index, and for each one that new indexes make dearer."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.model.snapshot import Snapshot
from perfloop.tune.advisor.extend import SearchResult
from perfloop.tune.advisor.index_proposals import GAIN_RATIO
from perfloop.tune.advisor.naming import covers, covers_part
from perfloop.tune.advisor.objective import Considered


def explain_without_index(
    statements: tuple[Considered, ...], result: SearchResult, snapshot: Snapshot
) -> Iterator[str]:
    """The sentences, each beginning with the statement's label; none for a statement that only gains."""
    for statement, ratio in zip(statements, result.ratios, strict=True):
        reasons = []
        unserved = _unserved(statement)
        if unserved:
            reasons.append(f"asks for {_listed(unserved)}, which no index serves as it is written")
        lacking = _lacking(statement, snapshot)
        if lacking:
            reasons.append(f"could use an index of {_listed(lacking)}, which the server does not offer")
        if ratio > 1 / GAIN_RATIO:
            reasons.append(f"is expected to cost {ratio:.2f} times as much, for keeping up new indexes")
        elif ratio >= GAIN_RATIO and (
            not unserved or any(access.attributes or access.parts for access in statement.accesses)
        ):
            reasons.append(_why_nothing(statement, snapshot))
        if reasons:
            yield f"{statement.label} {'; it '.join(reasons)}"


def _unserved(statement: Considered) -> list[str]:
    return sorted({condition for access in statement.accesses for condition in access.unserved})


def _lacking(statement: Considered, snapshot: Snapshot) -> list[str]:
    """Extensions that a search in texts needs and the server has no files of."""
    wanted = {part.requires_extension for access in statement.accesses for part in access.parts}
    return sorted(each for each in wanted if each and each not in snapshot.fingerprint.extensions)


def _why_nothing(statement: Considered, snapshot: Snapshot) -> str:
    if not statement.accesses:
        return "gets no index, because it reads no table that one could be made on"
    there: dict[str, None] = {}
    missing: dict[str, None] = {}
    for access in statement.accesses:
        indexes = snapshot.indexes_of(access.table)
        for key in access.attributes:
            is_there = any(covers(index, (key,)) for index in indexes)
            (there if is_there else missing)[f"{access.table}({key.text})"] = None
        for part in access.parts:
            is_there = any(covers_part(index, part.method, part.key) for index in indexes)
            (there if is_there else missing)[f"{access.table}({part.key.text}) by {part.method}"] = None
    if not (there or missing):
        return "gets no index, because it has no condition, join or order that one could serve"
    told = [f"{_listed(list(there))} {'is' if len(there) == 1 else 'are'} indexed already"] if there else []
    if missing:
        told.append(f"none with {' or '.join(missing)} made it cheap enough to be worth its space")
    return f"gets no index: {', and '.join(told)}"


def _listed(words: list[str]) -> str:
    """Words as a sentence lists them.

    >>> _listed(["a"]), _listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
