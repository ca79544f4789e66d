"""A producer on a MemoryCluster, with or without transactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kstream.errors import (
    AbortRequired,
    InstanceFenced,
    KStreamError,
    ProducerLost,
    RecordRefused,
    TopicError,
    TransactionError,
)
from kstream.testing.cluster import MemoryCluster
from kstream.testing.groups import GroupMetadata, MetadataTooLarge
from kstream.testing.log import MemoryRecord, TransactionState
from kstream.testing.refusals import RECORD_BYTES, RECORD_LIMIT, content_of, refuse_at_once
from kstream.types import Delivered, Headers, Produce, TopicPartition


class Fatal(Exception):
    """What `produce` raises of a producer that was fenced: as of the real one, only `meaning` says what that is."""

    def __init__(self, meaning: InstanceFenced) -> None:
        self.meaning = meaning
        super().__init__(str(meaning))


@dataclass(slots=True, eq=False)
class _Batch:
    """What was produced to one partition since reports were served last: the broker takes or refuses it as one."""

    at: TopicPartition
    records: list[MemoryRecord] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    size: int = 0
    refused: RecordRefused | None = None


class MemoryProducer:
    """A `types.ProducerClient`. Records reach the log at once, pending; reports are served as in the real client.

    Of a batch that is refused nothing stays in the log. Its reports come with the next poll, flush or commit, and from
    then on the transaction can only be aborted (`testing/refusals.py` says what is refused).

    Closing it leaves an open transaction open, as a crash does: the successor's `init_transactions` aborts it.
    """

    def __init__(self, cluster: MemoryCluster, transactional_id: str | None) -> None:
        self.produce: Produce = self._produce_plain
        self._cluster = cluster
        self._id = transactional_id
        self._epoch: int | None = None
        self._failure: TransactionError | None = None
        self._closed = False
        self._unserved = 0
        self._filling: dict[TopicPartition, _Batch] = {}
        self._batches: list[_Batch] = []
        self._reports: list[tuple[Delivered, _Batch, MemoryRecord | None]] = []
        self._denied = False
        self._sent = False  # whether this transaction has anything at the broker
        self._gaps: set[TopicPartition] = set()  # where a refused batch of an earlier transaction left one

    def produce_watched(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        delivered: Delivered,
        timestamp: int = 0,
        headers: Headers | None = None,
    ) -> None:
        batch, record = self._produce(topic, value, key, partition, timestamp, headers)
        self._reports.append((delivered, batch, record))

    def meaning(
        self, error: Exception, topic: str, value: bytes | None, key: bytes | None, partition: int
    ) -> KStreamError:
        """Of a fencing. Otherwise `produce` raises kstream's errors here, and others where a test uses it wrongly."""
        if isinstance(error, Fatal):
            return error.meaning
        raise error

    def _produce_plain(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int = -1,
        callback: None = None,
        on_delivery: None = None,
        timestamp: int = 0,
        headers: Headers | None = None,
        /,
    ) -> None:
        try:
            self._produce(topic, value, key, partition, timestamp, headers)
        except InstanceFenced as error:
            raise Fatal(error) from error

    def _produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        timestamp: int,
        headers: Headers | None,
    ) -> tuple[_Batch, MemoryRecord | None]:
        with self._call("produce"):
            limit = self._cluster.produce_buffer_limit
            if limit is not None and self._unserved >= limit:
                raise BufferError(f"{self._unserved} delivery reports wait to be served: poll, then produce again")
            transaction = None
            if self._id is not None:
                transaction = self._cluster.transactions.open_transaction(self._id)
                if transaction is None:
                    raise AbortRequired(f"produce: _STATE: {self._id} produces outside a transaction")
            size = len(value or b"") + len(key or b"")
            try:
                info = self._cluster.topic(topic)
            except TopicError:
                raise RecordRefused("_UNKNOWN_TOPIC", topic, partition, key, size) from None
            refuse_at_once(info, value, key, partition, headers)
            at = TopicPartition(topic, self._cluster.choose_partition(topic, key) if partition < 0 else partition)
            batch = self._batch(at, content_of(value, key, headers))
            self._unserved += 1
            if batch.refused is None:
                stamp = timestamp or None
                code = self._cluster.refuses(at, key, stamp, batch.size, batch.contents)
                if code is None:
                    record = self._cluster.write(at, key, value, stamp, headers, transaction)
                    batch.records.append(record)
                    return batch, record
                now = self._cluster.clock.time()
                batch.refused = RecordRefused(code, *at, key, size, timestamp=timestamp, asked=now, told=now)
                self._cluster.log(at).withdraw(batch.records)
            return batch, None

    def _batch(self, at: TopicPartition, content: bytes) -> _Batch:
        """The one that takes a record of these bytes."""
        batch, size = self._filling.get(at), len(content) + RECORD_BYTES
        if batch is None or batch.size + size > RECORD_LIMIT:
            batch = self._filling[at] = _Batch(at)
            self._batches.append(batch)
        batch.contents.append(content)
        batch.size += size
        return batch

    def poll(self, timeout: float = 0.0) -> None:
        with self._call("poll"):
            self._deliver()

    def flush(self, timeout: float) -> None:
        with self._call("flush"):
            self._deliver()
            if self._failure is not None:
                raise self._failure

    def init_transactions(self, timeout: float) -> None:
        with self._call("init_transactions"):
            if self._epoch is not None:
                raise RuntimeError("init_transactions was called before")
            self._epoch = self._cluster.transactions.init(self._transactional_id())

    def begin(self) -> None:
        with self._call("begin"):
            self._cluster.transactions.begin(self._initialised_id())
            self._forget()

    def send_offsets(
        self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str], group: object
    ) -> None:
        if not offsets:
            raise ValueError("no offsets: Kafka takes that for a no-op and fences nobody")
        with self._call("send_offsets"):
            if not isinstance(group, GroupMetadata):
                raise TypeError(f"group metadata comes from ConsumerClient.group_metadata, not {group!r}")
            transaction = self._cluster.transactions.open_transaction(self._initialised_id())
            if transaction is None:
                raise RuntimeError(f"{self._id} sends offsets outside a transaction")
            coordinator = self._cluster.group(group.group)
            coordinator.validate(group)
            try:
                coordinator.add_pending(transaction, offsets, metadata)
            except MetadataTooLarge as error:
                raise AbortRequired(f"send_offsets: {error}") from error
            self._sent = True

    def commit(self, timeout: float) -> None:
        with self._call("commit"):
            self._deliver()
            if self._failure is not None:
                raise self._failure
            self._cluster.transactions.end(self._initialised_id(), TransactionState.COMMITTED)

    def abort(self, timeout: float) -> None:
        with self._call("abort"):
            self._cluster.transactions.end(self._initialised_id(), TransactionState.ABORTED)
            if self._denied and not self._sent:
                raise ProducerLost("abort: INVALID_TXN_STATE: the broker knows of no transaction")
            self._failure, self._denied = None, False
            self._forget()  # purged: their reports come as errors, which are none of anyone's concern

    def close(self) -> None:
        self._closed = True
        self._forget()

    def _forget(self) -> None:
        self._unserved = 0
        self._reports.clear()
        self._filling.clear()
        self._batches.clear()
        self._sent = False

    def _deliver(self) -> None:
        """Sends the batches and serves their reports; sets `_failure` where something was refused."""
        self._unserved = 0
        self._filling.clear()
        batches, self._batches = self._batches, []
        reports, self._reports = self._reports, []
        if self._id is not None and (failure := self._not_sent(batches)) is not None:
            self._failure = failure  # the reports come as errors of a purge, which are none of anyone's concern
            return
        for batch in batches:
            self._sent = True
            if batch.refused is not None and self._failure is None:
                kind = ProducerLost if self._id is None else AbortRequired
                self._failure = kind(f"a record was not delivered: {batch.refused}", refused=True)
            if batch.refused is not None:
                self._gaps.add(batch.at)
        for delivered, batch, record in reports:
            if record is not None and batch.refused is None:
                delivered(record.offset if self._cluster.delivery_offsets else None, None)
            else:
                delivered(None, batch.refused)

    def _not_sent(self, batches: Sequence[_Batch]) -> AbortRequired | None:
        """Why none of these batches leaves the client, if they do not.

        A partition that may not be written cannot be taken into the transaction, and none with it. And librdkafka
        counts a batch that the broker refused as sent: it finds a gap in the next transaction that writes there.
        """
        for batch in batches:
            if not self._cluster.may_write(batch.at.topic):
                self._denied = True
                text = f"TOPIC_AUTHORIZATION_FAILED: this user may not WRITE topic {batch.at.topic}: give it that right"
                return AbortRequired(text, refused=True, topic=batch.at.topic)
        for batch in batches:
            if batch.at in self._gaps:
                self._gaps.clear()  # the abort gives the producer a new epoch
                return AbortRequired(f"OUT_OF_ORDER_SEQUENCE_NUMBER: {batch.at} misses the batch that was refused")
        return None

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        """Around every call: a closed, fenced or failed producer refuses it; planned faults strike."""
        if self._closed:
            raise ProducerLost(f"{name}: the producer is closed")
        try:
            if self._id is not None and self._epoch is not None:
                self._cluster.transactions.check(self._id, self._epoch)
            self._refuse_after_failure(name)
            with self._cluster.faults.around(f"producer.{name}"):
                yield
        except TransactionError as error:
            self._failure = error
            raise

    def _refuse_after_failure(self, name: str) -> None:
        failure = self._failure
        if failure is None or (isinstance(failure, AbortRequired) and name in ("abort", "poll")):
            return
        raise type(failure)(f"{name} after: {failure}", refused=failure.refused, topic=failure.topic)

    def _transactional_id(self) -> str:
        if self._id is None:
            raise RuntimeError("this producer has no transactional id")
        return self._id

    def _initialised_id(self) -> str:
        if self._epoch is None:
            raise RuntimeError("init_transactions comes first")
        return self._transactional_id()
