"""The status page over a real app on a real Kafka: its numbers against what was sent and against /metrics, under load;
and through a kill, a restore and a second instance, with 64 partitions."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from support.observing import Service, Services, fed, services
from support.page import Page
from support.running import alive, kill, until
from support.serving import Served

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def make_service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    yield from services(bootstrap_servers, tmp_path, monkeypatch)


def opened(page: Page, served: Served) -> Page:
    url, _, token = served.link().partition("/#token=")
    page.open(url, token)
    return page


def ready(served: Served) -> None:
    until(lambda: served.probe("ready")[0], f"instance {served.name} to be ready", 90, each=lambda: time.sleep(0.05))


def test_its_numbers_are_what_was_sent_and_what_prometheus_gets(make_service: Services, page: Page) -> None:
    service = make_service(8)
    served = service.start(workers=2, session_timeout=30.0)  # nobody dies here; shorter, a busy machine might seem to
    opened(page, served)  # while it starts
    ready(served)
    with fed(service, 100):
        until(lambda: service.committed(served) > 1500, "a good deal of records", 90)
        until(lambda: page.page.evaluate("Number(document.querySelector('#rate-in').value) > 50"), "the rate")
        assert page.overflow() <= 0
    service.all_done(served, seconds=90)
    page.wait_value("committed", service.fed)
    page.wait_value("produced", 2 * service.fed)
    page.wait_value("lag", 0)
    assert served.metrics()("kstream_records_committed_total", topic=service.events) == service.fed
    until(
        lambda: page.value("checkpoints-done") == served.metrics()("kstream_checkpoints_total") > 0,
        "the page to have as many checkpoints as the metrics",  # there may be one more at any time
    )
    assert page.value("checkpoint-failures") == served.metrics()("kstream_checkpoint_failures_total") == 0
    assert page.errors == []
    assert page.hosts == {served.url.removeprefix("http://")}


def test_a_kill_a_restore_and_a_second_instance(make_service: Services, page: Page) -> None:
    service = make_service(64)
    first = service.start("a")
    ready(first)
    opened(page, first)
    with fed(service, 50):
        until(lambda: service.committed(first) > 500, "some records", 90)
        until(lambda: seen_restoring(service, first, page), "a restore that the page has shown", 240)
        expect(page.section("ready")).to_have_text("ready")
    until(lambda: first.metrics()("kstream_consumer_lag_records") == 0, "nothing to be left", 90)
    page.wait_value("lag", 0)
    until(lambda: first.status().totals.rate_in == 0, "rest", 60)
    until(lambda: page.value("committed") == first.status().totals.committed > 0, "the page to have all", 60)
    second = service.start("b")
    until(lambda: len(second.status().tasks) == 64, "the tasks to be shared", 90)
    ready(first)
    ready(second)
    expect(page.page.locator("#instances tbody tr")).to_have_count(2)
    expect(page.page.locator("#instances tbody tr").nth(1).locator("td").first).to_have_text("b")
    assert page.errors == [] and page.overflow() <= 0


def seen_restoring(service: Service, served: Served, page: Page) -> bool:
    """Kills the worker and its state, and holds its successor still in its restore, for the page to show it.

    False when that restore was over before it could be held: it takes a second.
    """
    ready(served)  # also the one that was held before
    (killed,) = served.pids
    os.kill(killed, signal.SIGSTOP)  # or it would write into the folders while they are removed
    for folder in (service.directory / served.name).glob(f"{service.name}-*"):
        shutil.rmtree(folder)  # its successor has to restore everything
    kill(killed)

    def successor() -> int | None:
        return next((pid for pid in served.pids if pid != killed and alive(pid)), None)

    def restores() -> bool:
        return served.status().restore.tasks > 0

    held = until(successor, "a successor", 90)
    until(lambda: restores() or served.probe("ready")[0], "the restore", 90)
    kill(held, signal.SIGSTOP)
    try:
        until(lambda: page.section("restoring").is_visible() or not restores(), "the page to show the restore", 60)
        if not restores():  # its last words were still on their way
            return False
        expect(page.section("restoring")).to_be_visible()
        expect(page.section("ready")).to_have_text("not ready")
    finally:
        kill(held, signal.SIGCONT)
    return True
