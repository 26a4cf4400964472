"""What a Python tells of its imports with `-X importtime`, read and combined over several runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from perfloop.model.value import Value

_LINE: Final = re.compile(r"import time:\s+(?P<self>\d+) \|\s+\d+ \| (?P<indent> *)(?P<name>\S+)$")
_INDENT: Final = 2
_BOOT: Final = "site"
"""What comes up to this module, each Python loads whatever it is to run."""


class Import(Value, frozen=True, kw_only=True):
    """One module, as it was first imported."""

    name: str
    self_s: float
    """For its own code, the least of all runs: what others on the machine do only adds to it."""
    cumulative_s: float
    """With the modules that it was the first to import."""
    importer: str | None = None
    """None for the program's own first file."""


class _Seen:
    """Modules of one run, with who imported them.

    A module that is imported in a circle, or tried again, is written more than once. The one that is indented
    least counts; so an importer is always indented less than what it imports, and none is above itself.

    Args:
        lines: As the Python wrote them: a module after those that it imports, which are indented deeper.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.self_us: Counter[str] = Counter()
        self.importers: dict[str, str | None] = {}
        self._depths: dict[str, int] = {}
        waiting: list[tuple[int, str]] = []
        for found in filter(None, map(_LINE.match, lines)):
            name, depth = found["name"], len(found["indent"]) // _INDENT
            while waiting and waiting[-1][0] > depth:
                self._put(*waiting.pop(), name)
            self.self_us[name] += int(found["self"])
            waiting.append((depth, name))
        for depth, name in waiting:
            self._put(depth, name, None)

    def _put(self, depth: int, name: str, importer: str | None) -> None:
        if depth < self._depths.get(name, depth + 1):
            self._depths[name] = depth
            self.importers[name] = importer


def is_import_line(line: str) -> bool:
    """Whether a line of the standard error is of `-X importtime`, and not the program's own."""
    return line.startswith("import time:")


def combined(runs: Sequence[Iterable[str]]) -> tuple[Import, ...]:
    """The modules that each run has imported beyond those of every Python, the dearest first."""
    seen = [_Seen(lines) for lines in runs]
    if not seen:
        return ()
    own = [name for name in _after_boot(list(seen[0].self_us)) if all(name in run.self_us for run in seen)]
    self_s = {name: min(run.self_us[name] for run in seen) / 1e6 for name in own}
    importers = _among(own, seen[0].importers)
    cumulative_s = dict(self_s)
    for name in own:
        above = importers[name]
        while above is not None:
            cumulative_s[above] += self_s[name]
            above = importers[above]
    found = [
        Import(name=each, self_s=self_s[each], cumulative_s=cumulative_s[each], importer=importers[each])
        for each in own
    ]
    return tuple(sorted(found, key=lambda each: -each.cumulative_s))


def below(imports: Iterable[Import], names: Iterable[str]) -> frozenset[str]:
    """These modules, and all that they were the first to import."""
    importers = {each.name: each.importer for each in imports}
    wanted, found = frozenset(names), set()
    for name in importers:
        above: str | None = name
        while above is not None and above not in wanted:
            above = importers[above]
        if above is not None:
            found.add(name)
    return frozenset(found)


def _after_boot(names: list[str]) -> list[str]:
    return names[names.index(_BOOT) + 1 :] if _BOOT in names else names


def _among(own: Sequence[str], importers: Mapping[str, str | None]) -> dict[str, str | None]:
    """Who of these imported each of these."""
    known, found = frozenset(own), {}
    for name in own:
        above = importers[name]
        while above is not None and above not in known:
            above = importers[above]
        found[name] = above
    return found
