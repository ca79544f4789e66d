"""A table that each worker has whole, as it is declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kstream.specs.store import StoreSpec
from kstream.specs.topic import Topic

ASKED: Final = "@global"
"""In the place of a sub-topology where it is said who answers queries. No sub-topology is called so."""


def asked_as(table: str) -> str:
    """The task, so to say, that answers queries of a global table."""
    return f"{ASKED}/{table}/0"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GlobalSpec(StoreSpec):
    """A copy of a `topic`, all partitions of it, which each worker reads for itself. It has no changelog: the topic is
    one. Keys and values are those of the topic, as they lie there."""

    topic: Topic[Any, Any]

    def describe(self) -> str:
        return f"global table {self.name}  key={self.key} value={self.value}, topic {self.topic.name}"
