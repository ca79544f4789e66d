"""`kstream broker`, with a broker that only pretends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kstream.cli import broker as command
from kstream.cli import main
from kstream.devbroker import default_data_dir
from kstream.errors import BrokerError

made: list[Fake] = []


class Fake:
    """What `kstream broker` uses of DevBroker."""

    bootstrap_servers = "127.0.0.1:4711"
    data_dir = Path("/data")
    log_file = Path("/data/broker.log")
    ends_with: int | None = None

    def __init__(self, port: int | None, data_dir: Path, fresh: bool, on_progress: Callable[[int, int], None]) -> None:
        self.asked = (port, data_dir, fresh)
        self.on_progress, self.stopped = on_progress, False
        made.append(self)

    def start(self) -> None:
        for done in (1_000_000, 44_000_000):
            self.on_progress(done, 44_000_000)

    def wait(self) -> int:
        if self.ends_with is None:
            signal.raise_signal(signal.SIGTERM)
        return self.ends_with or 0

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made.clear()
    monkeypatch.setattr(command, "DevBroker", Fake)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def test_says_how_to_reach_it_and_stops_on_sigterm(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broker", "--port", "4711", "--data-dir", "/data", "--fresh"]) == 0
    out, err = capsys.readouterr()
    assert "is ready on 127.0.0.1:4711" in out
    assert "export KSTREAM_BOOTSTRAP_SERVERS=127.0.0.1:4711" in out
    assert err == "Downloading Kafka (44 MB) into the user's cache\n"
    assert made[0].asked == (4711, Path("/data"), True)
    assert made[0].stopped


def test_defaults() -> None:
    assert main(["broker"]) == 0
    assert made[0].asked == (None, default_data_dir(), False)


def test_a_broker_that_ends(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "ends_with", 137)
    assert main(["broker"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "kstream: the broker ended by itself (status 137): see /data/broker.log"
    )
    assert made[0].stopped


def test_a_broker_that_cannot_start(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: Any) -> None:
        raise BrokerError("port 4711 of 127.0.0.1 is in use")

    monkeypatch.setattr(Fake, "start", start)
    assert main(["broker"]) == 2
    assert capsys.readouterr().err == "kstream: port 4711 of 127.0.0.1 is in use\n"
