"""`.sink(sink)`: the end of a chain that leaves Kafka."""

from __future__ import annotations

import logging
from inspect import isawaitable
from itertools import repeat
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from kstream.errors import text_of
from kstream.operators.base import Operator
from kstream.operators.batch import Batch
from kstream.operators.raised import fair
from kstream.operators.told import PASSES, OthersFailed, ToldOrigin
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

    Results that no record is behind share the buffer with others. Where a write with some of them fails, the one at
    fault is looked for at once, by writing fewer at a time: the policies decide about that one.
    """

    def __init__(self, sink: BatchingSink, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.sink, self._loop = sink, loop
        self._pending: list[SinkRecord[Any, Any]] = []
        self._results: list[tuple[ToldOrigin, int]] = []  # of those among them that have no offset, in their order
        self._before = 0, 0  # so many of either are kept
        self._wrote = False  # since `keep`

    def push(self, batch: Batch) -> None:
        self.emitted += batch.size
        self._pending.extend(_records(batch))
        if isinstance(origin := batch.origin, ToldOrigin):
            self._results += [(origin, batch.row(index)) for index in range(batch.size)]
        try:
            self._write_full()
        except BaseException as raised:
            if not isinstance(origin, ToldOrigin) or isinstance(error := fair(raised), PASSES):
                raise
            raise OthersFailed from error

    def _write_full(self) -> None:
        pending, size, start = self._pending, self.sink.size, 0
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
        self._before, self._wrote = (len(self._pending), len(self._results)), False

    def take_back(self) -> bool:
        del self._pending[self._before[0] :], self._results[self._before[1] :]
        return super().take_back() and not self._wrote

    def reset(self) -> None:
        self._pending, self._results = [], []

    def close(self) -> None:
        self.reset()
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
        results = sum(record.offset is None for record in records) if self._results else 0
        try:
            self._give(records)
        except BaseException as raised:
            if not results or isinstance(error := fair(raised), PASSES):
                raise
            self._look_for(records)
            log.warning(
                "sink %s failed, and took the same records in smaller batches: %s: %s", self.sink.name,
                type(error).__name__, text_of(error),
            )  # fmt: skip
        del self._results[:results]

    def _look_for(self, records: list[SinkRecord[Any, Any]]) -> None:
        """Writes them anew: the first, for a sink that is down fails at once, then more at a time, and fewer where that
        fails. The outputs of one input record stay together.

        Raises:
            ToldFailed: the result at fault. Of a record, what the sink raises.
        """
        start, count, results = 0, 1, 0
        while start < len(records):
            piece = records[start : _end_of_record(records, min(start + count, len(records)))]
            try:
                self._give(piece)
            except BaseException as raised:
                if isinstance(error := fair(raised), PASSES):
                    raise
                if count > 1:
                    count //= 2
                    continue
                if piece[0].offset is not None:
                    raise
                origin, row = self._results[results]
                raise origin.blamed(row, error) from error
            results += sum(record.offset is None for record in piece)
            start, count = start + len(piece), count * 2

    def _give(self, records: list[SinkRecord[Any, Any]]) -> None:
        users = _USERS.setdefault(self.sink, set())
        if not users:
            self._wait(self.sink.open())
        users.add(self)
        self._wait(self.sink.write(records))

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
    origin = batch.origin
    assert origin is not None
    if isinstance(origin, ToldOrigin):
        return map(
            SinkRecord, batch.keys, batch.values, batch.timestamps, repeat(None), repeat(None), repeat(None),
            repeat(None),
        )  # fmt: skip
    rows = range(batch.size) if batch.rows is None else batch.rows
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
