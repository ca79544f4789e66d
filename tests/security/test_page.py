"""The page of an app over TLS, and what is said of settings that leave something open."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kstream.observe.status import InstanceStatus
from security.test_mechanisms import TARGET, Runs, error_line, logged
from support.running import until
from support.secured import Secured, settings_for


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path, f"page-{tmp_path.name[-6:].replace('_', '-')}")
    yield runs
    runs.end()


def settings(secured: Secured, **more: str) -> dict[str, str]:
    page = {"web": "true", "web_port": "0", "web_token": "t", "web_tls_certificate": str(secured.files.server)}
    return {**settings_for(secured, "PLAIN over TLS"), **page, **more}


def test_commands_ask_it_over_tls(secured: Secured, run: Runs) -> None:
    command = run(settings(secured))
    found: list[str] = []

    def served() -> bool:
        found[:] = re.findall(r"status page: (https://[^/ ]+)", command.err.read_text())
        assert command.process.poll() is None, command.err.read_text()
        return bool(found)

    until(served, "the page")
    token = {"web_token": "t"}
    untrusted = run(token, "status", "--url", found[0], "--json")
    asked = [run({**token, "web_tls_ca": str(secured.files.ca)}, "status", "--url", found[0], "--json")]
    key = ["table", TARGET, "seen", "a", "--url", found[0]]
    asked.append(run({**token, "web_tls_ca": str(secured.files.ca)}, *key))
    assert "has a certificate that is not trusted: set web_tls_ca" in error_line(untrusted)
    for each in asked:
        assert each.wait() in (0, 1), each.err.read_text()  # it may not be ready, and has no such key
    (instance,) = msgspec.json.decode(asked[0].out.read_text(), type=list[InstanceStatus])
    assert (instance.url or "").startswith("https://")
    assert "no key a in what https://" in asked[1].err.read_text()
    assert not [line for line in logged(command) if line["level"] == "warning" and "without TLS" in line["message"]]
    command.process.send_signal(signal.SIGTERM)
    assert command.wait() == 0


def test_files_that_do_not_fit_are_one_line_at_the_start(secured: Secured, run: Runs) -> None:
    both = (
        run(settings(secured, web_tls_key=str(secured.files.stranger_key))),
        run(settings(secured, web_tls_certificate="/nowhere.pem")),
    )
    assert "web_tls_key: the key in" in error_line(both[0])
    assert "web_tls_certificate: /nowhere.pem cannot be read" in error_line(both[1])


def test_what_is_open_is_said_at_the_start_and_by_doctor(secured: Secured, run: Runs) -> None:
    open_ = {
        **settings_for(secured, "PLAIN over TLS"),
        "kafka.enable.ssl.certificate.verification": "false",
        "web": "true",
        "web_port": "0",
        "web_host": "0.0.0.0",
    }
    command = run(open_)
    expected = ["the certificates of brokers are not checked", "the status page is served on 0.0.0.0 without TLS"]

    def warnings() -> list[str]:
        return [line["message"] for line in logged(command) if line["level"] == "warning"]

    until(lambda: all(any(text in line for line in warnings()) for text in expected), "the lines")
    doctor = run(open_, "doctor", TARGET, "--json")
    doctor.wait()
    (check,) = [one for one in json.loads(doctor.out.read_text()) if one["name"] == "security"]
    assert check["state"] == "warning"
    assert all(text in check["text"] for text in expected)
    command.process.send_signal(signal.SIGTERM)
    assert command.wait() == 0
