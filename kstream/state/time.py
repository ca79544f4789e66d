"""What time it is for the state of a task. It never goes back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from kstream.codecs import ColumnError
from kstream.types import Clock

AHEAD_MS: Final = 86_400_000
"""So far ahead of the clock an event time may be, where nothing else is said."""


def running_largest(column: Iterable[int], largest: int) -> list[int]:
    """The largest so far at each place, where it was `largest` before. (accumulate(..., max) takes five times as
    long.)"""
    return [largest if one < largest else (largest := one) for one in column]


class TaskTime:
    """Both times of a task that has windows or stores with a TTL, in ms since the epoch.

    Attributes:
        clock: the worker's.
        wall: by the clock, as it was when it was last looked at: once a batch. Where the clock is set back, it stands.
        event: the largest event time among the records processed. An abort takes back what was not committed: those
            records come again, and are to find what they found.

    Args:
        ahead: ms that an event time may be ahead of the clock. Time never goes back: one that is absurd would have
            all entries expire, and none that is written later.
    """

    def __init__(self, clock: Clock, ahead: int = AHEAD_MS) -> None:
        self.clock, self._ahead = clock, ahead
        self.wall = self.event = 0
        self._kept = self._committed = 0

    def tick(self) -> None:
        """Looks at the clock."""
        self.wall = max(self.wall, int(self.clock.time() * 1000))

    def seed(self, event: int, wall: int) -> None:
        """What a commit says; of the clock only that it was so late."""
        self.event = self._kept = self._committed = event
        self.wall = max(self.wall, wall)
        self.tick()

    def running(self, timestamps: Sequence[int]) -> list[int]:
        """Event time at each of these records, which are processed now.

        Raises:
            ColumnError: one is too far ahead of the clock. Time is as before.
        """
        times = running_largest(timestamps, self.event)
        if times and times[-1] > self.wall + self._ahead:
            self._check(timestamps)
        self.event = times[-1] if times else self.event
        return times

    def _check(self, timestamps: Sequence[int]) -> None:
        for index, at in enumerate(timestamps):
            if (ahead := at - self.wall) > self._ahead:
                raise ColumnError(
                    f"its event time {at} (ms since the epoch) is {ahead / 1000:,.0f} s ahead of the clock, more than "
                    f"max_event_time_ahead ({self._ahead / 1000:,.0f} s), by which entries with a TTL in event time "
                    "would expire, and windows close",
                    index,
                    reading=True,
                )

    def plausible(self, timestamps: list[int]) -> list[int]:
        """With 0 for those that are too far ahead of the clock: where they only order inputs, such a record is taken at
        once, and no other waits for its time."""
        if max(timestamps, default=0) <= self.wall + self._ahead:
            return timestamps
        last = int(self.clock.time() * 1000) + self._ahead  # `wall` may be of a batch long ago
        return [at if at <= last else 0 for at in timestamps]

    def ahead(self, at: int) -> float:
        """Seconds that a time (ms) is ahead of the clock."""
        return at / 1000 - self.clock.time()

    def keep(self) -> None:
        """A batch begins."""
        self._kept = self.event

    def take_back(self) -> None:
        """As it was at the last `keep`."""
        self.event = self._kept

    def committed(self) -> None:
        self._committed = self.event

    def rewind(self) -> None:
        self.event = self._kept = self._committed
