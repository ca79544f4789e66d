"""A Kafka cluster in memory: what the clients of `kstream.testing.clients` talk to, and what tests look into.

No threads and no waiting. Everything happens in the order of the calls, so that a test can take apart any
interleaving of workers, crashes and rebalances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from kstream.errors import RecordRefused, TopicError
from kstream.partitioning import partition_of
from kstream.testing.clock import ManualClock
from kstream.testing.faults import Faults
from kstream.testing.groups import Group
from kstream.testing.log import MemoryRecord, PartitionLog, Transaction, TransactionState
from kstream.testing.refusals import RECORD_BYTES, content_of, refused_by_broker, too_large
from kstream.testing.topics import DEFAULTS, refuse
from kstream.testing.transactions import TransactionCoordinator
from kstream.types import Clock, Headers, NewTopic, TopicInfo, TopicPartition


class MemoryCluster:
    """Topics, groups and transactions of one cluster.

    Attributes:
        batch_sizes: when set, each poll that has records draws its `max_records` from here (the smaller of the
            two counts, 0 is allowed), until it runs out: how property tests cut the input.
        produce_buffer_limit: when set, `produce` raises BufferError at so many reports not served by `poll`.
        delivery_offsets: False makes delivery reports come without offsets, as after DUPLICATE_SEQUENCE.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = ManualClock() if clock is None else clock
        self.faults = Faults()
        self.batch_sizes: Iterator[int] | None = None
        self.produce_buffer_limit: int | None = None
        self.delivery_offsets = True
        self.transactions = TransactionCoordinator(self._settle)
        self._topics: dict[str, tuple[TopicInfo, list[PartitionLog]]] = {}
        self._groups: dict[str, Group] = {}
        self._may_not_read: set[str] = set()
        self._may_not_write: set[str] = set()
        self._ids: dict[str, str] = {}
        self._made = 0  # topics so far
        self._sequence = 0
        self._round_robin: dict[str, int] = {}

    # topics

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Creates a topic; one that exists is left as it is."""
        if partitions < 1:
            raise TopicError(f"topic {name} cannot have {partitions} partitions")
        if name in self._topics:
            return
        info = TopicInfo(name, partitions, {**DEFAULTS, **(config or {})})
        self._topics[name] = (info, [PartitionLog(TopicPartition(name, p)) for p in range(partitions)])
        self._made += 1
        self._ids[name] = f"topic-{self._made}"

    def create(self, topic: NewTopic) -> None:
        """As `create_topic`. Raises TopicError where a broker would not."""
        refuse(topic)
        self.create_topic(topic.name, topic.partitions, topic.config)

    def add_partitions(self, name: str, partitions: int, *, noticed: bool = True) -> None:
        """The topic has so many from now on. `noticed`: the groups that read it share them out; consumers of a real
        Kafka notice when they next refresh what they know of their topics."""
        info, logs = self._topic(name)
        if partitions <= info.partitions:
            raise TopicError(f"topic {name} has {info.partitions} partitions already, they can only become more")
        logs += [PartitionLog(TopicPartition(name, number)) for number in range(info.partitions, partitions)]
        self._topics[name] = (replace(info, partitions=partitions), logs)
        if noticed:
            for group in self._groups.values():
                group.topic_changed(name)

    def delete_topic(self, name: str) -> None:
        self.topic(name)
        del self._topics[name]

    def configure(self, topic: str, config: Mapping[str, str]) -> None:
        """Changes settings of a topic, as an operator would."""
        info, logs = self._topic(topic)
        self._topics[topic] = replace(info, config={**info.config, **config}), logs

    def deny(self, topic: str, *, read: bool = False, write: bool = False) -> None:
        """Takes the clients' rights to read or write the topic's records; without either, gives both back."""
        for denied, names in ((read, self._may_not_read), (write, self._may_not_write)):
            (names.add if denied else names.discard)(topic)

    def may_read(self, topic: str) -> bool:
        return topic not in self._may_not_read

    def may_write(self, topic: str) -> bool:
        return topic not in self._may_not_write

    def topic(self, name: str) -> TopicInfo:
        return self._topic(name)[0]

    def topic_id(self, name: str) -> str:
        """A topic that is deleted and created again has another."""
        self.topic(name)
        return self._ids[name]

    def topics(self) -> dict[str, TopicInfo]:
        return {name: info for name, (info, _) in self._topics.items()}

    def log(self, at: TopicPartition) -> PartitionLog:
        logs = self._topic(at.topic)[1]
        if not 0 <= at.partition < len(logs):
            raise TopicError(f"topic {at.topic} has {len(logs)} partitions, there is no {at.partition}")
        return logs[at.partition]

    def _topic(self, name: str) -> tuple[TopicInfo, list[PartitionLog]]:
        if name not in self._topics:
            raise TopicError(f"topic {name} does not exist")
        return self._topics[name]

    # records

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
    ) -> MemoryRecord:
        """Writes a record as some other producer would, outside any transaction.

        `timestamp` is in ms since the epoch, None means now. `partition` None: murmur2 of the key chooses, and
        records without a key go round.

        Raises:
            RecordRefused: a broker would not take it.
            TopicError: there is no such topic or partition.
        """
        at = TopicPartition(topic, self.choose_partition(topic, key) if partition is None else partition)
        self.log(at)
        content = content_of(value, key, headers)
        if (code := self.refuses(at, key, timestamp, len(content) + RECORD_BYTES, [content])) is not None:
            raise RecordRefused(code, *at, key, len(content))
        return self.write(at, key, value, timestamp, headers)

    def refuses(
        self, at: TopicPartition, key: bytes | None, timestamp: int | None, size: int, contents: Sequence[bytes]
    ) -> str | None:
        """Kafka's name for why a broker refuses a record, or the batch that ends with it (see `too_large`); None when
        it does not."""
        info = self.topic(at.topic)
        if not self.may_write(at.topic):
            return "TOPIC_AUTHORIZATION_FAILED"
        code = refused_by_broker(info, key, self._now() if timestamp is None else timestamp, self._now())
        return code or ("MSG_SIZE_TOO_LARGE" if too_large(info, size, contents) else None)

    def write(
        self,
        at: TopicPartition,
        key: bytes | None,
        value: bytes | None,
        timestamp: int | None,
        headers: Headers | None,
        transaction: Transaction | None = None,
    ) -> MemoryRecord:
        """Puts a record into the log, without a question."""
        if timestamp is None or self.topic(at.topic).config["message.timestamp.type"] == "LogAppendTime":
            timestamp = self._now()
        return self.log(at).append(key, value, timestamp, headers, self._next_sequence(), transaction)

    def records(self, topic: str, committed: bool = True) -> list[MemoryRecord]:
        """The topic's records in the order they were appended in; without `committed`, open and aborted ones too."""
        found = [
            record
            for log in self._topic(topic)[1]
            for record in log
            if not committed or record.state is TransactionState.COMMITTED
        ]
        return sorted(found, key=lambda record: record.sequence)

    def compact(self, topic: str) -> None:
        """Runs the log cleaner at once: superseded records go, tombstones stay, offsets keep their gaps."""
        for log in self._topic(topic)[1]:
            log.compact()

    def truncate(self, topic: str, partition: int, before: int) -> None:
        """Moves the partition's start to offset `before`."""
        self.log(TopicPartition(topic, partition)).truncate(before)

    def choose_partition(self, topic: str, key: bytes | None) -> int:
        """As the producers' partitioner does: murmur2 of the key, else one after the other."""
        count = self.topic(topic).partitions
        if key is not None:
            return partition_of(key, count)
        turn = self._round_robin.get(topic, 0)
        self._round_robin[topic] = turn + 1
        return turn % count

    def _now(self) -> int:
        return int(self.clock.time() * 1000)

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    # groups and transactions

    def group(self, name: str) -> Group:
        """The group, made on first use."""
        if name not in self._groups:
            self._groups[name] = Group(name, self._partitions_of)
        return self._groups[name]

    def _partitions_of(self, topic: str) -> int:
        return self._topics[topic][0].partitions if topic in self._topics else 0

    def expire(self, member: str) -> None:
        """Ends the member's session: the group rebalances without it; its consumer is told `lost` when it polls."""
        groups = [group for group in self._groups.values() if member in group.members]
        if not groups:
            raise ValueError(f"{member} is in no group")
        for group in groups:
            group.remove(member)

    def time_out_transaction(self, transactional_id: str) -> None:
        """Aborts the id's open transaction as the broker does after `transaction.timeout.ms`: ProducerLost."""
        self.transactions.time_out(transactional_id)

    def _settle(self, transaction: Transaction) -> None:
        for at in transaction.partitions:
            if at.topic in self._topics:  # it may have been deleted meanwhile
                self.log(at).mark_end(transaction, self._now(), self._next_sequence())
        for group in transaction.groups:
            self.group(group).settle(transaction)

    # faults

    def fail_next(self, call: str, error: Exception, *, after: bool = False, skip: int = 0) -> None:
        """Makes the next such call of any client raise `error`, once, before or after it took effect.

        `call` is `commit`, `send_offsets`, ... or, where clients share the name, `consumer.poll`. `skip` calls
        pass first. A producer stays in the state the error implies: of no use after ProducerLost, and only
        fit for `abort` after AbortRequired.
        """
        self.faults.plan(call, error, after=after, skip=skip)
