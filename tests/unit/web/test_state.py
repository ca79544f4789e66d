"""Queries of state over HTTP, answered by a real worker of the TestDriver: what is asked how, and how it is refused."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

import kstream
from kstream.cli.operate import Subject
from kstream.cli.state.reading import get
from kstream.config import Settings
from kstream.errors import ValueTooLarge
from kstream.observe.status import InstanceStatus, TaskStatus
from kstream.partitioning import partition_of
from kstream.runtime.process.questions import ANSWER_BYTES, VALUE_BYTES
from kstream.runtime.process.report import Report
from kstream.runtime.task.states import TaskState
from kstream.runtime.view.queries import Queries
from kstream.testing import TestDriver
from kstream.web.client import AsyncQuery
from kstream.web.server import WebServer
from kstream.web.state import State
from support.observed import FakeObserved
from support.queried import Instance
from support.running import until
from support.web import KEY, TOKEN, Client

PARTITIONS = 4
WIDE = 16
"""Values of 700 kB: more than one answer has room for."""
SEAT = '{"row":7,"letter":"a"}'


@dataclass(frozen=True)
class Seat:
    row: int
    letter: str


app = kstream.App("shop")
words = app.topic("words", key=str, value=str)
numbers = app.topic("numbers", key=int, value=str)
blobs = app.topic("blobs", key=bytes, value=str)
seats = app.topic("seats", key=Seat, value=str)
local = app.table("local", key=str, value=str, scope="partition")
of_words = app.stream(words).group_by_key().reduce(lambda _, new: new, name="of-words")
app.stream(numbers).group_by_key().count(name="of-numbers")
app.stream(blobs).group_by_key().count(name="of-blobs")
app.stream(seats).group_by_key().count(name="of-seats")


@app.agent(words)
def keep(word: str, ctx: kstream.Context[str]) -> None:
    local["last"] = word


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with TestDriver(app, partitions=PARTITIONS) as d:
        for n in range(50):
            d.send(words, f"word {n}", key=f"k{n:02}")
            d.send(numbers, "x", key=n)
            d.send(blobs, "x", key=bytes([n, 255, 62, 63]))
            d.send(seats, "x", key=Seat(n, "a"))
        d.commit()
        for task in d.worker.tasks.values():  # more than Kafka takes by default
            if "of-words" in task.stores and task.partition == partition_of(b"large", PARTITIONS):
                task.backend.write({"of-words": [(b"large", bytes(VALUE_BYTES + 1))]}, {})
            for n in range(WIDE):
                key = b"wide %02d" % n
                if "of-words" in task.stores and task.partition == partition_of(key, PARTITIONS):
                    task.backend.write({"of-words": [(key, b"x" * 700_000)]}, {})
        yield Instance(d)


@pytest.fixture(scope="module")
def served(instance: Instance) -> Iterator[Client]:
    counts = dict.fromkeys(("words", "numbers", "blobs", "seats"), PARTITIONS)
    queries = Queries(instance, app.topology(), counts, "a", lambda: instance.others)
    server = WebServer(FakeObserved(), TOKEN, "127.0.0.1", 0, state=State(queries, KEY))
    server.start()
    queries.url = server.url
    yield Client(server)
    server.stop()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ("of-words/k07", "k07", "word 7"),
        ("of-numbers/7", 7, 1),
        (f"of-blobs/{b64(bytes([7, 255, 62, 63]))}", b64(bytes([7, 255, 62, 63])), 1),
        ("of-blobs/07ff3e3f?encoding=hex", "07ff3e3f", 1),
        ("of-seats/" + quote(SEAT), {"row": 7, "letter": "a"}, 1),
        (f"of-words/{b64(b'k07')}?form=raw", b64(b"k07"), b64(b"word 7")),
        (f"of-seats/{b64(SEAT.encode())}?form=raw", b64(SEAT.encode()), b64(b"1")),
    ],
    ids=["text", "number", "bytes", "hex", "json", "raw", "raw-json"],
)
def test_a_key_is_found_in_any_form(served: Client, path: str, key: Any, value: Any) -> None:
    answer = served.ask(f"/state/{path}")
    assert (answer.status, answer.json["key"], answer.json["value"]) == (200, key, value)
    assert answer.headers["cache-control"] == "no-store"


def test_a_value_that_is_too_large_fails_for_those_only_who_ask_for_it(served: Client) -> None:
    """Keys that are asked for at the same time go in one request."""
    keys = [f"k{n:02}" for n in range(20)]

    async def asked() -> list[Any]:
        async with AsyncQuery(stores_of_app(), lambda: [served.server.url], KEY, 5.0) as query:
            all_of_them = [*keys[:7], "large", *keys[7:], "large"]
            return await asyncio.gather(*(query.get("of-words", key) for key in all_of_them), return_exceptions=True)

    found = asyncio.run(asked())
    for failed in (found.pop(7), found.pop()):
        assert isinstance(failed, ValueTooLarge) and "more than the 4,194,304 bytes" in str(failed)
        assert failed.keys == ["large"]
    assert found == [f"word {n}" for n in range(20)]


def stores_of_app() -> dict[str, Any]:
    return {one.name: one for part in app.topology().parts for one in part.stores}


def test_many_keys_with_one_that_is_too_large(served: Client) -> None:
    answer = served.ask("/state/of-words", "POST", {"keys": ["k01", "large", "k02"]})
    found = {entry["key"]: (entry["value"], entry.get("too_large")) for entry in answer.json["entries"]}
    assert found == {"k01": ("word 1", None), "large": (None, VALUE_BYTES + 1), "k02": ("word 2", None)}
    keys, _ = pages(served, "of-words", 7)
    assert sorted(keys) == [*(f"k{n:02}" for n in range(50)), "large", *(f"wide {n:02}" for n in range(WIDE))]

    async def asked() -> None:
        async with AsyncQuery(stores_of_app(), lambda: [served.server.url], KEY, 5.0) as query:
            with pytest.raises(ValueTooLarge, match="the value of 'large' of up to 4,194,305 bytes") as caught:
                await query.get_many("of-words", ["k01", "large", "k02", "nobody"])
            assert caught.value.keys == ["large"] and caught.value.found == {"k01": "word 1", "k02": "word 2"}
            with pytest.raises(ValueTooLarge, match="large"):
                _ = [entry async for entry in query.items("of-words", prefix="l")]

    asyncio.run(asked())


def test_what_an_answer_has_no_room_for_is_left_and_asked_for_again(served: Client) -> None:
    keys = [f"wide {n:02}" for n in range(WIDE)]
    left, found, rounds = [*keys, "nobody"], list[str](), 0
    while left:
        answer = served.ask("/state/of-words", "POST", {"keys": left})
        assert answer.status == 200 and len(answer.body) < 2 * ANSWER_BYTES
        assert answer.json["entries"]
        found += [entry["key"] for entry in answer.json["entries"]]
        left, rounds = answer.json.get("left", []), rounds + 1
    assert sorted(found) == keys and rounds > 2

    async def asked() -> dict[str, str]:
        async with AsyncQuery(stores_of_app(), lambda: [served.server.url], KEY, 5.0) as query:
            return await query.get_many("of-words", [*keys, "nobody"])

    assert {key: len(value) for key, value in asyncio.run(asked()).items()} == dict.fromkeys(keys, 700_000)


def pages(served: Client, path: str, limit: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    cursor, count = None, 0
    while True:
        more = "" if cursor is None else f"&cursor={cursor}"
        answer = served.ask(f"/state/{path}{'&' if '?' in path else '?'}limit={limit}{more}")
        assert answer.status == 200, answer.body
        assert len(answer.json["entries"]) <= limit
        found += [entry["key"] for entry in answer.json["entries"]]
        count += 1
        if (cursor := answer.json["cursor"]) is None:
            return found, count


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_pages_have_every_entry_once(served: Client, limit: int) -> None:
    keys, count = pages(served, "of-numbers", limit)
    assert sorted(keys) == list(range(50)) and count >= 50 // limit
    keys, _ = pages(served, "of-words?from=k10&to=k20", limit)
    assert sorted(keys) == [f"k{n}" for n in range(10, 20)]
    keys, _ = pages(served, "of-words?prefix=k4", limit)
    assert sorted(keys) == [f"k{n}" for n in range(40, 50)]
    keys, _ = pages(served, "of-words?prefix=k4&from=k45", limit)
    assert sorted(keys) == [f"k{n}" for n in range(45, 50)]
    keys, _ = pages(served, "of-blobs?encoding=hex&from=30", limit)
    assert sorted(keys) == [f"{n:02x}ff3e3f" for n in range(48, 50)]
    alone = [
        key for partition in range(PARTITIONS) for key in pages(served, f"of-numbers?partition={partition}", limit)[0]
    ]
    assert sorted(alone) == list(range(50))


def test_many_keys_at_once(served: Client) -> None:
    answer = served.ask("/state/of-words", "POST", {"keys": ["k01", "k02", "no", "k01"]})
    assert [entry["value"] for entry in answer.json["entries"]] == ["word 1", "word 2"]
    assert answer.json["partitions"] == list(range(PARTITIONS))  # "no" was looked for everywhere
    answer = served.ask("/state/of-seats", "POST", {"keys": [{"row": 3, "letter": "a"}]})
    assert [entry["value"] for entry in answer.json["entries"]] == [1]
    answer = served.ask("/state/of-words?form=raw", "POST", {"keys": [b64(b"k01")]})
    assert [entry["value"] for entry in answer.json["entries"]] == [b64(b"word 1")]


def test_a_table_of_partitions_is_asked_for_one_of_them(served: Client) -> None:
    answer = served.ask("/state/local/last")
    assert answer.status == 400 and "?partition=NUMBER" in answer.json["error"]
    found = [served.ask(f"/state/local/last?partition={n}") for n in range(PARTITIONS)]
    assert [(one.status, one.json["partition"]) for one in found] == [(200, n) for n in range(PARTITIONS)]


def test_the_command_asks_for_all_of_them(served: Client, capsys: pytest.CaptureFixture[str]) -> None:
    """As it does of a state directory."""
    on = Subject(app, Settings(web_token=TOKEN), {})
    assert get(on, "local", "last", {}, 100, served.server.url, None, None, as_json=True) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["key"], one["partition"]) for one in found] == [("last", n) for n in range(PARTITIONS)]
    assert get(on, "local", "none", {}, 100, served.server.url, None, None, as_json=True) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "why"),
    [
        ("GET", "nothing/k01", None, 404, "there is no store 'nothing'; there are: "),
        ("GET", "of-words/nobody", None, 404, "has no such key"),
        ("GET", "of-words/large", None, 413, "more than the 4,194,304 bytes"),
        ("GET", "of-numbers/seven", None, 400, "the key is not JSON"),
        ("GET", "of-numbers?from=1", None, 400, "keys of type int, which do not lie in their order"),
        ("GET", "of-seats?prefix=x", None, 400, "do not lie in their order"),
        ("GET", "of-words?limit=0", None, 400, "limit is a number from 1 to 1000"),
        ("GET", "of-words?limit=1001", None, 400, "limit is a number from 1 to 1000"),
        ("GET", "of-words?limit=%D9%A3", None, 400, "limit is a number"),
        ("GET", "of-words?partition=4", None, 400, "partition is a number from 0 to 3"),
        ("GET", "of-words?cursor=nonsense", None, 400, "cursor is not one that a page gave"),
        ("GET", f"of-words?cursor={b64(bytes([0x92, 9, 0xC0]))}", None, 400, "another partition"),
        ("GET", "of-words?form=xml", None, 400, "form is one of json, raw"),
        ("GET", "of-words?encoding=rot13", None, 400, "encoding one of base64url, hex, text"),
        ("GET", "of-words?Limit=3", None, 400, "there is no parameter 'Limit'; there are: form, "),
        ("GET", "of-blobs/!!", None, 400, "is not written in base64url"),
        ("POST", "of-words", b"{", 400, "send {"),
        ("POST", "of-words", b'{"keys": 7}', 400, "send {"),
        ("POST", "of-words", b'{"keys": [null]}', 400, "a key"),
        ("POST", "of-words", b'{"keys": [7]}', 400, "a key is not str"),
        ("POST", "of-words", b'{"keys": [' + b'"a",' * 1000 + b'"a"]}', 400, "1001 keys: ask for 1000"),
        ("POST", "of-words", b" " * 262_145, 413, "262,144 bytes at most"),
        ("POST", "of-words/k01", b"{}", 405, "does not take POST"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_says_why_in_one_line(
    served: Client, method: str, path: str, body: bytes | None, status: int, why: str
) -> None:
    answer = served.ask(f"/state/{path}", method, body)
    assert answer.status == status, answer.body
    assert why in answer.json["error"] and "\n" not in answer.json["error"]


def test_while_a_task_is_restored_it_is_503_and_retry_after(served: Client, instance: Instance) -> None:
    task = next(one for one in instance.driver.worker.tasks.values() if one.name == "numbers/0")
    there = [key for key in range(50) if served.ask(f"/state/of-numbers/{key}").json["partition"] == 0]
    task.state, before = TaskState.RESTORING, task.state
    try:
        for report in (False, True):  # the worker knows before the instance does
            if report:
                instance.report()
            answer = served.ask(f"/state/of-numbers/{there[0]}")
            assert (answer.status, answer.headers["retry-after"]) == (503, "1"), answer.body
            assert "partition 0 of store of-numbers cannot be asked now" in answer.json["error"]
        assert "restoring in this instance" in answer.json["error"]
        assert served.ask("/state/of-numbers").status == 503
        assert served.ask("/state/of-numbers?partition=1").status == 200
        stores = {store["name"]: store for store in served.ask("/state").json["stores"]}
        owners = stores["of-numbers"]["owners"]
        assert {owner["partition"]: owner["state"] for owner in owners}[0] == "restoring"
    finally:
        task.state = before
        instance.report()


def refused(served: Client) -> str:
    answer = served.ask("/state/of-numbers?partition=1")
    assert answer.status == 503
    return str(answer.json["error"])


def test_a_partition_that_another_instance_has_is_asked_of_it(served: Client, instance: Instance) -> None:
    """Here the other one is this one again, under its other name: it is asked over HTTP, and signed."""
    report = instance.workers[0].report
    instance.workers[0].report = Report(tasks=[one for one in report.tasks if one.name != "numbers/1"])
    other = InstanceStatus("shop", "b", "running", 0.0, 0.0, url=served.server.url)
    other.tasks = [TaskStatus("numbers/1", "0", "running")]
    instance.others[:] = [other]
    try:
        until(lambda: "instance b was asked: " in refused(served), "the other to be known")
        # it has the partition as little as this one: nothing goes round in circles
        assert "instance b was asked: partition 1 of store of-numbers cannot be asked now" in refused(served)
        other.url = "http://127.0.0.1:1"
        assert "http://127.0.0.1:1 cannot be asked" in refused(served)
        other.url = None
        assert "instance b cannot be asked: it serves no page" in refused(served)
    finally:
        instance.others.clear()
        instance.workers[0].report = report
