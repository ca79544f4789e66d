"""Requests for keys of state go past the layers of Starlette, and their answers are sent in one piece."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kstream.web.quick import Gathered
from kstream.web.state import State
from support.web import Client
from unit.web.test_state import Instance, instance, served  # noqa: F401  # fixtures


class Transport:
    """Remembers what is written, and what else it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def write(self, data: bytes) -> None:
        self.said.append(data)

    def get_write_buffer_size(self) -> int:
        return 7

    def close(self) -> None:
        self.said.append("close")

    def is_closing(self) -> bool:
        return True


def test_what_is_written_in_one_turn_is_sent_together() -> None:
    async def written() -> None:
        transport = Transport()
        gathered = Gathered(transport, asyncio.get_running_loop())  # type: ignore[arg-type]
        gathered.write(b"header ")
        gathered.write(b"body")
        assert transport.said == []
        await asyncio.sleep(0)
        assert transport.said == [b"header body"]
        gathered.write(b"more")
        assert gathered.get_write_buffer_size() == 7, "it is asked once an answer is complete"
        assert transport.said == [b"header body", b"more"]
        gathered.write(b"the last")
        gathered.close()
        await asyncio.sleep(0)
        assert transport.said == [b"header body", b"more", b"the last", "close"]
        assert gathered.is_closing()

    asyncio.run(written())


@pytest.mark.parametrize(
    ("method", "path", "quick"),
    [
        ("GET", "/state/of-words/k01", True), ("GET", "/state/of-words/a/b", True), ("POST", "/state/of-words", True),
        ("GET", "/state/of-words", False), ("POST", "/state/of-words/k01", False), ("GET", "/state/", False),
        ("GET", "/state//k01", False), ("HEAD", "/state/of-words/k01", False), ("DELETE", "/state/of-words/k01", False),
    ],
)  # fmt: skip
def test_only_requests_for_keys_are(method: str, path: str, quick: bool) -> None:
    assert State(None, "t").answers({"type": "http", "method": method, "path": path}) is quick


@pytest.mark.usefixtures("instance")
@pytest.mark.parametrize(
    ("method", "status", "body"),
    [("GET", 200, True), ("HEAD", 200, False), ("DELETE", 405, True), ("PUT", 405, True)],
)
def test_the_others_are_answered_as_before(served: Client, method: str, status: int, body: bool) -> None:  # noqa: F811
    answer = served.ask("/state/of-words/k01", method)
    assert (answer.status, bool(answer.body)) == (status, body)
    assert served.ask("/state/of-words/k01", method, token=None).status == 401
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_defect_is_a_500_of_one_line(served: Client, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("kstream.web.finding.Finding.find", lambda *_, **__: 1 / 0)
    answer = served.ask("/state/of-words/k01")
    assert answer.status == 500
    assert answer.json == {"error": "/state/of-words/k01 failed with ZeroDivisionError; the log has the trace"}
    monkeypatch.undo()
    assert served.ask("/state/of-words/k01").status == 200
