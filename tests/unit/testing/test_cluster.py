"""The in-memory cluster: logs, topics, readers, admin, planned faults. No group, no transaction.

Here is what only it has: an order that a test decides, faults, what a test looks into. What it shares with the real one
is in tests/conformance.
"""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream import types
from kstream.errors import AbortRequired, KafkaUnavailable, StateError, TopicError
from kstream.partitioning import partition_of
from kstream.testing.clients import MemoryClients
from kstream.testing.clock import ManualClock
from kstream.testing.cluster import MemoryCluster
from kstream.types import BEGINNING, END, NewTopic, Polled, TopicPartition

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
def cluster() -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.create_topic("t", 2)
    return cluster


def fill(cluster: MemoryCluster, *values: bytes, partition: int = 0) -> None:
    for value in values:
        cluster.append("t", b"k", value, partition=partition)


def reader(cluster: MemoryCluster, **positions: int) -> types.ConsumerClient:
    consumer = MemoryClients(cluster).reader()
    consumer.assign({P0: positions.get("p0", BEGINNING), P1: positions.get("p1", BEGINNING)})
    return consumer


def values(polled: Polled) -> list[bytes | None]:
    return [value for fetch in polled.fetches for value in fetch.values()]


def test_clients_are_those_of_the_protocols(cluster: MemoryCluster) -> None:
    clients: types.Clients = MemoryClients(cluster)  # mypy checks every method here
    clock: types.Clock = ManualClock()
    assert clients.admin().topics(1.0) == {"t": types.TopicInfo("t", 2)}
    assert clock.monotonic() == 0.0


def test_clock_moves_when_told() -> None:
    clock = ManualClock(100.0)
    clock.advance(2.5)
    assert (clock.time(), clock.monotonic()) == (102.5, 2.5)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


def test_append_partitions_as_java_does_and_turns_round_without_key(cluster: MemoryCluster) -> None:
    for key in (b"a", b"b", b"c", None, None, None):
        cluster.append("t", key, b"v")
    partitions = [record.partition for record in cluster.records("t")]
    assert partitions == [*(partition_of(key, 2) for key in (b"a", b"b", b"c")), 0, 1, 0]


def test_append_keeps_everything_given_and_stamps_the_rest(cluster: MemoryCluster) -> None:
    cluster.append("t", b"k", None, 5, [("h", b"1")], partition=1)
    cluster.append("t", b"k", b"v", partition=1)
    first, second = cluster.records("t")
    assert (first.offset, first.timestamp, first.key, first.value, first.headers) == (0, 5, b"k", None, [("h", b"1")])
    assert (second.offset, second.timestamp, second.producer) == (1, 1_700_000_000_000, None)


def test_unknown_topic_or_partition(cluster: MemoryCluster) -> None:
    with pytest.raises(TopicError, match="does not exist"):
        cluster.append("nope", None, None)
    with pytest.raises(TopicError, match="there is no 2"):
        cluster.append("t", None, None, partition=2)


def test_poll_honours_max_records_and_takes_partitions_in_turn(cluster: MemoryCluster) -> None:
    fill(cluster, b"a", b"b", b"c")
    fill(cluster, b"x", b"y", b"z", partition=1)
    consumer = reader(cluster)
    assert [values(consumer.poll(2, 0.0)) for _ in range(4)] == [[b"a", b"b"], [b"x", b"y"], [b"c", b"z"], []]


def test_end_is_told_once_and_again_after_new_data_seek_or_resume(cluster: MemoryCluster) -> None:
    consumer = reader(cluster)
    assert consumer.poll(10, 0.0).ends == {P0: 0, P1: 0}
    assert consumer.poll(10, 0.0).ends == {}
    fill(cluster, b"a")
    assert consumer.poll(1, 0.0).ends == {}, "no room was left in this poll"
    assert consumer.poll(1, 0.0).ends == {P0: 1}
    consumer.seek({P0: 1})
    assert consumer.poll(1, 0.0).ends == {P0: 1}
    consumer.resume([P0])
    assert consumer.poll(1, 0.0).ends == {}, "it was not paused"
    consumer.pause([P0])
    consumer.resume([P0])
    assert consumer.poll(1, 0.0).ends == {P0: 1}


def test_seek_and_logical_offsets(cluster: MemoryCluster) -> None:
    fill(cluster, b"a", b"b", b"c")
    consumer = reader(cluster, p0=END)
    assert values(consumer.poll(9, 0.0)) == []
    consumer.seek({P0: 1})
    assert values(consumer.poll(9, 0.0)) == [b"b", b"c"]
    consumer.seek({P0: BEGINNING})
    assert values(consumer.poll(1, 0.0)) == [b"a"]
    with pytest.raises(RuntimeError, match="not assigned"):
        consumer.seek({TopicPartition("t", 7): 0})
    with pytest.raises(ValueError, match="no offset"):
        consumer.seek({P0: -1001})


def test_compaction_leaves_the_last_of_each_key_gaps_and_tombstones(cluster: MemoryCluster) -> None:
    for key, value in [(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None), (None, b"x")]:
        cluster.append("t", key, value, partition=0)
    cluster.compact("t")
    assert [(r.offset, r.key, r.value) for r in cluster.records("t")] == [
        (2, b"a", b"2"),
        (3, b"b", None),
        (4, None, b"x"),
    ]
    polled = reader(cluster, p0=1).poll(9, 0.0)
    assert (polled.fetches[0].offsets(), polled.ends[P0]) == ([2, 3, 4], 5)


def test_truncation_moves_the_start_and_readers_below_it(cluster: MemoryCluster) -> None:
    fill(cluster, b"a", b"b", b"c")
    cluster.truncate("t", 0, 2)
    assert values(reader(cluster, p0=2).poll(9, 0.0)) == [b"c"]
    for outside in (0, 99):
        with pytest.raises(StateError, match="it holds 2 to 3"):
            reader(cluster, p0=outside).poll(9, 0.0)
    assert MemoryClients(cluster).admin().start_offsets([P0]).result() == {P0: 2}
    with pytest.raises(ValueError, match="ends at 3"):
        cluster.truncate("t", 0, 4)


def test_admin(cluster: MemoryCluster) -> None:
    admin = MemoryClients(cluster).admin()
    admin.create_topics([NewTopic("log", 3, 1, {"cleanup.policy": "compact"}), NewTopic("t", 9)], 1.0)
    assert {name: info.partitions for name, info in admin.topics(1.0).items()} == {"t": 2, "log": 3}
    configs = admin.topic_configs(["log", "t"], 1.0)
    assert (configs["log"]["cleanup.policy"], configs["t"]["cleanup.policy"]) == ("compact", "delete")
    assert configs["log"]["retention.ms"] == "604800000"
    fill(cluster, b"a", b"b")
    admin.delete_records({P0: 1, P1: END}).result()
    assert admin.start_offsets([P0, P1]).result() == {P0: 1, P1: 0}
    assert admin.end_offsets([P0, P1]).result() == {P0: 2, P1: 0}
    assert isinstance(admin.delete_records({P0: 3}).exception(), KafkaUnavailable)
    assert admin.committed("g", [P0]).result() == {P0: None}
    admin.delete_topics(["t"], 1.0)
    with pytest.raises(TopicError):
        admin.topic_configs(["t"], 1.0)


def test_planned_faults_strike_once_before_or_after_and_in_futures(cluster: MemoryCluster) -> None:
    admin = MemoryClients(cluster).admin()
    cluster.fail_next("topics", KafkaUnavailable("down"), skip=1)
    admin.topics(1.0)
    with pytest.raises(KafkaUnavailable):
        admin.topics(1.0)
    admin.topics(1.0)
    cluster.fail_next("create_topics", KafkaUnavailable("timed out"), after=True)
    with pytest.raises(KafkaUnavailable):
        admin.create_topics([NewTopic("made", 1)], 1.0)
    assert "made" in admin.topics(1.0)
    cluster.fail_next("committed", AbortRequired("unstable"))
    assert isinstance(admin.committed("g", [P0]).exception(), AbortRequired)
    cluster.fail_next("consumer.poll", KafkaUnavailable("gone"))
    with pytest.raises(KafkaUnavailable):
        reader(cluster).poll(1, 0.0)
    with pytest.raises(ValueError, match="no client has"):
        cluster.fail_next("comit", KafkaUnavailable(""))


def test_a_reader_has_no_group_and_a_closed_one_nothing(cluster: MemoryCluster) -> None:
    consumer = reader(cluster)
    with pytest.raises(RuntimeError):
        consumer.group_metadata()
    consumer.close()
    with pytest.raises(KafkaUnavailable, match="closed"):
        consumer.poll(1, 0.0)


@given(
    appended=st.lists(st.integers(0, 1), max_size=30),
    sizes=st.lists(st.integers(0, 5), max_size=40),
    limit=st.integers(1, 7),
)
def test_any_cutting_brings_every_partition_whole_and_in_order(
    appended: Sequence[int], sizes: Sequence[int], limit: int
) -> None:
    cluster = MemoryCluster()
    cluster.create_topic("t", 2)
    for n, partition in enumerate(appended):
        cluster.append("t", None, b"%d" % n, partition=partition)
    cluster.batch_sizes = iter(sizes)
    consumer = reader(cluster)
    seen: dict[TopicPartition, list[int]] = {P0: [], P1: []}
    for _ in range(len(sizes) + len(appended) + 2):
        polled = consumer.poll(limit, 0.0)
        assert sum(len(fetch) for fetch in polled.fetches) <= limit
        for fetch in polled.fetches:
            seen[fetch.at] += fetch.offsets()
    assert seen == {P0: list(range(appended.count(0))), P1: list(range(appended.count(1)))}
