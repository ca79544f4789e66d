"""Reading: what a fetch holds, positions, ends, seek, pause and resume."""

from __future__ import annotations

import time

import pytest

from kstream.errors import PartitionUnreadable, StateError
from kstream.types import (
    BEGINNING,
    END,
    AdminClient,
    Clients,
    ConsumerClient,
    TopicPartition,
)
from support.clusters import (
    AT_MOST,
    SECONDS,
    Cluster,
    Gathered,
    fill,
    gather,
    make_topic,
    quiet,
)


def test_records_arrive_with_all_their_parts(clients: Clients, reader: ConsumerClient, topic: str) -> None:
    producer = clients.producer(None)
    stamps = [1, 1_356_998_400_000, 1_700_000_000_123]  # an hour ahead of now would be refused
    headers = [("a", b"1"), ("a", b""), ("none", None)]
    producer.produce(topic, b"v", b"k", 1, None, None, stamps[0], headers)
    producer.produce(topic, None, b"tombstone", 1, None, None, stamps[1])
    producer.produce(topic, b"", b"", 1, None, None, stamps[2])
    producer.produce(topic, b"x", None, 1)
    producer.flush(SECONDS)
    at = TopicPartition(topic, 1)
    reader.assign({at: 0})
    (fetch,) = gather(reader, lambda got: len(got.values()) == 4 and got.ends).fetches
    assert fetch.at == at
    assert (len(fetch), fetch.first_offset, fetch.last_offset) == (4, 0, 3)
    assert fetch.keys() == [b"k", b"tombstone", b"", None]
    assert fetch.values() == [b"v", None, b"", b"x"]
    assert fetch.offsets() == [0, 1, 2, 3]
    assert fetch.timestamps()[:3] == stamps
    assert abs(fetch.last_timestamp / 1000 - time.time()) < 60
    assert fetch.headers() == [headers, None, None, None]
    cut = fetch.cut(1, 3)
    assert (cut.at, len(cut), cut.keys()) == (at, 2, [b"tombstone", b""])
    producer.close()


def test_keys_are_partitioned_as_java_does(clients: Clients, admin: AdminClient, reader: ConsumerClient) -> None:
    topic = make_topic(clients, 8)
    producer = clients.producer(None)
    # org.apache.kafka.common.utils.Utils.murmur2 of "abc" is 479470107, masked and modulo 8: 3
    producer.produce(topic, b"v", b"abc")
    producer.flush(SECONDS)
    producer.close()
    reader.assign({TopicPartition(topic, p): 0 for p in range(8)})
    assert [fetch.at.partition for fetch in gather(reader, lambda got: got.values()).fetches] == [479470107 % 8]


def test_fetches_are_runs_of_one_partition_of_one_topic(
    clients: Clients, admin: AdminClient, reader: ConsumerClient
) -> None:
    topics = [make_topic(clients, 3) for _ in range(2)]
    every = [TopicPartition(topic, partition) for topic in topics for partition in range(3)]
    for at in every:
        fill(clients, at.topic, 500, at.partition)
    reader.assign(dict.fromkeys(every, 0))
    got = gather(reader, lambda got: len(got.ends) == 6, records=700)
    for at in every:
        assert got.offsets(at) == list(range(500))
        assert got.values(at) == [b"%d" % i for i in range(500)]
        assert got.ends[at] == 500


def test_a_poll_takes_what_is_there_and_no_more_than_asked(
    clients: Clients, reader: ConsumerClient, topic: str
) -> None:
    at = TopicPartition(topic, 0)
    fill(clients, topic, 10)
    reader.assign({at: 0})
    first = gather(reader, lambda got: got.values(), records=1)
    assert first.values() == [b"0"]
    assert reader.high_watermark(at) == 10
    began = time.monotonic()
    rest = reader.poll(1000, 4 * AT_MOST)
    assert [value for fetch in rest.fetches for value in fetch.values()] == [b"%d" % i for i in range(1, 10)]
    assert time.monotonic() - began < AT_MOST
    began = time.monotonic()
    quiet(reader, 0.3)
    assert time.monotonic() - began < AT_MOST


def test_positions_at_the_logical_ends(clients: Clients, reader: ConsumerClient, topic: str) -> None:
    fill(clients, topic, 5)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    assert reader.high_watermark(zero) is None
    reader.assign({zero: END, one: BEGINNING})
    assert gather(reader, lambda got: len(got.ends) == 2).ends == {zero: 5, one: 0}
    reader.assign({zero: BEGINNING})
    assert gather(reader, lambda got: got.ends).offsets(zero) == [0, 1, 2, 3, 4]


def test_a_reader_refuses_a_position_outside_the_log(
    clients: Clients, admin: AdminClient, reader: ConsumerClient, topic: str
) -> None:
    fill(clients, topic, 10)
    admin.delete_records({TopicPartition(topic, 0): 6}).result(SECONDS)
    for offset in (2, 99):
        reader.assign({TopicPartition(topic, 0): offset})
        with pytest.raises(StateError, match=rf"{topic}\[0\]"):
            gather(reader, lambda _: False)


def test_an_assignment_drops_what_was_fetched_for_the_one_before(
    clients: Clients, reader: ConsumerClient, topic: str
) -> None:
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    fill(clients, topic, 5000)
    fill(clients, topic, 10, 1)
    for start in (4000, 10, 2500, 0, 4990):
        reader.assign({zero: start})
        time.sleep(0.02)
        got = gather(reader, lambda got: len(got.values()) >= 5, records=5)
        assert got.offsets(zero)[0] == start
    reader.assign({one: 3})
    got = gather(reader, lambda got: got.ends)
    assert {fetch.at for fetch in got.fetches} == {one}
    assert got.offsets(one) == list(range(3, 10))


def test_after_a_seek_nothing_prefetched_arrives(clients: Clients, reader: ConsumerClient, topic: str) -> None:
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    for partition in (0, 1):
        fill(clients, topic, 5000, partition)
    reader.assign({zero: 0, one: 0})
    reader.seek({zero: 100})  # at once
    assert gather(reader, lambda got: got.offsets(zero)).offsets(zero)[0] == 100
    for round_ in range(12):
        target = (round_ * 937) % 4900
        reader.poll(7, 0.02)
        reader.seek({zero: target, one: target + 1})
        got = gather(reader, lambda got: got.offsets(zero) and got.offsets(one), records=50)
        for at, start in ((zero, target), (one, target + 1)):
            offsets = got.offsets(at)
            assert offsets == list(range(start, start + len(offsets)))


def test_paused_partitions_are_silent_and_go_on_where_they_were_or_were_sent(
    clients: Clients, reader: ConsumerClient, topic: str
) -> None:
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    fill(clients, topic, 3000)
    fill(clients, topic, 3000, 1)
    reader.assign({zero: 0, one: 0})
    seen = gather(reader, lambda got: got.offsets(zero), records=10).offsets(zero)[-1]
    reader.pause([zero])
    more = quiet(reader, 0.3)
    assert not more.offsets(zero)
    reader.resume([zero])
    offsets = gather(reader, lambda got: got.offsets(zero), records=10).offsets(zero)
    assert offsets[0] == seen + 1
    reader.pause([zero])
    reader.seek({zero: 42})
    assert not quiet(reader, 0.3).offsets(zero)
    reader.resume([zero])
    assert gather(reader, lambda got: got.offsets(zero), records=10).offsets(zero)[0] == 42
    reader.pause([zero])
    reader.seek({zero: 7})
    reader.seek({zero: 11})
    reader.resume([zero])
    assert gather(reader, lambda got: got.offsets(zero), records=10).offsets(zero)[0] == 11


def test_the_end_is_told_anew_after_resume_and_seek(clients: Clients, reader: ConsumerClient, topic: str) -> None:
    at = TopicPartition(topic, 0)
    fill(clients, topic, 3)
    reader.assign({at: 0})
    assert gather(reader, lambda got: got.ends).ends == {at: 3}
    reader.pause([at])
    reader.resume([at])
    assert gather(reader, lambda got: got.ends).ends == {at: 3}
    reader.seek({at: 2})
    got = gather(reader, lambda got: got.ends)
    assert (got.values(), got.ends) == ([b"2"], {at: 3})


def test_what_is_not_assigned_cannot_be_sought(reader: ConsumerClient, topic: str) -> None:
    reader.assign({TopicPartition(topic, 0): 0})
    with pytest.raises(RuntimeError, match="not assigned"):
        reader.seek({TopicPartition(topic, 1): 0})


def test_what_cannot_be_read_is_said_of_its_partition_and_the_others_are_read_on(
    cluster: Cluster, clients: Clients, reader: ConsumerClient, admin: AdminClient, topic: str
) -> None:
    """A batch that unpacks to more than the client takes. It is told again for as long as it is in the way."""
    bad, good = TopicPartition(topic, 0), TopicPartition(topic, 1)
    fill(clients, topic, 2)
    cluster.spoil(topic, 0)
    fill(clients, topic, 1, 0, 3)
    reader.assign({bad: 0, good: 0})
    got, told = Gathered(), 0
    for number in range(1, 4):
        fill(clients, topic, 1, 1, number)
        while told < number or len(got.offsets(good)) < number:
            try:
                got.add(reader.poll(1000, 0.05))
            except PartitionUnreadable as error:
                told += 1
                assert (error.topic, error.partition, error.offset) == (topic, 0, 2)
                assert f"{bad} cannot be read at offset 2: " in str(error)
    assert got.offsets(bad) == [0, 1]
    reader.seek({bad: 3})
    gather(reader, lambda found: found.offsets(bad) == [3])
