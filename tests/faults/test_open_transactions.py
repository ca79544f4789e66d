"""The development broker is killed, or stands still, under open transactions and comes back when they have timed out.

Kafka ends such a transaction by markers in the partitions it wrote to. A broker that comes back after SIGKILL holds
itself for their leader until its former session has ended and it may register again. When it looks for timed-out
transactions in that time, as it does with `transaction.abort.timed.out.transaction.cleanup.interval.ms=1000`, it skips
the markers, and the next commit of the same producer commits what had been aborted. Kafka's own interval, 10 s, is
longer than that time. One that stood still for longer than its session has no leaders for a moment either, which is why
the development broker's session never ends while it lives (KAFKA-20734). No kstream client is used here.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kafka.admin import KafkaAdminClient

from kstream.devbroker import DevBroker
from support.kafka import SECONDS, read
from support.running import until

TOPICS = ["one", "two", "three", "four"]
PARTITIONS = 8
TIMEOUT = 2.0
"""Seconds after which the transactions are ended: they are older than that when the broker is back."""

SESSION = {"broker.session.timeout.ms": "7000"}
"""Longer than the development broker's 3 s, for a busy machine may take longer than that until the broker looks for
transactions at all; shorter than Kafka's 9 s."""

STILL = 12.0
"""Seconds: longer than Kafka's own session of a broker, 9 s."""

AT_ONCE = ["resumed-1", "resumed-2", "resumed-3"]
"""Producers that go on as soon as the broker is back, as a worker that was started again does."""
LATER = ["ended-1", "ended-2", "ended-3"]
"""Producers that come back when the broker has ended their transactions by itself."""


def producer(servers: str, identity: str) -> Producer:
    made = Producer(
        {
            "bootstrap.servers": servers,
            "transactional.id": identity,
            "transaction.timeout.ms": round(TIMEOUT * 1000),
            "socket.timeout.ms": round(TIMEOUT * 1000),  # librdkafka wants it no longer than the transaction's
            "log_level": 0,
        }
    )
    made.init_transactions(SECONDS)
    return made


def write(to: Producer, value: str) -> None:
    """A transaction over all partitions, all of it at the broker, still open."""
    to.begin_transaction()
    for topic in TOPICS:
        for partition in range(PARTITIONS):
            to.produce(topic, value.encode(), b"key", partition=partition)
    assert to.flush(SECONDS) == 0


def commit(servers: str, identity: str, value: str) -> None:
    to = producer(servers, identity)
    write(to, value)
    to.commit_transaction(SECONDS)


def ended(servers: str, identities: Sequence[str]) -> bool:
    """Whether the coordinator holds these transactions for ended."""
    admin = KafkaAdminClient(bootstrap_servers=servers)
    try:
        found = admin.describe_transactions(list(identities))
    finally:
        admin.close()
    return all(one.state == "CompleteAbort" for one in found.values())


def topics_of(servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in TOPICS]).values():
        made.result(SECONDS)


def check(servers: str, identities: Sequence[str]) -> None:
    """What was committed is there once in each partition, and nothing else."""
    rows = read(servers, TOPICS)
    expected = sorted(f"{identity} {when}" for identity in identities for when in ("before", "after"))
    for topic in TOPICS:
        for partition in range(PARTITIONS):
            values = [(row.value or b"").decode() for row in rows[topic] if row.partition == partition]
            assert sorted(values) == expected, f"{topic}[{partition}]"


def test_what_timed_out_while_the_broker_was_dead_is_never_committed(tmp_path: Path) -> None:
    identities = [*AT_ONCE, *LATER]
    with DevBroker(data_dir=tmp_path / "data", config=SESSION, start_timeout=180) as broker:
        servers = broker.bootstrap_servers
        topics_of(servers)
        for identity in identities:
            commit(servers, identity, f"{identity} before")
        open_ones = [producer(servers, identity) for identity in identities]
        for identity, to in zip(identities, open_ones, strict=True):
            write(to, f"{identity} open")
        broker.kill()
        open_ones.clear()
        time.sleep(TIMEOUT + 1)
        broker.start()
        for identity in AT_ONCE:
            commit(servers, identity, f"{identity} after")
        until(lambda: ended(servers, LATER), "the broker to end what has timed out")
        for identity in LATER:
            commit(servers, identity, f"{identity} after")
        check(servers, identities)


def test_what_timed_out_while_the_broker_stood_still_is_never_committed(tmp_path: Path) -> None:
    """Some producers come back meanwhile: that their transactions are to end is the first that it hears."""
    identities = [*AT_ONCE, *LATER]
    with DevBroker(data_dir=tmp_path / "data", start_timeout=180) as broker:
        servers = broker.bootstrap_servers
        topics_of(servers)
        for identity in identities:
            commit(servers, identity, f"{identity} before")
        open_ones = [producer(servers, identity) for identity in identities]
        for identity, to in zip(identities, open_ones, strict=True):
            write(to, f"{identity} open")
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        with ThreadPoolExecutor(len(AT_ONCE)) as threads, ExitStack() as ending:
            ending.callback(os.kill, broker.pid, signal.SIGCONT)
            time.sleep(STILL)
            again = [threads.submit(commit, servers, identity, f"{identity} after") for identity in AT_ONCE]
            time.sleep(1)  # what they ask is on its way
            os.kill(broker.pid, signal.SIGCONT)
            for one in again:
                one.result()
        until(lambda: ended(servers, LATER), "the broker to end what has timed out")
        for identity in LATER:
            commit(servers, identity, f"{identity} after")
        check(servers, identities)
