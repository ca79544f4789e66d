"""The thread: ports, signals, logs, start and stop."""

from __future__ import annotations

import logging
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from kstream.errors import ConfigError
from kstream.web import server as module
from kstream.web.server import WebServer
from support.observed import FakeObserved


def live(server: WebServer) -> int:
    with urllib.request.urlopen(f"{server.url}/live", timeout=60) as answer:
        return int(answer.status)


def test_without_a_port_the_first_free_one_is_taken(observed: FakeObserved, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(module, "FIRST_PORT", taken.getsockname()[1])
        first, second = (WebServer(observed, "t", "127.0.0.1", None) for _ in range(2))
        first.start()
        second.start()
        assert taken.getsockname()[1] < first.port < second.port
        assert live(first) == live(second) == 200
        first.stop()
        second.stop()


def test_a_port_in_use_is_an_error_of_one_line_in_the_callers_thread(observed: FakeObserved) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"^web_port: {port} is in use on 127.0.0.1; set another one") as caught:
            WebServer(observed, "t", "127.0.0.1", port).start()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("host", "message"), [("no-such-host.invalid", "web_host: "), ("192.0.2.1", "web_port: ")])
def test_an_address_that_is_not_ours(observed: FakeObserved, host: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        WebServer(observed, "t", host, 0).start()


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "localhost")]
)
def test_the_url_leads_to_it(observed: FakeObserved, host: str, url: str) -> None:
    server = WebServer(observed, "t", host, 0)
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.port
    server.start()
    assert server.url == f"http://{url}:{server.port}"
    assert live(server) == 200
    server.stop()


def test_the_port_is_free_again_after_a_stop_and_stop_may_come_twice(observed: FakeObserved) -> None:
    first = WebServer(observed, "t", "127.0.0.1", 0)
    first.start()
    assert live(first) == 200
    first.stop()
    first.stop()
    again = WebServer(observed, "t", "127.0.0.1", first.port)
    again.start()
    assert live(again) == 200
    again.stop()


def test_a_stop_right_after_the_start(observed: FakeObserved) -> None:
    server = WebServer(observed, "t", "127.0.0.1", 0)
    server.start()
    server.stop()
    server._thread.join(60)  # `stop` waits 2.5 s, a busy machine may need more; a stop that was lost would never come
    assert not server._thread.is_alive()


def test_signals_stay_as_they_were_and_nothing_is_logged(
    observed: FakeObserved, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = list(logging.getLogger().handlers)
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.WARNING, "asyncio"):
        server = WebServer(observed, "t", "127.0.0.1", 0)
        server.start()
        assert live(server) == 200
        assert {number: signal.getsignal(number) for number in before} == before
        server.stop()
    assert logging.getLogger().handlers == handlers
    # threads of other tests, and what the garbage collector ends of theirs, may log at any time
    ours = [one for one in caplog.records if one.thread == server._thread.ident or one.name.startswith("kstream.web")]
    assert [one.getMessage() for one in ours] == []
    assert capfd.readouterr() == ("", "")


def test_the_pages_files_are_in_the_package() -> None:
    names = {path.name for path in (Path(module.__file__).parent / "static").iterdir()}
    assert {"index.html", "app.js", "style.css", "icon.svg"} <= names
