"""What the page is told of dead letters, on a Kafka in memory: the latest ones, bounded, one reading at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from typing import Any

import pytest

import kstream
from kstream.errors import KafkaUnavailable, UsageError
from kstream.runtime.cluster.dead_letters import scan, span_of
from kstream.runtime.cluster.replaying import Handling
from kstream.runtime.cluster.routes import Routes
from kstream.runtime.view import letters as module
from kstream.runtime.view.letters import LetterView
from kstream.testing.clients import MemoryClients
from kstream.testing.cluster import MemoryCluster
from kstream.types import Clients

SECONDS = 60.0
LETTERS = "shop-dead-letters"


def topology(**more: Any) -> Any:
    app = kstream.App("shop", **more)
    orders = app.topic("orders", key=str, value=dict)
    app.stream(orders).to(app.topic("copies", key=str, value=dict))
    return app.topology()


def headers(exception: str = "builtins.ValueError", app: str = "shop", time: int = 1000) -> list[tuple[str, bytes]]:
    return [
        ("trace", b"\xff"), ("__streams.errors.exception", exception.encode()), ("__streams.errors.topic", b"orders"),
        ("__streams.errors.partition", b"0"), ("__streams.errors.offset", b"7"),
        ("__streams.errors.message", b"m" * 999), ("kstream.app", app.encode()), ("kstream.time", b"%d" % time),
    ]  # fmt: skip


@pytest.fixture
def cluster() -> MemoryCluster:
    made = MemoryCluster()
    made.create_topic(LETTERS, 2)
    made.create_topic("orders")
    for n in range(6):
        made.append(LETTERS, b"k%d" % n, b'{"n": %d}' % n, 5, headers(time=1000 + n), n % 2)
    return made


Make = Callable[..., LetterView]


@pytest.fixture
def view(cluster: MemoryCluster) -> Iterator[Make]:
    made = []

    def make(clients: Clients | None = None, **more: Any) -> LetterView:
        given = {"on_error": [kstream.DeadLetter()], **more}
        made.append(LetterView(topology(**given), lambda: clients or MemoryClients(cluster)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_latest_first_and_counts_of_those_that_are_not_handled(cluster: MemoryCluster, view: Make) -> None:
    cluster.append(LETTERS, b"x", b"y", 5, headers("decimal.InvalidOperation", time=999))
    cluster.append(LETTERS, b"x", b"y", 5, headers(app="mill"))
    clients = MemoryClients(cluster)
    span = span_of(clients.admin(), LETTERS)
    with closing(Handling(clients, clients.admin(), "shop")) as handling:
        handling.start()
        handling.replay([(span, next(scan(clients, clients.admin(), span)))], Routes(["orders"], {"orders": 1}))
    found = view().latest().result(SECONDS)
    assert [one.key for one in found.letters] == ["k5", "k4", "k3", "k2", "k1", "k0", "x"]
    assert {one.key: one.handled for one in found.letters if one.handled} == {"k0": "replayed"}
    assert [(one.exception, one.letters) for one in found.counts] == [
        ("ValueError", 5),
        ("decimal.InvalidOperation", 1),
    ]
    assert (found.topics, found.looked, found.more) == ([LETTERS], 7, False)
    first = found.letters[0]
    assert (first.source, first.time, len(first.message or "")) == ("orders[0] 7", 1005, module.SHORT)


def test_no_more_than_the_last_ones_are_read(view: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKED", 4)
    monkeypatch.setattr(module, "LISTED", 3)
    found = view().latest().result(SECONDS)
    assert [one.key for one in found.letters] == ["k5", "k4", "k3"]
    assert (found.looked, found.more) == (4, True)


def test_without_a_policy_or_a_topic_there_is_nothing(cluster: MemoryCluster, view: Make) -> None:
    assert view(on_error=[]).latest().result(SECONDS).topics == []
    found = view(on_error=[kstream.DeadLetter("later")]).latest().result(SECONDS)
    assert (found.topics, found.letters, found.looked) == (["later"], [], 0)


def test_one_of_them_whole(cluster: MemoryCluster, view: Make) -> None:
    cluster.append(LETTERS, None, b"\x1b[2J{", 5, headers(), 1)
    made = view()
    one = made.one(LETTERS, 0, 1).result(SECONDS)
    assert (one.key, one.value, one.headers) == ("k2", '{"n":2}', [("trace", "\\xff")])
    assert (len(one.message or ""), one.timestamp, one.letter.offset, one.undecodable) == (999, 5, 1, {})
    bad = made.one(LETTERS, 1, 3).result(SECONDS)
    assert (bad.key, bad.value) == ("-", "\\u001b[2J{") and list(bad.undecodable) == ["value"]
    for partition, offset in ((0, 99), (7, 0)):
        with pytest.raises(UsageError, match="there is no dead letter"):
            made.one(LETTERS, partition, offset).result(SECONDS)
    with pytest.raises(UsageError, match=f"there are no dead letters in orders; there are in: {LETTERS}"):
        made.one("orders", 0, 0)


class Gate(MemoryClients):
    """Clients that are given out only when the test lets them."""

    def __init__(self, cluster: MemoryCluster) -> None:
        super().__init__(cluster)
        self.open, self.made = threading.Event(), 0

    def admin(self) -> Any:
        assert self.open.wait(SECONDS)
        self.made += 1
        return super().admin()


def test_who_asks_meanwhile_waits_for_the_same_reading(cluster: MemoryCluster, view: Make) -> None:
    gate = Gate(cluster)
    made = view(gate)
    asked = [made.latest() for _ in range(20)]
    gate.open.set()
    assert len({id(one.result(SECONDS)) for one in asked}) == 1
    assert made.latest().result(SECONDS) is asked[0].result(), "a moment later it is told again"
    assert gate.made == 1


def test_what_was_read_is_read_anew_after_a_while(view: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = view()
    first = made.latest().result(SECONDS)
    monkeypatch.setattr(module, "KEPT", 0.0)
    assert made.latest().result(SECONDS) is not first


def test_a_reading_that_failed_is_not_kept(cluster: MemoryCluster, view: Make) -> None:
    made = view()
    cluster.fail_next("admin.topics", KafkaUnavailable("away"))
    with pytest.raises(KafkaUnavailable, match="away"):
        made.latest().result(SECONDS)
    assert made.latest().result(SECONDS).looked == 6


def test_so_many_letters_may_be_asked_for_at_a_time(
    cluster: MemoryCluster, view: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING", 3)
    gate = Gate(cluster)
    made = view(gate)
    asked: list[Future[Any]] = [made.one(LETTERS, 0, n) for n in range(3)]
    with pytest.raises(KafkaUnavailable, match="3 dead letters are being read already"):
        made.one(LETTERS, 0, 0)
    gate.open.set()
    assert [one.result(SECONDS).letter.offset for one in asked] == [0, 1, 2]
    assert made.one(LETTERS, 0, 0).result(SECONDS).letter.offset == 0


def test_a_reading_that_takes_too_long_is_given_up(view: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", -1.0)
    with pytest.raises(KafkaUnavailable, match="kstream dlq list"):
        view().latest().result(SECONDS)
