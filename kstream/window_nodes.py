"""The nodes of windows that slide with their records, and of windows of so many records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kstream.specs.counting import Counting
from kstream.specs.schema import Schema
from kstream.specs.timing import Timing
from kstream.topology import AggregateNode


@dataclass(eq=False, kw_only=True)
class SlidingNode(AggregateNode):
    """Gives each record a result over its key's records of the last while, itself included. `keep` makes of a value
    what is kept of it, of the type `kept`; `fold` takes the list of these and returns the result."""

    keep: Callable[[Any], Any]
    kept: Schema

    @property
    def timing(self) -> Timing:
        return Timing(True)


@dataclass(eq=False, kw_only=True)
class KafkaSlidingNode(AggregateNode):
    """Gives each set of a key's records that are near each other a result. `keep`, `kept` and `fold` are as those of a
    `SlidingNode`."""

    keep: Callable[[Any], Any]
    kept: Schema


@dataclass(eq=False, kw_only=True)
class CountingNode(AggregateNode):
    """Folds so many values of a key at a time, and gives a result with the last of them."""

    count: Counting

    def describe(self) -> str:
        return f"{super().describe()} each {self.count}"
