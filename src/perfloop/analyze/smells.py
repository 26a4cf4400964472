"""All rules over single plans, in the order in which they are shown.

To add one: write the function in the module of its family and enter it here.
"""

from __future__ import annotations

from perfloop.analyze.conditions_written import function_on_column, implicit_cast, or_across_columns
from perfloop.analyze.contents import filter_without_gin, leading_wildcard
from perfloop.analyze.execution import parallel_useless, planning_time, workers_missing
from perfloop.analyze.jit import jit_overhead
from perfloop.analyze.joins import join_product, memoize_thrash, nested_loop_lookups
from perfloop.analyze.joins_written import distinct_after_join, not_in_subquery, outer_join_filtered
from perfloop.analyze.missing_indexes import missing_index
from perfloop.analyze.partitions import foreign_scan_discard, partitions_unpruned
from perfloop.analyze.planner_statistics import row_misestimate
from perfloop.analyze.reading import Smell, unless, unless_below
from perfloop.analyze.reads import blocks_per_row, cache_misses
from perfloop.analyze.repeated_subqueries import correlated_subplan, cte_fence
from perfloop.analyze.results import exact_count, long_value_list, random_order, wide_rows
from perfloop.analyze.scans import (
    bitmap_and,
    heap_fetches,
    index_recheck,
    index_scan_discard,
    wrong_index_for_limit,
)
from perfloop.analyze.sorting import avoidable_sort, deep_offset
from perfloop.analyze.spills import sort_and_hash_spills
from perfloop.analyze.writing import lock_wait, slow_foreign_key, trigger_time, write_amplification

SMELLS: tuple[Smell, ...] = (
    Smell(
        name="missing-index",
        purpose="scans that throw most rows away, inner sides read over and over, sorts under a LIMIT",
        find=unless(
            missing_index,
            function_on_column,
            implicit_cast,
            leading_wildcard,
            or_across_columns,
            partitions_unpruned,
        ),
    ),
    Smell(
        name="row-misestimate",
        purpose="row counts the planner got wrong",
        find=unless(row_misestimate, cte_fence, foreign_scan_discard, join_product),
    ),
    Smell(name="sort-hash-spill", purpose="sorts, hashes and kept rows on disk", find=sort_and_hash_spills),
    Smell(name="jit-overhead", purpose="compiling that takes longer than it saves", find=jit_overhead),
    Smell(
        name="function-on-column",
        purpose="conditions on what a function makes of a column, which its index does not hold",
        find=unless(function_on_column, partitions_unpruned),
    ),
    Smell(
        name="implicit-cast",
        purpose="columns that are converted because a parameter has another type",
        find=unless(implicit_cast, partitions_unpruned),
    ),
    Smell(name="or-across-columns", purpose="an OR that no single index serves", find=or_across_columns),
    Smell(name="leading-wildcard", purpose="patterns that no b-tree serves", find=leading_wildcard),
    Smell(
        name="filter-without-gin",
        purpose="filters on documents and arrays after an index has found too much",
        find=filter_without_gin,
    ),
    Smell(name="not-in-subquery", purpose="NOT IN whose list fits no hash table", find=not_in_subquery),
    Smell(
        name="outer-join-filtered",
        purpose="outer joins whose rows without a partner are all thrown away",
        find=outer_join_filtered,
    ),
    Smell(
        name="distinct-after-join",
        purpose="DISTINCT that removes what a join has multiplied",
        find=distinct_after_join,
    ),
    Smell(name="wide-rows", purpose="many rows with all columns of a wide table", find=wide_rows),
    Smell(name="exact-count", purpose="count(*) of very many rows", find=exact_count),
    Smell(name="random-order", purpose="rows sorted by a random number", find=random_order),
    Smell(name="long-value-list", purpose="lists of a thousand values in a text", find=long_value_list),
    Smell(
        name="index-scan-discard",
        purpose="index scans of whose rows a filter throws most away",
        find=unless(index_scan_discard, wrong_index_for_limit, bitmap_and, filter_without_gin),
    ),
    Smell(
        name="wrong-index-for-limit",
        purpose="an index walked for its order, past most of the rows, to find the few of a LIMIT",
        find=wrong_index_for_limit,
    ),
    Smell(
        name="index-recheck",
        purpose="rows found by an index or a bitmap that can only say where they may be",
        find=index_recheck,
    ),
    Smell(name="heap-fetches", purpose="index-only scans of pages not vacuumed", find=heap_fetches),
    Smell(name="bitmap-and", purpose="indexes intersected where one would do", find=bitmap_and),
    Smell(
        name="blocks-per-row",
        purpose="scans that touch about a block for each row",
        find=unless(blocks_per_row, missing_index, index_scan_discard, bitmap_and, index_recheck),
    ),
    Smell(
        name="cache-misses",
        purpose="waiting for blocks that shared_buffers does not hold (needs track_io_timing)",
        find=unless(
            cache_misses,
            missing_index,
            index_scan_discard,
            wrong_index_for_limit,
            bitmap_and,
            heap_fetches,
            blocks_per_row,
        ),
    ),
    Smell(
        name="nested-loop-lookups",
        purpose="a join that looks its other side up row by row, thousands of times",
        find=unless_below(
            nested_loop_lookups,
            row_misestimate,
            missing_index,
            index_scan_discard,
            memoize_thrash,
            join_product,
        ),
    ),
    Smell(
        name="join-product",
        purpose="joins that form many pairs of rows to keep few, or have no condition",
        find=join_product,
    ),
    Smell(name="memoize-thrash", purpose="a cache of look-ups that misses", find=memoize_thrash),
    Smell(
        name="correlated-subplan",
        purpose="subqueries that run once per row",
        find=unless_below(correlated_subplan, missing_index, index_scan_discard, not_in_subquery),
    ),
    Smell(name="cte-fence", purpose="CTEs computed whole for a few of their rows", find=cte_fence),
    Smell(
        name="avoidable-sort",
        purpose="sorts of a table in an order that no index gives",
        find=unless(avoidable_sort, sort_and_hash_spills),
    ),
    Smell(name="deep-offset", purpose="rows read only to be skipped by OFFSET", find=deep_offset),
    Smell(name="planning-time", purpose="planning that takes longer than running", find=planning_time),
    Smell(name="workers-missing", purpose="parallel workers that were not to be had", find=workers_missing),
    Smell(
        name="parallel-useless",
        purpose="parallel workers that share no work, or cost more than they save",
        find=unless(parallel_useless, workers_missing),
    ),
    Smell(
        name="partitions-unpruned",
        purpose="partitions read in vain",
        find=partitions_unpruned,
    ),
    Smell(
        name="foreign-scan-discard",
        purpose="rows fetched from another server to be thrown away here",
        find=foreign_scan_discard,
    ),
    Smell(
        name="foreign-key-without-index",
        purpose="foreign keys whose check takes much of a delete or update",
        find=slow_foreign_key,
    ),
    Smell(name="trigger-time", purpose="triggers that take much of a write", find=trigger_time),
    Smell(
        name="write-amplification",
        purpose="writes that log whole pages, or several index entries per row",
        find=write_amplification,
    ),
    Smell(name="lock-wait", purpose="time that only waiting explains", find=lock_wait),
)
