"""A producer on a MemoryCluster, with or without transactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kstream.errors import AbortRequired, RecordRefused, TransactionError
from kstream.testing.cluster import MemoryCluster
from kstream.testing.groups import GroupMetadata
from kstream.testing.log import MemoryRecord, TransactionState
from kstream.types import Delivered, Headers, Produce, TopicPartition


class MemoryProducer:
    """A `types.ProducerClient`. Records reach the log at once, pending; reports are served as in the real client.

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
        self._reports: list[tuple[Delivered, int]] = []

    def produce_watched(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, delivered: Delivered
    ) -> None:
        record = self._produce(topic, value, key, partition, 0, None)
        self._reports.append((delivered, record.offset))

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
        self._produce(topic, value, key, partition, timestamp, headers)

    def _produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        timestamp: int,
        headers: Headers | None,
    ) -> MemoryRecord:
        with self._call("produce"):
            limit = self._cluster.produce_buffer_limit
            if limit is not None and self._unserved >= limit:
                raise BufferError(f"{self._unserved} delivery reports wait to be served: poll, then produce again")
            transaction = None
            if self._id is not None:
                transaction = self._cluster.transactions.open_transaction(self._id)
                if transaction is None:
                    raise RuntimeError(f"{self._id} produces outside a transaction")
            record = self._cluster.append(
                topic,
                key,
                value,
                timestamp or None,
                headers,
                None if partition < 0 else partition,
                transaction=transaction,
            )
            self._unserved += 1
            return record

    def meaning(
        self, error: Exception, topic: str, value: bytes | None, key: bytes | None, partition: int
    ) -> Exception:
        return RecordRefused(str(error), topic, partition, key, len(key or b"") + len(value or b""))

    def poll(self, timeout: float = 0.0) -> None:
        with self._call("poll"):
            self._serve_reports()

    def flush(self, timeout: float) -> None:
        with self._call("flush"):
            self._serve_reports()

    def init_transactions(self, timeout: float) -> None:
        with self._call("init_transactions"):
            if self._epoch is not None:
                raise RuntimeError("init_transactions was called before")
            self._epoch = self._cluster.transactions.init(self._transactional_id())

    def begin(self) -> None:
        with self._call("begin"):
            self._cluster.transactions.begin(self._initialised_id())

    def send_offsets(
        self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str], group: object
    ) -> None:
        if not offsets:
            raise ValueError("no offsets: Kafka takes that for a no-op and fences nobody")
        if not isinstance(group, GroupMetadata):
            raise TypeError(f"group metadata comes from ConsumerClient.group_metadata, not {group!r}")
        with self._call("send_offsets"):
            transaction = self._cluster.transactions.open_transaction(self._initialised_id())
            if transaction is None:
                raise RuntimeError(f"{self._id} sends offsets outside a transaction")
            coordinator = self._cluster.group(group.group)
            coordinator.validate(group)
            coordinator.add_pending(transaction, offsets, metadata)

    def commit(self, timeout: float) -> None:
        with self._call("commit"):
            self._serve_reports()
            self._cluster.transactions.end(self._initialised_id(), TransactionState.COMMITTED)

    def abort(self, timeout: float) -> None:
        with self._call("abort"):
            self._cluster.transactions.end(self._initialised_id(), TransactionState.ABORTED)
            self._failure = None
            self._unserved = 0
            self._reports.clear()  # purged: their reports come as errors, which are none of anyone's concern

    def close(self) -> None:
        self._closed = True
        self._reports.clear()

    def _serve_reports(self) -> None:
        self._unserved = 0
        reports, self._reports = self._reports, []
        for delivered, offset in reports:
            delivered(offset if self._cluster.delivery_offsets else None)

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        """Around every call: a closed, fenced or failed producer refuses it; planned faults strike."""
        if self._closed:
            raise RuntimeError(f"{name}: the producer is closed")
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
        raise type(failure)(f"{name} after: {failure}")

    def _transactional_id(self) -> str:
        if self._id is None:
            raise RuntimeError("this producer has no transactional id")
        return self._id

    def _initialised_id(self) -> str:
        if self._epoch is None:
            raise RuntimeError("init_transactions comes first")
        return self._transactional_id()
