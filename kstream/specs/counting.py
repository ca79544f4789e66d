"""Windows of so many records, as they are declared, and what is kept of one that is not full yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from kstream.errors import TopologyError

A = TypeVar("A")


@dataclass(frozen=True, slots=True, init=False)
class Counting:
    """Windows of `n` records of a key each, one behind the other, in the order in which the records come; time does not
    matter. (Flink's countWindow.)

    Raises:
        TopologyError: `n` is no whole number, or less than 1.
    """

    n: int

    def __init__(self, n: int) -> None:
        given: Any = n
        if type(given) is not int or given < 1:
            raise TopologyError(f"Counting: n={n!r} is no whole number, 1 at least")
        object.__setattr__(self, "n", n)

    def __str__(self) -> str:
        return f"{self.n} records"


class Counted(msgspec.Struct, Generic[A]):
    """Of a key's records since its last window was full: how many there are, and their result so far."""

    count: int
    value: A
