"""How long what failed is left alone before it is tried again: workers, tasks."""

from __future__ import annotations


class Pauses:
    """The growing pauses between the restarts of one thing: max(initial, min(initial x multiplier^n, longest)).

    `n` is the number of failures before, and begins anew after a quiet time. Times are monotonic seconds.

    Args:
        reset_after: seconds since the last restart was due, after which a failure counts as the first.

    Attributes:
        pause: the last one; 0 before the first.
        due: when the last restart was, or is, due.
    """

    __slots__ = ("_initial", "_longest", "_multiplier", "_reset_after", "due", "pause")

    def __init__(self, initial: float, multiplier: float, longest: float, reset_after: float) -> None:
        self._initial, self._multiplier, self._longest, self._reset_after = initial, multiplier, longest, reset_after
        self.pause, self.due = 0.0, float("-inf")

    def failed(self, now: float) -> float:
        """It failed: when it is to be tried again."""
        quiet = now - self.due >= self._reset_after
        grown = self._initial if quiet else self.pause * self._multiplier  # not a power: that overflows
        self.pause = max(self._initial, min(grown, self._longest))
        self.due = now + self.pause
        return self.due
