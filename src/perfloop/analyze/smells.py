"""All rules over single plans, in the order in which they are shown.

To add one: write the function in the module of its family and enter it here.
"""

from __future__ import annotations

from perfloop.analyze.conditions_written import function_on_column, implicit_cast, or_across_columns
from perfloop.analyze.contents import filter_without_gin, leading_wildcard
from perfloop.analyze.jit import jit_overhead
from perfloop.analyze.missing_indexes import missing_index
from perfloop.analyze.planner_statistics import row_misestimate
from perfloop.analyze.reading import Smell, unless
from perfloop.analyze.spills import sort_and_hash_spills

SMELLS: tuple[Smell, ...] = (
    Smell(
        name="missing-index",
        purpose="scans that throw most rows away, inner sides read over and over, sorts under a LIMIT",
        find=unless(missing_index, function_on_column, implicit_cast, leading_wildcard, or_across_columns),
    ),
    Smell(name="row-misestimate", purpose="row counts the planner got wrong", find=row_misestimate),
    Smell(name="sort-hash-spill", purpose="sorts, hashes and kept rows on disk", find=sort_and_hash_spills),
    Smell(name="jit-overhead", purpose="compiling that takes longer than it saves", find=jit_overhead),
    Smell(
        name="function-on-column",
        purpose="conditions on what a function makes of a column, which its index does not hold",
        find=function_on_column,
    ),
    Smell(
        name="implicit-cast",
        purpose="columns that are converted because a parameter has another type",
        find=implicit_cast,
    ),
    Smell(name="or-across-columns", purpose="an OR that no single index serves", find=or_across_columns),
    Smell(name="leading-wildcard", purpose="patterns that no b-tree serves", find=leading_wildcard),
    Smell(
        name="filter-without-gin",
        purpose="filters on documents and arrays after an index has found too much",
        find=filter_without_gin,
    ),
)
