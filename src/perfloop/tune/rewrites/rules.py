"""All rewriting rules, in the order in which they are put together."""

from __future__ import annotations

from perfloop.tune.rewrites.aggregates import GROUPED_SUBQUERY
from perfloop.tune.rewrites.comparisons import CAST_COLUMN, COLUMN_ARITHMETIC
from perfloop.tune.rewrites.disjunctions import OR_ACROSS
from perfloop.tune.rewrites.duplicates import DISJOINT_UNION, DISTINCT_JOIN, NEEDLESS_DISTINCT
from perfloop.tune.rewrites.fences import INLINED_CTE
from perfloop.tune.rewrites.membership import COUNTED_PRESENCE, NOT_IN
from perfloop.tune.rewrites.pages import DEFERRED_PAGE
from perfloop.tune.rewrites.ranges import DATE_RANGE
from perfloop.tune.rewrites.rule import Rule

RULES: tuple[Rule, ...] = (
    DATE_RANGE,
    CAST_COLUMN,
    COLUMN_ARITHMETIC,
    NOT_IN,
    COUNTED_PRESENCE,
    GROUPED_SUBQUERY,
    DISTINCT_JOIN,
    NEEDLESS_DISTINCT,
    DISJOINT_UNION,
    INLINED_CTE,
    DEFERRED_PAGE,
    OR_ACROSS,
)
