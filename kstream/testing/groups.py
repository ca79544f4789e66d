"""A consumer group's coordinator in memory: static members, eager `range` assignment, generations, offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from kstream.errors import AbortRequired, KafkaUnavailable
from kstream.testing.log import Transaction, TransactionState
from kstream.types import TopicPartition

METADATA_LIMIT = 4095
"""Characters (UTF-16) of metadata that a committed offset may carry: the broker's offset.metadata.max.bytes of 4096."""


@dataclass(frozen=True, slots=True)
class GroupMetadata:
    """What `ConsumerClient.group_metadata` gives out: under which assignment work was done.

    `incarnation` tells apart the consumers that came one after another under one static member id.
    """

    group: str
    generation: int
    member: str
    incarnation: int


class MetadataTooLarge(Exception):
    """What each client makes an error of its own."""


class Standing(Enum):
    """How the group sees a consumer that believes it is a member."""

    UNKNOWN = "its session ended"
    FENCED = "another consumer has its static id"
    MUST_REJOIN = "a rebalance began and it has not joined yet"
    JOINED = "it waits for the others, or has its assignment"


@dataclass(slots=True)
class _Member:
    incarnation: int
    topics: tuple[str, ...]
    joined: bool = True
    partitions: tuple[TopicPartition, ...] = ()


class Group:
    """One group.

    A rebalance: a member comes, goes or changes its topics -> every member must join again (it gives up its
    partitions first) -> when the last has joined, the generation rises and each has a new assignment.
    """

    def __init__(self, name: str, partitions_of: Callable[[str], int]) -> None:
        self.name = name
        self.generation = 0
        self.stable = True
        self.offsets: dict[TopicPartition, tuple[int, str]] = {}
        self._partitions_of = partitions_of
        self._members: dict[str, _Member] = {}
        self._pending: dict[Transaction, dict[TopicPartition, tuple[int, str]]] = {}
        self._incarnations = 0

    # membership

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(sorted(self._members))

    def assignment(self, member: str) -> tuple[TopicPartition, ...]:
        return self._members[member].partitions

    def standing(self, member: str, incarnation: int) -> Standing:
        known = self._members.get(member)
        if known is None:
            return Standing.UNKNOWN
        if known.incarnation != incarnation:
            return Standing.FENCED
        return Standing.JOINED if known.joined else Standing.MUST_REJOIN

    def join(self, member: str, topics: tuple[str, ...]) -> int:
        """A consumer comes in; returns its incarnation.

        The same static id with the same topics in a quiet group takes over the assignment, without a rebalance.
        """
        self._incarnations += 1
        known = self._members.get(member)
        if known is not None and self.stable and known.topics == topics:
            known.incarnation = self._incarnations
            return self._incarnations
        if self.stable:
            self._begin_rebalance()
        self._members[member] = _Member(self._incarnations, topics)
        self._complete_rebalance()
        return self._incarnations

    def rejoin(self, member: str, topics: tuple[str, ...]) -> None:
        """A member has given up its partitions and takes part in the rebalance."""
        known = self._members[member]
        known.topics, known.joined = topics, True
        self._complete_rebalance()

    def remove(self, member: str) -> None:
        """The member's session ended, or it was removed."""
        del self._members[member]
        if self.stable:
            self._begin_rebalance()
        self._complete_rebalance()

    def topic_changed(self, topic: str) -> None:
        """Partitions were added to it, or all came or went: they are shared out anew where it is read."""
        if self.stable and any(topic in member.topics for member in self._members.values()):
            self._begin_rebalance()

    def _begin_rebalance(self) -> None:
        self.stable = False
        for member in self._members.values():
            member.joined = False

    def _complete_rebalance(self) -> None:
        if not all(member.joined for member in self._members.values()):
            return
        self.generation += 1
        self.stable = True
        assigned = self._range()
        for name, member in self._members.items():
            member.partitions = tuple(assigned[name])

    def _range(self) -> dict[str, list[TopicPartition]]:
        """Kafka's RangeAssignor: of each topic a run of partitions each, the first members get one more."""
        assigned: dict[str, list[TopicPartition]] = {name: [] for name in self._members}
        for topic in sorted({topic for member in self._members.values() for topic in member.topics}):
            readers = [name for name in self.members if topic in self._members[name].topics]
            share, more = divmod(self._partitions_of(topic), len(readers))
            start = 0
            for index, name in enumerate(readers):
                stop = start + share + (index < more)
                assigned[name] += [TopicPartition(topic, partition) for partition in range(start, stop)]
                start = stop
        return assigned

    # offsets

    def validate(self, metadata: GroupMetadata) -> None:
        """What the coordinator checks, and no more: fresh metadata passes for any partition, owned or not."""
        if metadata.generation < 0 and not self._members:
            return  # of a consumer that has not joined, as of one outside any group: nobody is there to be protected
        standing = self.standing(metadata.member, metadata.incarnation)
        if standing is Standing.UNKNOWN:
            raise AbortRequired(f"UNKNOWN_MEMBER_ID: {metadata.member} is not in group {self.name}")
        if standing is Standing.FENCED:
            raise AbortRequired(f"FENCED_INSTANCE_ID: {metadata.member} of group {self.name} was replaced")
        if metadata.generation != self.generation:
            raise AbortRequired(
                f"ILLEGAL_GENERATION: group {self.name} is at {self.generation}, not {metadata.generation}"
            )

    def commit(self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str]) -> None:
        """Commits outside any transaction (at least once)."""
        self.offsets.update(_with_metadata(offsets, metadata))

    def add_pending(
        self, transaction: Transaction, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str]
    ) -> None:
        self._pending.setdefault(transaction, {}).update(_with_metadata(offsets, metadata))
        transaction.groups[self.name] = None

    def settle(self, transaction: Transaction) -> None:
        """The transaction ended: its offsets count, or are forgotten."""
        offsets = self._pending.pop(transaction)
        if transaction.state is TransactionState.COMMITTED:
            self.offsets.update(offsets)

    def committed(
        self, partitions: Iterable[TopicPartition], *, stable: bool = True
    ) -> dict[TopicPartition, tuple[int, str] | None]:
        """Raises AbortRequired while a transaction on one of them is open, if they are to be stable, and
        KafkaUnavailable, as the client's refusal is told, where one is asked for twice."""
        wanted = tuple(partitions)
        if len(set(wanted)) < len(wanted):
            raise KafkaUnavailable("_INVALID_ARG: Duplicate partitions not allowed")
        for transaction, offsets in self._pending.items() if stable else ():
            unstable = [str(at) for at in wanted if at in offsets]
            if unstable:
                raise AbortRequired(
                    f"UNSTABLE_OFFSET_COMMIT: a transaction is pending on {', '.join(unstable)}: {transaction.producer}"
                )
        return {at: self.offsets.get(at) for at in wanted}


def _with_metadata(
    offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str]
) -> dict[TopicPartition, tuple[int, str]]:
    if not offsets:
        raise ValueError("no offsets: Kafka takes that for a no-op and fences nobody")
    for at, text in metadata.items():
        if len(text.encode("utf-16-le")) > 2 * METADATA_LIMIT:
            raise MetadataTooLarge(f"OFFSET_METADATA_TOO_LARGE: that of {at} has more than {METADATA_LIMIT} characters")
    return {TopicPartition(*at): (offset, metadata.get(at, "")) for at, offset in offsets.items()}
