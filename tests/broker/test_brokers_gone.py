"""A broker that dies: `/ready` is red within seconds, with the reason, and green again when it is back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.devbroker import DevBroker
from support.observing import Services, fed, running, services
from support.running import until

MOST = 40.0
"""Seconds until readiness is red: a statistics interval (2 s here), or the time a loop may stand, and the reports; the
rest is a busy machine's. Less than `session_timeout` and `stall_timeout`."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[DevBroker]:
    with DevBroker(data_dir=tmp_path / "broker", start_timeout=180) as started:
        yield started


@pytest.fixture
def service(broker: DevBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    yield from services(broker.bootstrap_servers, tmp_path, monkeypatch)


@pytest.mark.more
@pytest.mark.parametrize("busy", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["idle", "busy"])
def test_a_broker_that_is_gone_is_told_within_seconds(service: Services, broker: DevBroker, busy: bool) -> None:
    """Long before anybody's session or a task's stall_timeout ends."""
    one = service()
    served = one.start(session_timeout=60.0, kafka_statistics_interval=2.0)
    running(served)
    one.feed(100)
    one.all_done(served)
    if busy:
        with fed(one, 100):
            until(lambda: one.committed(served) > 150, "records that are committed")
            broker.kill()
            began = time.monotonic()
            until(lambda: not served.probe("ready")[0], "readiness to be red", 60)
            took = time.monotonic() - began
            broker.start()
    else:
        broker.kill()
        began = time.monotonic()
        until(lambda: not served.probe("ready")[0], "readiness to be red", 60)
        took = time.monotonic() - began
        assert any("has no connection to any broker" in reason for reason in served.probe("ready")[1])
        broker.start()
    print(f"red after {took:.1f} s")
    assert took < MOST
    until(lambda: served.probe("ready")[0], "readiness", 120)
    one.feed(100)
    one.all_done(served, seconds=120)
    assert not served.supervisor.workers[0].restarts
