"""A right in Kafka, as it is listed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["topic", "group", "transactional_id"]
Who = Literal["app", "topics", "autoscaler", "reset", "dlq"]


@dataclass(frozen=True, slots=True)
class Right:
    """What may be done with something.

    Attributes:
        operations: as Kafka calls them.
        why: for people; "" where it is plain.
        prefix: `name` is what the names begin with.
    """

    kind: Kind
    name: str
    operations: tuple[str, ...]
    why: str = ""
    prefix: bool = False

    def each(self) -> Iterator[tuple[str, str, str]]:
        """Kind, name (with a `*` behind a prefix) and operation, one by one."""
        for operation in self.operations:
            yield self.kind, f"{self.name}*" if self.prefix else self.name, operation
