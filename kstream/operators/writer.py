"""The way out of a task: straight to the producer, held until a batch is through, or put in the order of the inputs.

What an async agent waits for may take long. Nothing of its task may be in the transaction meanwhile, so that the other
tasks can commit without it: what a batch causes is held until all agents are through with it. So it is while a batch
may have to be taken back by itself (runtime/task/care.py). What is held is compared with what Kafka is known to refuse
(refusals.py).

Where two nodes may write to one topic, pushing whole batches through one branch after the other would make the order
of outputs depend on how the input was cut. `OrderedWriter` stages what a batch causes and releases it sorted by the
record that caused it (docs/exactly-once.md: batching is invisible).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from kstream.errors import RecordRefused
from kstream.operators.base import Outlet, send_all, send_one
from kstream.operators.batch import Batch
from kstream.operators.refusals import Refusals
from kstream.types import Headers

AFTER_ALL = 1 << 62
"""The row of an output that no input caused: it comes after those that inputs did."""


Output = tuple[str, bytes | None, int]
"""How an output is told from others when Kafka refuses it: topic, key, bytes of key and value."""


class Refused(NamedTuple):
    """An input record of which Kafka is known to refuse something, and the node that wrote that."""

    row: int
    error: RecordRefused
    order: int


class Writer(Protocol):
    """Takes the outputs of a task's operators to its outlet; `holds` them until `release` where that is set.

    `order` is the writing node's place in the sub-topology, `row` the input record that caused the output. `by` tells
    which node wrote what Kafka refuses: it has what is written while it is `watched`, in a search for the record at
    fault.
    """

    holds: bool
    watched: bool
    by: dict[Output, int]

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
        self.by: dict[Output, int] = {}

    def _watch(self, order: int, topic: str, values: Sequence[bytes | None], keys: Sequence[bytes | None]) -> None:
        for value, key in zip(values, keys, strict=True):
            self.by[topic, key, len(value or b"") + len(key or b"")] = order

    def heed(self) -> list[Refused]:
        """A record may cause several outputs: the first that is refused counts."""
        refusals = self._refusals
        if refusals is None or not self._known:
            return []
        found: dict[int, Refused] = {}
        for topic, values, keys, timestamps, rows, orders in self._columns():
            for index, error in refusals.found(topic, values, keys, timestamps):
                found.setdefault(rows[index], Refused(rows[index], error, orders[index]))
        return [found[row] for row in sorted(found)]

    def _columns(self) -> Iterable[_Column]:
        """What is held for topics of which something is known: topic, values, keys, timestamps, rows, orders."""
        raise NotImplementedError


_Column = tuple[str, Sequence[bytes | None], Sequence[bytes | None], Sequence[int], Sequence[int], Sequence[int]]


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
        if self.watched:
            self._watch(order, topic, values, keys)
        if self.holds:
            self._held.append(_Held(order, topic, values, keys, batch.timestamps, _rows(batch)))
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
    ) -> None:
        if self.watched:
            self._watch(order, topic, (value,), (key,))
        if self.holds:
            self._held.append(_Held(order, topic, [value], [key], [timestamp], (row,), True, headers, partition))
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
            if one.topic in self._known:
                yield one.topic, one.values, one.keys, one.timestamps, one.rows, [one.order] * len(one.values)

    def drop(self, rows: Collection[int]) -> None:
        self._held = [one.without(rows) for one in self._held]

    def release(self) -> None:
        if not self._held:
            return
        held, self._held = self._held, []
        for one in held:
            if not one.single:
                send_all(self._outlet, one.topic, one.values, one.keys, one.timestamps)
            elif one.values:
                key, at = one.keys[0], one.timestamps[0]
                self._send(one.topic, one.values[0], key, at, one.headers, one.partition)

    def reset(self) -> None:
        self._held.clear()


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

    def without(self, rows: Collection[int]) -> _Held:
        stay = [index for index, row in enumerate(self.rows) if row not in rows]
        if len(stay) == len(self.values):
            return self
        values, keys = [self.values[index] for index in stay], [self.keys[index] for index in stay]
        timestamps, left = [self.timestamps[index] for index in stay], [self.rows[index] for index in stay]
        return self._replace(values=values, keys=keys, timestamps=timestamps, rows=left)


def _rows(batch: Batch) -> Sequence[int]:
    """The input record of each, `AFTER_ALL` where no input caused it."""
    if batch.origin is None:
        return [AFTER_ALL] * batch.size
    return range(batch.size) if batch.rows is None else batch.rows


_Staged = tuple[int, int, str, bytes | None, bytes | None, int, Headers | None, int]


class OrderedWriter(_Heeding):
    """Stages outputs and sorts them, stably, by input record and then by node. It holds them always."""

    def __init__(self, outlet: Outlet, refusals: Refusals | None = None) -> None:
        super().__init__(outlet, refusals)
        self.holds = True
        self._staged: list[_Staged] = []

    def column(
        self, order: int, batch: Batch, topic: str, values: list[bytes | None], keys: list[bytes | None]
    ) -> None:
        rows = _rows(batch)
        if self.watched:
            self._watch(order, topic, values, keys)
        self._staged.extend(
            (row, order, topic, value, key, timestamp, None, -1)
            for row, value, key, timestamp in zip(rows, values, keys, batch.timestamps, strict=True)
        )

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
    ) -> None:
        if self.watched:
            self._watch(order, topic, (value,), (key,))
        self._staged.append((row, order, topic, value, key, timestamp, headers, partition))

    def _columns(self) -> Iterable[_Column]:
        for topic in {one[2] for one in self._staged} & self._known.keys():
            rows, orders, _, values, keys, timestamps, _, _ = zip(
                *[one for one in self._staged if one[2] == topic], strict=True
            )
            yield topic, values, keys, timestamps, rows, orders

    def drop(self, rows: Collection[int]) -> None:
        self._staged = [one for one in self._staged if one[0] not in rows]

    def moved(self, since: int, places: Sequence[int]) -> int:
        """What was staged since so much was is of one of several inputs: its records have these places among all that
        go together. Returns how much is staged."""
        self._staged[since:] = [(places[row], *rest) for row, *rest in self._staged[since:]]  # type: ignore[misc]
        return len(self._staged)

    def release(self) -> None:
        staged, self._staged = self._staged, []
        staged.sort(key=lambda item: item[:2])
        for _, _, topic, value, key, timestamp, headers, partition in staged:
            send_one(self._outlet, topic, value, key, timestamp, headers, partition)
            self._outlet.produced[topic] += 1

    def reset(self) -> None:
        self._staged.clear()
