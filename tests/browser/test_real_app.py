"""The status page over a real app on a real Kafka: its numbers against what was sent and against /metrics, under load,
through a kill, a restore and a second instance, with 64 partitions."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from support.observing import Service, fed, running, services
from support.page import Page
from support.running import until
from support.serving import Served

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for make in services(bootstrap_servers, tmp_path, monkeypatch):
        yield make(64)


def opened(page: Page, served: Served) -> Page:
    url, _, token = served.link().partition("/#token=")
    page.open(url, token)
    return page


def test_its_numbers_are_what_was_sent_and_what_prometheus_gets(service: Service, page: Page) -> None:
    served = service.start(workers=2)
    opened(page, served)  # while it starts
    running(served)
    with fed(service, 100):
        until(lambda: service.committed(served) > 1500, "a good deal of records")
        page.page.wait_for_function("Number(document.querySelector('#rate-in').value) > 50")
        assert page.overflow() <= 0
    service.all_done(served)
    page.wait_value("committed", service.fed)
    page.wait_value("produced", 2 * service.fed)
    page.wait_value("lag", 0)
    metrics = served.metrics()
    assert metrics("kstream_records_committed_total", topic=service.events) == service.fed
    page.wait_value("checkpoints-done", metrics("kstream_checkpoints_total"))
    assert page.value("checkpoint-failures") == metrics("kstream_checkpoint_failures_total") == 0
    assert page.errors == []
    assert page.hosts == {served.url.removeprefix("http://")}


def test_a_kill_a_restore_and_a_second_instance(service: Service, page: Page) -> None:
    first = service.start("a")
    running(first)
    opened(page, first)
    with fed(service, 50):
        until(lambda: service.committed(first) > 500, "some records")
        until(lambda: seen_restoring(service, first, page), "a restore that the page has shown", 120)
        expect(page.section("ready")).to_have_text("ready", timeout=40_000)
    until(lambda: first.metrics()("kstream_consumer_lag_records") == 0, "nothing to be left", 60)
    page.wait_value("lag", 0)
    until(lambda: first.status().totals.rate_in == 0, "rest", 20)
    page.wait_value("committed", first.status().totals.committed)
    second = service.start("b")
    until(lambda: len(second.status().tasks) == 64, "the tasks to be shared")
    running(first, second)
    expect(page.section("instances")).to_contain_text("b", timeout=20_000)
    assert page.errors == [] and page.overflow() <= 0


def seen_restoring(service: Service, served: Served, page: Page) -> bool:
    """Kills the worker and its state, and holds its successor still in its restore, for the page to show it.

    False when that restore was over before it could be held: it takes a second.
    """
    killed = served.pids[0]
    for folder in (service.directory / served.name).glob(f"{service.name}-*"):
        shutil.rmtree(folder)  # its successor has to restore everything
    os.kill(killed, signal.SIGKILL)
    until(lambda: served.pids and served.pids[0] != killed, "a successor")
    until(lambda: served.status().restore.tasks > 0 or served.probe("ready")[0], "the restore")
    os.kill(served.pids[0], signal.SIGSTOP)
    try:
        expect(page.section("restoring")).to_be_visible(timeout=5_000)
        expect(page.section("ready")).to_have_text("not ready")
    except AssertionError:
        return False
    finally:
        os.kill(served.pids[0], signal.SIGCONT)
    return True
