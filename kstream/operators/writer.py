"""The way out of a task: straight to the producer, held until a batch is through, or put in the order of the inputs.

What an async agent waits for may take long. Nothing of its task may be in the transaction meanwhile, so that the other
tasks can commit without it: what a batch causes is held until all agents are through with it. So it is while a batch
may have to be taken back by itself (runtime/task/care.py).

Where two nodes may write to one topic, pushing whole batches through one branch after the other would make the order
of outputs depend on how the input was cut. `OrderedWriter` stages what a batch causes and releases it sorted by the
record that caused it (docs/exactly-once.md: batching is invisible).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from kstream.operators.base import Outlet, send_all, send_one
from kstream.operators.batch import Batch
from kstream.types import Headers

AFTER_ALL = 1 << 62
"""The row of an output that no input caused: it comes after those that inputs did."""


class Writer(Protocol):
    """Takes the outputs of a task's operators to its outlet; `holds` them until `release` where that is set.

    `order` is the writing node's place in the sub-topology, `row` the input record that caused the output.
    """

    holds: bool

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


class DirectWriter:
    """For sub-topologies in which every topic has one writer.

    Attributes:
        holds: what a batch causes goes out when it is through, not at once.
    """

    def __init__(self, outlet: Outlet, *, holds: bool = False) -> None:
        self._outlet, self.holds = outlet, holds
        self._held: list[Callable[[], None]] = []

    def column(
        self, order: int, batch: Batch, topic: str, values: list[bytes | None], keys: list[bytes | None]
    ) -> None:
        if self.holds:
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
        if self.holds:
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
        if not self._held:
            return
        held, self._held = self._held, []
        for send in held:
            send()

    def reset(self) -> None:
        self._held.clear()


_Staged = tuple[int, int, str, bytes | None, bytes | None, int, Headers | None, int]


class OrderedWriter:
    """Stages outputs and sorts them, stably, by input record and then by node. It holds them always."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self.holds = True
        self._staged: list[_Staged] = []

    def column(
        self, order: int, batch: Batch, topic: str, values: list[bytes | None], keys: list[bytes | None]
    ) -> None:
        if batch.origin is None:
            rows = [AFTER_ALL] * batch.size
        else:
            rows = list(range(batch.size)) if batch.rows is None else list(batch.rows)
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
        self._staged.append((row, order, topic, value, key, timestamp, headers, partition))

    def release(self) -> None:
        staged, self._staged = self._staged, []
        staged.sort(key=lambda item: item[:2])
        for _, _, topic, value, key, timestamp, headers, partition in staged:
            send_one(self._outlet, topic, value, key, timestamp, headers, partition)
            self._outlet.produced[topic] += 1

    def reset(self) -> None:
        self._staged.clear()
