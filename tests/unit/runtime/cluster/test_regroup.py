"""Committed offsets that go along when something moves into another isolation group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import pytest

import kstream
from kstream.errors import AbortRequired, ConfigError, KafkaUnavailable
from kstream.runtime.cluster import regroup
from kstream.runtime.cluster.regroup import answer, take_offsets_along
from kstream.types import TopicPartition

T = TypeVar("T")
PARTITIONS = {"orders": 2, "shop-n-changelog": 2, "bills": 2}


def done(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future


class Groups:
    """Consumer groups as an admin client sees them: offsets, members, and what topics hold."""

    def __init__(self) -> None:
        self.offsets: dict[str, dict[TopicPartition, tuple[int, str]]] = {}
        self.members_of: dict[str, frozenset[str]] = {}
        self.ends: dict[str, int] = {}

    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> Future[Any]:
        return done({at: self.offsets.get(group, {}).get(at) for at in partitions})

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        return done({at: self.ends.get(at.topic, 0) for at in partitions})

    def members(self, group: str) -> Future[frozenset[str]]:
        return done(self.members_of.get(group, frozenset()))

    def set_committed(self, group: str, offsets: Mapping[TopicPartition, tuple[int, str]]) -> Future[None]:
        self.offsets.setdefault(group, {}).update(offsets)
        return done(None)


def shop(group: str | None, *, others: bool = False) -> kstream.App:
    """Counts orders in this isolation group; `others` read them in the default one too."""
    app = kstream.App("shop")
    orders = app.topic("orders", key=str, value=int)
    app.stream(orders, group=group).group_by_key().count(name="n")
    if others:
        app.agent(orders, name="other")(len)
    return app


WAS = {TopicPartition("orders", 0): (5, "x"), TopicPartition("orders", 1): (7, "")}


def take(app: kstream.App, groups: Groups) -> None:
    topology = app.topology()
    take_offsets_along(topology, topology.groups, PARTITIONS, groups)


def test_what_moved_goes_on_where_it_was() -> None:
    groups = Groups()
    groups.offsets["shop"] = dict(WAS)
    take(shop("cpu"), groups)
    assert groups.offsets["shop-cpu"] == WAS, "with the metadata, in which the task's time may be"


def test_what_moves_back_does_too() -> None:
    groups = Groups()
    groups.offsets["shop-cpu"] = dict(WAS)
    app = shop(None)
    app.agent(app.topic("bills", key=str, value=int), name="bill", group="cpu")(len)
    take(app, groups)
    assert groups.offsets["shop"] == WAS


def test_a_group_that_has_committed_keeps_its_own() -> None:
    groups = Groups()
    own = {TopicPartition("orders", 0): (9, "")}
    groups.offsets = {"shop": dict(WAS), "shop-cpu": dict(own)}
    take(shop("cpu"), groups)
    assert groups.offsets["shop-cpu"] == own


def test_what_is_new_begins_anew() -> None:
    """The default group goes on reading the topic, and nothing says that this was ever at work."""
    groups = Groups()
    groups.offsets["shop"] = dict(WAS)
    take(shop("cpu", others=True), groups)
    assert "shop-cpu" not in groups.offsets


def test_what_has_state_has_been_at_work() -> None:
    groups = Groups()
    groups.offsets["shop"] = dict(WAS)
    groups.ends["shop-n-changelog"] = 3
    take(shop("cpu", others=True), groups)
    assert groups.offsets["shop-cpu"] == WAS and groups.offsets["shop"] == WAS


def test_never_while_somebody_may_still_work_there() -> None:
    groups = Groups()
    groups.offsets["shop"], groups.members_of["shop"] = dict(WAS), frozenset({"shop-default-a-0"})
    with pytest.raises(
        ConfigError, match="orders@cpu moves from consumer group shop to shop-cpu, but shop still has members"
    ):
        take(shop("cpu"), groups)
    assert "shop-cpu" not in groups.offsets


def test_a_pending_transaction_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regroup, "RETRY_SECONDS", 0.0)
    pending: Future[int] = Future()
    pending.set_exception(AbortRequired("a transaction is pending"))
    answers = [pending, pending, done(5)]
    assert answer(lambda: answers.pop(0), "the offsets") == 5 and answers == []


def test_an_answer_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regroup, "TIMEOUT", 0.0)
    monkeypatch.setattr(regroup, "RETRY_SECONDS", 0.0)
    away: Future[int] = Future()
    away.set_exception(KafkaUnavailable("no coordinator"))
    with pytest.raises(KafkaUnavailable, match="the offsets cannot be read: no coordinator"):
        answer(lambda: away, "the offsets")
