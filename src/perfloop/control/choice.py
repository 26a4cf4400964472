"""From the word of a user to a law: "adaptive", "fixed", a number, or a law of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

from perfloop.control.aimd import Aimd
from perfloop.control.batch_fit import SIZES, BatchFit
from perfloop.control.fixed import Fixed, FixedSize
from perfloop.control.gradient2 import Gradient2
from perfloop.control.hill_climbing import HillClimbing
from perfloop.control.law import BatchLaw, ConcurrencyLaw
from perfloop.control.policy import SECONDS, AdjustmentPolicy
from perfloop.control.search_hold import SearchHold
from perfloop.errors import InvalidInput

LawT = TypeVar("LawT", ConcurrencyLaw, BatchLaw)
LimitChoice: TypeAlias = str | int | ConcurrencyLaw
SizeChoice: TypeAlias = str | int | BatchLaw

LAWS: Final[dict[str, Callable[[AdjustmentPolicy, int], ConcurrencyLaw]]] = {
    "adaptive": lambda policy, start: SearchHold(policy, start=start),
    "aimd": lambda policy, start: Aimd(policy, start=start),
    "fixed": lambda policy, start: Fixed(policy.clamp(start)),
    "gradient2": lambda policy, start: Gradient2(policy, start=start),
    "hill-climbing": lambda policy, start: HillClimbing(policy, start=start),
}


def law_for(choice: LimitChoice, policy: AdjustmentPolicy | None = None, *, start: int = 1) -> ConcurrencyLaw:
    """The law that a word stands for, beginning at `start`; a number is that limit for ever.

    Raises InvalidInput for another word.
    """
    if isinstance(choice, str):
        if choice not in LAWS:
            raise InvalidInput(f"there is no law {choice!r}; say one of {', '.join(LAWS)}, or a number")
        return LAWS[choice](policy or policy_for(choice), start)
    if isinstance(choice, int):
        return Fixed(choice)
    return _checked(choice)


def policy_for(word: str) -> AdjustmentPolicy:
    """The pace that the law of this word is meant for, with its usual bounds."""
    return SECONDS if word in ("aimd", "gradient2") else AdjustmentPolicy()


def size_law_for(
    choice: SizeChoice,
    policy: AdjustmentPolicy = SIZES,
    *,
    start: int = 8,
    p99_budget_s: float | None = None,
) -> BatchLaw:
    """The law of the batch size that a word stands for; a number is that size for ever.

    Raises InvalidInput for another word, and where a budget is given for a size that never moves.
    """
    if choice == "adaptive":
        return BatchFit(policy, start=start, p99_budget_s=p99_budget_s)
    if p99_budget_s is not None:
        raise InvalidInput('p99_budget_s moves a size that is "adaptive"; leave it out, or the size')
    if choice == "fixed":
        return FixedSize(policy.clamp(start))
    if isinstance(choice, str):
        raise InvalidInput(f'there is no law {choice!r} of a size; say "adaptive", "fixed", or a number')
    if isinstance(choice, int):
        return FixedSize(choice)
    return _checked(choice)


def _checked(law: LawT) -> LawT:
    if not callable(getattr(law, "update", None)):
        raise InvalidInput(f'{law!r} is no law; say "adaptive", "fixed", a whole number, or a law')
    return law
