"""A topic as it is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from kstream.specs.schema import Schema

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, eq=False)
class Topic(Generic[K, V]):
    """A Kafka topic with the types of its keys and values.

    Attributes:
        partitions: wanted number; None takes what exists, or the default when the topic is created.
        timestamp: event time of a value, in ms since the epoch; None takes the record's timestamp.
        config: Kafka's topic settings, used when the topic is created.
        internal: a repartition topic, which the app owns and purges.
    """

    name: str
    key: Schema
    value: Schema
    partitions: int | None = None
    timestamp: Callable[[Any], int] | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, key={self.key}, value={self.value})"


def event_time(by: str | Callable[[Any], Any]) -> Callable[[Any], int]:
    """A function from a value to its event time in ms, from a field's name or a function.

    Fields of dicts and of objects both work; the time may be a datetime (naive means UTC) or a number of ms.
    """
    if callable(by):
        read: Callable[[Any], Any] = by
    else:
        name = by

        def read(value: Any) -> Any:
            return value[name] if isinstance(value, dict) else getattr(value, name)

    def milliseconds(value: Any) -> int:
        at = read(value)
        if isinstance(at, datetime):
            if at.tzinfo is None:
                at = at.replace(tzinfo=UTC)
            return int(at.timestamp() * 1000)
        return int(at)

    return milliseconds
