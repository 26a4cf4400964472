"""How a Study tells what it does while it does it. The command line draws it; a test collects it."""

from __future__ import annotations

from typing import Protocol

from perfloop.model.advice import Finding, Proposal
from perfloop.model.outcome import TrialRecord


class Observer(Protocol):
    """Told of each step, in order, on the thread that runs the Study. Must not block."""

    def phase(self, text: str) -> None:
        """A new phase began; `text` is a sentence without a full stop."""

    def found(self, findings: tuple[Finding, ...]) -> None:
        """The analysis is done."""

    def trial_started(self, proposal: Proposal, number: int, total: int) -> None:
        """A Trial begins, the `number`-th of `total`."""

    def trial_finished(self, record: TrialRecord) -> None:
        """A Trial has its verdict."""


class Silence:
    """An Observer that is told everything and says nothing."""

    def phase(self, text: str) -> None: ...

    def found(self, findings: tuple[Finding, ...]) -> None: ...

    def trial_started(self, proposal: Proposal, number: int, total: int) -> None: ...

    def trial_finished(self, record: TrialRecord) -> None: ...
