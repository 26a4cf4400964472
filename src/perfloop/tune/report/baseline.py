"""Baselines and comparisons as JSON."""

from __future__ import annotations

import msgspec

from perfloop.model.baseline import Baseline, Comparison
from perfloop.model.value import to_json

BASELINE_FORMAT = "perfloop-baseline-1"
COMPARISON_FORMAT = "perfloop-comparison-1"


def comparison_json(comparison: Comparison) -> str:
    """What is worse than in the baseline, as JSON.

    Top-level keys, which are never renamed or removed under the same format: format
    ("perfloop-comparison-1") and the fields of `Comparison` under their own names.
    """
    return _text({"format": COMPARISON_FORMAT, **msgspec.to_builtins(comparison)})


def baseline_json(baseline: Baseline) -> str:
    """A baseline as JSON, without the instances, which hold values of the service.

    Top-level keys: format ("perfloop-baseline-1") and the fields of `Baseline` under their own names, but
    `totals`, which repeat the statements.
    """
    document = msgspec.to_builtins(baseline)
    del document["totals"]
    for plan in document["plans"]:
        del plan["instance"]
    return _text({"format": BASELINE_FORMAT, **document})


def _text(document: dict[str, object]) -> str:
    return msgspec.json.format(to_json(document), indent=2).decode() + "\n"
