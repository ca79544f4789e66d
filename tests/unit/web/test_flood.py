"""A flood in full size: a thousand connections with half a header and two thousand streams of events, against a web
server whose process may open 1,024 files. In small it is in test_hostile.py."""

from __future__ import annotations

import http.client
import json
import logging
import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from kstream.web.connections import CONNECTIONS
from support.running import TESTS, until
from support.web import TOKEN

FILES, HALVES, STREAMS = 1024, 1000, 2000
HALF = b"GET /live HTTP/1.1\r\nHo"
STREAM = f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()


def serve() -> None:
    """Runs as a process of its own, until its input ends."""
    from kstream.web import server
    from support.observed import FakeObserved

    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    logging.basicConfig(level=logging.WARNING)
    made = server.WebServer(FakeObserved(), TOKEN, "127.0.0.1", 0)
    made.start()
    print(made.port, flush=True)
    sys.stdin.read()
    made.stop()


def ask(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/live")
        return connection.getresponse().status
    finally:
        connection.close()


def opened(port: int, said: bytes) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=60)
    with suppress(ConnectionError):  # it made room for another already
        made.sendall(said)
    return made


@pytest.mark.more
def test_a_flood_of_connections_and_streams(tmp_path: Path) -> None:
    """A probe is answered all along, a stream that was there goes on, and neither files nor memory run out."""
    log = tmp_path / "log"
    with log.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", "from unit.web.test_flood import serve; serve()"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=err, env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        server = psutil.Process(process.pid)
        assert ask(port) == 200
        before, files = server.memory_info().rss, server.num_fds()
        with ExitStack() as stack:
            first = stack.enter_context(opened(port, STREAM))
            assert first.recv(1 << 16).startswith(b"HTTP/1.1 200")
            for said, count in ((HALF, HALVES), (STREAM, STREAMS)):
                for n in range(count):
                    stack.enter_context(opened(port, said))
                    if n % 250 == 249:
                        assert ask(port) == 200
                        assert server.num_fds() < files + 2 * CONNECTIONS
            seen, began = b"", time.monotonic()
            while seen.count(b"event: status") < 3:
                data = first.recv(1 << 20)
                assert data and time.monotonic() - began < 60, "the first stream was cut"
                seen += data
            assert server.memory_info().rss - before < 100 << 20
        until(lambda: server.num_fds() <= files, "its files to be closed")
        assert ask(port) == 200
        lines = log.read_text().splitlines()
        print(f"{server.num_fds()} files, {server.memory_info().rss - before >> 20} MiB more, {len(lines)} lines")
        assert len(lines) < 50, json.dumps(lines[:60])
    finally:
        process.communicate(timeout=60)
