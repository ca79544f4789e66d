"""Consumer groups of the in-memory cluster: rebalances, static members, sessions that end, committed offsets.

Here is what only it has: an order that a test decides, faults, what a test looks into. What it shares with the real one
is in tests/conformance.
"""

from collections.abc import Callable, Mapping, Sequence

import pytest

from kstream.errors import AbortRequired, InstanceFenced
from kstream.testing.clients import MemoryClients
from kstream.testing.cluster import MemoryCluster
from kstream.testing.consumer import MemoryConsumer
from kstream.types import Polled, TopicPartition

Event = tuple[str, str, list[int]]


class Listener:
    """Notes what it hears and starts everything at its committed offset, or at 0."""

    def __init__(self, name: str, events: list[Event], start: int = 0) -> None:
        self.name, self.events, self.start = name, events, start
        self.on_revoked: Callable[[], None] = lambda: None

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.events.append((self.name, "assigned", [at.partition for at in partitions]))
        return dict.fromkeys(partitions, self.start)

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.events.append((self.name, "revoked", [at.partition for at in partitions]))
        self.on_revoked()

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.events.append((self.name, "lost", [at.partition for at in partitions]))


class Fixture:
    def __init__(self, partitions: int = 4) -> None:
        self.cluster = MemoryCluster()
        self.cluster.create_topic("t", partitions)
        self.clients = MemoryClients(self.cluster)
        self.events: list[Event] = []

    def member(self, name: str, *topics: str) -> tuple[MemoryConsumer, Listener]:
        consumer, listener = self.clients.consumer("g", name), Listener(name, self.events)
        consumer.subscribe(topics or ("t",), listener)
        return consumer, listener

    def heard(self) -> list[Event]:
        events, self.events[:] = list(self.events), []
        return events


@pytest.fixture
def g() -> Fixture:
    return Fixture()


def poll(*consumers: MemoryConsumer) -> list[Polled]:
    return [consumer.poll(100, 0.0) for consumer in consumers]


def at(partition: int) -> TopicPartition:
    return TopicPartition("t", partition)


def test_alone_a_member_gets_everything_at_its_first_poll_and_paused(g: Fixture) -> None:
    a, _ = g.member("a")
    g.cluster.append("t", None, b"v", partition=0)
    assert g.heard() == []
    assert poll(a) == [Polled()]
    assert g.heard() == [("a", "assigned", [0, 1, 2, 3])]
    assert poll(a) == [Polled()], "all are paused until resumed"
    a.resume([at(0)])
    [polled] = poll(a)
    assert polled.fetches[0].values() == [b"v"]
    assert polled.ends == {at(0): 1}


def test_a_join_revokes_everywhere_before_it_assigns(g: Fixture) -> None:
    a, _ = g.member("a")
    poll(a)
    b, _ = g.member("b")
    assert poll(b) == [Polled()], "b waits for a"
    g.heard()
    poll(a)
    assert g.heard() == [("a", "revoked", [0, 1, 2, 3]), ("a", "assigned", [0, 1])]
    poll(b)
    assert g.heard() == [("b", "assigned", [2, 3])]
    poll(a, b)
    assert g.heard() == []


def test_an_expired_member_no_longer_holds_up_a_rebalance(g: Fixture) -> None:
    a, _ = g.member("a")
    poll(a)
    b, _ = g.member("b")
    poll(b)
    g.cluster.expire("a")  # a hangs and never polls
    poll(b)
    assert g.heard()[-1] == ("b", "assigned", [0, 1, 2, 3])
    with pytest.raises(ValueError, match="in no group"):
        g.cluster.expire("a")


def test_a_restart_under_the_same_static_id_takes_over_without_rebalance(g: Fixture) -> None:
    a, _ = g.member("a")
    b, _ = g.member("b")
    poll(a, b, a, b)
    generation = g.cluster.group("g").generation
    g.heard()
    again, _ = g.member("b")
    poll(again, a)
    assert g.heard() == [("b", "assigned", [2, 3])]
    assert g.cluster.group("g").generation == generation
    with pytest.raises(InstanceFenced):
        b.poll(1, 0.0)
    with pytest.raises(InstanceFenced):
        b.group_metadata()
    b.close()


def test_a_restart_with_other_topics_rebalances(g: Fixture) -> None:
    g.cluster.create_topic("u", 2)
    a, _ = g.member("a")
    b, _ = g.member("b")
    poll(a, b, a, b)
    generation = g.cluster.group("g").generation
    again, _ = g.member("b", "t", "u")
    poll(again, a, again)
    assert g.cluster.group("g").generation == generation + 1
    assert TopicPartition("u", 1) in g.cluster.group("g").assignment("b")


def test_a_closed_member_keeps_its_partitions_until_its_session_ends(g: Fixture) -> None:
    a, _ = g.member("a")
    b, _ = g.member("b")
    poll(a, b, a, b)
    b.close()
    poll(a)
    assert g.cluster.group("g").assignment("b") == (at(2), at(3))
    g.cluster.expire("b")
    poll(a)
    assert g.cluster.group("g").assignment("a") == (at(0), at(1), at(2), at(3))


def test_committing_while_revoked_counts_and_metadata_is_stale_afterwards(g: Fixture) -> None:
    a, listener = g.member("a")
    poll(a)
    old = a.group_metadata()
    listener.on_revoked = lambda: a.commit({at(3): 7}, {at(3): "m"})
    b, _ = g.member("b")
    poll(b, a, b)
    assert g.clients.admin().committed("g", [at(3), at(0)]).result() == {at(3): (7, "m"), at(0): None}
    group = g.cluster.group("g")
    with pytest.raises(AbortRequired, match="ILLEGAL_GENERATION"):
        group.validate(old)
    group.validate(a.group_metadata())
    a.commit({at(3): 8}, {})  # fresh metadata passes for b's partition too, as in Kafka
    assert group.offsets[at(3)] == (8, "")


def test_assigned_must_answer_for_every_partition_and_cannot_seek(g: Fixture) -> None:
    a, listener = g.member("a")

    def seeks(partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        a.seek(dict.fromkeys(partitions, 0))
        return {}

    listener.assigned = seeks  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="not assigned"):
        poll(a)
    listener.assigned = lambda partitions: {}  # type: ignore[method-assign]
    g.cluster.expire("a")
    with pytest.raises(ValueError, match="was told to start"):
        poll(a)


def test_misuse(g: Fixture) -> None:
    a, listener = g.member("a")
    with pytest.raises(RuntimeError, match="its group assigns"):
        a.assign({})
    with pytest.raises(RuntimeError, match="use assign"):
        g.clients.reader().subscribe(["t"], listener)
    g.member("b")[0].poll(1, 0.0)
    with pytest.raises(AbortRequired, match="UNKNOWN_MEMBER_ID"):
        a.commit({at(0): 1}, {})
