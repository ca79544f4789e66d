"""Topics made, told and deleted; offsets asked for."""

from __future__ import annotations

import time

import pytest

from kstream.errors import KafkaUnavailable, TopicError
from kstream.runtime.cluster.regroup import answer
from kstream.testing.topics import DEFAULTS
from kstream.types import END, AdminClient, Clients, NewTopic, ProducerClient, TopicPartition
from support.clusters import SECONDS, fill, make_topic, name, wait


def test_topics_are_made_told_and_deleted(admin: AdminClient) -> None:
    topics = [NewTopic(name("made"), 3, config={"cleanup.policy": "compact"}), NewTopic(name("made"), 1)]
    names = [topic.name for topic in topics]
    admin.create_topics(topics, SECONDS)
    admin.create_topics(topics, SECONDS)
    found = admin.topics(SECONDS)
    assert [found[topic].partitions for topic in names] == [3, 1]
    configs = admin.topic_configs(names, SECONDS)
    assert configs[names[0]]["cleanup.policy"] == "compact"
    assert configs[names[1]]["cleanup.policy"] == "delete"
    assert "message.timestamp.after.max.ms" in configs[names[0]]
    admin.delete_topics([*names, name("never")], SECONDS)
    assert not set(names) & set(admin.topics(SECONDS))
    with pytest.raises(TopicError, match=names[0]):
        admin.topic_configs(names[:1], 1)  # it is asked for as long as that
    with pytest.raises(TopicError, match="cannot be created"):
        admin.create_topics([NewTopic(name("bad"), 1, 99)], SECONDS)


def test_partitions_are_added_and_never_taken_away(admin: AdminClient) -> None:
    topic, other = name("grows"), name("stays")
    admin.create_topics([NewTopic(topic, 2), NewTopic(other, 3)], SECONDS)
    for _ in range(2):
        admin.add_partitions({topic: 5, other: 3}, SECONDS)
        found = admin.topics(SECONDS)
        assert (found[topic].partitions, found[other].partitions) == (5, 3)
    assert answer(lambda: admin.end_offsets([TopicPartition(topic, 4)]), "the end") == {TopicPartition(topic, 4): 0}
    admin.add_partitions({}, SECONDS)
    with pytest.raises(TopicError, match=topic):
        admin.add_partitions({topic: 4}, SECONDS)
    with pytest.raises(TopicError):
        admin.add_partitions({name("missing"): 4}, SECONDS)


def test_nothing_asked_is_answered_at_once(admin: AdminClient) -> None:
    assert admin.committed("g", []).result(0) == {}
    assert admin.end_offsets([]).result(0) == {}
    admin.delete_records({}).result(0)
    admin.create_topics([], 0)
    assert admin.topic_configs([], 0) == {}


def test_offsets_of_a_partition_that_does_not_exist(admin: AdminClient) -> None:
    with pytest.raises((TopicError, KafkaUnavailable)):
        admin.end_offsets([TopicPartition(name("missing"), 0)]).result(SECONDS)


def test_offsets_of_a_time_are_those_of_the_first_record_that_is_not_older(
    clients: Clients, admin: AdminClient, topic: str
) -> None:
    at, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
    producer = clients.producer(None)
    for number, timestamp in enumerate((1000, 3000, 2000, 3000, 5000)):  # not in their order
        producer.produce(topic, b"%d" % number, b"k", 0, None, None, timestamp)
    producer.flush(SECONDS)
    producer.close()

    def offset(milliseconds: int) -> int | None:
        found = admin.offsets_at([at, empty], milliseconds).result(SECONDS)
        assert found.keys() == {at, empty} and found[empty] is None
        return found[at]

    assert [offset(time) for time in (1, 1000, 1001, 2000, 3000, 3001, 5000)] == [0, 0, 1, 1, 1, 4, 4]
    assert offset(5001) is None
    admin.delete_records({at: 2}).result(SECONDS)
    assert offset(1) == 2
    assert admin.offsets_at([], 1).result(0) == {}
    with pytest.raises((TopicError, KafkaUnavailable)):
        admin.offsets_at([TopicPartition(name("missing"), 0)], 1).result(SECONDS)


def test_offsets_of_a_time_where_timestamps_go_down_and_the_first_records_are_deleted(
    clients: Clients, admin: AdminClient, producer: ProducerClient, topic: str
) -> None:
    """The marker of a transaction is looked at too; it has the time of the commit."""
    began = int(time.time() * 1000) - 60_000
    marked, plain = TopicPartition(topic, 0), TopicPartition(topic, 1)
    other = clients.producer(None)
    producer.begin()
    for writer, at in ((producer, marked), (other, plain)):
        for later in (300, 200, 100):
            writer.produce(topic, b"v", b"k", at.partition, None, None, began + later)
        writer.flush(SECONDS)
    producer.commit(SECONDS)
    other.close()
    wait(lambda: admin.end_offsets([marked]).result(SECONDS)[marked] == 4 or None)

    def offsets(at: TopicPartition) -> list[int | None]:
        asked = [began + later for later in (50, 150, 250, 350)]
        return [admin.offsets_at([at], time).result(SECONDS)[at] for time in asked]

    assert (offsets(marked), offsets(plain)) == ([0, 0, 0, 3], [0, 0, 0, None])
    admin.delete_records({marked: 1, plain: 1}).result(SECONDS)
    assert (offsets(marked), offsets(plain)) == ([1, 1, 3, 3], [1, 1, None, None])
    admin.delete_records({marked: 2, plain: 2}).result(SECONDS)
    assert (offsets(marked), offsets(plain)) == ([2, 3, 3, 3], [2, None, None, None])
    admin.delete_records({marked: 3, plain: 3}).result(SECONDS)
    assert (offsets(marked), offsets(plain)) == ([3] * 4, [None] * 4)
    admin.delete_records({marked: 4}).result(SECONDS)
    assert offsets(marked) == [None] * 4


def test_a_group_that_never_was_has_committed_nothing(admin: AdminClient, topic: str) -> None:
    at = TopicPartition(topic, 0)
    assert admin.committed(name("group"), [at]).result(SECONDS) == {at: None}


@pytest.mark.parametrize(
    "bad",
    [
        NewTopic("a b/c", 1),
        NewTopic("", 1),
        NewTopic("conformance-zero", 0),
        NewTopic("conformance-setting", 1, config={"no.such": "1"}),
        NewTopic("conformance-value", 1, config={"retention.ms": "x"}),
        NewTopic("conformance-policy", 1, config={"cleanup.policy": "never"}),
    ],
    ids=str,
)
def test_topics_that_cannot_be(admin: AdminClient, bad: NewTopic) -> None:
    with pytest.raises(TopicError, match=f"topic {bad.name} cannot be created: "):
        admin.create_topics([bad], SECONDS)


def test_the_settings_of_a_topic_are_all_told_with_their_defaults(clients: Clients, admin: AdminClient) -> None:
    topic = make_topic(clients, 1, retention_ms="5")
    assert admin.topic_configs([topic], SECONDS)[topic] == DEFAULTS | {"retention.ms": "5"}


def test_records_are_deleted_up_to_an_offset_of_the_log(clients: Clients, admin: AdminClient, topic: str) -> None:
    at, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
    fill(clients, topic, 5)
    admin.delete_records({at: 2}).result(SECONDS)
    assert admin.start_offsets([at, other]).result(SECONDS) == {at: 2, other: 0}
    with pytest.raises(KafkaUnavailable, match="OFFSET_OUT_OF_RANGE"):
        admin.delete_records({at: 9}).result(SECONDS)
    admin.delete_records({at: END}).result(SECONDS)
    assert admin.start_offsets([at]).result(SECONDS) == admin.end_offsets([at]).result(SECONDS) == {at: 5}


def test_records_of_a_compacted_topic_are_not_deleted(clients: Clients, admin: AdminClient) -> None:
    for policy, allowed in (("compact", False), ("compact,delete", True)):
        topic = make_topic(clients, 1, cleanup_policy=policy)
        fill(clients, topic, 3)
        answer = admin.delete_records({TopicPartition(topic, 0): 2})
        if allowed:
            answer.result(SECONDS)
        else:
            with pytest.raises(KafkaUnavailable, match="POLICY_VIOLATION"):
                answer.result(SECONDS)


def test_a_topic_made_anew_has_another_id(clients: Clients, admin: AdminClient) -> None:
    topic, missing = make_topic(clients), name("missing")
    first = admin.describe([topic, missing]).result(SECONDS)
    assert list(first) == [topic]
    assert first[topic].partitions == 1
    assert admin.describe([topic]).result(SECONDS) == first
    admin.delete_topics([topic], SECONDS)
    admin.create_topics([NewTopic(topic, 3)], SECONDS)
    again = admin.describe([topic]).result(SECONDS)[topic]
    assert again.id is not None and again.id != first[topic].id
    assert again.partitions == 3
    assert admin.describe([]).result(1) == {}
