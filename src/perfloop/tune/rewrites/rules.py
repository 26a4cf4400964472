"""All rewriting rules, in the order in which they are put together."""

from __future__ import annotations

from perfloop.tune.rewrites.membership import COUNTED_PRESENCE, NOT_IN
from perfloop.tune.rewrites.rule import Rule

RULES: tuple[Rule, ...] = (NOT_IN, COUNTED_PRESENCE)
