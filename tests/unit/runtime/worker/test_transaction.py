"""The worker's producer and its transaction: states, what each failure leaves, full queues."""

from __future__ import annotations

import pytest

from kstream.errors import AbortRequired, InstanceFenced, ProducerLost, RecordRefused
from kstream.runtime.worker.states import TransactionState
from kstream.runtime.worker.transaction import Transaction
from kstream.testing import MemoryCluster
from kstream.testing.clients import MemoryClients
from kstream.testing.producer import MemoryProducer

LOST, IDLE, OPEN = TransactionState.LOST, TransactionState.IDLE, TransactionState.OPEN


@pytest.fixture
def cluster() -> MemoryCluster:
    made = MemoryCluster()
    made.create_topic("t")
    return made


def a_transaction(cluster: MemoryCluster, name: str | None = "id") -> Transaction:
    made = Transaction(MemoryClients(cluster), name, timeout=1.0)
    made.start()
    return made


def values(cluster: MemoryCluster) -> list[bytes | None]:
    return [record.value for record in cluster.records("t")]


def test_it_goes_from_idle_to_open_and_back(cluster: MemoryCluster) -> None:
    transaction = Transaction(MemoryClients(cluster), "id", timeout=1.0)
    assert transaction.state is LOST
    transaction.start()
    assert transaction.state is IDLE
    transaction.begin()
    transaction.begin()
    assert transaction.state is OPEN
    transaction.produce("t", b"1", b"k")
    transaction.commit()
    assert transaction.state is IDLE
    transaction.begin()
    transaction.produce("t", b"2", b"k")
    transaction.abort()
    assert transaction.state is IDLE
    transaction.abort()
    assert values(cluster) == [b"1"]


def test_a_producer_that_was_prepared_is_the_first_and_closed_with_the_transaction(cluster: MemoryCluster) -> None:
    made = list[MemoryProducer]()

    class Noted(MemoryClients):
        def producer(self, transactional_id: str | None) -> MemoryProducer:
            made.append(super().producer(transactional_id))
            return made[-1]

    transaction = Transaction(Noted(cluster), "id", timeout=1.0)
    transaction.prepare()
    assert transaction.state is LOST and cluster.transactions.open_transaction("id") is None
    transaction.start()
    assert len(made) == 1
    transaction.start()
    transaction.prepare()
    transaction.discard()
    assert len(made) == 3
    for producer in made:
        with pytest.raises(ProducerLost, match="closed"):
            producer.poll(0.0)


def test_nothing_can_be_sent_before_start_and_after_discard(cluster: MemoryCluster) -> None:
    transaction = Transaction(MemoryClients(cluster), "id", timeout=1.0)
    for _ in range(2):
        with pytest.raises(ProducerLost):
            transaction.produce("t", b"1", b"k")
        with pytest.raises(ProducerLost):
            transaction.commit()
        transaction.poll()
        transaction.start()
        transaction.begin()
        transaction.discard()
        assert transaction.state is LOST


def test_a_new_producer_ends_what_the_one_before_left_open(cluster: MemoryCluster) -> None:
    transaction = a_transaction(cluster)
    transaction.begin()
    transaction.produce("t", b"1", b"k")
    transaction.start()
    assert values(cluster) == []
    transaction.begin()
    transaction.produce("t", b"2", b"k")
    transaction.commit()
    assert values(cluster) == [b"2"]


def test_abort_required_keeps_the_producer(cluster: MemoryCluster) -> None:
    transaction = a_transaction(cluster)
    transaction.begin()
    transaction.produce("t", b"1", b"k")
    cluster.fail_next("commit", AbortRequired("planned"))
    with pytest.raises(AbortRequired):
        transaction.commit()
    assert transaction.state is OPEN
    transaction.abort()
    assert transaction.state is IDLE
    transaction.begin()
    transaction.produce("t", b"2", b"k")
    transaction.commit()
    assert values(cluster) == [b"2"]


@pytest.mark.parametrize(("after", "expected"), [(False, []), (True, [b"1"])])
def test_a_lost_producer_may_have_committed(cluster: MemoryCluster, after: bool, expected: list[bytes]) -> None:
    transaction = a_transaction(cluster)
    transaction.begin()
    transaction.produce("t", b"1", b"k")
    cluster.fail_next("commit", ProducerLost("planned"), after=after)
    with pytest.raises(ProducerLost):
        transaction.commit()
    assert transaction.state is LOST
    transaction.abort()  # nothing left to abort: no second error
    transaction.start()
    assert values(cluster) == expected


def test_what_fails_right_after_the_commit_takes_nothing_back(cluster: MemoryCluster) -> None:
    """An abort would have the tasks go back behind what is committed, and count it twice."""
    transaction = a_transaction(cluster)
    transaction.begin()
    transaction.produce("t", b"1", b"k")
    cluster.fail_next("producer.poll", AbortRequired("planned"))
    with pytest.raises(ProducerLost, match="after the commit: planned"):
        transaction.commit()
    assert transaction.state is LOST
    assert values(cluster) == [b"1"]


@pytest.mark.parametrize("error", [AbortRequired, ProducerLost])
def test_an_abort_that_fails_is_a_lost_producer(cluster: MemoryCluster, error: type[Exception]) -> None:
    transaction = a_transaction(cluster)
    transaction.begin()
    cluster.fail_next("abort", error("planned"))
    with pytest.raises(ProducerLost, match="could not be aborted"):
        transaction.abort()
    assert transaction.state is LOST


@pytest.mark.parametrize("error", [AbortRequired, ProducerLost])
def test_a_begin_that_fails_is_a_lost_producer(cluster: MemoryCluster, error: type[Exception]) -> None:
    transaction = a_transaction(cluster)
    cluster.fail_next("begin", error("planned"))
    with pytest.raises(ProducerLost):
        transaction.begin()
    assert transaction.state is LOST


def test_a_second_of_its_name_fences_it(cluster: MemoryCluster) -> None:
    first = a_transaction(cluster)
    first.begin()
    first.produce("t", b"1", b"k")
    a_transaction(cluster)
    with pytest.raises(InstanceFenced):
        first.commit()
    assert first.state is LOST
    assert values(cluster) == []


def test_at_least_once_has_no_transaction(cluster: MemoryCluster) -> None:
    transaction = a_transaction(cluster, None)
    assert not transaction.exactly_once
    transaction.begin()
    transaction.produce("t", b"1", b"k")
    assert values(cluster) == [b"1"]
    transaction.abort()
    assert transaction.state is IDLE
    transaction.begin()
    transaction.commit()
    assert values(cluster) == [b"1"]


def test_a_full_queue_is_waited_for(cluster: MemoryCluster) -> None:
    cluster.produce_buffer_limit = 1
    transaction = a_transaction(cluster)
    offsets: list[int | None] = []
    transaction.begin()
    for n in range(5):
        transaction.produce_watched("t", b"%d" % n, b"k", 0, lambda offset, _: offsets.append(offset))
    transaction.commit()
    assert offsets == [0, 1, 2, 3, 4]
    assert values(cluster) == [b"0", b"1", b"2", b"3", b"4"]


def test_of_a_batch_the_record_that_says_why_is_told(cluster: MemoryCluster) -> None:
    """Kafka refuses all of a batch for one record of it: of one that has a key, INVALID_RECORD says nothing more."""
    innocent = RecordRefused("INVALID_RECORD", "out", 0, b"k", 3)
    assert "compacted" not in str(innocent) and "another record of the batch" in str(innocent)
    for guilty in (
        RecordRefused("INVALID_TIMESTAMP", "out", 0, b"k", 3),
        RecordRefused("INVALID_RECORD", "out", 0, None, 3),
    ):
        for order in ((innocent, guilty), (guilty, innocent)):
            transaction = Transaction(MemoryClients(cluster), "t", timeout=1.0)
            for one in order:
                transaction._was_delivered(None, one)
            assert transaction.refused is guilty
    assert "a compacted topic takes no record without a key" in str(guilty)
