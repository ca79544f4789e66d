"""The page over TLS: its files, and the commands that ask it."""

from __future__ import annotations

import socket
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kstream.cli.page import ask
from kstream.cli.status import through_page
from kstream.config import Settings
from kstream.errors import ConfigError, UsageError
from kstream.observe.status import InstanceStatus
from kstream.web import server as module
from kstream.web.server import WebServer
from kstream.web.tls import tls_of
from support.observed import FakeObserved
from support.running import until
from support.secured import Certificates, certificates


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"))


def settings(files: Certificates, **more: object) -> Settings:
    return replace(Settings(web_tls_certificate=str(files.server), web_tls_ca=str(files.ca)), **more)  # type: ignore[arg-type]


@pytest.fixture
def server(files: Certificates, observed: FakeObserved) -> Iterator[WebServer]:
    server = WebServer(observed, "t", "127.0.0.1", 0, tls=tls_of(settings(files)))
    server.start()
    yield server
    server.stop()


def test_without_a_certificate_there_is_none() -> None:
    assert tls_of(Settings()) is None


def test_it_is_served_and_asked_with_its_authority(files: Certificates, server: WebServer) -> None:
    assert server.url == f"https://127.0.0.1:{server.port}"
    trust = ssl.create_default_context(cafile=str(files.ca))
    with urllib.request.urlopen(f"{server.url}/live", timeout=30, context=trust) as answer:
        assert answer.status == 200
    found = ask(server.url, "/api/instances", "t", list[InstanceStatus], ca=str(files.ca))
    assert through_page(server.url, "t", str(files.ca))(0.0)[0].instance == found[0].instance
    with pytest.raises(UsageError, match="wants another token"):
        ask(server.url, "/api/instances", "no", list[InstanceStatus], ca=str(files.ca))


def test_one_that_is_not_trusted_is_said_in_one_line(files: Certificates, server: WebServer, tmp_path: Path) -> None:
    for ca, expected in (
        (None, "has a certificate that is not trusted: set web_tls_ca"),
        (str(files.stranger), "has a certificate that is not trusted: set web_tls_ca"),
        (str(tmp_path / "none.pem"), "web_tls_ca: .*none.pem cannot be used: No such file"),
    ):
        with pytest.raises(UsageError, match=expected) as refused:
            ask(server.url, "/api/instances", "t", list[InstanceStatus], ca=ca)
        assert "\n" not in str(refused.value)


def test_who_speaks_no_tls_is_not_answered_and_nobody_else_waits(server: WebServer, files: Certificates) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain:
        plain.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1 200" not in plain.recv(1 << 16)
    assert ask(server.url, "/api/instances", "t", list[InstanceStatus], ca=str(files.ca))


def test_who_says_nothing_is_not_waited_for(
    files: Certificates, observed: FakeObserved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEADER_SECONDS", 0.2)
    server = WebServer(observed, "t", "127.0.0.1", 0, tls=tls_of(settings(files)))
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as silent:
        assert silent.recv(1) == b""  # the server hangs up
    server.stop()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"web_tls_certificate": None, "web_tls_key": "k"}, "web_tls_key: there is no web_tls_certificate"),
        ({"web_tls_certificate": "/nowhere/c.pem"}, "web_tls_certificate: /nowhere/c.pem cannot be read: No such file"),
        ({"web_tls_key": "/nowhere/k.pem"}, "web_tls_key: /nowhere/k.pem cannot be read: No such file"),
        ({"web_tls_key": "stranger_key"}, "web_tls_key: the key in .* is not that of the certificate"),
        ({"web_tls_certificate": "client", "web_tls_key": "locked_key"}, "the key without a password"),
        ({"web_tls_certificate": "ca"}, "both must be PEM"),
        ({"web_tls_certificate": "keystore"}, "both must be PEM"),
    ],
    ids=["key alone", "no certificate", "no key", "other key", "key with a password", "no key within", "no PEM"],
)
def test_files_that_do_not_fit_are_refused_in_one_line(
    files: Certificates, given: dict[str, str | None], expected: str
) -> None:
    named = {name: str(getattr(files, value or "", value)) if value else None for name, value in given.items()}
    with pytest.raises(ConfigError, match=expected) as refused:
        tls_of(settings(files, **named))
    assert "\n" not in str(refused.value)


def test_a_stream_ends_with_the_server(files: Certificates, observed: FakeObserved) -> None:
    server = WebServer(observed, "t", "127.0.0.1", 0, tls=tls_of(settings(files)))
    server.start()
    trust = ssl.create_default_context(cafile=str(files.ca))
    request = urllib.request.Request(f"{server.url}/api/events", headers={"Authorization": "Bearer t"})
    with urllib.request.urlopen(request, timeout=30, context=trust) as events:
        assert events.readline().startswith(b"event: ")
        server.stop()
        until(lambda: not events.readline(), "the end")
