"""In which words a lab's sessions ask: the texts of rewritten statements, by the change that rewrites them.

A rewriting touches no server. All that a lab keeps of it is which text stands for which; the instances'
texts hold parameters, so that they live here and not in the change, which the journal stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from perfloop.model.advice import Change, RewriteQuery


class Wordings:
    """The rewritings that a lab knows, and which of them are in its stack."""

    def __init__(self) -> None:
        self._texts: dict[RewriteQuery, Mapping[str, str]] = {}
        self._kept: list[RewriteQuery] = []

    def learn(self, change: RewriteQuery, texts: Mapping[str, str]) -> None:
        """Take in what the change makes of every instance's text. Needed before the change is tried."""
        self._texts[change] = texts

    def keep(self, change: RewriteQuery) -> None:
        self._kept.append(change)

    def withdraw(self, change: RewriteQuery) -> None:
        self._kept.remove(change)

    def of_stack(
        self, *, and_also: Change | None = None, without: RewriteQuery | None = None
    ) -> Mapping[str, str]:
        """What sessions on the stack run in place of an instance's text, with one change more or less."""
        more = [and_also] if isinstance(and_also, RewriteQuery) else []
        return self.of([*(each for each in self._kept if each != without), *more])

    def of(self, changes: Iterable[Change]) -> Mapping[str, str]:
        """The same for the rewritings among these changes, and no others."""
        return {
            text: other
            for change in changes
            if isinstance(change, RewriteQuery)
            for text, other in self._texts[change].items()
        }
