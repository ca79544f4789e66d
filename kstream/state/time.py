"""What time it is for the state of a task. It never goes back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from kstream.types import Clock


class TaskTime:
    """Both times of a task whose stores have a TTL, in ms since the epoch.

    Attributes:
        wall: by the clock, as it was when it was last looked at: once a batch. Where the clock is set back, it stands.
        event: the largest event time among the records processed. An abort takes back what was not committed: those
            records come again, and are to find what they found.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.wall = self.event = 0
        self._kept = self._committed = 0

    def tick(self) -> None:
        """Looks at the clock."""
        self.wall = max(self.wall, int(self._clock.time() * 1000))

    def seed(self, event: int, wall: int) -> None:
        """What a commit says; of the clock only that it was so late."""
        self.event = self._kept = self._committed = event
        self.wall = max(self.wall, wall)
        self.tick()

    def running(self, timestamps: Sequence[int]) -> list[int]:
        """Event time at each of these records, which are processed now."""
        times = list(accumulate(timestamps, max, initial=self.event))
        self.event = times[-1]
        return times[1:]

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
