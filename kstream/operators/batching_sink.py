"""`.sink(sink)`: the end of a chain that leaves Kafka."""

from __future__ import annotations

import logging
from inspect import isawaitable
from itertools import repeat
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from kstream.errors import ResultFailed, text_of
from kstream.operators.base import Operator
from kstream.operators.batch import Batch
from kstream.operators.turns import run
from kstream.specs.sink import BatchingSink, SinkRecord

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

_USERS: WeakKeyDictionary[BatchingSink, set[SinkWriter]] = WeakKeyDictionary()
"""The tasks of this process that have a sink open."""


class SinkWriter(Operator):
    """Buffers the records of one task for a sink: fewer than `size` after each push, none after a flush.

    It has no timer: a task that has something in its buffer is to be committed, and the commit comes in time
    (`Topology.within`).
    """

    def __init__(self, sink: BatchingSink, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.sink, self._loop = sink, loop
        self._pending: list[SinkRecord[Any, Any]] = []
        self._before = 0  # so many of them are kept
        self._wrote = False  # since `keep`

    def push(self, batch: Batch) -> None:
        self.emitted += batch.size
        pending = self._pending
        pending.extend(_records(batch))
        size, start = self.sink.size, 0
        while len(pending) - start >= size:
            end = _end_of_record(pending, start + size)
            self._write(pending[start:end])
            start = end
        if start:
            del pending[:start]

    def flush(self) -> None:
        if self._pending:
            self._write(self._pending)
            self._pending = []

    def keep(self) -> None:
        super().keep()
        self._before, self._wrote = len(self._pending), False

    def take_back(self) -> bool:
        del self._pending[self._before :]
        return super().take_back() and not self._wrote

    def reset(self) -> None:
        self._pending = []

    def close(self) -> None:
        self._pending = []
        users = _USERS.get(self.sink)
        if users is None or self not in users:
            return
        users.discard(self)
        if users:
            return
        try:
            self._wait(self.sink.close())
        except (Exception, SystemExit) as error:  # the task leaves: what it wrote is committed, or comes again
            log.warning("sink %s: close() failed: %s: %s", self.sink.name, type(error).__name__, text_of(error))

    def _write(self, records: list[SinkRecord[Any, Any]]) -> None:
        self._wrote = True
        users = _USERS.setdefault(self.sink, set())
        if not users:
            self._wait(self.sink.open())
        users.add(self)
        try:
            self._wait(self.sink.write(records))
        except Exception as error:
            if any(record.offset is None for record in records):  # no record is behind these
                told = f"sink {self.sink.name} failed with results of no record: {text_of(error, repr)}"
                raise ResultFailed(told) from error
            raise

    def _wait(self, result: Any) -> None:
        if isawaitable(result):
            task = self._loop.create_task(_awaited(result))
            task.add_done_callback(lambda _: self._loop.stop())
            while not task.done():
                run(self._loop)
            task.result()


async def _awaited(result: Any) -> None:
    await result


def _records(batch: Batch) -> Any:
    if batch.origin is None or batch.origin.of_time:
        return map(
            SinkRecord, batch.keys, batch.values, batch.timestamps, repeat(None), repeat(None), repeat(None),
            repeat(None),
        )  # fmt: skip
    origin, rows = batch.origin, range(batch.size) if batch.rows is None else batch.rows
    at, offsets, headers = origin.fetch.at, origin.fetch.offsets(), origin.headers
    return map(
        SinkRecord, batch.keys, batch.values, batch.timestamps, [headers[row] for row in rows], repeat(at.topic),
        repeat(at.partition), [offsets[row] for row in rows],
    )  # fmt: skip


def _end_of_record(records: list[SinkRecord[Any, Any]], end: int) -> int:
    """The first place from `end` on that is not between the outputs of one input record."""
    last = records[end - 1]
    offset, topic = last.offset, last.topic
    while offset is not None and end < len(records) and (records[end].offset, records[end].topic) == (offset, topic):
        end += 1
    return end
