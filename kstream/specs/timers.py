"""Timers of processors, as they are kept and as they are told of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from kstream.errors import KStreamError

TimerClock = Literal["event", "wall"]

LONGEST_NAME: Final = 1000
"""Characters of a timer's name: it is a part of a key."""


class Due(msgspec.Struct, frozen=True):
    """When a timer is due: by which clock, in ms since the epoch."""

    clock: TimerClock
    at: int


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that is due.

    Attributes:
        name: as it was given to `ctx.timer`.
        at: when it was due, in ms since the epoch.
        clock: "event" or "wall".
    """

    name: str
    at: int
    clock: TimerClock

    @property
    def time(self) -> datetime:
        """The same as a datetime, in UTC.

        Raises:
            KStreamError: it is after the year 9999.
        """
        try:
            return datetime.fromtimestamp(self.at / 1000, UTC)
        except (ValueError, OverflowError):
            raise KStreamError(
                f"timer.time: {self.at} ms is after the year 9999, which no datetime holds: use timer.at"
            ) from None
