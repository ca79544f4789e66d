"""Until when nothing becomes due in an idle task, so that its stores need not be asked at each look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kstream.specs.ttl import FOREVER
from kstream.state.watermark import UNKNOWN

FIRST_STEP: Final = 1000
"""ms of event time by which it is looked ahead at first; twice as far each time."""
LAST_STEP: Final = 3_600_000


class NothingDue:
    """What is due by a time is due by each later one, and where nothing is processed nothing else becomes due. So one
    answer holds for a while: how far is found by looking ahead.

    Args:
        closes_by: whether something is due by this event time (ms). It reads stores.
    """

    __slots__ = ("_closes_by", "_until", "_waits")

    def __init__(self, closes_by: Callable[[int], bool]) -> None:
        self._closes_by = closes_by
        self.forget()

    def forget(self) -> None:
        """Something was processed, committed or taken back."""
        self._until = UNKNOWN
        self._waits: bool | None = None

    def closes_by(self, time: int) -> bool:
        """Whether something is due by this event time (ms)."""
        if time <= self._until:
            return False
        if self._closes_by(time):
            self._waits = True
            return True
        self._until = self._look_ahead(time) if self.waits() else FOREVER
        return False

    def waits(self) -> bool:
        """Whether something is due at some time."""
        if self._waits is None:
            self._waits = self._closes_by(FOREVER)
        return self._waits

    def _look_ahead(self, quiet: int) -> int:
        step = FIRST_STEP
        while step <= LAST_STEP and not self._closes_by(quiet + step):
            quiet += step
            step *= 2
        return quiet
