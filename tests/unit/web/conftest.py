"""A web server over the fake instance, asked through real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kstream.web.server import WebServer
from kstream.web.state import State
from support.observed import FakeObserved
from support.web import KEY, TOKEN, Client


@pytest.fixture
def observed() -> FakeObserved:
    fake = FakeObserved()
    fake.freeze(1_800_000_000.0)
    fake.started_at = 1_799_990_000.0
    return fake


@pytest.fixture
def client(observed: FakeObserved) -> Iterator[Client]:
    server = WebServer(observed, TOKEN, "127.0.0.1", 0, state=State(None, KEY))
    server.start()
    try:
        yield Client(server)
    finally:
        server.stop()
