"""How much restores may take while other tasks of the worker run."""

from __future__ import annotations

from typing import Final

from kstream.types import Clock

BESIDE_SECONDS: Final = 1.0
"""How long after their last record tasks still count as having some: the next one is not to wait for a long step."""

MOST_PAUSE: Final = 1.0
"""Seconds that a single step may have to be paid for with its share of time: a slow disk is no reason to stand still
for minutes."""

FIRST_RECORDS: Final = 100
"""Taken by the first step under a rate: how large records are is not known yet."""


class Restraint:
    """Makes replays pause, so that tasks that run keep their pace and a network is not filled.

    Args:
        share: of the worker's time that replays may take while tasks run that have records (0..1).
        rate: bytes a second that replays may take at any time; None for no limit.
    """

    def __init__(self, clock: Clock, share: float, rate: int | None) -> None:
        self._clock, self._share, self._rate = clock, share, rate
        self._until = 0.0
        self._records, self._changed = 0, float("-inf")

    def seconds_left(self) -> float:
        """Until the next step of a replay may be made; 0 where it may be made now."""
        return max(0.0, self._until - self._clock.monotonic())

    def beside(self, records: int) -> bool:
        """Whether tasks have processed records lately. `records`: so many by now."""
        now = self._clock.monotonic()
        if records != self._records:
            self._records, self._changed = records, now
        return now - self._changed < BESIDE_SECONDS

    def at_most(self, wanted: int, records: int, size: int) -> int:
        """How many records the next step may take: of a rate, what a second allows.

        Args:
            wanted: as many as it would take without one.
            records, size: that were replayed so far, and their bytes: they say how large a record is.
        """
        if self._rate is None:
            return wanted
        return min(wanted, max(1, self._rate * records // size) if size else FIRST_RECORDS)

    def spent(self, seconds: float, size: int, *, beside: bool) -> None:
        """A step took so long, and brought so many bytes.

        Args:
            beside: other tasks have records.
        """
        pause = min(seconds * (1 / self._share - 1), MOST_PAUSE) if beside else 0.0
        if self._rate is not None:
            pause = max(pause, size / self._rate - seconds)
        self._until = max(self._until, self._clock.monotonic() + pause)
