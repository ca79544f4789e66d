"""The stream of events: what comes, how often, and that neither slow nor lost clients cost memory."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import time
from itertools import pairwise
from typing import Any

import pytest

from kstream.web import feed as module
from kstream.web import server as server_module
from kstream.web.feed import Client as Stream
from kstream.web.feed import Feed
from kstream.web.server import WebServer
from support.observed import FakeObserved
from support.running import until
from support.web import TOKEN, Client


class Events:
    """An open stream, read event by event."""

    def __init__(self, server: WebServer) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self.connection.request("GET", "/api/events", headers={"Authorization": f"Bearer {TOKEN}"})
        self.response = self.connection.getresponse()
        assert self.response.status == 200
        assert self.response.getheader("content-type") == "text/event-stream; charset=utf-8"

    def next(self) -> tuple[str, Any]:
        name = self.response.readline().decode().removeprefix("event: ").strip()
        data = json.loads(self.response.readline().decode().removeprefix("data: "))
        assert self.response.readline() == b"\n"
        return name, data

    def close(self) -> None:
        self.response.close()
        self.connection.close()


def test_a_client_hears_everything_at_once_and_then_every_second(
    client: Client, observed: FakeObserved, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = Events(client.server)
    first = dict(events.next() for _ in range(3))
    assert set(first) == {"status", "point", "instances"}
    assert first["status"]["totals"]["committed"] == observed.status().totals.committed
    assert first["point"]["at"] == observed.history()[-1].at
    began = observed.now() + 10
    monkeypatch.setattr(observed, "now", lambda: began + time.monotonic())
    ticks: list[float] = []
    while len(ticks) < 4:
        name, data = events.next()
        if name == "status" and data["at"] > began:
            ticks.append(data["at"])
    # by the time at which each was made, not at which it was read; a busy machine makes some of them late
    gaps = [after - before for before, after in pairwise(ticks)]
    assert all(gap > 0.9 for gap in gaps) and min(gaps) < 3
    events.close()


def test_instances_come_every_third_tick() -> None:
    feed = Feed(FakeObserved())
    assert ["instances" in feed._events() for _ in range(7)] == [True, False, False, True, False, False, True]


def test_an_event_is_encoded_once_for_all(observed: FakeObserved, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty clients cost one look at the instance a tick; when all are gone there is none."""

    async def run() -> None:
        looks = 0
        status = observed.status

        def counted() -> Any:
            nonlocal looks
            looks += 1
            return status()

        monkeypatch.setattr(observed, "status", counted)
        monkeypatch.setattr(observed, "instances", list)
        feed = Feed(observed, interval=0.01)
        clients = [feed._join() for _ in range(30)]
        while looks < 5:
            taken = [await client.take() for client in clients]
            assert all(one is not None and one.startswith(b"event: status") for one in taken)
        assert looks < 10
        feed._clients.clear()
        ticking = feed._ticking
        assert ticking is not None
        await asyncio.wait_for(ticking, 60)

    asyncio.run(run())


def test_a_slow_client_holds_the_newest_of_each_kind_only() -> None:
    async def run() -> None:
        slow = Stream({"status": b"old"})
        for number in range(1000):
            slow.offer({"status": b"s%d" % number})
        slow.offer({"point": b"p"})
        assert await slow.take() == b"s999p"
        assert not slow._some.is_set()

    asyncio.run(run())


def test_a_client_that_does_not_read_costs_little_and_does_not_hold_up_the_stop(
    observed: FakeObserved, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.001)
    observed.partitions, observed.instance_count = 64, 20
    server = WebServer(observed, TOKEN, "127.0.0.1", 0)
    feed = server._server._feed
    feed._interval = 0.001
    server.start()
    deaf = socket.create_connection(("127.0.0.1", server.port))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.sendall(f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())

    def buffered() -> int:
        # a copy: the server's thread may change the set meanwhile
        return sum(one.transport.get_write_buffer_size() for one in list(server._server.server_state.connections))

    until(lambda: buffered() > 0, "the connection to be full")
    ticks = feed._ticks
    until(lambda: feed._ticks > ticks + 100, "a hundred more ticks")
    assert buffered() < 2**20
    with caplog.at_level(logging.INFO):
        server.stop()
        server._thread.join(60)  # `stop` waits 2.5 s, a busy machine may need more
    assert not server._thread.is_alive(), "the deaf client still listens"
    # uvicorn would say that it has waited for somebody
    assert [one.getMessage() for one in caplog.records if one.thread == server._thread.ident] == []
    deaf.close()


def test_a_client_that_leaves_is_forgotten(client: Client) -> None:
    feed = client.server._server._feed
    streams = [Events(client.server) for _ in range(3)]
    until(lambda: len(feed._clients) == 3, "three clients")
    for events in streams:
        events.close()
    until(lambda: not feed._clients and not feed._streams, "no clients")
    until(lambda: feed._ticking is not None and feed._ticking.done(), "the end of the ticking")
    assert Events(client.server).next()[0] == "status"


def test_only_so_many_streams(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIENTS", 2)
    streams = [Events(client.server) for _ in range(2)]
    answer = client.ask("/api/events")
    assert (answer.status, answer.json["error"][:12]) == (503, "2 streams of")
    streams[0].close()
    until(lambda: client_count(client) == 1, "one to be gone")
    Events(client.server).close()


def client_count(client: Client) -> int:
    return len(client.server._server._feed._clients)


def test_a_defect_ends_the_streams_with_a_trace_in_the_log(
    client: Client, observed: FakeObserved, caplog: pytest.LogCaptureFixture
) -> None:
    events = Events(client.server)
    for _ in range(3):
        events.next()
    with caplog.at_level(logging.ERROR, "kstream.web.feed"):
        observed.broken = True
        events.response.read()  # ticks from before, then the end; an unclean end would raise IncompleteRead
    assert "the observer is broken" in caplog.text
    observed.broken = False
    assert Events(client.server).next()[0] == "status"


def test_stop_ends_streams_cleanly(observed: FakeObserved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "GRACE", 60.0)  # nobody is cut off, however slow this machine is now
    server = WebServer(observed, TOKEN, "127.0.0.1", 0)
    server.start()
    streams = [Events(server) for _ in range(5)]
    before = time.monotonic()
    server.stop()
    assert time.monotonic() - before < 30, "streams were waited for and not ended"
    assert not server._thread.is_alive()
    for events in streams:
        while events.response.readline():
            pass  # what was sent before the end; an unclean end would raise IncompleteRead
        events.close()
