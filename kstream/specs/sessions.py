"""Sessions, as they are declared, and as they are kept while they are open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

import msgspec

from kstream.specs.windows import length_of

V = TypeVar("V")


@dataclass(frozen=True, slots=True, init=False)
class Session:
    """Windows that grow: a record of a key belongs to the session whose records are within `gap` of it, and sessions
    that meet become one. (Kafka Streams' SessionWindows, Flink's EventTimeSessionWindows.)

    Two records that are exactly `gap` apart are in one session, as in both.

    Args:
        gap: how long after its last record a session is over, as a timedelta; or in `days`, `hours`, `minutes`,
            `seconds`, which are added up.

    Attributes:
        gap: in ms.

    Raises:
        TopologyError: there can be no such sessions.
    """

    gap: int

    def __init__(
        self, gap: timedelta | None = None, *, days: float = 0, hours: float = 0, minutes: float = 0,
        seconds: float = 0,
    ) -> None:  # fmt: skip
        parts = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        object.__setattr__(self, "gap", length_of(gap, parts, "Session", "gap"))

    def __str__(self) -> str:
        return f"session gap {timedelta(milliseconds=self.gap)}"


class OpenSession(msgspec.Struct, Generic[V]):
    """A session of a key that may still grow.

    Attributes:
        start, end: the times of its first and its last record, in ms since the epoch.
        value: its result so far.
    """

    start: int
    end: int
    value: V
