"""The files of monitoring/ on a real app: a real Prometheus scrapes real instances on a real Kafka."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.stack import Stack, dashboard_expressions, free_port
from support.observing import Service, fed, running, services
from support.running import Command, until
from support.serving import Served

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for make in services(bootstrap_servers, tmp_path, monkeypatch):
        yield make(4)


def target(served: Served) -> str:
    return served.url.removeprefix("http://")


def test_every_expression_of_the_dashboard_has_data_and_a_killed_app_raises_job_down(
    service: Service, tmp_path: Path
) -> None:
    first = service.start("a", workers=2)
    port = free_port()
    second = Command(
        tmp_path / "b-log", "run", service.target, "--workers", 1, "--instance", "b", "--state-dir", tmp_path / "b",
        "--bootstrap-servers", service.servers, "--set", f"web_port={port}",
    )  # fmt: skip
    try:
        running(first)
        with Stack([target(first), f"127.0.0.1:{port}"], tmp_path) as stack, fed(service, 200):
            stack.wait_for_data("sum(kstream_ready) == 2", 60)
            stack.wait_for_data("sum(kstream_records_committed_total) > 2000", 60)
            for expression in dashboard_expressions(app=service.name):
                until(
                    lambda text=expression.text: any(math.isfinite(sample.value) for sample in stack.query(text)),
                    f"data for {expression.panel!r}: {expression.text}",
                    30,
                    each=lambda: time.sleep(0.2),
                )
            assert "JobDown" not in {alert.name for alert in stack.alerts}
            second.process.kill()
            alert = stack.wait_for_alert("JobDown", seconds=40)
            assert alert.labels["severity"] == "critical" and alert.labels["instance"] == f"127.0.0.1:{port}"
            assert "docs/runbook.md#jobdown" in alert.annotations["runbook_url"]
    finally:
        second.process.kill()
        second.process.wait()


def test_a_slow_sink_raises_high_backpressure(service: Service, tmp_path: Path) -> None:
    served = service.start("a")
    running(served)
    with Stack([target(served)], tmp_path) as stack, fed(service, 40, sleep=0.02):
        alert = stack.wait_for_alert("HighBackpressure", seconds=60)
        assert alert.labels["worker"] == "0" and alert.labels["app"] == service.name
        assert "docs/runbook.md#highbackpressure" in alert.annotations["runbook_url"]
        assert served.status().totals.backpressured > 0.5
        assert "JobDown" not in {alert.name for alert in stack.alerts}
