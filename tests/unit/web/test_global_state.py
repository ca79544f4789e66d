"""Queries of a global table: any instance that has it answers, from whichever place its rows are in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import kstream
from kstream.observe.status import InstanceStatus, TableStatus
from kstream.runtime.view.queries import Queries
from kstream.testing import TestDriver
from kstream.web.server import WebServer
from kstream.web.state import State
from support.observed import FakeObserved
from support.queried import Instance
from support.web import KEY, TOKEN, Client

app = kstream.App("shop")
rows = app.topic("rows", key=str, value=str | None, partitions=3)
asks = app.topic("asks", key=str, value=str, partitions=1)
table = app.global_table(rows)
prices = app.topic("prices", key=str, value=int | None, partitions=1)
app.global_table(prices)
app.stream(asks).join(table, lambda ask, row: row, on=lambda ask: ask).peek(lambda row: None)


@pytest.fixture(params=["memory", "rocksdb"])
def instance(request: pytest.FixtureRequest) -> Iterator[Instance]:
    with TestDriver(app, backend=request.param) as d:
        for n in range(20):
            d.send(rows, f"row {n}", key=f"k{n:02}")
        yield Instance(d)


@pytest.fixture
def served(instance: Instance) -> Iterator[Client]:
    queries = Queries(instance, app.topology(), {"asks": 1, "rows": 3, "prices": 1}, "a", lambda: instance.others)
    server = WebServer(FakeObserved(), TOKEN, "127.0.0.1", 0, state=State(queries, KEY))
    server.start()
    queries.url = server.url
    yield Client(server)
    server.stop()


def test_keys_and_ranges_are_answered(served: Client, instance: Instance) -> None:
    assert served.ask("/state/rows/k07").json == {"key": "k07", "value": "row 7", "partition": 0}
    assert served.ask("/state/rows/k77").status == 404
    page = served.ask("/state/rows?from=k03&to=k06").json
    assert [entry["key"] for entry in page["entries"]] == ["k03", "k04", "k05"]
    store = next(one for one in served.ask("/state").json["stores"] if one["name"] == "rows")
    assert (store["name"], store["partitions"], store["owners"][0]["instance"]) == ("rows", 1, "a")


def test_so_they_are_once_it_was_read_anew(served: Client, instance: Instance) -> None:
    d = instance.driver
    d.cluster.delete_topic("rows")
    d.cluster.create_topic("rows", 3)
    d.cluster.append("rows", b"new", b"one")
    d.advance(11)
    assert served.ask("/state/rows/new").json["value"] == "one"
    assert served.ask("/state/rows/k07").status == 404


def test_while_nobody_has_it_nobody_answers(served: Client, instance: Instance) -> None:
    for store in instance.driver.worker.tables.stores.values():
        store.serve(None)
    assert served.ask("/state/rows/k07").status == 503
    instance.report()
    assert "no instance has said that it has it" in served.ask("/state/rows/k07").json["error"]


def test_another_instance_that_has_it_is_the_owner(served: Client, instance: Instance) -> None:
    for store in instance.driver.worker.tables.stores.values():
        store.serve(None)
    instance.report()
    told = [TableStatus("rows", "rows", "0", there=True)]
    instance.others = [InstanceStatus("shop", "b", "running", 0.0, 0.0, url="http://127.0.0.1:1", tables=told)]
    assert served.ask("/state").json["stores"][0]["owners"][0]["instance"] == "b"


@pytest.mark.parametrize("spoilt", [b"{", b'1,"partition":7', b'"\xff"', b""])
def test_a_row_that_is_no_json_is_shown_as_text_and_spoils_no_answer(
    served: Client, instance: Instance, spoilt: bytes
) -> None:
    """Others write it: it is not of a type that was checked when it was written, as those of our own stores are."""
    d = instance.driver
    d.send(prices, 3, key="good")
    d.send_raw(prices, spoilt, key=b"bad")
    good, bad = {"key": "good", "value": 3, "partition": 0}, served.ask("/state/prices/bad").json
    assert (bad["key"], bad["partition"]) == ("bad", 0)
    assert isinstance(bad["value"], str) and bad["undecodable"]
    assert served.ask("/state/prices").json["entries"] == [bad, good]
