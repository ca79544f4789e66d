"""What operators hold until a commit goes out. Where what is done with a result of it fails, and the policies go on
without it, or it is not known yet which one it is, what went out is taken back by itself, and they emit it anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kstream.operators.told import ToldFailed
from kstream.plan import TaskPlan
from kstream.runtime.task.handling import Handling


class Flushed(Protocol):
    """An operator, or what has time go on by pieces."""

    def flush(self) -> None: ...


def emit(plan: TaskPlan, handling: Handling, operators: Sequence[Flushed]) -> bool:
    """These emit what they hold; none: they have. False where agents are still at it.

    Raises:
        PushFailed: the transaction is to be taken back, and it was decided what about.
    """
    while True:
        try:
            for operator in operators:
                operator.flush()
            if any([agent.busy for agent in plan.agents]):
                return False
            handling.flushed()
            return True
        except ToldFailed as error:
            if not handling.flushes_again(error):
                raise
            operators = plan.operators
