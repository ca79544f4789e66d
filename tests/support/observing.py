"""A service whose numbers are known (broker/observed_service.py), fed and run as whole instances: for the tests of what
is seen of it over HTTP, by Prometheus and in a browser."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import kstream
from broker.observed_service import make_app
from kstream.config import Settings
from support.kafka import write
from support.running import SECONDS, until
from support.serving import Served

QUICK: dict[str, Any] = {
    "commit_interval": 0.1,
    "session_timeout": 3.0,
    "restart_initial": 0.1,
    "restart_max": 1.0,
    "announce_interval": 0.5,
    "kafka_statistics_interval": 0.5,
    "system_metrics_interval": 0.5,
}


class Service:
    """One test's app: feed it, start instances of it, ask them."""

    target = "broker.observed_service:app"

    def __init__(self, servers: str, directory: Path, monkeypatch: pytest.MonkeyPatch, partitions: int) -> None:
        self.servers, self.directory = servers, directory
        self.name = f"observed-{uuid.uuid4().hex[:8]}"
        monkeypatch.setenv("KSTREAM_TEST_APP", self.name)
        monkeypatch.setenv("KSTREAM_TEST_PARTITIONS", str(partitions))
        self.app: kstream.App = make_app(self.name, partitions)
        self.events, self.seen, self.groups = (f"{self.name}.{name}" for name in ("events", "seen", "groups"))
        self.repartition = f"{self.name}-by-group-repartition"
        self.instances: list[Served] = []
        self.fed = 0

    def start(self, name: str = "a", workers: int = 1, **settings: Any) -> Served:
        given = {**QUICK, **settings}
        resolved = Settings(
            bootstrap_servers=self.servers, state_dir=str(self.directory / name), instance=name, **given
        )  # fmt: skip
        served = Served(self.app, self.target, resolved, workers)
        self.instances.append(served)
        return served

    def feed(self, count: int, **more: Any) -> None:
        now = round(time.time() * 1000)
        numbers = range(self.fed, self.fed + count)
        write(
            self.servers,
            self.events,
            [(f"k{n % 97}", json.dumps({"number": n, "group": f"g{n % 5}", **more}).encode(), now) for n in numbers],
        )
        self.fed += count

    def committed(self, *instances: Served) -> float:
        return sum(one.metrics()("kstream_records_committed_total", topic=self.events) for one in instances)

    def all_done(self, *instances: Served, seconds: float = SECONDS) -> None:
        """Everything is through, behind the repartition too."""

        def done() -> bool:
            said = [one.metrics() for one in instances]
            committed = sum(each("kstream_records_committed_total") for each in said)
            return committed >= 2 * self.fed and not sum(each("kstream_consumer_lag_records") for each in said)

        until(done, "all records to be committed", seconds, each=lambda: time.sleep(0.1))


Services = Callable[..., Service]


def services(servers: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """For a fixture: makes services, and stops their instances at the end."""
    made: list[Service] = []

    def make(partitions: int = 4) -> Service:
        made.append(Service(servers, directory, monkeypatch, partitions))
        return made[-1]

    yield make
    for one in made:
        for instance in one.instances:
            instance.stop()


def running(*instances: Served) -> None:
    for one in instances:
        until(lambda one=one: one.probe("ready")[0], f"instance {one.name} to be ready", each=lambda: time.sleep(0.05))


@contextmanager
def fed(service: Service, count: int, **more: float) -> Iterator[None]:
    """Records on and on, until the block ends."""
    ending = threading.Event()

    def feed() -> None:
        while not ending.wait(0.25):
            service.feed(count, **more)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
