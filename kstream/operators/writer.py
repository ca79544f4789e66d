"""The way out of a task: straight to the producer, held until a batch is through, or put in the order of the inputs.

What an async agent waits for may take long. Nothing of its task may be in the transaction meanwhile, so that the other
tasks can commit without it: what a batch causes is held until all agents are through with it. So it is while a batch
may have to be taken back by itself (runtime/task/care.py). What is held is compared with what Kafka is known to refuse
(refusals.py).

Where two nodes may write to one topic, pushing whole batches through one branch after the other would make the order
of outputs depend on how the input was cut. So it is where a batch has records of several inputs, which are pushed one
input after the other. `OrderedWriter` holds what a batch causes and releases it sorted by the record that caused it
(docs/exactly-once.md: batching is invisible).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import NamedTuple, Protocol

from kstream.errors import RecordRefused
from kstream.operators.base import Outlet, send_all, send_one
from kstream.operators.batch import Batch
from kstream.operators.origin import Origin
from kstream.operators.refusals import Refusals
from kstream.types import Headers

AFTER_ALL = 1 << 62
"""The row of an output that no input caused: it comes after those that inputs did."""


Output = tuple[str, bytes | None, int]
"""How an output is told from others when Kafka refuses it: topic, key, bytes of key and value."""


Cause = tuple[Origin, int]
"""What put an output out that no input record did: results, and which of them (told.py)."""


class Refused(NamedTuple):
    """An input record of which Kafka is known to refuse something, and the node that wrote that. With a `cause` it is a
    result, and the row only its place in the order."""

    row: int
    error: RecordRefused
    order: int
    cause: Cause | None = None


class Writer(Protocol):
    """Takes the outputs of a task's operators to its outlet; `holds` them until `release` where that is set.

    `order` is the writing node's place in the sub-topology, `row` the input record that caused the output, `cause` the
    result that did. `by` tells which node wrote what Kafka refuses, `causes` the same of results, with the timestamp:
    they have what is written while it is `watched`, in a search for the record at fault.
    """

    holds: bool
    watched: bool
    by: dict[Output, int]
    causes: dict[tuple[Output, int], Cause]

    def column(
        self, order: int, batch: Batch, topic: str, values: list[bytes | None], keys: list[bytes | None]
    ) -> None: ...

    def one(
        self,
        order: int,
        row: int,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        timestamp: int,
        headers: Headers | None,
        partition: int,
        cause: Cause | None = None,
    ) -> None: ...

    def heed(self) -> list[Refused]:
        """The rows of which something that is held is known to be refused by Kafka, in their order."""
        ...

    def drop(self, rows: Collection[int]) -> None:
        """What these rows caused, of that which is held, does not go out."""
        ...

    def release(self) -> None:
        """The batch is through: what was staged goes out."""
        ...

    def reset(self) -> None:
        """Drops what was staged."""
        ...


class _Heeding:
    """Finds what Kafka is known to refuse."""

    def __init__(self, outlet: Outlet, refusals: Refusals | None) -> None:
        self._outlet, self._refusals = outlet, refusals
        self._known: Mapping[str, object] = {} if refusals is None else refusals.known
        self.watched = False
        self._longest = 0  # of the values that are held, in bytes
        self.by: dict[Output, int] = {}
        self.causes: dict[tuple[Output, int], Cause] = {}

    def _watch(
        self, order: int, topic: str, values: Sequence[bytes | None], keys: Sequence[bytes | None],
        stamps: Sequence[int], causes: Sequence[Cause | None],
    ) -> None:  # fmt: skip
        for value, key, at, cause in zip(values, keys, stamps, causes, strict=True):
            output = topic, key, len(value or b"") + len(key or b"")
            self.by[output] = order
            if cause is not None:
                self.causes[output, at] = cause

    def heed(self) -> list[Refused]:
        """A record may cause several outputs: the first that is refused counts."""
        refusals = self._refusals
        if refusals is None or not (self._known or self._has_large):
            return []
        found: dict[tuple[int, int], Refused] = {}
        for topic, values, keys, timestamps, rows, orders, causes in self._columns():
            for index, error in refusals.found(topic, values, keys, timestamps):
                row, cause = rows[index], causes[index]
                of = (row, -1) if cause is None else (id(cause[0]), cause[1])
                found.setdefault(of, Refused(row, error, orders[index], cause))
        return sorted(found.values(), key=itemgetter(0))

    @property
    def _has_large(self) -> bool:
        """Whether a record may be larger than the client takes."""
        return self._refusals is not None and self._longest > self._refusals.large

    def _look_at(self, values: Sequence[bytes | None]) -> None:
        """These are held."""
        longest = max(map(len, filter(None, values)), default=0)
        if longest > self._longest:
            self._longest = longest

    def _columns(self) -> Iterable[_Column]:
        """What is held for topics of which something is known, or of all where a record may be too large."""
        raise NotImplementedError


# topic, values, keys, timestamps, rows, orders, causes
_Column = tuple[
    str, Sequence[bytes | None], Sequence[bytes | None], Sequence[int], Sequence[int], Sequence[int],
    Sequence[Cause | None],
]  # fmt: skip


class DirectWriter(_Heeding):
    """For sub-topologies in which every topic has one writer.

    Attributes:
        holds: what a batch causes goes out when it is through, not at once.
    """

    def __init__(self, outlet: Outlet, refusals: Refusals | None = None, *, holds: bool = False) -> None:
        super().__init__(outlet, refusals)
        self.holds = holds
        self._held: list[_Held] = []

    def column(
        self, order: int, batch: Batch, topic: str, values: list[bytes | None], keys: list[bytes | None]
    ) -> None:
        causes = _causes(batch) if self.holds or self.watched else None
        if self.watched:
            self._watch(order, topic, values, keys, batch.timestamps, causes or _no_causes(batch.size))
        if self.holds:
            self._look_at(values)
            self._held.append(_Held(order, topic, values, keys, batch.timestamps, _rows(batch), causes=causes))
        else:
            send_all(self._outlet, topic, values, keys, batch.timestamps)

    def one(
        self,
        order: int,
        row: int,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        timestamp: int,
        headers: Headers | None,
        partition: int,
        cause: Cause | None = None,
    ) -> None:
        if self.watched:
            self._watch(order, topic, (value,), (key,), (timestamp,), (cause,))
        if self.holds:
            self._look_at((value,))
            causes = None if cause is None else (cause,)
            self._held.append(
                _Held(order, topic, [value], [key], [timestamp], (row,), True, headers, partition, causes)
            )
        else:
            self._send(topic, value, key, timestamp, headers, partition)

    def _send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        timestamp: int,
        headers: Headers | None,
        partition: int,
    ) -> None:
        send_one(self._outlet, topic, value, key, timestamp, headers, partition)
        self._outlet.produced[topic] += 1

    def _columns(self) -> Iterable[_Column]:
        for one in self._held:
            if self._has_large or one.topic in self._known:
                size = len(one.values)
                causes = one.causes or _no_causes(size)
                yield one.topic, one.values, one.keys, one.timestamps, one.rows, [one.order] * size, causes

    def drop(self, rows: Collection[int]) -> None:
        self._held = [one.without(rows) for one in self._held]

    def release(self) -> None:
        if not self._held:
            return
        held, self._held, self._longest = self._held, [], 0
        self._out(held)

    def _out(self, held: list[_Held]) -> None:
        for one in held:
            if not one.single:
                send_all(self._outlet, one.topic, one.values, one.keys, one.timestamps)
            elif one.values:
                key, at = one.keys[0], one.timestamps[0]
                self._send(one.topic, one.values[0], key, at, one.headers, one.partition)

    def reset(self) -> None:
        self._held.clear()
        self._longest = 0


class _Held(NamedTuple):
    """Outputs of one call: a column, or a `single` one."""

    order: int
    topic: str
    values: list[bytes | None]
    keys: list[bytes | None]
    timestamps: list[int]
    rows: Sequence[int]
    single: bool = False
    headers: Headers | None = None
    partition: int = -1
    causes: Sequence[Cause] | None = None

    @property
    def is_in_order(self) -> bool:
        """Whether no record comes before one that an earlier record caused."""
        return self.single or isinstance(self.rows, range) or sorted(self.rows) == self.rows

    def without(self, rows: Collection[int]) -> _Held:
        stay = [index for index, row in enumerate(self.rows) if row not in rows]
        if len(stay) == len(self.values):
            return self
        values, keys = [self.values[index] for index in stay], [self.keys[index] for index in stay]
        timestamps, left = [self.timestamps[index] for index in stay], [self.rows[index] for index in stay]
        causes = None if self.causes is None else [self.causes[index] for index in stay]
        return self._replace(values=values, keys=keys, timestamps=timestamps, rows=left, causes=causes)


def _rows(batch: Batch) -> Sequence[int]:
    """The input record of each, `AFTER_ALL` where no input caused it."""
    if batch.origin is None:
        return [AFTER_ALL] * batch.size
    return batch.origin.places_of(range(batch.size) if batch.rows is None else batch.rows)


def _causes(batch: Batch) -> Sequence[Cause] | None:
    """The result that caused each; None where input records did."""
    origin = batch.origin
    if origin is None or not origin.of_time:
        return None
    return [(origin, row) for row in (range(batch.size) if batch.rows is None else batch.rows)]


def _no_causes(size: int) -> Sequence[Cause | None]:
    return [None] * size


class OrderedWriter(DirectWriter):
    """Sends the outputs for each topic in the order of the input records that caused them, and of the nodes within one
    record. It holds them always. A column that came alone for its topic, and in order, goes out as it is."""

    def __init__(self, outlet: Outlet, refusals: Refusals | None = None) -> None:
        super().__init__(outlet, refusals, holds=True)

    def _out(self, held: list[_Held]) -> None:
        of: dict[str, list[_Held]] = {}
        for one in held:
            of.setdefault(one.topic, []).append(one)
        for topic, some in of.items():
            if len(some) == 1 and some[0].is_in_order:
                super()._out(some)
            else:
                self._merged(topic, some)

    def _merged(self, topic: str, held: list[_Held]) -> None:
        held.sort(key=attrgetter("order"))
        rows: list[int] = []
        values: list[bytes | None] = []
        keys: list[bytes | None] = []
        timestamps: list[int] = []
        for one in held:
            rows += one.rows
            values += one.values
            keys += one.keys
            timestamps += one.timestamps
        places = sorted(range(len(rows)), key=rows.__getitem__)  # stable, as the sort before
        if any(one.single for one in held):
            more = [(one.headers, one.partition) for one in held for _ in one.rows]
            for at in places:
                self._send(topic, values[at], keys[at], timestamps[at], *more[at])
        else:
            columns = [values[at] for at in places], [keys[at] for at in places], [timestamps[at] for at in places]
            send_all(self._outlet, topic, *columns)
