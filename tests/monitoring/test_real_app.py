"""The files of monitoring/ on a real app: a real Prometheus scrapes real instances on a real Kafka."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.stack import Stack, dashboard_expressions
from support.observing import Service, fed, services
from support.running import Command, until
from support.serving import Served

pytestmark = pytest.mark.timeout(480)

RARE = ("kstream_event_time_seconds", "ALERTS", "changes(", "unless")
"""In queries that have no data here: this app goes by no event time (unit/runtime/process/test_event_time.py has the
metric), no alert need fire, and marks are there where something changed."""


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for make in services(bootstrap_servers, tmp_path, monkeypatch):
        yield make(4)


def target(served: Served) -> str:
    return served.url.removeprefix("http://")


def ready(served: Served) -> None:
    until(lambda: served.probe("ready")[0], f"instance {served.name} to be ready", 90, each=lambda: time.sleep(0.05))


def said_target(command: Command) -> str:
    """Where an instance of the command line can be scraped, as soon as it says so."""

    def said() -> re.Match[str] | None:
        assert command.process.poll() is None
        return re.search(r"status page: http://(127\.0\.0\.1:\d+)[^\d]", command.err.read_text())

    return str(until(said, "the status page of the second instance", 90, each=lambda: time.sleep(0.1))[1])


def test_every_expression_of_the_dashboard_has_data_and_a_killed_instance_is_told(
    service: Service, tmp_path: Path
) -> None:
    first = service.start("a", workers=2)
    second = Command(
        tmp_path / "b-log", "run", service.target, "--workers", 1, "--instance", "b", "--state-dir", tmp_path / "b",
        "--bootstrap-servers", service.servers,
    )  # fmt: skip
    try:
        dies = said_target(second)  # before it is scraped: until then it is down
        ready(first)
        with Stack([target(first), dies], tmp_path) as stack, fed(service, 200):
            stack.wait_for_data("sum(kstream_ready) == 2", 90)
            stack.wait_for_data("sum(kstream_records_committed_total) > 2000", 90)
            for expression in dashboard_expressions(app=service.name):
                if any(rare in expression.text for rare in RARE):
                    continue
                until(
                    lambda text=expression.text: any(math.isfinite(sample.value) for sample in stack.query(text)),
                    f"data for {expression.panel!r}: {expression.text}",
                    60,
                    each=lambda: time.sleep(0.2),
                )
            told = stack.alerts
            false = [one for one in told if one.name in ("JobDown", "InstanceDown")]
            assert false == [] or not (stack.answered_always(target(first)) and stack.answered_always(dies))
            second.process.kill()
            alert = stack.wait_for_alert("InstanceDown", after=len(told), instance=dies)
            assert (alert.labels["severity"], alert.labels["app"]) == ("warning", service.name)
            assert "docs/runbook.md#instancedown" in alert.annotations["runbook_url"]
    finally:
        second.end()


def test_a_slow_sink_raises_high_backpressure(service: Service, tmp_path: Path) -> None:
    served = service.start("a")
    ready(served)
    with Stack([target(served)], tmp_path) as stack, fed(service, 40, sleep=0.02):
        alert = stack.wait_for_alert("HighBackpressure", seconds=120)
        assert alert.labels["worker"] == "0" and alert.labels["app"] == service.name
        assert "docs/runbook.md#highbackpressure" in alert.annotations["runbook_url"]
        until(
            lambda: served.status().totals.backpressured > 0.5,
            "its own page to say so: of its latest second, not of the last minutes",
            each=lambda: time.sleep(0.1),
        )
        false = [one for one in stack.alerts if one.name == "JobDown"]
        assert false == [] or not stack.answered_always(target(served))
