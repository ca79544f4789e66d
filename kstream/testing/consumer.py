"""Consumers on a MemoryCluster: a reader of given partitions, and a member of a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kstream.errors import InstanceFenced, KafkaUnavailable, PartitionUnreadable, StateError, TopicError
from kstream.testing.cluster import MemoryCluster
from kstream.testing.fetch import MemoryFetch
from kstream.testing.groups import Group, GroupMetadata, MetadataTooLarge, Standing
from kstream.types import BEGINNING, END, Polled, RebalanceListener, TopicPartition


@dataclass(slots=True)
class _Position:
    """Where a partition is read. `end_told` is the offset at which its end was reported last."""

    offset: int
    paused: bool
    end_told: int | None = None


class MemoryConsumer:
    """A `types.ConsumerClient`, read committed. Without a group (`group` None) it only takes `assign`.

    A poll takes a run of each partition in turn, and the next poll begins with the next partition. A position
    outside the log starts again at the log's beginning (`auto.offset.reset=earliest`); for a reader it is a StateError.
    """

    def __init__(self, cluster: MemoryCluster, group: str | None = None, member: str = "") -> None:
        self._cluster = cluster
        self._group = None if group is None else cluster.group(group)
        self._member = member
        self._topics: tuple[str, ...] = ()
        self._missing: tuple[str, ...] = ()
        self._listener: RebalanceListener | None = None
        self._incarnation: int | None = None
        self._generation = -1
        self._positions: dict[TopicPartition, _Position] = {}
        self._watermarks: dict[TopicPartition, int] = {}
        self._turn = 0
        self._closed = False

    # what to read

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        """The group is joined by the next poll."""
        self._check()
        if self._group is None:
            raise RuntimeError("a reader has no group: use assign")
        self._topics, self._listener = tuple(sorted(topics)), listener

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._check()
        if self._listener is not None:
            raise RuntimeError("this consumer is subscribed: its group assigns")
        self._place(positions, paused=False)

    def _place(self, positions: Mapping[TopicPartition, int], paused: bool) -> None:
        self._positions = {
            TopicPartition(*at): _Position(self._resolve(TopicPartition(*at), offset), paused)
            for at, offset in positions.items()
        }

    def _resolve(self, at: TopicPartition, offset: int) -> int:
        if offset == BEGINNING:
            return self._cluster.log(at).start
        if offset == END:
            return self._cluster.log(at).stable_end
        if offset < 0:
            raise ValueError(f"{offset} is no offset to read {at} from")
        return offset

    # reading

    def poll(self, max_records: int, timeout: float) -> Polled:
        self._check()
        with self._cluster.faults.around("consumer.poll"):
            if self._listener is not None and not self._follow_group(self._listener):
                return Polled()
            return self._fetch(max_records)

    def _fetch(self, max_records: int) -> Polled:
        fetches: list[MemoryFetch] = []
        ends: dict[TopicPartition, int] = {}
        active = self._active()
        for at in active:  # before any is read: nothing may get lost
            if not self._cluster.may_read(at.topic):
                raise TopicError(f"topic {at.topic}: TOPIC_AUTHORIZATION_FAILED: this user may not read it", at.topic)
        unreadable: PartitionUnreadable | None = None
        left = self._cut(max_records, active)
        for at in active:
            position, log = self._positions[at], self._cluster.log(at)
            if not log.start <= position.offset <= log.end:
                if self._group is None:
                    raise StateError(f"{at} has no offset {position.offset}: it holds {log.start} to {log.end}")
                position.offset = log.start
            self._watermarks[at] = log.end
            if log.spoilt == position.offset:
                unreadable = PartitionUnreadable(*at, position.offset, "it is spoilt")
            records, position.offset = log.read(position.offset, left)
            if records:
                fetches.append(MemoryFetch(records))
                left -= len(records)
            if left > 0 and position.offset >= log.stable_end and position.end_told != position.offset:
                ends[at] = position.end_told = position.offset
        if unreadable is not None and not fetches and not ends:
            raise unreadable
        if fetches:
            self._turn += 1
        return Polled(tuple(fetches), ends)

    def _active(self) -> list[TopicPartition]:
        """The partitions that are not paused, each time beginning with another one."""
        active = sorted(at for at, position in self._positions.items() if not position.paused)
        first = self._turn % len(active) if active else 0
        return active[first:] + active[:first]

    def _cut(self, max_records: int, active: Sequence[TopicPartition]) -> int:
        sizes = self._cluster.batch_sizes
        if sizes is None or not any(self._cluster.log(at).read(self._positions[at].offset, 1)[0] for at in active):
            return max_records
        return min(max_records, next(sizes, max_records))

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._check()
        for at in partitions:
            if at in self._positions:
                self._positions[at].paused = True

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._check()
        for at in partitions:
            position = self._positions.get(at)
            if position is not None and position.paused:
                position.paused, position.end_told = False, None  # fetching starts anew, so the end is told anew

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        self._check()
        with self._cluster.faults.around("consumer.seek"):
            for at, offset in positions.items():
                if at not in self._positions:
                    raise RuntimeError(f"{at} is not assigned, so there is nothing to seek (inside `assigned` too)")
                position = self._positions[at]
                position.offset, position.end_told = self._resolve(at, offset), None

    def high_watermark(self, at: TopicPartition) -> int | None:
        return self._watermarks.get(at)

    # the group

    def group_metadata(self) -> GroupMetadata:
        self._check()
        if self._group is None:
            raise RuntimeError("a reader has no group")
        return GroupMetadata(self._group.name, self._generation, self._member, self._incarnation or 0)

    def commit(self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str]) -> None:
        """Commits offsets outside any transaction, with the current generation (at least once)."""
        self._check()
        if not offsets:
            return
        with self._cluster.faults.around("consumer.commit"):
            current = self.group_metadata()
            group = self._cluster.group(current.group)
            group.validate(current)
            for at in offsets:
                self._cluster.log(at)
            try:
                group.commit(offsets, metadata)
            except MetadataTooLarge as error:
                raise KafkaUnavailable(f"commit of offsets: {error}") from error

    def close(self) -> None:
        """A static member stays in its group until its session ends (`MemoryCluster.expire`) or it comes back."""
        self._closed = True
        self._positions, self._watermarks = {}, {}

    def _check(self) -> None:
        if self._closed:
            raise KafkaUnavailable("the consumer is closed")
        if self._standing() is Standing.FENCED:
            raise InstanceFenced(f"another process runs under the same identity: it joined as {self._member}")

    def _standing(self) -> Standing | None:
        """None before the group was joined."""
        if self._group is None or self._incarnation is None:
            return None
        return self._group.standing(self._member, self._incarnation)

    def _follow_group(self, listener: RebalanceListener) -> bool:
        """Takes part in rebalances: revoked or lost, join, assigned. False: others have yet to join."""
        group = self._group
        assert group is not None
        self._look_for_topics(group)
        standing = self._standing()
        if standing is Standing.MUST_REJOIN:
            try:
                self._give_up(listener.revoked)
            finally:
                group.rejoin(self._member, self._topics)
        elif standing in (None, Standing.UNKNOWN):
            self._generation = -1
            try:
                self._give_up(listener.lost)
            finally:
                self._incarnation = group.join(self._member, self._topics)
        if not group.stable:
            return False
        if self._generation != group.generation:
            self._generation = group.generation
            self._take(group.assignment(self._member), listener)
        return True

    def _look_for_topics(self, group: Group) -> None:
        """What is gone is told once, and its partitions leave with a rebalance; they come back with the topic."""
        missing = tuple(topic for topic in self._topics if topic not in self._cluster.topics())
        if missing == self._missing:
            return
        before, self._missing = self._missing, missing
        for topic in {*before, *missing}:
            group.topic_changed(topic)
        for topic in missing:
            if topic not in before:
                raise TopicError(f"topic {topic}: UNKNOWN_TOPIC_OR_PART: it does not exist", topic)

    def _give_up(self, tell: Callable[[Sequence[TopicPartition]], None]) -> None:
        """Tells of the partitions that go, while they still count as assigned; then they are gone."""
        try:
            if self._positions:
                tell(tuple(self._positions))
        finally:
            self._positions = {}
            self._watermarks = {}

    def _take(self, partitions: Sequence[TopicPartition], listener: RebalanceListener) -> None:
        """All are told of, an empty assignment too, and start paused; that they do whatever the listener raises."""
        starts: Mapping[TopicPartition, int] = {}
        try:
            starts = listener.assigned(partitions)
            if set(starts) != set(partitions):
                raise ValueError(f"assigned {partitions} but was told to start {tuple(starts)}")
        finally:
            self._place({at: starts.get(at, BEGINNING) for at in partitions}, paused=True)
