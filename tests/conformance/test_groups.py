"""Consumer groups: assignments, rebalances, static members, fencing, offsets outside transactions."""

from __future__ import annotations

import time

import pytest

from kstream.errors import AbortRequired, InstanceFenced, KafkaUnavailable, TopicError
from kstream.types import (
    AdminClient,
    Clients,
    ConsumerClient,
    TopicPartition,
)
from support.clusters import (
    SECONDS,
    SESSION,
    Cluster,
    Listener,
    fill,
    gather,
    joined,
    make_topic,
    name,
    quiet,
)


def test_assigned_partitions_start_where_the_listener_says_and_paused(clients: Clients, admin: AdminClient) -> None:
    topic = make_topic(clients, 4)
    every = [TopicPartition(topic, partition) for partition in range(4)]
    for at in every:
        fill(clients, topic, 2000, at.partition)
    listener = Listener({at: 100 * at.partition + 1 for at in every})
    consumer = joined(clients, name("group"), [topic], listener)
    assert set(listener.owned) == set(every)
    assert not quiet(consumer, 1.0).fetches
    consumer.resume(every[:2])
    got = gather(consumer, lambda got: got.offsets(every[0]) and got.offsets(every[1]))
    assert {fetch.at for fetch in got.fetches} == set(every[:2])
    assert [got.offsets(at)[0] for at in every[:2]] == [1, 101]
    consumer.seek({every[2]: 5, every[3]: 6})  # paused, never resumed
    consumer.resume(every[2:])
    got = gather(consumer, lambda got: got.offsets(every[2]) and got.offsets(every[3]))
    assert [got.offsets(at)[0] for at in every[2:]] == [5, 6]
    consumer.close()


def test_seek_right_after_the_poll_that_assigned(clients: Clients, admin: AdminClient) -> None:
    topic = make_topic(clients, 4)
    every = [TopicPartition(topic, partition) for partition in range(4)]
    for at in every:
        fill(clients, topic, 100, at.partition)
    listener = Listener()
    consumer = clients.consumer(name("group"), name("member"))
    consumer.subscribe([topic], listener)
    gather(consumer, lambda _: listener.owned, records=10)
    consumer.seek({at: 50 + at.partition for at in every})
    consumer.resume(every)
    got = gather(consumer, lambda got: len(got.ends) == 4)
    for at in every:
        assert got.offsets(at) == list(range(50 + at.partition, 100))
    consumer.close()


def test_a_second_member_takes_over_half_and_gives_it_back(clients: Clients, admin: AdminClient) -> None:
    topic, group = make_topic(clients, 4), name("group")
    every = [TopicPartition(topic, partition) for partition in range(4)]
    for at in every:
        fill(clients, topic, 3000, at.partition)
    first, second = Listener(), Listener()
    one = joined(clients, group, [topic], first)
    one.resume(every)
    gather(one, lambda got: got.fetches, records=10)
    held = one.group_metadata()
    first.on_revoked = lambda: one.commit(dict.fromkeys(every, 7), {every[0]: "stream time"})

    two = clients.consumer(group, name("member"))
    two.subscribe([topic], second)
    stale = gather(one, lambda _: len(first.owned) == 2 and len(second.owned) == 2, others=[two], records=500)
    assert [what for what, _ in first.told] == ["assigned", "revoked", "assigned"]
    assert set(first.told[1][1]) == set(every)
    assert set(first.owned) | set(second.owned) == set(every)
    # Nothing of a call in which a rebalance came, and nothing before resume.
    assert not quiet(one, 0.5).fetches
    for at in every:
        offsets = stale.offsets(at)
        assert offsets == list(range(offsets[0], offsets[0] + len(offsets))) if offsets else True
    # What was committed in `revoked` counts, with its metadata.
    found = admin.committed(group, every).result(SECONDS)
    assert found[every[0]] == (7, "stream time")
    assert found[every[3]] == (7, "")
    # The old generation's metadata is refused for what others own now.
    producer = clients.producer(name("tx"))
    producer.init_transactions(SECONDS)
    producer.begin()
    with pytest.raises(AbortRequired):
        producer.send_offsets({second.owned[0]: 9}, {}, held)
    producer.abort(SECONDS)
    producer.close()
    one.resume(first.owned)
    got = gather(one, lambda got: all(got.offsets(at) for at in first.owned), others=[two])
    assert {at: got.offsets(at)[0] for at in first.owned} == dict.fromkeys(first.owned, 0)
    one.close()
    two.close()


def test_what_the_listener_raises_comes_out_of_poll_and_nothing_is_read(
    clients: Clients, admin: AdminClient, topic: str
) -> None:
    fill(clients, topic, 1000)
    listener, group = Listener(), name("group")
    listener.fail = OSError("disk")
    consumer = clients.consumer(group, name("member"))
    consumer.subscribe([topic], listener)
    with pytest.raises(OSError, match="disk"):
        gather(consumer, lambda _: False)
    assert not quiet(consumer, 0.5).fetches
    every = listener.told[0][1]
    consumer.seek(dict.fromkeys(every, 3))
    consumer.resume(every)
    assert gather(consumer, lambda got: got.fetches).fetches[0].first_offset == 3
    listener.fail = OSError("again")
    other_listener = Listener()
    other = clients.consumer(group, name("member"))
    other.subscribe([topic], other_listener)
    with pytest.raises(OSError, match="again"):
        gather(consumer, lambda _: False, others=[other])
    gather(consumer, lambda _: listener.owned and other_listener.owned, others=[other])
    consumer.close()
    other.close()


def test_a_member_that_comes_back_at_once_gets_its_partitions_again(clients: Clients, topic: str) -> None:
    group, member = name("group"), name("member")
    listener = Listener()
    consumer = joined(clients, group, [topic], listener, member)
    consumer.close()
    assert [what for what, _ in listener.told] == ["assigned"]  # close tells nothing
    consumer.close()
    began = time.monotonic()
    joined(clients, group, [topic], Listener(), member).close()
    assert time.monotonic() - began < SESSION / 2


def test_a_second_process_with_the_same_member_id_fences_the_first(clients: Clients, topic: str) -> None:
    group, member = name("group"), name("member")
    first = joined(clients, group, [topic], Listener(), member)
    second = joined(clients, group, [topic], Listener(), member)
    with pytest.raises(InstanceFenced, match="another process"):
        gather(first, lambda _: False)
    with pytest.raises(InstanceFenced):
        first.poll(10, 0.1)
    first.close()
    second.close()


def test_a_topic_that_does_not_exist(clients: Clients) -> None:
    consumer = clients.consumer(name("group"), name("member"))
    missing = name("missing")
    consumer.subscribe([missing], Listener())
    with pytest.raises(TopicError, match=missing):
        gather(consumer, lambda _: False)
    consumer.close()


def test_a_topic_that_is_deleted_is_told_of_once_and_the_others_are_read(clients: Clients, admin: AdminClient) -> None:
    gone, kept = make_topic(clients, 2), make_topic(clients, 1)
    listener = Listener()
    consumer = joined(clients, name("group"), [gone, kept], listener)
    consumer.resume(listener.owned)
    admin.delete_topics([gone], SECONDS)
    with pytest.raises(TopicError, match=gone) as caught:
        gather(consumer, lambda _: False)
    assert caught.value.topics == (gone,)
    at = TopicPartition(kept, 0)
    gather(consumer, lambda _: list(listener.owned) == [at])
    consumer.resume([at])
    fill(clients, kept, 10, 0)
    gather(consumer, lambda got: got.offsets(at)[-1:] == [9])
    consumer.close()


def test_commit_without_a_transaction(clients: Clients, admin: AdminClient, topic: str) -> None:
    group, listener = name("group"), Listener()
    consumer = joined(clients, group, [topic], listener)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    consumer.commit({}, {})
    assert admin.committed(group, [zero, one]).result(SECONDS) == {zero: None, one: None}
    consumer.commit({zero: 5}, {zero: "m"})
    assert admin.committed(group, [zero, one]).result(SECONDS) == {zero: (5, "m"), one: None}
    consumer.close()


def both_joined(clients: Clients, topics: list[str]) -> tuple[list[ConsumerClient], list[Listener]]:
    """Two members, the first by name first, once each has been told of its share."""
    group, suffix = name("group"), name("member")
    listeners = [Listener(), Listener()]
    members = [clients.consumer(group, f"{letter}-{suffix}") for letter in "ab"]
    for member, listener in zip(members, listeners, strict=True):
        member.subscribe(topics, listener)

    def settled() -> bool:
        last = [listener.told[-1] if listener.told else ("", ()) for listener in listeners]
        return all(what == "assigned" for what, _ in last)

    gather(members[0], lambda _: settled() and shares(listeners), others=members[1:])
    return members, listeners


def shares(listeners: list[Listener]) -> bool:
    """Whether no partition is owned twice: the rebalance is over."""
    owned = [at for listener in listeners for at in listener.owned]
    return len(owned) == len(set(owned))


def test_range_keeps_copartitioned_topics_together(clients: Clients) -> None:
    topics = sorted(make_topic(clients, 3) for _ in range(2))
    members, (first, second) = both_joined(clients, topics)
    assert sorted(first.owned) == [TopicPartition(topic, partition) for topic in topics for partition in (0, 1)]
    assert sorted(second.owned) == [TopicPartition(topic, 2) for topic in topics]
    for member in members:
        member.close()


def test_a_member_beyond_the_partitions_is_told_that_it_has_none(clients: Clients) -> None:
    topic = make_topic(clients, 1)
    members, (first, second) = both_joined(clients, [topic])
    assert (len(first.owned), second.told[-1]) == (1, ("assigned", ()))
    for member in members:
        member.close()


def test_a_member_that_stood_still_is_told_that_its_partitions_are_lost_and_comes_back(cluster: Cluster) -> None:
    clients, group = cluster.hasty(), name("group")
    topic, still, busy = make_topic(clients, 4), Listener(), Listener()
    other = joined(clients, group, [topic], busy)
    member = name("member")
    one = clients.consumer(group, member)
    one.subscribe([topic], still)
    gather(one, lambda _: len(still.owned) == 2 and len(busy.owned) == 2, others=[other])
    had = still.owned
    cluster.stand_still(member)
    gather(other, lambda _: len(busy.owned) == 4)
    stale = one.group_metadata()
    gather(one, lambda _: ("lost", had) in [(what, tuple(sorted(which))) for what, which in still.told], others=[other])
    gather(one, lambda _: len(still.owned) == 2 and len(busy.owned) == 2, others=[other])
    producer = clients.producer(name("tx"))
    producer.init_transactions(SECONDS)
    producer.begin()
    with pytest.raises(AbortRequired):
        producer.send_offsets({had[0]: 1}, {}, stale)
    producer.abort(SECONDS)
    for client in (producer, one, other):
        client.close()


def test_metadata_is_checked_against_the_members_and_not_against_who_owns_what(clients: Clients) -> None:
    topic, group = make_topic(clients, 1), name("group")
    at = TopicPartition(topic, 0)
    outsider = clients.consumer(group, name("member"))
    producer = clients.producer(name("tx"))
    producer.init_transactions(SECONDS)
    producer.begin()
    producer.send_offsets({at: 1}, {}, outsider.group_metadata())  # the group is empty: there is nobody to protect
    producer.commit(SECONDS)
    member = joined(clients, group, [topic], Listener())
    producer.begin()
    with pytest.raises(AbortRequired):
        producer.send_offsets({at: 2}, {}, outsider.group_metadata())
    producer.abort(SECONDS)
    producer.begin()
    producer.send_offsets({at: 3, TopicPartition(topic, 0): 3}, {}, member.group_metadata())
    producer.commit(SECONDS)
    for client in (producer, outsider, member):
        client.close()


def test_metadata_of_an_offset_that_is_too_large(clients: Clients, topic: str) -> None:
    at = TopicPartition(topic, 0)
    consumer = joined(clients, name("group"), [topic], Listener())
    consumer.commit({at: 1}, {at: "é" * 4095})
    with pytest.raises(KafkaUnavailable, match="OFFSET_METADATA_TOO_LARGE"):
        consumer.commit({at: 1}, {at: "x" * 4096})
    producer = clients.producer(name("tx"))
    producer.init_transactions(SECONDS)
    producer.begin()
    with pytest.raises(AbortRequired, match="OFFSET_METADATA_TOO_LARGE"):
        producer.send_offsets({at: 1}, {at: "x" * 4096}, consumer.group_metadata())
    producer.abort(SECONDS)
    producer.close()
    consumer.close()
