"""What of a program's imports to load once for all workers, and what to load later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from perfloop.model.value import Value
from perfloop.process.startup.imports import Import, below

LEAST_S: Final = 0.001
"""A module that takes less, with all that it imports, is not worth a line."""
_LEAST_SHARE: Final = 0.02
"""Of all imports, from which on one is worth to be put off."""
FORK_S: Final = 0.003
"""From the order to the first word of a forked worker, by benchmarks/startup.py."""


class Deferrable(Value, frozen=True, kw_only=True):
    """A module of which nothing was used until the program was ready, as a run showed that put it off."""

    name: str
    cumulative_s: float
    importer: str | None
    is_ours: bool
    """Whether the import stands in the program's own files; otherwise in a library's, and preloading is what
    is left."""


def preload_candidates(imports: Sequence[Import], unfit: Mapping[str, str]) -> tuple[str, ...]:
    """The fewest modules that load most, the dearest first; for one that is unfit, those that it imports."""
    by_name = {each.name: each for each in imports}
    chosen = {
        each.name
        for each in imports
        if each.name not in unfit
        and each.cumulative_s >= LEAST_S
        and all(above in unfit for above in _above(by_name, each))
    }
    return tuple(each.name for each in imports if each.name in chosen)


def worth_putting_off(imports: Sequence[Import]) -> tuple[str, ...]:
    """Modules that a run should put off, to see whether any of them is used before the program is ready."""
    total_s = sum(each.self_s for each in imports)
    least_s = max(LEAST_S, _LEAST_SHARE * total_s)
    return tuple(each.name for each in imports if each.cumulative_s >= least_s)


def deferrable(
    imports: Sequence[Import], *, put_off: Iterable[str], used: Iterable[str], ours: Iterable[str]
) -> tuple[Deferrable, ...]:
    """Modules that were put off and not used, the dearest first, and none beside one that imports it.

    Args:
        imports: Of the runs in which nothing was put off.
        put_off: Modules whose import came, and was put off.
        used: Those of them that were loaded after all.
        ours: Names of the packages and modules that are the program's own.
    """
    by_name, own = {each.name: each for each in imports}, frozenset(ours)
    unused = set(put_off) - set(used)
    found = [
        Deferrable(
            name=each.name,
            cumulative_s=each.cumulative_s,
            importer=each.importer,
            is_ours=each.importer is None or each.importer.partition(".")[0] in own,
        )
        for each in imports
        if each.name in unused and not any(above in unused for above in _above(by_name, each))
    ]
    return tuple(sorted(found, key=lambda each: (not each.is_ours, -each.cumulative_s)))


def expected_cpu_s(imports: Sequence[Import], *, cpu_s: float, preload: Iterable[str]) -> float:
    """The processor time to ready of a worker that is forked with these modules loaded."""
    loaded = below(imports, preload)
    rest_s = sum(each.self_s for each in imports if each.name not in loaded)
    own_s = max(0.0, cpu_s - sum(each.self_s for each in imports) - _boot_s(cpu_s))
    return FORK_S + rest_s + own_s


def _boot_s(cpu_s: float) -> float:
    """Of the bare Python, which a forked worker has behind it; on the machine of the benchmark."""
    return min(cpu_s, 0.015)


def _above(by_name: Mapping[str, Import], each: Import) -> Iterable[str]:
    while each.importer is not None and each.importer in by_name:
        each = by_name[each.importer]
        yield each.name
