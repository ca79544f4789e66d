"""Records that are written outside the data path: what the client does not take is said by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kstream.cli.send import Outgoing, send
from kstream.errors import KStreamError, RecordRefused, UsageError
from kstream.runtime.cluster.replacing import EntryWriter
from kstream.runtime.cluster.writing import write_record
from kstream.runtime.kafka import KafkaClients
from kstream.testing.cluster import MemoryCluster
from kstream.testing.producer import MemoryProducer

CLIENTS = KafkaClients("127.0.0.1:1")  # nobody is asked
LARGE = bytes(2_000_000)


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (lambda: write_record(CLIENTS.producer(None), "t", LARGE, b"k"), RecordRefused),
        (lambda: EntryWriter(CLIENTS.producer(None), print).write("t", 0, b"k", LARGE, None), RecordRefused),
        (lambda: send(CLIENTS, "t", [Outgoing(b"k", LARGE, 0, None)]), UsageError),
    ],
)
def test_a_record_that_is_too_large_is_one_of_our_errors(write: Callable[[], Any], error: type[KStreamError]) -> None:
    """`kstream send` and `kstream savepoint restore` ended in the traceback of a KafkaException."""
    with pytest.raises(error, match=r"Kafka refuses a record for t.*, key 'k', 2,000,001 bytes.*MSG_SIZE_TOO_LARGE"):
        write()


def test_a_full_queue_is_waited_for() -> None:
    cluster, turns = MemoryCluster(), []
    cluster.create_topic("t", 1)
    cluster.produce_buffer_limit = 1
    producer = MemoryProducer(cluster, None)
    for n in range(3):
        write_record(producer, "t", b"%d" % n, b"k", meanwhile=lambda: turns.append(1))
    producer.flush(1)
    assert [one.value for one in cluster.records("t")] == [b"0", b"1", b"2"] and len(turns) == 2
