"""The few types that everything speaks: positions, fetched records, and the protocols of the Kafka clients.

The runtime sees Kafka only through these protocols. `runtime/kafka` implements them with confluent-kafka, `testing` in
memory, so that tests run the very same task, checkpoint and restore code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kstream.errors import KStreamError, RecordRefused

if TYPE_CHECKING:
    from concurrent.futures import Future

Headers = Sequence[tuple[str, bytes | None]]

#: Logical offsets, as Kafka's clients have them.
BEGINNING = -2
END = -1


class TopicPartition(NamedTuple):
    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


class Fetch(Protocol):
    """Consecutive records of one partition of one topic, read column by column (each call makes a new list).

    Offsets rise, not always by one: transaction markers and compaction leave gaps.
    """

    @property
    def at(self) -> TopicPartition: ...
    @property
    def first_offset(self) -> int: ...
    @property
    def last_offset(self) -> int: ...
    @property
    def first_timestamp(self) -> int:
        """Milliseconds since the epoch (UTC) of the first record, as Kafka has it."""
        ...

    @property
    def last_timestamp(self) -> int:
        """The same of the last record."""
        ...

    def __len__(self) -> int: ...
    def keys(self) -> list[bytes | None]: ...
    def values(self) -> list[bytes | None]: ...
    def timestamps(self) -> list[int]: ...
    def offsets(self) -> list[int]: ...
    def headers(self) -> list[Headers | None]: ...
    def cut(self, start: int, stop: int) -> Fetch:
        """The records `start` to `stop` (exclusive), as a slice."""
        ...


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll brought: fetches in the order they came, and the partitions whose end was reached.

    `ends` maps a partition to the offset at its end (under read_committed: the last stable offset).
    """

    fetches: Sequence[Fetch] = ()
    ends: Mapping[TopicPartition, int] = field(default_factory=dict)


class RebalanceListener(Protocol):
    """Told of the group's decisions from inside `ConsumerClient.poll`. What it raises comes out of `poll`."""

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The new partitions. Returns the offset to start each from; all are paused until resumed."""
        ...

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """These partitions leave in good order: what is committed in here still counts."""
        ...

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """These partitions are gone: others may have them already; nothing may be committed."""
        ...


class ConsumerClient(Protocol):
    """One consumer. Not thread-safe: one thread polls it. Errors come as kstream.errors."""

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None: ...
    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read just these partitions from these offsets, without a group (restore)."""
        ...

    def poll(self, max_records: int, timeout: float) -> Polled:
        """Waits `timeout` seconds for a first record, then takes what is there, `max_records` at most.

        Raises TopicError, with its `topics`, when some cannot be read, PartitionUnreadable where what lies at the
        position of a partition cannot be; the next polls bring what there is of others.
        """
        ...

    def pause(self, partitions: Sequence[TopicPartition]) -> None: ...
    def resume(self, partitions: Sequence[TopicPartition]) -> None: ...
    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """The next records come from these offsets; what was fetched from elsewhere is dropped."""
        ...

    def high_watermark(self, at: TopicPartition) -> int | None:
        """The partition's end as last heard from the broker; None when not heard yet. No I/O."""
        ...

    def group_metadata(self) -> object: ...
    def commit(self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str]) -> None:
        """Commits offsets without a transaction (at least once), and waits for it."""
        ...

    def close(self) -> None:
        """Leaves without telling the listener: what was to be committed has been."""
        ...


Delivered = Callable[[int | None, RecordRefused | None], None]
"""Called with the offset of a delivered record, or None where the broker did not say (DUPLICATE_SEQUENCE); or with None
and the reason why it was refused. The whole batch in which a record travelled is refused with it: a `flush` before the
next record makes batches of one. Not called for a record that an abort threw away."""


class Produce(Protocol):
    """Hands one record to the producer's queue. Raises BufferError when that is full: poll, then call again. Whatever
    else it raises may be the client library's own: `ProducerClient.meaning` says what it means.

    All arguments are positional: this is the hottest call there is.
    `partition` -1 lets murmur2 of the key choose. `timestamp` is in ms since the epoch, 0 means now. `headers`: a list.
    """

    def __call__(
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
    ) -> None: ...


class ProducerClient(Protocol):
    """One producer, transactional or not. Methods raise AbortRequired, ProducerLost or InstanceFenced."""

    @property
    def produce(self) -> Produce:
        """Read anew for each transaction: who reads it first is about to send."""
        ...

    def meaning(
        self, error: Exception, topic: str, value: bytes | None, key: bytes | None, partition: int
    ) -> KStreamError:
        """What it means that `produce` raised `error` for this record: RecordRefused when the record is at fault, else
        an error as the other methods raise. BufferError and kstream's own errors need not be asked about."""
        ...

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
        """As `produce`, and `delivered` is called (from poll, flush or commit) once the record is delivered or refused.

        Raises:
            BufferError: as `produce`.
            RecordRefused: the client does not even take it; `delivered` is not called.
            AbortRequired, ProducerLost, InstanceFenced: see `meaning`.
        """
        ...

    def poll(self, timeout: float = 0.0) -> None:
        """Serves delivery reports."""
        ...

    def flush(self, timeout: float) -> None:
        """Waits until all is delivered or refused.

        Raises:
            AbortRequired: a watched record of the transaction was not delivered. Of others only `commit` knows.
            ProducerLost: without a transaction, any record was not delivered.
        """
        ...

    def init_transactions(self, timeout: float) -> None: ...
    def begin(self) -> None: ...
    def send_offsets(
        self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str], group: object
    ) -> None: ...
    def commit(self, timeout: float) -> None:
        """Delivers what is queued and commits. AbortRequired has `refused` where records were."""
        ...

    def abort(self, timeout: float) -> None:
        """Takes the transaction back. After one that was refused by the broker, the next transaction that writes to the
        same partition comes back once with AbortRequired, which is no refusal: librdkafka lost count of the sequence.
        """
        ...

    def close(self) -> None:
        """Drops what is queued and frees the client; never blocks for long."""
        ...


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as it is on the cluster. `config` holds settings by Kafka's names, where they were asked for."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


class DescribedTopic(NamedTuple):
    """What brokers tell of a topic at any time.

    Attributes:
        id: a topic that is deleted and created again gets another one (KIP-516). None for brokers before 2.8.
    """

    id: str | None
    partitions: int


@dataclass(frozen=True, slots=True)
class NewTopic:
    name: str
    partitions: int
    replication: int = -1
    config: Mapping[str, str] = field(default_factory=dict)


class TopicMaker(Protocol):
    """What making and checking topics takes."""

    def topics(self, timeout: float) -> dict[str, TopicInfo]:
        """All topics, without their settings. Raises KafkaUnavailable."""
        ...

    def topic_configs(self, names: Sequence[str], timeout: float) -> dict[str, dict[str, str]]: ...
    def create_topics(self, topics: Sequence[NewTopic], timeout: float) -> None:
        """Creates those that are missing (one that exists is no error) and waits until metadata shows them."""
        ...


class AdminClient(TopicMaker, Protocol):
    """Cluster operations. Those used while tasks run are futures: they never block the loop."""

    def delete_topics(self, names: Sequence[str], timeout: float) -> None: ...
    def add_partitions(self, counts: Mapping[str, int], timeout: float) -> None:
        """Topics have so many from now on, those that have as many already too, and metadata shows it. Raises
        TopicError, KafkaUnavailable."""
        ...

    def committed(
        self, group: str, partitions: Sequence[TopicPartition], *, stable: bool = True
    ) -> Future[dict[TopicPartition, tuple[int, str] | None]]:
        """Committed (offset, metadata) of each partition, None where none was committed.

        Fails with AbortRequired while a transaction on any of them is pending: ask again. Not so where it need not be
        `stable`: then it is what was committed before that.
        """
        ...

    def members(self, group: str) -> Future[frozenset[str]]:
        """The members of a group, by their static ids (else by those that Kafka gave them); none when there is no such
        group."""
        ...

    def set_committed(self, group: str, offsets: Mapping[TopicPartition, tuple[int, str]]) -> Future[None]:
        """Commits (offset, metadata) for a group without members."""
        ...

    def delete_group(self, group: str) -> Future[None]:
        """Deletes a group without members, and its offsets. One that is not there is no error."""
        ...

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        """Log end offsets, read uncommitted."""
        ...

    def start_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]: ...
    def offsets_at(
        self, partitions: Sequence[TopicPartition], milliseconds: int
    ) -> Future[dict[TopicPartition, int | None]]:
        """The first offset whose time stamp (ms since the epoch) is this or later; None where there is none. Markers of
        transactions count."""
        ...

    def describe(self, names: Sequence[str]) -> Future[dict[str, DescribedTopic]]:
        """Those that exist, as they are now."""
        ...

    def delete_records(self, before: Mapping[TopicPartition, int]) -> Future[None]: ...
    def close(self) -> None: ...


class Clients(Protocol):
    """Makes the clients of one worker."""

    def consumer(self, group: str, member: str) -> ConsumerClient:
        """A group consumer: read committed, no auto-commit, static member id `member`."""
        ...

    def reader(self) -> ConsumerClient:
        """A consumer outside any group, read committed, for restore."""
        ...

    def producer(self, transactional_id: str | None) -> ProducerClient:
        """None: an idempotent producer without transactions (at least once)."""
        ...

    def fence(self, transactional_id: str, timeout: float) -> Future[None]:
        """Ends what a producer with this id left open, and fences it (KIP-618 has it for Kafka Connect). Does
        not wait.

        The future fails with KafkaUnavailable, ProducerLost or InstanceFenced.
        """
        ...

    def admin(self) -> AdminClient: ...


class Clock(Protocol):
    def time(self) -> float:
        """Wall clock, seconds since the epoch."""
        ...

    def monotonic(self) -> float: ...
