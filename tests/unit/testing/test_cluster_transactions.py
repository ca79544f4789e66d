"""Producers of the in-memory cluster: visibility, markers, offsets in transactions, fencing, failures.

Here is what only it has: an order that a test decides, faults, what a test looks into. What it shares with the real one
is in tests/conformance.
"""

import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.errors import AbortRequired, ProducerLost
from kstream.testing.clients import MemoryClients
from kstream.testing.cluster import MemoryCluster
from kstream.testing.consumer import MemoryConsumer
from kstream.testing.groups import GroupMetadata
from kstream.testing.producer import MemoryProducer
from kstream.types import BEGINNING, END, TopicPartition

AT = TopicPartition("t", 0)


@pytest.fixture
def cluster() -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.create_topic("t")
    return cluster


def producer(cluster: MemoryCluster, name: str = "x") -> MemoryProducer:
    made = MemoryClients(cluster).producer(name)
    made.init_transactions(1.0)
    return made


def reader(cluster: MemoryCluster, position: int = BEGINNING) -> MemoryConsumer:
    made = MemoryClients(cluster).reader()
    made.assign({AT: position})
    return made


def seen(cluster: MemoryCluster) -> list[bytes | None]:
    return [value for fetch in reader(cluster).poll(1000, 0.0).fetches for value in fetch.values()]


class Whatever:
    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def revoked(self, partitions: Sequence[TopicPartition]) -> None: ...
    def lost(self, partitions: Sequence[TopicPartition]) -> None: ...


def metadata(cluster: MemoryCluster, member: str = "m") -> GroupMetadata:
    consumer = MemoryClients(cluster).consumer("g", member)
    consumer.subscribe(["t"], Whatever())
    consumer.poll(1, 0.0)
    return consumer.group_metadata()


def test_records_show_up_at_commit_and_the_marker_takes_an_offset(cluster: MemoryCluster) -> None:
    p, consumer = producer(cluster), reader(cluster)
    p.begin()
    p.produce("t", b"1", b"k", 0, None, None, 5, [("h", None)])
    p.produce("t", b"2", b"k")
    cluster.append("t", b"k", b"outside")
    polled = consumer.poll(9, 0.0)
    assert (polled.fetches, polled.ends) == ((), {AT: 0}), "the end is the last stable offset"
    assert [r.value for r in cluster.records("t")] == [b"outside"]
    assert [r.value for r in cluster.records("t", committed=False)] == [b"1", b"2", b"outside"]
    p.commit(1.0)
    polled = consumer.poll(9, 0.0)
    assert (polled.fetches[0].offsets(), polled.ends) == ([0, 1, 2], {AT: 4})
    first = cluster.records("t")[0]
    assert (first.timestamp, first.headers, first.producer) == (5, [("h", None)], "x")


def test_aborted_records_leave_gaps_and_the_end_is_told_again(cluster: MemoryCluster) -> None:
    p, consumer = producer(cluster), reader(cluster)
    p.begin()
    p.produce("t", b"1", b"k")
    assert consumer.poll(9, 0.0).ends == {AT: 0}
    p.abort(1.0)
    polled = consumer.poll(9, 0.0)
    assert (polled.fetches, polled.ends) == ((), {AT: 2})
    p.begin()
    p.produce("t", b"2", b"k")
    p.commit(1.0)
    assert consumer.poll(9, 0.0).fetches[0].offsets() == [2]
    cluster.compact("t")
    assert [r.offset for r in cluster.records("t", committed=False)] == [2]


def test_compaction_stops_at_an_open_transaction(cluster: MemoryCluster) -> None:
    cluster.append("t", b"k", b"1")
    p = producer(cluster)
    p.begin()
    p.produce("t", b"2", b"k")
    cluster.append("t", b"k", b"3")
    cluster.compact("t")
    assert [r.value for r in cluster.records("t", committed=False)] == [b"1", b"2", b"3"]
    p.commit(1.0)
    cluster.compact("t")
    assert [r.value for r in cluster.records("t", committed=False)] == [b"3"]


def test_stale_metadata_needs_an_abort_and_the_producer_stays_good(cluster: MemoryCluster) -> None:
    stale, p = metadata(cluster), producer(cluster)
    fresh = metadata(cluster)  # a restart under the same static id
    p.begin()
    p.produce("t", b"1", b"k")
    with pytest.raises(AbortRequired, match="FENCED_INSTANCE_ID"):
        p.send_offsets({AT: 1}, {}, stale)
    with pytest.raises(AbortRequired):
        p.commit(1.0)
    p.poll()
    p.abort(1.0)
    p.begin()
    p.send_offsets({AT: 1}, {}, fresh)
    p.commit(1.0)
    cluster.expire("m")
    p.begin()
    with pytest.raises(AbortRequired, match="UNKNOWN_MEMBER_ID"):
        p.send_offsets({AT: 1}, {}, fresh)


def test_offsets_that_are_programming_errors(cluster: MemoryCluster) -> None:
    group, p = metadata(cluster), producer(cluster)
    p.begin()
    with pytest.raises(ValueError, match="no offsets"):
        p.send_offsets({}, {}, group)
    with pytest.raises(TypeError, match="group metadata"):
        p.send_offsets({AT: 1}, {}, "g")


def test_a_transaction_that_times_out_costs_the_producer(cluster: MemoryCluster) -> None:
    p = producer(cluster)
    with pytest.raises(ValueError, match="no open transaction"):
        cluster.time_out_transaction("x")
    p.begin()
    p.produce("t", b"1", b"k")
    cluster.time_out_transaction("x")
    with pytest.raises(ProducerLost):
        p.commit(1.0)
    assert seen(cluster) == []


def test_a_dead_producer_holds_readers_up_until_its_successor_comes(cluster: MemoryCluster) -> None:
    p = producer(cluster)
    p.begin()
    p.produce("t", b"1", b"k")
    p.close()
    cluster.append("t", b"k", b"2")
    assert seen(cluster) == []
    at_end = reader(cluster, END)
    assert at_end.poll(9, 0.0).ends == {AT: 0}, "read committed, the end is the last stable offset"
    assert MemoryClients(cluster).admin().end_offsets([AT]).result() == {AT: 2}
    producer(cluster)
    assert seen(cluster) == [b"2"]


@pytest.mark.parametrize(("after", "expected"), [(False, []), (True, [b"1"])])
def test_a_lost_commit_may_have_taken_effect(cluster: MemoryCluster, after: bool, expected: list[bytes]) -> None:
    p = producer(cluster)
    p.begin()
    p.produce("t", b"1", b"k")
    cluster.fail_next("commit", ProducerLost("timed out"), after=after)
    with pytest.raises(ProducerLost):
        p.commit(1.0)
    with pytest.raises(ProducerLost, match="begin after: timed out"):
        p.begin()
    producer(cluster)
    assert seen(cluster) == expected


def test_delivery_reports_are_served_by_poll_flush_and_commit_and_purged_by_abort(cluster: MemoryCluster) -> None:
    p, reports = producer(cluster), list[int | None]()
    p.begin()
    p.produce_watched("t", b"1", b"k", 0, lambda offset, _: reports.append(offset))
    assert reports == []
    p.poll()
    p.produce_watched("t", b"2", b"k", -1, lambda offset, _: reports.append(offset))
    p.flush(1.0)
    p.produce_watched("t", b"3", b"k", 0, lambda offset, _: reports.append(offset))
    p.commit(1.0)
    assert reports == [0, 1, 2]
    p.begin()
    p.produce_watched("t", b"4", b"k", 0, lambda offset, _: reports.append(offset))
    p.abort(1.0)
    p.poll()
    assert reports == [0, 1, 2]
    cluster.delivery_offsets = False
    p.begin()
    p.produce_watched("t", b"5", b"k", 0, lambda offset, _: reports.append(offset))
    p.commit(1.0)
    assert reports[3:] == [None]


def test_a_full_buffer_is_emptied_by_poll(cluster: MemoryCluster) -> None:
    cluster.produce_buffer_limit = 1
    p = producer(cluster)
    p.begin()
    p.produce("t", b"1", b"k")
    with pytest.raises(BufferError):
        p.produce("t", b"2", b"k")
    p.poll()
    p.produce("t", b"2", b"k")
    p.commit(1.0)
    assert seen(cluster) == [b"1", b"2"]


def test_without_transactional_id_records_count_at_once(cluster: MemoryCluster) -> None:
    p, reports = MemoryClients(cluster).producer(None), list[int | None]()
    p.produce_watched("t", b"1", b"k", 0, lambda offset, _: reports.append(offset))
    assert seen(cluster) == [b"1"]
    p.flush(1.0)
    assert reports == [0]
    with pytest.raises(RuntimeError, match="no transactional id"):
        p.init_transactions(1.0)
    with pytest.raises(RuntimeError):
        p.begin()


def test_calls_out_of_order(cluster: MemoryCluster) -> None:
    p = MemoryClients(cluster).producer("x")
    with pytest.raises(RuntimeError, match="init_transactions"):
        p.begin()
    p.init_transactions(1.0)
    with pytest.raises(RuntimeError, match="no open transaction"):
        p.commit(1.0)
    p.begin()
    with pytest.raises(RuntimeError, match="open already"):
        p.begin()


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["produce", "produce", "commit", "abort", "poll"]))))
def test_readers_see_committed_records_once_and_in_log_order(steps: Sequence[tuple[int, str]]) -> None:
    """A model: three producers interleave, a reader polls now and then."""
    cluster = MemoryCluster()
    cluster.create_topic("t")
    producers = [producer(cluster, str(n)) for n in range(3)]
    open_: dict[int, list[int]] = {}
    committed: set[int] = set()
    consumer, offsets = reader(cluster), list[int]()

    def end(who: int, how: str) -> None:
        if how == "commit":
            committed.update(open_[who])
            producers[who].commit(1.0)
        else:
            producers[who].abort(1.0)
        del open_[who]

    for who, what in steps:
        if what == "produce":
            if who not in open_:
                open_[who] = []
                producers[who].begin()
            producers[who].produce("t", b"v", None)
            open_[who].append(cluster.log(AT).end - 1)
        elif what == "poll":
            for fetch in consumer.poll(2, 0.0).fetches:
                offsets += fetch.offsets()
            assert all(offset < first for offset in offsets for [first, *_] in open_.values())
        elif who in open_:
            end(who, what)
    for who in list(open_):
        end(who, "abort")
    offsets += [offset for fetch in consumer.poll(1000, 0.0).fetches for offset in fetch.offsets()]
    assert offsets == sorted(committed)


def test_batches_of_many_small_records_stay_below_the_limit_of_a_topic(cluster: MemoryCluster) -> None:
    p, noise = producer(cluster), random.Random(0)
    p.begin()
    for _ in range(45_000):
        p.produce("t", noise.randbytes(50), b"k")  # does not compress: two batches and a half, with 9 bytes more each
    p.commit(1.0)
    assert cluster.log(AT).end == 45_001
