"""Sinks into PostgreSQL that tell where they are, most of them broken on purpose: a test that does not find these out
shows nothing of the right one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kstream import SinkRecord
from kstream.sinks.postgres import _ADVANCE, _LOCK, PostgresSink

Batch = Sequence[SinkRecord[Any, Any]]


class Watched(PostgresSink):
    """As it is, with hooks: `between` rows and offset, and when it has `written`. `dropped` records it had already."""

    dropped = 0
    _given = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, mode="exactly_once", **options)
        self.between: Callable[[], object] = _nothing
        self.written: Callable[[], object] = _nothing

    def write(self, batch: Batch) -> None:
        self._given = len(batch)
        self.do(batch)
        self.written()

    def do(self, batch: Batch) -> None:
        super().write(batch)

    def _insert(self, cursor: Any, batch: Batch) -> None:
        self.dropped += self._given - len(batch)
        super()._insert(cursor, batch)
        self.between()

    # ---- parts that the broken ones put together wrongly

    def place(self, batch: Batch) -> tuple[Any, ...]:
        return self.app, self.name, batch[0].topic, batch[0].partition

    def transaction(self) -> Any:
        if self._connection is None or self._connection.closed:
            self.open()
        assert self._connection is not None
        return self._connection.transaction()

    def stored(self, batch: Batch) -> int:
        assert self._connection is not None
        row = self._connection.execute(_LOCK, self.place(batch)).fetchone()
        assert row is not None
        return int(row[0])

    def rows(self, batch: Batch) -> None:
        assert self._connection is not None
        with self._connection.cursor() as cursor:
            PostgresSink._insert(self, cursor, batch)

    def advance(self, batch: Batch, stored: int) -> None:
        assert self._connection is not None
        if (batch[-1].offset or 0) > stored:
            self._connection.execute(_ADVANCE, (batch[-1].offset, *self.place(batch)))


def newer(batch: Batch, stored: int) -> list[SinkRecord[Any, Any]]:
    return [record for record in batch if (record.offset or 0) > stored]


class WritesReplays(Watched):
    """It stores offsets and does not heed them."""

    def do(self, batch: Batch) -> None:
        with self.transaction():
            stored = self.stored(batch)
            self.rows(batch)
            self.between()
            self.advance(batch, stored)


class OneTooMany(Watched):
    """`>=` in place of `>`."""

    beside = -1  # the offset that is stored

    def do(self, batch: Batch) -> None:
        with self.transaction():
            stored = self.stored(batch)
            self.rows(newer(batch, stored + self.beside))
            self.between()
            self.advance(batch, stored)


class OneTooFew(OneTooMany):
    """It takes the offset that is to come for one that it has."""

    beside = 1


class ForgetsOffsets(Watched):
    def do(self, batch: Batch) -> None:
        with self.transaction():
            self.rows(newer(batch, self.stored(batch)))
            self.between()


class GoesBack(Watched):
    """A replay that ends before the stored offset takes that back, and what follows in the replay is written again."""

    def do(self, batch: Batch) -> None:
        with self.transaction():
            self.rows(newer(batch, self.stored(batch)))
            self.between()
            self.advance(batch, -1)


class RowsFirst(Watched):
    """Two transactions: what comes between them has the rows without the offset."""

    def do(self, batch: Batch) -> None:
        with self.transaction():
            stored = self.stored(batch)
            self.rows(newer(batch, stored))
        self.between()
        with self.transaction():
            self.advance(batch, stored)


class OffsetFirst(Watched):
    """Two transactions the other way round: the offset without the rows."""

    def do(self, batch: Batch) -> None:
        with self.transaction():
            stored = self.stored(batch)
            self.advance(batch, stored)
        self.between()
        with self.transaction():
            self.rows(newer(batch, stored))


class OneOffsetForAll(Watched):
    """Partitions share a row."""

    def place(self, batch: Batch) -> tuple[Any, ...]:
        return self.app, self.name, batch[0].topic, 0

    def do(self, batch: Batch) -> None:
        with self.transaction():
            stored = self.stored(batch)
            self.rows(newer(batch, stored))
            self.between()
            self.advance(batch, stored)


BROKEN = (
    WritesReplays, OneTooMany, OneTooFew, ForgetsOffsets, GoesBack, RowsFirst, OffsetFirst, OneOffsetForAll,
)  # fmt: skip
SINKS = {sink.__name__: sink for sink in (Watched, *BROKEN)}


class Wrong(NamedTuple):
    """What is not in the table exactly once."""

    twice: list[Any]
    missing: list[Any]
    unknown: list[Any]

    def __bool__(self) -> bool:
        return any(self)


def compare(wanted: Sequence[Any], found: Sequence[Any]) -> Wrong:
    """The rows of a table with those that are to be in it, once each."""
    counts, expected = Counter(found), set(wanted)
    return Wrong(
        sorted(row for row, count in counts.items() if count > 1 and row in expected),
        sorted(expected - set(counts)),
        sorted(set(counts) - expected),
    )


def _nothing() -> None:
    return
