"""A topic as it is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from kstream.clock import since_epoch
from kstream.errors import KStreamError, TopologyError
from kstream.specs.fields import check_field
from kstream.specs.schema import Schema

K = TypeVar("K")
V = TypeVar("V")

IN_ORDER: Final = timedelta(0)

TopicConfig = Mapping[str, str] | None
"""Kafka's settings of a topic."""


@dataclass(frozen=True, slots=True, eq=False)
class Topic(Generic[K, V]):
    """A Kafka topic with the types of its keys and values.

    Attributes:
        partitions: wanted number; None takes what exists, or the default when the topic is created.
        timestamp: event time of a value, in ms since the epoch; None takes the record's timestamp.
        config: Kafka's topic settings, used when the topic is created.
        internal: a repartition topic, which the app owns and purges.
        out_of_order: ms by which the time of a partition stays behind the largest event time seen in it.
        idle_advance: its time goes on with the clock while all inputs of a task are idle.
    """

    name: str
    key: Schema
    value: Schema
    partitions: int | None = None
    timestamp: Callable[[Any], int] | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    out_of_order: int = 0
    idle_advance: bool = False

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, key={self.key}, value={self.value})"


def check_topic(topic: Any, taker: str) -> None:
    """Raises TopologyError when this is no topic but, say, the name of one.

    Args:
        taker: what it was given to: "app.stream".
    """
    if not isinstance(topic, Topic):
        instead = (
            f"what app.topic({topic!r}, ...) returned" if isinstance(topic, str) else "what app.topic(...) returned"
        )
        raise TopologyError(f"{taker} takes a topic, not {topic!r}: give it {instead}")


def event_time(by: str | Callable[[Any], Any], topic: str, kind: Any = Any) -> Callable[[Any], int]:
    """A function from a value to its event time in ms, from a field's name or a function.

    Fields of dicts and of objects both work; the time may be a datetime (naive means UTC) or a number of ms. The
    function raises KStreamError where there is no time.

    Args:
        topic: whose values they are, for messages.
        kind: the type of the values.

    Raises:
        TopologyError: values of this type have no such field.
    """
    said = f"timestamp={by.__name__ if hasattr(by, '__name__') else repr(by)}"
    if callable(by):
        read: Callable[[Any], Any] = by
    elif isinstance(by, str):
        name = by
        check_field(kind, name, f"topic {topic!r}: {said}")

        def read(value: Any) -> Any:
            return value[name] if isinstance(value, dict) else getattr(value, name)
    else:
        raise TopologyError(f"topic {topic!r}: {said} is neither a field's name nor a function")

    def milliseconds(value: Any) -> int:
        try:
            at = read(value)
        except Exception as error:
            raise KStreamError(f"{said} of topic {topic!r}: {type(error).__name__}: {error}") from error
        try:
            if isinstance(at, datetime):
                return since_epoch(at)
            return int(at)
        except (TypeError, ValueError, OverflowError) as error:
            raise KStreamError(
                f"{said} of topic {topic!r} is {at!r}: a datetime or ms since the epoch is needed"
            ) from error

    return milliseconds
