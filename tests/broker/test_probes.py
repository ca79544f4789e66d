"""What a kubelet makes of real instances, with the probes of the chart's values: a first start that hangs is started
again, a restore is waited for however long it takes."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from confluent_kafka import Producer

from support.observing import Service, running, services
from support.running import Command, until

PROBES: dict[str, dict[str, int]] = yaml.safe_load(
    Path(__file__).parents[2].joinpath("helm/kstream/values.yaml").read_text()
)["probes"]
PATHS = {"startup": "/startup", "liveness": "/live", "readiness": "/ready"}

HANGS_ONCE = """
import os, pathlib, time
import kstream

marker = pathlib.Path(os.environ["KSTREAM_TEST_MARKER"])
if not marker.exists():
    marker.touch()
    while True:
        time.sleep(3600)

app = kstream.App(os.environ["KSTREAM_TEST_APP"])
topic = app.topic(f"{app.name}.in", key=str, value=int, partitions=1)
app.stream(topic).group_by_key().count(name="n")
"""

Ask = Callable[[str], bool]
"""Whether a path is answered with success."""


def restarts(kind: str, ask: Ask, seconds: float) -> bool:
    """Whether the kubelet starts a container again that is as it is for so long: the probe fails `failureThreshold`
    times in a row. One probe stands for one period; nobody waits for it."""
    probe, failed = PROBES[kind], 0
    for _ in range(int(seconds // probe["periodSeconds"])):
        failed = 0 if ask(PATHS[kind]) else failed + 1
        if failed == probe["failureThreshold"]:
            return True
    return False


def answers(pid: int) -> Ask:
    """Asks a process where it listens. One that does not listen refuses."""

    def ask(path: str) -> bool:
        listens = [one for one in psutil.Process(pid).net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        if not listens:
            return False
        try:
            url = f"http://127.0.0.1:{listens[0].laddr.port}{path}"
            with urllib.request.urlopen(url, timeout=60) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return False

    return ask


def test_a_first_start_that_hangs_is_started_again(bootstrap_servers: str, tmp_path: Path) -> None:
    tmp_path.joinpath("hangs_once.py").write_text(HANGS_ONCE)
    marker = tmp_path / "marker"
    environment = {
        "KSTREAM_TEST_MARKER": str(marker),
        "KSTREAM_TEST_APP": f"hangs-{uuid.uuid4().hex[:8]}",
        "KSTREAM_BOOTSTRAP_SERVERS": bootstrap_servers,
        "KSTREAM_STATE_DIR": str(tmp_path / "state"),
        "KSTREAM_WEB_PORT": "0",
        "KSTREAM_WORKERS": "1",
    }

    def start() -> Command:
        return Command(tmp_path / "run", "run", "hangs_once:app", cwd=tmp_path, **environment)

    first = start()
    try:
        until(marker.exists, "the first start to hang")
        assert restarts("startup", answers(first.process.pid), 600), "nobody would ever start it again"
    finally:
        first.end()
    second = start()
    try:
        ask = answers(second.process.pid)
        until(lambda: ask("/startup"), "the second start", each=lambda: time.sleep(0.05))
        assert not restarts("startup", ask, 600) and not restarts("liveness", ask, 600)
    finally:
        second.end()


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for make in services(bootstrap_servers, tmp_path, monkeypatch):
        yield make(1)


def test_a_restore_is_waited_for(service: Service) -> None:
    """It waits for a transaction that somebody has left open in the changelog, for as long as that stays. Autoscaling
    is told to leave the instance meanwhile."""
    first = service.start("a")
    service.feed(50)
    service.all_done(first)
    first.stop()
    producer = Producer(
        {
            "bootstrap.servers": service.servers,
            "transactional.id": f"{service.name}-stranger",
            "transaction.timeout.ms": 600_000,
        }
    )
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(f"{service.name}-counts-changelog", key=b"k", value=None, partition=0)
    producer.flush(60)

    second = service.start("b")

    def restores() -> Any:
        ready, reasons = second.probe("ready")
        return not ready and any("restoring" in one for one in reasons)

    until(restores, "the restore to wait", each=lambda: time.sleep(0.05))
    for kind in ("startup", "liveness"):
        assert not restarts(kind, lambda path: second.probe(path[1:])[0], 600), kind
    assert restarts("readiness", lambda path: second.probe(path[1:])[0], 600), "it is not ready, and says so"
    assert second.metrics()("kstream_instances_held", group="default") == 1
    producer.abort_transaction(60)
    running(second)
    assert second.metrics().series("kstream_instances_held") == [({"app": service.name, "group": "default"}, 0.0)]
