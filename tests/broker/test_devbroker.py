"""The development broker with a real JVM: ready, restart, death with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kstream.devbroker import DevBroker, jars
from kstream.errors import BrokerError
from support.running import until


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevBroker]:
    """One broker for the module, with a data directory that stays."""
    with DevBroker(data_dir=tmp_path_factory.mktemp("broker") / "data", start_timeout=180) as started:
        write(started.bootstrap_servers, "there", b"1")
        yield started


def write(servers: str, topic: str, value: bytes) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    if topic not in admin.list_topics(timeout=60).topics:
        admin.create_topics([NewTopic(topic, num_partitions=1)])[topic].result(60)
    producer = Producer({"bootstrap.servers": servers, "transactional.id": topic})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(topic, value, partition=0)
    producer.commit_transaction(60)


def read(servers: str, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "g", "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        return [message.value() for message in consumer.consume(count, 60)]
    finally:
        consumer.close()


def test_ready_means_ready(broker: DevBroker) -> None:
    """The first requests after start() succeed: no topic is made by naming it, transactions work."""
    servers = broker.bootstrap_servers
    assert AdminClient({"bootstrap.servers": servers}).list_topics(timeout=60).brokers[1].host == "127.0.0.1"
    write(servers, "first", b"1")
    assert read(servers, "first", 1) == [b"1"]


@pytest.mark.parametrize("kill", [False, True])
def test_a_restart_keeps_port_and_data(broker: DevBroker, kill: bool) -> None:
    topic = f"restart-{kill}"
    servers, pid = broker.bootstrap_servers, broker.pid
    write(servers, topic, b"1")
    broker.restart(kill=kill)
    assert broker.bootstrap_servers == servers and broker.pid != pid
    write(servers, topic, b"2")
    assert read(servers, topic, 2) == [b"1", b"2"]


def test_kill_is_at_once_and_start_goes_on(broker: DevBroker) -> None:
    before = broker.log_file.stat().st_size
    broker.kill()
    assert not broker.running and broker.pid is None
    assert b"SIGTERM" not in broker.log_file.read_bytes()[before:], "it was not asked"
    broker.start()
    assert read(broker.bootstrap_servers, "there", 1) == [b"1"]


def test_a_data_directory_in_use(broker: DevBroker) -> None:
    for fresh in (False, True):
        with pytest.raises(BrokerError, match="in use by another broker"):
            DevBroker(data_dir=broker.data_dir, fresh=fresh).start()
    assert read(broker.bootstrap_servers, "there", 1) == [b"1"]


def test_fresh_begins_with_an_empty_broker(tmp_path: Path) -> None:
    with DevBroker(data_dir=tmp_path, start_timeout=120) as first:
        write(first.bootstrap_servers, "old", b"1")
        first.kill()
    with DevBroker(data_dir=tmp_path, fresh=True, start_timeout=120) as second:
        topics = AdminClient({"bootstrap.servers": second.bootstrap_servers}).list_topics(timeout=60).topics
        assert "old" not in topics
        write(second.bootstrap_servers, "new", b"2")
        # a broker that dies before the markers are written may leave them out for ever (KAFKA-20734)
        assert read(second.bootstrap_servers, "new", 1) == [b"2"]
        second.restart(kill=True)  # fresh is for the first start only
        assert read(second.bootstrap_servers, "new", 1) == [b"2"]
        second.kill()


def test_a_broker_that_ends_at_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(BrokerError) as caught:
        DevBroker(data_dir=tmp_path, config={"log.cleaner.threads": "-1"}, start_timeout=120).start()
    assert "log.cleaner.threads" in str(caught.value) and "\n" not in str(caught.value)


def test_it_dies_with_a_parent_that_is_killed() -> None:
    """Also when the thread that started it has long ended; its temporary directory goes too."""
    script = textwrap.dedent("""
        import threading, time
        from kstream.devbroker import DevBroker
        broker = DevBroker(start_timeout=120)
        thread = threading.Thread(target=broker.start)
        thread.start(); thread.join()
        print(broker.pid, broker.data_dir, flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid, directory = parent.stdout.readline().split()
        os.kill(int(pid), 0)
        parent.send_signal(signal.SIGKILL)
        parent.wait(60)
    until(lambda: not Path(directory).exists(), "its directory to be gone", 60)  # it has 10 s to end politely
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no signal for a parent's death")
def test_it_dies_with_its_guard(tmp_path: Path) -> None:
    broker = DevBroker(data_dir=tmp_path, start_timeout=120).start()
    pid = broker.pid
    assert pid is not None and broker._guard is not None
    broker._guard.kill()
    broker.wait()
    until(lambda: not Path(f"/proc/{pid}/exe").exists(), "its end", 60)
    broker.start()
    broker.kill()


def test_the_sessions_broker_answers(bootstrap_servers: str) -> None:
    assert AdminClient({"bootstrap.servers": bootstrap_servers}).list_topics(timeout=60).brokers


def mapped(broker: DevBroker) -> list[str]:
    """The archives of classes that it has open."""
    lines = Path(f"/proc/{broker.pid}/maps").read_text().splitlines()
    return sorted({line.split()[-1] for line in lines if line.endswith(".jsa") and "/classes-" in line})


@pytest.mark.more  # tests/unit/test_devbroker.py has the same with a JVM that is none
def test_the_first_broker_leaves_its_classes_to_those_that_follow(tmp_path: Path) -> None:
    for jar in jars.install():
        (tmp_path / jar.name).symlink_to(jar)
    with DevBroker(cache_dir=tmp_path, start_timeout=180) as broker:
        assert mapped(broker) == []
    (archive,) = tmp_path.glob("classes-*.jsa")
    assert not list(tmp_path.glob("*.part"))
    with DevBroker(cache_dir=tmp_path, start_timeout=180) as broker:
        assert mapped(broker) == [str(archive)]
        broker.kill()  # sooner than a stop in good order
    archive.write_bytes(archive.read_bytes()[:1_000_000])  # a disk that is damaged: the JVM dies of it
    with pytest.raises(BrokerError), DevBroker(cache_dir=tmp_path, start_timeout=180):
        pass
    with DevBroker(cache_dir=tmp_path, start_timeout=180) as broker:
        assert mapped(broker) == []
        broker.kill()
    assert not list(tmp_path.glob("*classes*"))  # one that was killed leaves none
