"""The files of monitoring/ on a real app: a real Prometheus scrapes real instances on a real Kafka."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.test_observed import Service, running
from monitoring.stack import Stack, dashboard_expressions
from support.running import until
from support.serving import Served

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    made = Service(bootstrap_servers, tmp_path, monkeypatch, partitions=4)
    yield made
    for instance in made.instances:
        instance.stop()


def target(served: Served) -> str:
    return served.url.removeprefix("http://")


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


def test_every_expression_of_the_dashboard_has_data_and_a_killed_app_raises_job_down(
    service: Service, tmp_path: Path
) -> None:
    first, second = service.start("a", workers=2), service.start("b")
    running(first, second)
    with Stack([target(first), target(second)], tmp_path) as stack, fed(service, 200):
        until(lambda: service.committed(first, second) > 2000, "a good deal of records")
        stack.wait_for_data("sum(rate(kstream_records_committed_total[5s])) > 100")
        for expression in dashboard_expressions(app=service.name):
            until(
                lambda text=expression.text: any(math.isfinite(sample.value) for sample in stack.query(text)),
                f"data for {expression.panel!r}: {expression.text}",
                30,
                each=lambda: time.sleep(0.2),
            )
        (total,) = stack.query(f'sum(kstream_records_committed_total{{topic="{service.events}"}})')
        assert 2000 < total.value <= service.committed(first, second)

        second.supervisor.kill()
        second.stop()
        alert = stack.wait_for_alert("JobDown", seconds=40)
        assert alert.labels["severity"] == "critical" and "docs/runbook.md#jobdown" in alert.annotations["runbook_url"]
        assert alert.labels["instance"] == target(second)
    assert "HighBackpressure" not in {alert.name for alert in stack.alerts}


def test_a_slow_sink_raises_high_backpressure(service: Service, tmp_path: Path) -> None:
    served = service.start("a")
    running(served)
    with Stack([target(served)], tmp_path) as stack, fed(service, 40, sleep=0.02):
        alert = stack.wait_for_alert("HighBackpressure", seconds=60)
        assert alert.labels["worker"] == "0" and alert.labels["app"] == service.name
        assert "docs/runbook.md#highbackpressure" in alert.annotations["runbook_url"]
        assert served.status().totals.backpressured > 0.5
        assert "JobDown" not in {alert.name for alert in stack.alerts}
