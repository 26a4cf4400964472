"""docs/reference/checks.md lists the checks that there are."""

from __future__ import annotations

import re
from pathlib import Path

from perfloop.analyze.checks import CHECKS

PAGE = Path(__file__).parents[2] / "docs/reference/checks.md"


def test_every_check_stands_on_the_page_of_checks() -> None:
    cells = re.findall(r"^\| (`.+?`) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {name for cell in cells for name in re.findall(r"`([a-z-]+)`", cell)}

    assert set() == {check.name for check in CHECKS} - listed
