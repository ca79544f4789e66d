"""Kafka Streams' sliding windows, as they are declared, and what is kept for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

import msgspec

from kstream.specs.windows import Windows, length_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True, init=False)
class KafkaSliding(Windows):
    """A window for each set of a key's records that are at most a `difference` apart: Kafka Streams' SlidingWindows
    (KIP-450). `kstream.Sliding` is something else: one result for each record, over the time before it.

    Each record has a window that ends with it, and one that begins 1 ms behind it, where that has a record. Both ends
    are in a window. Windows of the same start are one.

    Args:
        difference: how far apart records of a window are at most, as a timedelta; or in `days`, `hours`, `minutes`,
            `seconds`, which are added up.

    Attributes:
        difference: in ms. `size` is 1 ms more, for both ends are in a window; `advance` is 1: it may begin anywhere.

    Raises:
        TopologyError: there can be no such windows.
    """

    difference: int

    def __init__(
        self, difference: timedelta | None = None, *, days: float = 0, hours: float = 0, minutes: float = 0,
        seconds: float = 0,
    ) -> None:  # fmt: skip
        parts = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        apart = length_of(difference, parts, "KafkaSliding", "difference")
        Windows.__init__(self, apart + 1, 1, 0)
        object.__setattr__(self, "difference", apart)

    @property
    def layout(self) -> str:
        return f"windows {self}"

    def __str__(self) -> str:
        return f"kafka-sliding {timedelta(milliseconds=self.difference)}"


class Recent(msgspec.Struct, Generic[T]):
    """Of a key, the records that open windows have, or windows to come may have.

    Attributes:
        times: in ms since the epoch, in their order; of equal ones in that in which they came.
        values: what is kept of each, in the same order.
        late: by how many ms each came too late for the window that ends with it: it is in those only that end so much
            later. Empty where none did.
        since: windows that end before (ms) are closed, and some of their records are gone; 0: not known of any.
    """

    times: list[int] = []
    values: list[T] = []
    late: list[int] = []
    since: int = 0
