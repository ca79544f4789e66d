"""Keys of which nobody can say anything: they say so, and no other key does because of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import kstream
from kstream.config import Settings
from kstream.errors import StateUnavailable
from kstream.observe.status import InstanceStatus, TaskStatus
from kstream.partitioning import partition_of
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.handle import WorkerProcess, pauses_from
from kstream.runtime.process.report import Report
from kstream.runtime.process.states import ProcessState
from kstream.runtime.task.states import TaskState
from kstream.runtime.view import queries as view
from kstream.runtime.view.queries import Queries
from kstream.testing import TestDriver
from kstream.web.client import AsyncQuery
from kstream.web.server import WebServer
from kstream.web.state import State
from support.observed import FakeObserved
from support.queried import Instance
from support.web import KEY, TOKEN, Client

PARTITIONS = 4

app = kstream.App("shop")
words = app.topic("words", key=str, value=str)
of_words = app.stream(words).group_by_key().count(name="of-words")
by_word = app.table("by-word", key=str, value=str)


def word_of(word: str) -> str:
    return word


moved = app.stream(words).repartition(name="spread").rekey(word_of)
of_spread = app.stream(words).group_by(word_of, name="again").count(name="of-spread")


@app.agent(moved)
def keep(word: str) -> None:
    by_word[word] = word


KEYS = [f"k{n:02}" for n in range(40)]
AWAY = {key for key in KEYS if partition_of(key.encode(), PARTITIONS) == 1}
"""Keys whose partition cannot be asked in what follows."""
HERE = [key for key in KEYS if key not in AWAY]


@dataclass
class Served:
    instance: Instance
    queries: Queries
    client: Client

    def query(self, timeout: float) -> AsyncQuery:
        stores = {one.name: one for part in app.topology().parts for one in part.stores}
        return AsyncQuery(stores, lambda: [self.client.server.url], KEY, timeout)

    def without(self, partition: int) -> str:
        """Nobody says any more that this worker runs that partition of `of-words`. The task's name."""
        name = self.queries.store("of-words").task(partition)
        report = self.instance.workers[0].report
        self.instance.workers[0].report = Report(tasks=[one for one in report.tasks if one.name != name])
        return name


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(view, "ANSWER_SECONDS", 0.2)
    with TestDriver(app, partitions=PARTITIONS, check_keys="off") as d:
        for key in KEYS:
            d.send(words, f"word-{key}", key=key)
        d.commit()
        instance = Instance(d)
        topics = {topic: PARTITIONS for part in app.topology().parts for topic in part.topics}
        queries = Queries(instance, app.topology(), topics, "a", lambda: instance.others)
        server = WebServer(FakeObserved(), TOKEN, "127.0.0.1", 0, state=State(queries, KEY))
        server.start()
        queries.url = server.url
        yield Served(instance, queries, Client(server))
        server.stop()


def restoring(served: Served) -> None:
    name = served.queries.store("of-words").task(1)
    task = next(one for one in served.instance.driver.worker.tasks.values() if one.name == name)
    task.state = TaskState.RESTORING
    served.instance.report()


def silent(served: Served) -> None:
    """Another worker of the instance has it, and does not answer."""
    name = served.without(1)
    other = WorkerProcess(Identity("shop", "a", 1), pauses_from(Settings()), state=ProcessState.RUNNING)
    ours, kept = socket.socketpair()

    class Silent:
        unread = kept

        def take_queries(self) -> socket.socket:
            return ours

    other.process = Silent()  # type: ignore[assignment]
    other.report = Report(tasks=[TaskStatus(name, "1", "running")])
    served.instance.workers.append(other)


def gone(served: Served) -> None:
    """Another instance had it when it was last heard of."""
    other = InstanceStatus("shop", "b", "running", 0.0, 0.0, url="http://127.0.0.1:1")
    other.tasks = [TaskStatus(served.without(1), "0", "running")]
    served.instance.others[:] = [other]


def lost(served: Served) -> None:
    """Another instance has lost it without having said so: here it is this one again, under its other name."""
    other = InstanceStatus("shop", "b", "running", 0.0, 0.0, url=served.client.server.url)
    other.tasks = [TaskStatus(served.without(1), "0", "running")]
    served.instance.others[:] = [other]


ways = pytest.mark.parametrize(
    ("way", "why"),
    [
        (restoring, "its task is restoring in this instance"),
        (silent, "did not answer within"),
        (gone, "http://127.0.0.1:1 cannot be asked"),
        (lost, "its task is running in instance b"),
    ],
    ids=["restoring", "silent", "gone", "lost"],
)


@ways
def test_a_partition_that_cannot_be_asked_is_told_for_its_own_keys(served: Served, way: Any, why: str) -> None:
    way(served)
    answer = served.client.ask("/state/of-words", "POST", {"keys": [*KEYS, "nobody"]})
    assert (answer.status, answer.headers["retry-after"]) == (200, "1")
    assert [entry["key"] for entry in answer.json["entries"]] == HERE
    unavailable = {one["key"]: one["why"] for one in answer.json["unavailable"]}
    assert set(unavailable) == {*AWAY, "nobody"}  # it might lie anywhere: its producer may have another hash
    assert all(why in one and "\n" not in one for one in unavailable.values())
    alone = served.client.ask(f"/state/of-words/{min(AWAY)}")
    assert (alone.status, alone.headers["retry-after"]) == (503, "1") and why in alone.json["error"]
    assert served.client.ask(f"/state/of-words/{HERE[0]}").json["value"] == 1


def test_an_answer_without_failures_says_nothing_of_them(served: Served) -> None:
    answer = served.client.ask("/state/of-words", "POST", {"keys": ["k01", "nobody"]})
    assert answer.json.keys() == {"store", "entries", "partitions"} and "retry-after" not in answer.headers


@ways
def test_the_client_answers_what_it_can_at_once(served: Served, way: Any, why: str) -> None:
    """Keys that are asked for at the same time share requests, and stuck ones take none from others."""
    way(served)

    async def asked() -> None:
        async with served.query(30.0) as query:
            gets = {key: asyncio.ensure_future(query.get("of-words", key)) for key in (*KEYS, *KEYS)}
            assert await asyncio.gather(*(gets[key] for key in HERE)) == [1] * len(HERE)
            assert not any(gets[key].done() for key in AWAY)
            for _ in range(20):  # while those are asked for again and again
                async with asyncio.timeout(1.0):
                    assert await query.get("of-words", HERE[0]) == 1
            assert not any(gets[key].done() for key in AWAY)
            for key in AWAY:
                gets[key].cancel()
        async with served.query(0.7) as query:
            gone = await asyncio.gather(*(query.get("of-words", key) for key in AWAY), return_exceptions=True)
            for key, failed in zip(AWAY, gone, strict=True):
                assert isinstance(failed, StateUnavailable) and why in str(failed), failed
                assert failed.keys == [key]
            with pytest.raises(StateUnavailable, match=f"{len(AWAY)} of {len(KEYS)} keys") as caught:
                await query.get_many("of-words", KEYS)
            assert set(caught.value.keys) == AWAY and caught.value.found == dict.fromkeys(HERE, 1)

    asyncio.run(asked())


def test_a_key_is_answered_as_soon_as_its_partition_is_back(served: Served) -> None:
    restoring(served)

    async def asked() -> None:
        async with served.query(30.0) as query:
            one = asyncio.ensure_future(query.get("of-words", min(AWAY)))
            many = asyncio.ensure_future(query.get_many("of-words", KEYS))
            assert await query.get("of-words", HERE[0]) == 1 and not one.done() and not many.done()
            for task in served.instance.driver.worker.tasks.values():
                task.state = TaskState.RUNNING
            served.instance.report()
            assert await one == 1 and await many == dict.fromkeys(KEYS, 1)

    asyncio.run(asked())


def test_a_key_that_an_agent_keeps_away_from_its_home_is_found(served: Served) -> None:
    """With check_keys "off" or "sample" nobody refused it."""
    word = "word-k07"
    assert partition_of(word.encode(), PARTITIONS) != partition_of(b"k07", PARTITIONS)
    answer = served.client.ask(f"/state/by-word/{word}")
    assert (answer.status, answer.json["partition"]) == (200, partition_of(b"k07", PARTITIONS))
    exact = {name for name, store in served.queries.stores.items() if store.exact}
    assert exact == {"of-spread"}  # only an aggregation behind a repartition topic
