"""Whoever reaches the port may try: connections that say nothing, long bodies, foreign host names."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from kstream.observe.throttle import Throttle
from kstream.web import connections, guard, server
from kstream.web.connections import Connection, connection, on_loop_error
from kstream.web.guard import Guard, host_name
from kstream.web.quick import QuickConnection
from support.observed import FakeObserved
from support.running import until
from support.web import TOKEN, Client


@pytest.fixture(params=[Connection, QuickConnection], ids=["h11", "httptools"])
def client(request: pytest.FixtureRequest, observed: FakeObserved, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """With each of the two that parse requests."""
    monkeypatch.setattr(server, "connection", lambda: request.param)
    made = server.WebServer(observed, TOKEN, "127.0.0.1", 0)
    made.start()
    yield Client(made)
    made.stop()


def opened(client: Client, said: bytes = b"GET /live HTTP/1.1\r\nHo") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", client.server.port), timeout=60)
    made.sendall(said)
    return made


def ended(connection: socket.socket) -> bool:
    """Whether the server has closed it. Waits for that, as long as the socket's own time."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


class TestConnections:
    def test_half_a_header_is_waited_for_a_while_only(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)
        with opened(client) as half, opened(client, b"") as silent:
            assert ended(half)
            assert ended(silent)

    def test_a_header_that_comes_byte_by_byte_has_no_more_time(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
        began = time.monotonic()
        with opened(client) as slow, pytest.raises(ConnectionError):
            while time.monotonic() - began < 60:
                slow.sendall(b"x")
                time.sleep(0.02)

    def test_a_second_request_has_no_more_time_either(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
        with opened(client, b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n") as kept:
            assert kept.recv(1 << 16).startswith(b"HTTP/1.1 200")
            kept.sendall(b"GET /liv")
            assert ended(kept)

    def test_a_body_that_does_not_come_is_not_waited_for(
        self, client: Client, observed: FakeObserved, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.2)
        head = f"POST /api/log-level HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        with opened(client, head.encode() + b"Content-Length: 20\r\n\r\n{") as slow:
            assert ended(slow)
        assert observed.calls == []

    @pytest.mark.parametrize("framing", ["Content-Length: 20", "Transfer-Encoding: chunked"], ids=["length", "chunked"])
    def test_an_action_whose_body_is_cut_off_is_not_taken(
        self, client: Client, observed: FakeObserved, framing: str
    ) -> None:
        head = (
            f"POST /api/pause HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n{framing}\r\n\r\nFF\r\n{{"
        )
        with opened(client, head.encode() + b"\r\n\r\nFF\r\n{") as cut:
            cut.shutdown(socket.SHUT_WR)
            assert ended(cut)
        assert client.ask("/live").status == 200
        assert observed.calls == []

    def test_a_stream_of_events_outlives_them(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.1)
        monkeypatch.setattr(connections, "HEADER_SECONDS", 0.1)
        head = f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        with opened(client, head.encode()) as stream:
            seen = b""
            while seen.count(b"event: status") < 3:  # one a second
                data = stream.recv(1 << 20)
                assert data, "the stream was cut"
                seen += data

    def test_a_thousand_that_say_nothing_do_not_keep_a_probe_away(
        self, client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections.log, "filters", [Throttle()])  # what was said in another test does not count
        server = client.server._server.server_state
        with ExitStack() as stack, caplog.at_level(logging.WARNING):
            for _ in range(400):
                stack.enter_context(opened(client))
            assert client.ask("/live", token=None).status == 200
            until(lambda: len(server.connections) <= connections.CONNECTIONS, "some to be closed")
        lines = [one for one in caplog.records if one.name == connections.log.name]
        assert 1 <= len(lines) <= 5  # of more than 270, one in ten seconds
        assert lines[0].getMessage().startswith("128 connections to the web server are open")

    def test_they_wait_for_their_turn_while_the_server_is_busy(self, client: Client) -> None:
        """Without room for them the system would drop them, and each client try again after a second."""
        assert client.ask("/live", token=None).status == 200
        (server,), busy = client.server._server.servers, threading.Event()
        loop = server.get_loop()
        loop.call_soon_threadsafe(busy.wait)
        with ExitStack() as stack:
            try:
                for _ in range(100):
                    stack.enter_context(opened(client, b""))
            finally:
                busy.set()
            assert client.ask("/live", token=None).status == 200

    def test_those_that_are_answered_are_not_closed_for_others(self, client: Client) -> None:
        head = f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        with ExitStack() as stack:
            stream = stack.enter_context(opened(client, head.encode()))
            assert stream.recv(1 << 16).startswith(b"HTTP/1.1 200")
            for _ in range(300):
                stack.enter_context(opened(client))
            assert client.ask("/live", token=None).status == 200
            seen = b""
            while seen.count(b"event: status") < 3:
                data = stream.recv(1 << 20)
                assert data, "the stream was cut"
                seen += data

    def test_a_header_without_end_is_refused(self, client: Client) -> None:
        with opened(client, b"GET /live HTTP/1.1\r\nX: " + b"x" * 40_000) as long:
            assert long.recv(1 << 16).startswith(b"HTTP/1.1 400")

    def test_a_second_header_without_end_is_refused(self, client: Client) -> None:
        with opened(client, b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n") as long:
            said = b""
            while not said.endswith(b'"reasons":[]}'):
                said += long.recv(1 << 16)
            long.sendall(b"GET /" + b"x" * 40_000)
            assert long.recv(1 << 16).startswith(b"HTTP/1.1 400")

    def test_the_body_is_no_header(self, client: Client, observed: FakeObserved) -> None:
        head = f"POST /api/log-level HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        with opened(client, head.encode() + b"Content-Length: 8000\r\n\r\n") as slow:
            for _ in range(8):
                slow.sendall(b" " * 500)
                time.sleep(0.01)
            slow.sendall(b'{"level": "DEBUG"}'.ljust(4000))
            assert slow.recv(1 << 16).startswith(b"HTTP/1.1 200")

    @pytest.mark.parametrize(
        "said",
        [
            b"GARBAGE\r\n\r\n", b"GET /live HTTP/1.1\r\nHost : localhost\r\n\r\n", b"GET /l\xc3\xa4 HTTP/1.1\r\n\r\n",
            b"GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0",
            b"GET /live HTTP/9.9\r\nHost: localhost\r\n\r\n",
        ],
        ids=["garbage", "space", "no ascii", "two lengths", "length and chunks", "version"],
    )  # fmt: skip
    def test_what_is_no_http_ends_its_connection_only(self, client: Client, said: bytes) -> None:
        with opened(client, said) as bad:
            assert ended(bad)
        assert client.ask("/live", token=None).status == 200

    def test_the_faster_one_is_taken_where_it_is_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert connection() is QuickConnection
        monkeypatch.setitem(sys.modules, "kstream.web.quick", None)
        assert connection() is Connection

    def test_that_none_can_be_accepted_is_a_line_now_and_then(self, caplog: pytest.LogCaptureFixture) -> None:
        loop = asyncio.new_event_loop()
        try:
            full = OSError(errno.EMFILE, "Too many open files")
            for _ in range(100):
                on_loop_error(loop, {"message": "socket.accept() out of system resource", "exception": full})
            assert [one.getMessage() for one in caplog.records] == [
                "connections to the web server cannot be accepted: Too many open files"
            ]
            on_loop_error(loop, {"message": "Task exception was never retrieved", "exception": ValueError("oh")})
            assert "never retrieved" in caplog.records[-1].getMessage()
        finally:
            loop.close()


class TestBodies:
    @pytest.mark.parametrize("path", ["/api/log-level", "/api/pause", "/api/unknown"])
    def test_a_long_one_is_refused(self, client: Client, observed: FakeObserved, path: str) -> None:
        answer = client.ask(path, "POST", b" " * (guard.BODY_BYTES + 1))
        assert (answer.status, answer.json) == (413, {"error": "the body of a request may have 8,192 bytes at most"})
        assert observed.calls == []

    def test_one_that_does_not_say_how_long_it_is(self, client: Client, observed: FakeObserved) -> None:
        head = f"POST /api/pause HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        with opened(client, head.encode() + b"Transfer-Encoding: chunked\r\n\r\n") as endless:
            for _ in range(40):
                endless.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
            assert endless.recv(1 << 16).startswith(b"HTTP/1.1 413")
        assert observed.calls == []

    def test_it_is_not_kept(self, client: Client) -> None:
        """A client that sends on is read, and what it sends thrown away: it would not see the answer otherwise."""
        head = f"POST /api/pause HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        with opened(client, head.encode() + b"Content-Length: 20000000\r\n\r\n") as large:
            assert large.recv(1 << 16).startswith(b"HTTP/1.1 413")
            for _ in range(100):
                large.sendall(b"x" * 100_000)
            held = [len(one.cycle.body) for one in client.server._server.server_state.connections if one.cycle]
            assert max(held) < 200_000

    @pytest.mark.parametrize("body", [{"level": "DEBUG", "logger": "x" * 201}, {"level": "D" * 21}])
    def test_names_are_short(self, client: Client, observed: FakeObserved, body: dict[str, Any]) -> None:
        assert client.ask("/api/log-level", "POST", body).status == 400
        assert observed.calls == []


class TestHosts:
    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:8010", "127.0.0.1:1", "10.1.2.3:8010", "[::1]:8010", "[fe80::1]", "localhost."]
    )
    @pytest.mark.parametrize("path", ["/live", "/metrics", "/", "/api/status"])
    def test_addresses_and_localhost_are_answered(self, client: Client, path: str, host: str) -> None:
        assert client.ask(path, Host=host).status == 200

    @pytest.mark.parametrize("path", ["/metrics", "/", "/static/app.js", "/api/status", "/ready"])
    @pytest.mark.parametrize("host", ["evil.example", "evil.example:8010", "localhost.evil.example", "", "127.0.0.1.x"])
    def test_names_of_others_are_not(self, client: Client, path: str, host: str) -> None:
        answer = client.ask(path, Host=host)
        assert answer.status == 421
        assert "set web_hosts" in answer.json["error"]

    @pytest.mark.parametrize(
        ("names", "host", "ours"),
        [
            (["pod-1"], "Pod-1:8010", True),
            (["pod-1"], "pod-2", False),
            (["*.shop.svc"], "pod-1.shop.svc:8010", True),
            (["*.shop.svc"], "shop.svc", False),
            (["*.shop.svc"], "evilshop.svc", False),
            (["*"], "anything.example", True),
            (["", "a"], "", False),
            ([], None, True),  # HTTP/1.0, which no browser speaks
        ],
    )
    def test_names_that_are_set(self, names: list[str], host: str | None, ours: bool) -> None:
        async def app(*_: Any) -> None:
            raise AssertionError

        assert Guard(app, "t", None, names).is_ours(host) is ours

    @pytest.mark.parametrize(
        ("host", "name"), [("[::1]:80", "::1"), ("A.b:80", "a.b"), ("a.b.", "a.b"), ("[::1", "::1"), ("", "")]
    )
    def test_the_name_in_a_header(self, host: str, name: str) -> None:
        assert host_name(host) == name
