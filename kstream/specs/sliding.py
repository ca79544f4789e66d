"""Windows that slide with their records, as they are declared, and what is kept for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

import msgspec

from kstream.specs.windows import Windows, length_of

T = TypeVar("T")

PARTS: Final = 2
"""Parts that a window's records are kept in: one is written anew with each commit in which it gets a record, and all of
them are looked at for each record. With 4 keys that have a record or two in a window, which are the many, cost a third
more a record."""


@dataclass(frozen=True, slots=True, init=False)
class Sliding(Windows):
    """A window for each record: from `size` before it up to it, both included. (SQL's RANGE size PRECEDING, Flink's
    OVER. Kafka Streams' SlidingWindows are `kstream.KafkaSliding`.)

    Args:
        size: how far a window reaches back, as a timedelta; or in `days`, `hours`, `minutes`, `seconds`, which are
            added up.

    Attributes:
        reach: that, in ms. `size` and `advance` are those of the parts that records are kept in.

    Raises:
        TopologyError: there can be no such windows.
    """

    reach: int

    def __init__(
        self, size: timedelta | None = None, *, days: float = 0, hours: float = 0, minutes: float = 0,
        seconds: float = 0,
    ) -> None:  # fmt: skip
        parts = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        reach = length_of(size, parts, "Sliding")
        part = -(-reach // PARTS)
        Windows.__init__(self, part, part, 0)
        object.__setattr__(self, "reach", reach)

    @property
    def layout(self) -> str:
        return f"windows {self}"

    def __str__(self) -> str:
        return f"sliding {timedelta(milliseconds=self.reach)}"


class Kept(msgspec.Struct, Generic[T]):
    """Of a key's records in a part of time.

    Attributes:
        times: in ms since the epoch, in their order.
        values: what is kept of each, in the same order.
    """

    times: list[int] = []
    values: list[T] = []
