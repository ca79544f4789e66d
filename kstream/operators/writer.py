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

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from kstream.errors import RecordRefused
from kstream.operators.base import Outlet, send_all, send_one
from kstream.operators.batch import Batch
from kstream.operators.refusals import Refusals
from kstream.types import Headers

AFTER_ALL = 1 << 62
"""The row of an output that no input caused: it comes after those that inputs did."""


Output = tuple[str, bytes | None, int]
"""How an output is told from others when Kafka refuses it: topic, key, bytes of key and value."""


class Writer(Protocol):
    """Takes the outputs of a task's operators to its outlet; `holds` them until `release` where that is set.

    `order` is the writing node's place in the sub-topology, `row` the input record that caused the output. `refused` is
    what Kafka is known to refuse of that which is held, the first of it, and its row. `by` tells which node wrote what
    Kafka refuses: it has what is written while it is `watched`, in a search for the record at fault, and what is known.
    """

    holds: bool
    refused: tuple[int, RecordRefused] | None
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

    def release(self) -> None:
        """The batch is through: what was staged goes out."""
        ...

    def reset(self) -> None:
        """Drops what was staged."""
        ...


class _Heeding:
    """Finds what Kafka is known to refuse. A record may cause several outputs: the first record counts."""

    def __init__(self, outlet: Outlet, refusals: Refusals | None) -> None:
        self._outlet, self._refusals = outlet, refusals
        self._known: Mapping[str, object] = {} if refusals is None else refusals.known
        self.refused: tuple[int, RecordRefused] | None = None
        self.watched = False
        self.by: dict[Output, int] = {}

    def _watch(self, order: int, topic: str, values: Sequence[bytes | None], keys: Sequence[bytes | None]) -> None:
        for value, key in zip(values, keys, strict=True):
            self.by[topic, key, len(value or b"") + len(key or b"")] = order

    def _heed(
        self,
        order: int,
        topic: str,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None],
        timestamps: Sequence[int],
        rows: Sequence[int],
    ) -> None:
        found = None if self._refusals is None else self._refusals.first(topic, values, keys, timestamps)
        if found is not None:
            row, error = rows[found[0]], found[1]
            if self.refused is None or row < self.refused[0]:
                self.refused = row, error
                self.by[topic, error.key, error.size] = order


class DirectWriter(_Heeding):
    """For sub-topologies in which every topic has one writer.

    Attributes:
        holds: what a batch causes goes out when it is through, not at once.
    """

    def __init__(self, outlet: Outlet, refusals: Refusals | None = None, *, holds: bool = False) -> None:
        super().__init__(outlet, refusals)
        self.holds = holds
        self._held: list[Callable[[], None]] = []

    def column(
        self, order: int, batch: Batch, topic: str, values: list[bytes | None], keys: list[bytes | None]
    ) -> None:
        if self.watched:
            self._watch(order, topic, values, keys)
        if self.holds:
            if topic in self._known:
                self._heed(order, topic, values, keys, batch.timestamps, _rows(batch))
            self._held.append(partial(send_all, self._outlet, topic, values, keys, batch.timestamps))
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
            if topic in self._known:
                self._heed(order, topic, (value,), (key,), (timestamp,), (row,))
            self._held.append(partial(self._send, topic, value, key, timestamp, headers, partition))
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

    def release(self) -> None:
        self.refused = None
        if not self._held:
            return
        held, self._held = self._held, []
        for send in held:
            send()

    def reset(self) -> None:
        self._held.clear()
        self.refused = None


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
        if topic in self._known:
            self._heed(order, topic, values, keys, batch.timestamps, rows)
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
        if topic in self._known:
            self._heed(order, topic, (value,), (key,), (timestamp,), (row,))
        self._staged.append((row, order, topic, value, key, timestamp, headers, partition))

    def release(self) -> None:
        staged, self._staged, self.refused = self._staged, [], None
        staged.sort(key=lambda item: item[:2])
        for _, _, topic, value, key, timestamp, headers, partition in staged:
            send_one(self._outlet, topic, value, key, timestamp, headers, partition)
            self._outlet.produced[topic] += 1

    def reset(self) -> None:
        self._staged.clear()
        self.refused = None
