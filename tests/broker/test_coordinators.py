"""Coordinators of groups that are not there yet, or not where they were, and brokers that do not answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from kstream.devbroker import DevBroker
from kstream.runtime.cluster.regroup import answer
from kstream.runtime.kafka import KafkaClients
from kstream.types import NewTopic, TopicPartition
from support.cluster import three_brokers
from support.running import until


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevBroker]:
    """For tests that stop and kill it."""
    with DevBroker(data_dir=tmp_path_factory.mktemp("broker") / "data", start_timeout=180) as started:
        yield started
        started.kill()


ASKS = """
import sys
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.runtime.cluster.regroup import committed
from kstream.types import TopicPartition

def ask():
    for number in range(16):
        assert committed(admin, f"group-{number}", [TopicPartition("t", 0)]) == {}

admin = KafkaClients(sys.argv[1], KafkaOptions()).admin()
ask()
print("asked", flush=True)
for _ in sys.stdin:
    ask()
    print("asked", flush=True)
"""


@pytest.mark.parametrize("restarts", [1, pytest.param(2, marks=pytest.mark.more)])
def test_committed_offsets_while_coordinators_come_and_move(tmp_path: Path, restarts: int) -> None:
    """On a cluster that nobody has used they load one after the other, and refuse until then; when a broker is
    restarted they move. Asked for offsets too early, librdkafka ended the process with a segmentation fault (#5040)."""
    with (
        three_brokers(tmp_path) as brokers,
        (tmp_path / "err").open("w+") as said,
        subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", ASKS, ",".join(each.bootstrap_servers for each in brokers)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, bufsize=1,
        ) as asking,
    ):  # fmt: skip
        assert asking.stdin is not None and asking.stdout is not None
        assert asking.stdout.readline() == "asked\n", (tmp_path / "err").read_text()[-3000:]
        for broker in brokers[1 : 1 + restarts]:
            broker.restart()
            asking.stdin.write("again\n")
            assert asking.stdout.readline() == "asked\n", (tmp_path / "err").read_text()[-3000:]
        asking.stdin.close()
        assert asking.wait(60) == 0


LEAVES = """
import sys
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.runtime.cluster.regroup import committed
from kstream.types import NewTopic, TopicPartition

admin = KafkaClients(sys.argv[1], KafkaOptions()).admin()
admin.create_topics([NewTopic("left", 4, 1)], 60)
at = [TopicPartition("left", number) for number in range(4)]
committed(admin, "g", at)
print("ready", flush=True)
sys.stdin.readline()
asked = [admin.committed("g", at), admin.end_offsets(at), admin.start_offsets(at), admin.members("g")]
admin.close()
print("closed", flush=True)
"""


def test_a_process_may_end_while_brokers_do_not_answer(broker: DevBroker) -> None:
    """librdkafka forgets the questions of a client that is freed: nobody may wait for their answers."""
    with subprocess.Popen(
        [sys.executable, "-c", LEAVES, broker.bootstrap_servers],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as leaving:  # fmt: skip
        assert leaving.stdin is not None and leaving.stdout is not None and broker.pid is not None
        assert leaving.stdout.readline() == "ready\n"
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            leaving.stdin.write("go\n")
            assert leaving.stdout.readline() == "closed\n"
            assert leaving.wait(60) == 0
        finally:
            leaving.kill()
            os.kill(broker.pid, signal.SIGCONT)


def test_what_was_asked_of_a_client_that_is_renewed_is_answered(broker: DevBroker) -> None:
    """After a failure the next question goes out through a new client. A task that restores waited for ever for what it
    had asked of the one before."""
    at = TopicPartition("renewed", 0)
    admin = KafkaClients(broker.bootstrap_servers).admin()
    admin.create_topics([NewTopic("renewed", 1, 1)], 60)
    answer(lambda: admin.end_offsets([at]), "the end")
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        asked = admin.end_offsets([at])
        until(lambda: not admin._asked.lock.locked(), "the question to be out")
        admin._asked.drop()
        again = admin.start_offsets([at])
        until(lambda: admin._asked._open is not None, "the new client")
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    assert asked.result(60) == {at: 0}
    again.exception(60)  # it ends, one way or the other
    admin.close()


ENDURES = """
import sys
from kstream.runtime.kafka import KafkaClients
from kstream.types import TopicPartition

admin = KafkaClients(sys.argv[1]).admin()
for _ in sys.stdin:
    error = admin.committed("g", [TopicPartition("t", 0)]).exception(60)
    print("-" if error is None else error, flush=True)
"""


def test_a_process_endures_that_a_coordinator_comes_back_after_its_question_has_failed(
    broker: DevBroker, tmp_path: Path
) -> None:
    """librdkafka answered the question then, with memory that it had freed at the time-out, and ended the process. The
    worker waits for its producer meanwhile: nothing else is asked."""
    with (
        (tmp_path / "err").open("w+") as said,
        subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", ENDURES, broker.bootstrap_servers],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, bufsize=1,
        ) as asking,
    ):  # fmt: skip
        assert asking.stdin is not None and asking.stdout is not None

        def ask() -> str:
            assert asking.stdin is not None and asking.stdout is not None
            asking.stdin.write("ask\n")
            return asking.stdout.readline().strip() or (tmp_path / "err").read_text()[-3000:]

        until(lambda: ask() == "-", "the first answer")
        for _ in range(2):
            broker.kill()
            assert "committed offsets of group g" in ask()  # there is no answer, or the connection broke before
            broker.start()
            other = KafkaClients(broker.bootstrap_servers).admin()
            answer(partial(other.committed, "other", [TopicPartition("t", 0)]), "the broker's coordinators")
            other.close()
            until(lambda: ask() == "-", "an answer of the broker that is back")
        asking.stdin.close()
        assert asking.wait(60) == 0


def test_after_a_brokers_restart_a_restore_asks_and_reads_as_quickly_as_before(broker: DevBroker) -> None:
    """Clients that lived through it: each question about committed offsets waited five seconds for the coordinator that
    had been lost, and a reader that was assigned anew for a second and more."""
    clients = KafkaClients(broker.bootstrap_servers)
    admin, reader, producer = clients.admin(), clients.reader(), clients.producer(None)
    admin.create_topics([NewTopic("restored", 4, 1)], 60)
    every = [TopicPartition("restored", number) for number in range(4)]
    for at in every:
        producer.produce(at.topic, b"v", b"k", at.partition)
    producer.flush(60)
    producer.close()

    def restore(number: int) -> float:
        """Seconds, after a rest, from the question to the record."""
        rest = time.monotonic() + 0.2 + number / 10
        while time.monotonic() < rest:
            reader.poll(1000, 0.02)
        began, at = time.monotonic(), every[number % 4]
        answer(lambda: admin.committed("restored", every), "the committed offsets")
        assert answer(lambda: admin.end_offsets([at]), "the end") == {at: 1}
        reader.assign({at: 0})
        until(lambda: reader.poll(1000, 0.02).fetches, "the record")
        return time.monotonic() - began

    restore(0)
    broker.restart(kill=True)
    restore(0)  # this one waits until the broker has its coordinators and leaders again
    tries = []
    for _ in range(3):  # 0.1 s; on a busy machine longer, now and then
        tries.append(sorted(map(restore, range(8))))
        if tries[-1][5] < 1.0:
            break
    else:
        pytest.fail(f"restores took {tries} s")
    reader.close()
    admin.close()
