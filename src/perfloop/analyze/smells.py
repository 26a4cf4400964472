"""All rules over single plans, in the order in which they are shown.

To add one: write the function in the module of its family and enter it here.
"""

from __future__ import annotations

from perfloop.analyze.jit import jit_overhead
from perfloop.analyze.missing_indexes import missing_index
from perfloop.analyze.planner_statistics import row_misestimate
from perfloop.analyze.reading import Smell
from perfloop.analyze.spills import sort_and_hash_spills

SMELLS: tuple[Smell, ...] = (
    Smell(
        name="missing-index",
        purpose="scans that throw most rows away, inner sides read over and over, sorts under a LIMIT",
        find=missing_index,
    ),
    Smell(name="row-misestimate", purpose="row counts the planner got wrong", find=row_misestimate),
    Smell(name="sort-hash-spill", purpose="sorts, hashes and kept rows on disk", find=sort_and_hash_spills),
    Smell(name="jit-overhead", purpose="compiling that takes longer than it saves", find=jit_overhead),
)
