"""One partition in memory: an append-only log with transactions, markers, a last stable offset and compaction."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from kstream.types import Headers, TopicPartition


class TransactionState(Enum):
    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(slots=True, eq=False)
class Transaction:
    """A producer's transaction. Its records refer to it, so ending it settles them all at once.

    `partitions` are those written to, in order: each gets a marker at the end. `groups` got offsets.
    """

    producer: str
    state: TransactionState = TransactionState.OPEN
    partitions: dict[TopicPartition, None] = field(default_factory=dict)
    groups: dict[str, None] = field(default_factory=dict)

    def end(self, state: TransactionState) -> None:
        """OPEN -> COMMITTED or ABORTED; nothing else is legal."""
        if self.state is not TransactionState.OPEN or state is TransactionState.OPEN:
            raise RuntimeError(f"a transaction that is {self.state.value} cannot become {state.value}")
        self.state = state


@dataclass(slots=True, eq=False)
class MemoryRecord:
    """A record, or a transaction's marker (`control`), at its place in a log.

    `timestamp` is in ms since the epoch; `sequence` is the order of appending over the whole cluster.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None
    sequence: int
    transaction: Transaction | None = None
    control: bool = False

    @property
    def state(self) -> TransactionState:
        return TransactionState.COMMITTED if self.transaction is None else self.transaction.state

    @property
    def producer(self) -> str | None:
        """The transactional id it was written under, None outside transactions."""
        return None if self.transaction is None else self.transaction.producer


class PartitionLog:
    """Records in rising offsets. `start` and `end` (exclusive) bound what may be read; gaps are normal. No client can
    read the record at `spoilt`, or on from there."""

    def __init__(self, at: TopicPartition) -> None:
        self.at = at
        self.start = 0
        self.end = 0
        self.spoilt: int | None = None
        self._entries: list[MemoryRecord] = []
        self._open: dict[Transaction, int] = {}  # with their first offsets, which rise

    @property
    def stable_end(self) -> int:
        """The last stable offset: read-committed readers see nothing from here on."""
        return next(iter(self._open.values()), self.end)

    def __iter__(self) -> Iterator[MemoryRecord]:
        """The records, whatever became of them, without markers."""
        return (record for record in self._entries if not record.control)

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Headers | None,
        sequence: int,
        transaction: Transaction | None = None,
    ) -> MemoryRecord:
        topic, partition = self.at
        record = MemoryRecord(topic, partition, self.end, timestamp, key, value, headers, sequence, transaction)
        if transaction is not None:
            self._open.setdefault(transaction, self.end)
            transaction.partitions[self.at] = None
        self._entries.append(record)
        self.end += 1
        return record

    def withdraw(self, records: Sequence[MemoryRecord]) -> None:
        """Takes records out that were appended last, save for what others have appended meanwhile: their batch is
        refused, it never was in the log."""
        gone = {record.offset for record in records}
        self._entries = [record for record in self._entries if record.offset not in gone]
        while self.end - 1 in gone:
            self.end -= 1

    def mark_end(self, transaction: Transaction, timestamp: int, sequence: int) -> None:
        """Writes the marker of a transaction that has ended: it takes an offset, as in Kafka."""
        if transaction not in self._open:
            return  # the topic was deleted and created again meanwhile
        marker = self.append(None, None, timestamp, None, sequence)
        marker.transaction, marker.control = transaction, True
        del self._open[transaction]

    def read(self, position: int, limit: int) -> tuple[list[MemoryRecord], int]:
        """Up to `limit` committed records from `position` on, and the position after them."""
        found: list[MemoryRecord] = []
        stable = self.stable_end
        for index in range(self._index(position), self._index(stable)):
            if len(found) == limit or self._entries[index].offset == self.spoilt:
                return found, position
            record = self._entries[index]
            position = record.offset + 1
            if not record.control and record.state is TransactionState.COMMITTED:
                found.append(record)
        return found, max(position, stable)

    def offset_at(self, timestamp: int) -> int | None:
        """The first offset that has this timestamp or a later one. Markers count: they have the time of their commit.

        Kafka looks in the first segment only that had such a timestamp, were it of a record that was deleted since.
        Here a log has no segments.
        """
        return next((one.offset for one in self._entries if one.timestamp >= timestamp), None)

    def compact(self) -> None:
        """What the log cleaner does up to the last stable offset: the last record of each key stays.

        Tombstones, markers and records without a key stay; aborted records go. Offsets stay, so gaps appear.
        """
        stable = self.stable_end
        last: dict[bytes, int] = {}
        for record in self:
            if record.offset < stable and record.key is not None and record.state is TransactionState.COMMITTED:
                last[record.key] = record.offset

        def stays(record: MemoryRecord) -> bool:
            if record.control or record.offset >= stable:
                return True
            if record.state is TransactionState.ABORTED:
                return False
            return record.key is None or last[record.key] == record.offset

        self._entries = [record for record in self._entries if stays(record)]

    def truncate(self, before: int) -> None:
        """Moves the start of the log to `before`, as retention and DeleteRecords do."""
        if before > self.end:
            raise ValueError(f"{self.at} ends at {self.end}, cannot be truncated before {before}")
        self.start = max(self.start, before)
        del self._entries[: self._index(self.start)]

    def _index(self, offset: int) -> int:
        return bisect_left(self._entries, offset, key=lambda record: record.offset)
