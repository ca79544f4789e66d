"""Sinks outside Kafka: what a user writes, and the records that it is given."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar, cast

from kstream.errors import TopologyError
from kstream.specs.record import Record
from kstream.types import Headers

K = TypeVar("K")
V = TypeVar("V")


class SinkRecord(Record[K, V]):
    """A record on its way into a sink, and the input record that caused it.

    Attributes:
        topic, partition, offset: of the input record; None where no single record caused it (the changes of an
            aggregation with emit="commit"). Several records may have one offset (flat_map).
        timestamp: ms since the epoch.
    """

    __slots__ = ("offset", "partition", "topic")

    def __init__(
        self,
        key: K,
        value: V,
        timestamp: int,
        headers: Headers | None,
        topic: str | None,
        partition: int | None,
        offset: int | None,
    ) -> None:
        super().__init__(key, value, timestamp, headers)
        self.topic, self.partition, self.offset = topic, partition, offset

    def __repr__(self) -> str:
        place = "" if self.topic is None else f", from={self.topic}[{self.partition}] offset {self.offset}"
        return f"SinkRecord(key={self.key!r}, value={self.value!r}, timestamp={self.timestamp!r}{place})"


class BatchingSink:
    """Base class of sinks that write batches into something outside Kafka, before the commit of what they write.

    Each task buffers its own records; `write` gets them in their order, when there are `size` of them and before every
    commit. What it raises fails the record like any error of user code, and nothing is committed. Batches are cut
    between input records, never between the outputs of one: a batch may then be a little longer than `size`.

    A batch may come again, cut elsewhere, after a failure: at-least-once. It becomes exactly-once where `write` is
    idempotent by key, or keeps the offsets in the same database transaction (kstream.sinks.postgres does both): one for
    each topic and partition, since a batch may hold records of several topics (behind `merge`, a join, a delay topic).

    The tasks of a worker share the object, and the worker waits for `write`: give it time-outs. All three methods may
    be async.

    Args:
        size: records in a batch.
        timeout: seconds that a record waits at most. The commit writes what is left, so this only matters where it is
            shorter than `commit_interval`: then commits come as often.

    Attributes:
        app, name: of the app, and of the sink in it, from its declaration.
        needs_offsets: whether records without an offset are refused where the sink is declared.
    """

    needs_offsets: bool = False
    size: int = 1000  # for classes that do not call this one's __init__
    timeout: float = 5.0
    app: str = ""
    name: str = ""

    def __init__(self, size: int = 1000, timeout: float = 5.0) -> None:
        self.size, self.timeout = size, timeout

    def open(self) -> Awaitable[None] | None:
        """Called in each worker before its first write, and again when it writes after a `close`."""
        return None

    def write(self, batch: Sequence[SinkRecord[Any, Any]]) -> Awaitable[None] | None:
        """Writes the records, which are at least one. When it returns they are to be durable."""
        raise NotImplementedError

    def close(self) -> Awaitable[None] | None:
        """Called when the last task of the worker that wrote has left. What it raises is logged."""
        return None


def check_sink(sink: Any) -> None:
    """Raises TopologyError when this is no sink that can be used."""
    if not isinstance(sink, BatchingSink):
        what = sink.__name__ if isinstance(sink, type) else repr(sink)
        raise TopologyError(f"sink takes an object of a subclass of kstream.BatchingSink, not {what}")
    kind, size, timeout = type(sink).__name__, cast("Any", sink.size), cast("Any", sink.timeout)
    if type(sink).write is BatchingSink.write:
        raise TopologyError(f"{kind} has no write(): write def write(self, batch), or async def")
    if size.__class__ is not int or size < 1:
        raise TopologyError(f"{kind}: size={size!r} is not a number of records: give it 1 or more")
    if timeout.__class__ not in (int, float) or not timeout >= 0.001:
        raise TopologyError(f"{kind}: timeout={timeout!r} is not a time in seconds: give it 0.001 or more")
    if sink.name:
        raise TopologyError(f"the sink {sink.name!r} is used twice: make an object of {kind} for each stream")
