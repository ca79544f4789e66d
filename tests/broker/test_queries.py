"""Queries of state: two instances of a service with real workers, asked over HTTP and by `app.query()`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from kstream.config import Settings
from kstream.errors import UsageError
from kstream.partitioning import partition_of
from support.kafka import write_to
from support.observing import Services, running, services
from support.running import until
from support.serving import Served

ON = {"state_queries": True, "web_token": "one-for-all"}


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    yield from services(bootstrap_servers, tmp_path, monkeypatch)


def ask(one: Served, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    status, answer = one.ask(path, body)  # type: ignore[arg-type]
    return status, json.loads(answer)


def read_all(one: Served, path: str, limit: int) -> tuple[dict[str, int], int]:
    """Entries and the number of pages."""
    found: dict[str, int] = {}
    pages, cursor = 0, None
    while True:
        more = {"limit": limit, **({} if cursor is None else {"cursor": cursor})}
        status, page = ask(one, f"{path}{'&' if '?' in path else '?'}{urlencode(more)}")
        if status == 503:
            time.sleep(0.1)
            continue
        assert status == 200, page
        pages += 1
        for entry in page["entries"]:  # type: ignore[attr-defined]
            assert entry["key"] not in found
            found[entry["key"]] = entry["value"]
        if (cursor := page["cursor"]) is None:
            return found, pages


def test_any_instance_answers_for_all_of_them(service: Services) -> None:
    app = service()
    a, b = app.start("a", **ON), app.start("b", **ON)
    running(a, b)
    app.feed(970)
    app.all_done(a, b)
    until(
        lambda: _all_owned(a) and _all_owned(b),
        "the instances to have heard of each other",
        each=lambda: time.sleep(0.1),
    )
    for one in (a, b):
        counts, pages = read_all(one, "/state/counts", limit=30)
        assert counts == {f"k{n}": 10 for n in range(97)} and pages > 3
        assert read_all(one, "/state/per-group", limit=1000)[0] == {f"g{n}": 194 for n in range(5)}
        assert read_all(one, "/state/counts?prefix=k9", limit=3)[0] == {f"k{n}": 10 for n in (9, *range(90, 97))}
        assert set(read_all(one, "/state/counts?from=k5&to=k53", limit=9)[0]) == {"k5", "k50", "k51", "k52"}
        for key in ("k0", "k1", "k2", "k3", "k50"):
            assert ask(one, f"/state/counts/{key}") == (
                200,
                {"key": key, "value": 10, "partition": partition_of(key.encode(), 4)},
            )
        status, entries = ask(one, "/state/counts", {"keys": ["k1", "k2", "nobody", "k3"]})
        assert status == 200 and [e["key"] for e in entries["entries"]] == ["k1", "k2", "k3"]  # type: ignore[attr-defined]
        assert ask(one, "/state/counts/nobody")[0] == 404
        status, refused = ask(one, "/state/nothing/k1")
        assert status == 404 and "counts" in str(refused["error"]) and "per-group" in str(refused["error"])
    assert a.ask("/state/counts/k1", token=False)[0] == 401


def _all_owned(one: Served) -> bool:
    status, overview = ask(one, "/state")
    stores = overview["stores"]
    return status == 200 and all(
        len(store["owners"]) == 4 and all(owner["state"] == "running" and owner["url"] for owner in store["owners"])
        for store in stores  # type: ignore[attr-defined]
    )


def test_a_key_is_found_where_its_producer_put_it(service: Services, bootstrap_servers: str) -> None:
    """Producers that are not ours may choose partitions by another hash, and librdkafka does unless it is told."""
    app = service()
    a = app.start("a", **ON)
    running(a)
    home = partition_of(b"3", 4)
    elsewhere = next(number for number in range(4) if partition_of(b"%d" % number, 4) != number)
    assert home in range(4)
    write_to(bootstrap_servers, app.events, elsewhere, [json.dumps({"number": 1, "group": "g"}).encode()])
    app.fed += 1
    app.all_done(a)
    status, entry = ask(a, f"/state/counts/{elsewhere}")
    assert (status, entry["value"], entry["partition"]) == (200, 1, elsewhere)


def test_the_client_follows_partitions_that_move(service: Services, bootstrap_servers: str) -> None:
    """Instances join, are killed and stop, while somebody asks: every answer is right, and none is missing."""
    app = service()
    a = app.start("a", **ON)
    running(a)
    app.feed(970)
    app.all_done(a)
    settings = Settings(bootstrap_servers=bootstrap_servers, web_token="one-for-all")
    wrong: list[object] = []
    asked, ending = 0, threading.Event()

    def on_and_on() -> None:
        nonlocal asked
        with app.app.query(settings=settings, timeout=60.0) as query:
            while not ending.is_set():
                key = f"k{asked % 97}"
                try:
                    found = query.get("counts", key)
                except Exception as error:
                    found = error
                if found != 10:
                    wrong.append((key, found))
                asked += 1

    thread = threading.Thread(target=on_and_on)
    thread.start()
    try:
        b = app.start("b", **ON)
        running(a, b)
        for pid in a.pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: asked > 200, "some questions", each=lambda: time.sleep(0.05))
        running(a, b)
        a.stop()
        until(lambda: b.probe("ready")[0] and _all_owned(b), "b to have all of it", each=lambda: time.sleep(0.1))
        before = asked
        until(lambda: asked > before + 50, "more questions", each=lambda: time.sleep(0.05))
    finally:
        ending.set()
        thread.join(90)
    assert not wrong and not thread.is_alive()


def test_the_clients_answer_in_the_types_of_the_app(service: Services, bootstrap_servers: str) -> None:
    app = service()
    a = app.start("a", **ON)
    running(a)
    app.feed(970)
    app.all_done(a)
    settings = Settings(bootstrap_servers=bootstrap_servers, web_token="one-for-all")
    with app.app.query(settings=settings) as query:
        assert query.get("counts", "k1") == 10 and query.get("counts", "nobody", -1) == -1
        assert query.get_many("counts", [f"k{n}" for n in range(200)]) == {f"k{n}": 10 for n in range(97)}
        assert dict(query.items("counts", prefix="k9")) == {f"k{n}": 10 for n in (9, *range(90, 97))}
        assert len(list(query.items("counts"))) == 97
        with pytest.raises(UsageError, match="no store 'nothing'"):
            query.get("nothing", "k1")
        with pytest.raises(UsageError, match="cannot be a key"):
            query.get("counts", 7)

    async def asked() -> None:
        async with app.app.async_query(urls=[a.url], settings=settings) as query:
            assert await query.get("per-group", "g1") == 194
            assert [key async for key, _ in query.items("per-group", start="g1", stop="g3")] in (
                ["g1", "g2"],
                ["g2", "g1"],
            )

    asyncio.run(asked())
    wrong = Settings(bootstrap_servers=bootstrap_servers, web_token="another")
    with app.app.query(urls=[a.url], settings=wrong) as query, pytest.raises(UsageError, match="another token"):
        query.get("counts", "k1")


def test_only_what_is_committed_is_answered(service: Services) -> None:
    """An agent that fails again and again has changed its table each time: nobody sees that."""
    app = service(1)
    a = app.start("a", **ON, commit_interval=0.2)
    running(a)
    app.feed(97)
    app.all_done(a)
    app.feed(97, work=0.005)
    app.feed(1, **{"raise": True})
    seen = set()
    for _ in range(100):
        status, entry = ask(a, "/state/counts/k0")
        seen.add(entry["value"] if status == 200 else status)
        time.sleep(0.01)
    assert seen <= {1, 2, 503}


def test_a_key_that_stands_in_a_path_is_taken_as_it_is(service: Services, bootstrap_servers: str) -> None:
    app = service(1)
    a = app.start("a", **ON)
    running(a)
    from support.kafka import write

    odd = ["a/b", "ä ö", "100%", "x?y=z", "..", "a//b"]
    write(bootstrap_servers, app.events, [(key, b'{"number":1,"group":"g"}', round(time.time() * 1000)) for key in odd])
    app.fed += len(odd)
    app.all_done(a)
    for key in odd:
        status, entry = ask(a, f"/state/counts/{quote(key, safe='')}")
        assert (status, entry.get("key"), entry.get("value")) == (200, key, 1), key


def test_off_by_default(service: Services) -> None:
    a = service(1).start("a")
    running(a)
    status, refused = ask(a, "/state/counts/k1")
    assert status == 404 and "state_queries" in str(refused["error"])
