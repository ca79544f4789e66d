"""A clock that moves only when told to."""

from __future__ import annotations


class ManualClock:
    """A `types.Clock`. Starts at `start` seconds since the epoch; `monotonic` starts at 0."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start = start
        self._elapsed = 0.0

    def time(self) -> float:
        return self._start + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"a clock does not go back ({seconds} s)")
        self._elapsed += seconds
