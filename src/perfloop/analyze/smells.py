"""All rules over single plans, in the order in which they are shown.

To add one: write the function in the module of its family and enter it here.
"""

from __future__ import annotations

from perfloop.analyze.reading import Smell

SMELLS: tuple[Smell, ...] = ()
