"""Queries of state over TLS: by `app.query()`'s client, and by instances that ask each other."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec
import pytest

import kstream
from kstream.config import Settings
from kstream.errors import StateUnavailable
from kstream.observe.status import InstanceStatus, TaskStatus
from kstream.runtime.process.report import Report
from kstream.runtime.view.queries import Queries
from kstream.testing import TestDriver
from kstream.web.asking import Asking, Response
from kstream.web.client import AsyncQuery
from kstream.web.server import WebServer
from kstream.web.state import State
from kstream.web.tls import tls_of, trusting
from support.observed import FakeObserved
from support.queried import Instance
from support.running import until
from support.secured import Certificates, certificates
from support.web import KEY, TOKEN

PARTITIONS = 2
UNTRUSTED = "has a certificate that is not trusted: set web_tls_ca"

app = kstream.App("shop")
words = app.topic("words", key=str, value=str)
counts = app.stream(words).group_by_key().count(name="counts")


@dataclass
class Served:
    files: Certificates
    server: WebServer
    instance: Instance

    def trust(self) -> ssl.SSLContext:
        context = trusting(str(self.files.ca))
        assert context is not None
        return context

    def ask(self, target: str, *, tls: ssl.SSLContext | None) -> Response:
        async def asked() -> Response:
            asking = Asking(KEY, tls)
            try:
                return await asking.ask(self.server.url, target, seconds=60)
            finally:
                asking.close()

        return asyncio.run(asked())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"))


def serving(files: Certificates, asks_with: ssl.SSLContext | None) -> Iterator[Served]:
    """An instance whose page has a certificate, and which asks others by `asks_with`."""
    settings = replace(Settings(), web_tls_certificate=str(files.server))
    with TestDriver(app, partitions=PARTITIONS) as driver:
        for n in range(20):
            driver.send(words, "x", key=f"k{n}")
        driver.commit()
        instance = Instance(driver)
        queries = Queries(instance, app.topology(), {"words": PARTITIONS}, "a", lambda: instance.others)
        state = State(queries, KEY, asks_with)
        server = WebServer(FakeObserved(), TOKEN, "127.0.0.1", 0, tls=tls_of(settings), state=state)
        server.start()
        queries.url = server.url
        yield Served(files, server, instance)
        server.stop()


@pytest.fixture
def served(files: Certificates) -> Iterator[Served]:
    yield from serving(files, trusting(str(files.ca)))


@pytest.fixture
def served_by_who_trusts_nobody(files: Certificates) -> Iterator[Served]:
    yield from serving(files, None)


def test_the_client_asks_over_tls(served: Served) -> None:
    async def asked() -> tuple[int | None, dict[str, int]]:
        stores, trust = {"counts": counts.spec}, served.trust()
        async with AsyncQuery(stores, lambda: [served.server.url], KEY, 60, trust) as client:
            return await client.get(counts, "k7"), await client.get_many(counts, ["k1", "k2", "nobody"])

    assert served.server.url.startswith("https://")
    assert asyncio.run(asked()) == (1, {"k1": 1, "k2": 1})


def test_the_systems_authorities_are_read_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes some ten milliseconds, in which the page answers nobody."""
    trust = served.trust()
    made: list[ssl.SSLContext] = []

    def make() -> ssl.SSLContext:
        made.append(trust)
        return trust

    async def ask_together() -> None:
        asking = Asking(KEY)
        await asyncio.gather(*(asking.ask(served.server.url, "/state/counts", seconds=60) for _ in range(3)))
        asking.close()

    monkeypatch.setattr("kstream.web.asking.ssl.create_default_context", make)
    asyncio.run(ask_together())
    assert len(made) == 1


def test_where_a_certificate_is_not_trusted_it_is_said_what_to_set(served: Served) -> None:
    with pytest.raises(StateUnavailable, match=rf"{UNTRUSTED} \(.+\)") as refused:
        served.ask("/state/counts", tls=None)
    assert "\n" not in str(refused.value)


def forwarded(served: Served) -> str:
    """What is said of a partition that another instance has: this one again, under its other name."""
    report = served.instance.workers[0].report
    served.instance.workers[0].report = Report(tasks=[one for one in report.tasks if not one.name.endswith("/1")])
    other = InstanceStatus("shop", "b", "running", 0.0, 0.0, url=served.server.url)
    other.tasks = [TaskStatus("words/1", "0", "running")]
    served.instance.others[:] = [other]

    def said() -> str:
        answer = served.ask("/state/counts?partition=1", tls=served.trust())
        assert answer.status == 503
        return str(msgspec.json.decode(answer.body)["error"])

    def known() -> str | None:
        words = said()
        return words if "instance b" in words or served.server.url in words else None

    return str(until(known, "the other to be known"))


def test_instances_ask_each_other_over_tls(served: Served) -> None:
    """The other has the partition as little as this one: that it says so is an answer."""
    assert "instance b was asked: partition 1 of store counts cannot be asked now" in forwarded(served)


def test_an_instance_says_what_to_set_where_it_does_not_trust_another(served_by_who_trusts_nobody: Served) -> None:
    assert UNTRUSTED in forwarded(served_by_who_trusts_nobody)
