"""Static members that leave their group at once (`kstream.runtime.kafka.members`), on a real broker."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from kstream.devbroker import DevBroker
from kstream.errors import AbortRequired, KafkaUnavailable, LeavingFailed
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.runtime.kafka.members import remove_members
from kstream.types import TopicPartition
from support.cluster import free_ports
from support.kafka import create, read, write
from support.running import until

PARTITIONS = 2
SESSION = 60.0
SOON = SESSION / 2
"""Seconds in which partitions have found their new owner: long before the session ends. It takes 0.5 s (1.3 s with the
import of kafka-python), on a busy machine many times as long."""
SHORT_SESSION = 8.0
"""Where its end is waited for."""
PATIENCE = 60.0
"""Seconds for a request, where how long it takes is not the point."""


class Copier:
    """A static member that copies `topic` to `topic`-out, exactly once, a transaction a poll."""

    def __init__(self, servers: str, topic: str, member: str, session: float = SESSION) -> None:
        self.group, self.member, self.out = topic, member, f"{topic}-out"
        clients = KafkaClients(servers, KafkaOptions(session_timeout=session, transaction_timeout=PATIENCE))
        self._admin, self._producer = clients.admin(), clients.producer(member)
        self._producer.init_transactions(PATIENCE)
        self._consumer = clients.consumer(topic, member)
        self.owned: set[TopicPartition] = set()
        self.assignments = 0
        self._consumer.subscribe([topic], self)

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.owned = set(partitions)
        self.assignments += 1
        return self._committed(partitions)

    def _committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                found = self._admin.committed(self.group, partitions).result(PATIENCE)
                break
            except (AbortRequired, KafkaUnavailable):  # the markers of the last transaction are under way
                assert time.monotonic() < deadline
        return {at: entry[0] if entry else 0 for at, entry in found.items()}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.owned = set()

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.owned = set()

    def step(self) -> None:
        before = self.assignments
        fetches = self._consumer.poll(50, 0.01).fetches
        if self.owned and self.assignments != before:  # be it the same partitions as before
            self._consumer.resume(list(self.owned))
        if not fetches:
            return
        self._producer.begin()
        for fetch in fetches:
            for value in fetch.values():
                self._producer.produce(self.out, value, None, fetch.at.partition)
        try:
            ends = {fetch.at: fetch.last_offset + 1 for fetch in fetches}
            self._producer.send_offsets(ends, {}, self._consumer.group_metadata())
            self._producer.commit(PATIENCE)
        except AbortRequired:
            self._producer.abort(PATIENCE)
            if self.owned:
                self._consumer.seek(self._committed(list(self.owned)))

    def close(self) -> None:
        self._consumer.close()
        self._producer.close()
        self._admin.close()


Join = Callable[..., Copier]


@pytest.fixture
def topic(bootstrap_servers: str) -> str:
    name = f"members-{uuid.uuid4().hex[:8]}"
    create(bootstrap_servers, name, PARTITIONS)
    create(bootstrap_servers, f"{name}-out", PARTITIONS)
    return name


@pytest.fixture
def join(bootstrap_servers: str, topic: str) -> Iterator[Join]:
    made: list[Copier] = []

    def make(member: str, session: float = SESSION) -> Copier:
        made.append(Copier(bootstrap_servers, topic, f"{topic}-{member}", session))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What came to the root logger from INFO up of kafka-python and of what calls it. (caplog also hears loggers that
    do not propagate.) librdkafka may have its own to tell, in the tests before too."""
    lines: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name.split(".")[0] == "kafka" or "kafka-python" in record.getMessage():
                lines.append(record.getMessage())

    handler, root = Listening(logging.INFO), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lines
    root.setLevel(level)
    root.removeHandler(handler)


def seconds_until(condition: Callable[[], object], what: str, *members: Copier, seconds: float = PATIENCE) -> float:
    began = time.monotonic()
    until(condition, what, seconds, each=lambda: [one.step() for one in members])
    return time.monotonic() - began


def shared(*members: Copier) -> bool:
    return all(len(one.owned) == PARTITIONS // len(members) for one in members)


def both_in(join: Join, session: float = SESSION) -> tuple[Copier, Copier]:
    a, b = join("a", session), join("b", session)
    seconds_until(lambda: shared(a, b), "a partition each", a, b)
    return a, b


def copied_once(servers: str, topic: str, count: int, *members: Copier) -> None:
    """Waits until as much came out as went in, and compares."""

    def values() -> list[bytes | None]:
        return [row.value for row in read(servers, [f"{topic}-out"])[f"{topic}-out"]]

    seconds_until(lambda: len(values()) >= count, "all copies", *members)
    assert sorted(map(str, values())) == sorted(str(b"%d" % number) for number in range(count))


def feed(servers: str, topic: str, first: int, last: int) -> None:
    now = round(time.time() * 1000)  # records of long ago may be deleted at any time
    write(servers, topic, ((f"k{number % 7}", b"%d" % number, now) for number in range(first, last)))


# ---- leaving


def test_without_removal_the_partition_rests_until_the_session_ends(join: Join) -> None:
    """What librdkafka does, and why there is this module. When this fails, it has learned to leave."""
    a, b = both_in(join, SHORT_SESSION)
    a.close()
    assert seconds_until(lambda: shared(b), "the other's partition", b) > SHORT_SESSION / 2


def test_with_removal_the_other_member_has_the_partition_soon(
    bootstrap_servers: str, topic: str, join: Join, said: list[str]
) -> None:
    a, b = both_in(join)
    a.close()
    assert remove_members(bootstrap_servers, KafkaOptions(), topic, [a.member], PATIENCE) == {a.member}
    assert seconds_until(lambda: shared(b), "the other's partition", b) < SOON
    assert said == []


def test_the_same_member_may_come_back_at_once(bootstrap_servers: str, topic: str, join: Join) -> None:
    """No fencing, no assignment from before (decision 0003 tells of a member that sat on one for 300 s), and every
    record counts once: three times over, within one session."""
    a, b = both_in(join)
    fed = 0
    for _ in range(3):
        feed(bootstrap_servers, topic, fed, fed + 60)
        a.step()
        a.close()
        remove_members(bootstrap_servers, KafkaOptions(), topic, [a.member], PATIENCE)
        feed(bootstrap_servers, topic, fed + 60, fed + 120)
        fed += 120
        a = join("a")
        assert seconds_until(lambda a=a: shared(a, b), "a partition each", a, b) < SOON
        copied_once(bootstrap_servers, topic, fed, a, b)


def test_back_before_the_others_have_noticed(bootstrap_servers: str, topic: str, join: Join) -> None:
    """The removal begins a rebalance; the same id joins while it goes on."""
    a, b = both_in(join)
    a.close()
    remove_members(bootstrap_servers, KafkaOptions(), topic, [a.member], PATIENCE)
    a = join("a")
    a.step()
    assert seconds_until(lambda: shared(a, b), "a partition each", a, b) < SOON
    feed(bootstrap_servers, topic, 0, 100)
    copied_once(bootstrap_servers, topic, 100, a, b)


def test_several_leave_in_one_request_and_unknown_ones_are_passed_over(
    bootstrap_servers: str, topic: str, join: Join
) -> None:
    a, b = both_in(join)
    a.close()
    b.close()
    left = [a.member, b.member, "never-was"]
    assert remove_members(bootstrap_servers, KafkaOptions(), topic, left, PATIENCE) == {a.member, b.member}
    assert remove_members(bootstrap_servers, KafkaOptions(), topic, left, PATIENCE) == frozenset()
    assert remove_members(bootstrap_servers, KafkaOptions(), f"{topic}-no-such-group", left, PATIENCE) == frozenset()
    assert remove_members("127.0.0.1:1", KafkaOptions(), topic, [], 10) == frozenset()  # nobody: nothing is asked
    c = join("c")
    assert seconds_until(lambda: shared(c), "both partitions", c) < SOON


def test_leaving_while_the_group_rebalances(bootstrap_servers: str, topic: str, join: Join) -> None:
    """The third has joined, the second has not heard of it yet: the first leaves now."""
    a, b = both_in(join)
    c = join("c")
    c.step()
    a.close()
    remove_members(bootstrap_servers, KafkaOptions(), topic, [a.member], PATIENCE)
    assert seconds_until(lambda: shared(b, c), "a partition each", b, c) < SOON
    feed(bootstrap_servers, topic, 0, 100)
    copied_once(bootstrap_servers, topic, 100, b, c)


def test_one_that_still_runs_loses_its_partitions_joins_again_and_nothing_counts_twice(
    bootstrap_servers: str, topic: str, join: Join
) -> None:
    """Somebody started it again elsewhere before the request was out: a mistake that must not hurt."""
    a, b = both_in(join)
    feed(bootstrap_servers, topic, 0, 100)
    a.step()
    before = a.assignments
    remove_members(bootstrap_servers, KafkaOptions(), topic, [a.member], PATIENCE)
    feed(bootstrap_servers, topic, 100, 200)
    seconds_until(lambda: a.assignments > before and shared(a, b), "it to join again", a, b)
    copied_once(bootstrap_servers, topic, 200, a, b)


# ---- what can go wrong

AT_MOST = 25.0
"""Seconds for what was given 1.5: what else it takes is the busy machine's. kafka-python's own limit is 30."""


def test_a_cluster_that_does_not_answer(topic: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(LeavingFailed, match=r"partitions rest until the session ends .*127\.0\.0\.1"):
            remove_members(f"127.0.0.1:{silent.getsockname()[1]}", KafkaOptions(), topic, ["a"], 1.5)
        assert time.monotonic() - began < AT_MOST


def test_a_cluster_that_is_not_there(topic: str) -> None:
    began = time.monotonic()
    with pytest.raises(LeavingFailed, match="partitions rest until the session ends"):
        remove_members("127.0.0.1:1", KafkaOptions(), topic, ["a"], 1.5)
    assert time.monotonic() - began < AT_MOST


def test_what_cannot_be_mapped_is_told_at_once() -> None:
    with pytest.raises(LeavingFailed, match=r"sasl\.mechanism GSSAPI cannot be used here"):
        raw = {"security.protocol": "sasl_ssl", "sasl.mechanism": "GSSAPI"}
        remove_members("127.0.0.1:1", KafkaOptions(raw=raw), "g", ["a"], 60)


# ---- a cluster with TLS and passwords


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DevBroker, str, Path]]:
    """A broker of our own, its address with security, and the certificate to trust."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=kstream -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )  # fmt: skip
    plain, secure, controller = free_ports(3)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    config = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},SECURE://127.0.0.1:{secure}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.certificate.chain": _one_line(certificate),
        "listener.name.secure.ssl.keystore.key": _one_line(key),
        "listener.name.secure.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": f"{login} user_flights=\"cleared for 'take-off'\" ;",
    }
    with DevBroker(port=plain, config=config, start_timeout=180) as broker:
        yield broker, f"127.0.0.1:{secure}", certificate
        broker.kill()


def _one_line(pem: Path) -> str:
    """As a value of server.properties: lines joined by spaces, which PEM takes, for DevBroker doubles backslashes."""
    return " ".join(pem.read_text().splitlines())


@pytest.fixture
def gone(secured: tuple[DevBroker, str, Path]) -> str:
    """A group of that broker, whose only member, named after it, has just closed: it stays one for three minutes."""
    servers, group = secured[0].bootstrap_servers, f"secured-{uuid.uuid4().hex[:8]}"
    create(servers, group, PARTITIONS)
    member = Copier(servers, group, group, 180.0)
    seconds_until(lambda: shared(member), "both partitions", member)
    member.close()
    return group


def why_not(servers: str, raw: Mapping[str, str], group: str, words: str) -> None:
    """Waits until the reason for which a group cannot be left has these words: 4 s may be over before the brokers have
    said more than that they hang up."""
    said: list[str] = []

    def told() -> bool:
        with pytest.raises(LeavingFailed) as failed:
            remove_members(servers, KafkaOptions(raw=raw), group, [group], 4)
        said.append(str(failed.value))
        return words in said[-1]

    try:
        until(told, words, PATIENCE)
    except AssertionError:
        pytest.fail(f"{words!r} is not in {said}")


def test_over_tls_with_a_password(
    secured: tuple[DevBroker, str, Path], gone: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, servers, certificate = secured
    raw = {
        "security.protocol": "sasl_ssl",
        "ssl.ca.location": str(certificate),
        "sasl.mechanism": "PLAIN",
        "sasl.username": "flights",
        "sasl.password": "wrong",
    }
    with caplog.at_level(logging.DEBUG, "kstream.kafka"):
        why_not(servers, raw, gone, "Authentication failed")
        raw["sasl.password"] = "cleared for 'take-off'"
        why_not(servers, {**raw, "ssl.ca.location": "probe"}, gone, "certificate verify failed")
        assert remove_members(servers, KafkaOptions(raw=raw), gone, [gone], PATIENCE) == {gone}
    assert "kafka-python" in caplog.text  # it told what it did
    assert "take-off" not in caplog.text


def test_the_broker_comes_back_meanwhile(secured: tuple[DevBroker, str, Path], gone: str) -> None:
    """The coordinator is away when the request is made; it is asked until it is there."""
    broker, _, _ = secured
    broker.kill()
    starting = threading.Thread(target=broker.start)
    starting.start()
    assert remove_members(broker.bootstrap_servers, KafkaOptions(), gone, [gone], 150) == {gone}
    starting.join()
