"""Workers that come and go while records flow: exactly once across every change, and across kills in the middle."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from support.running import Instance, free_port, until
from support.scenario import Scenario, Scenarios

PHASE = 600
RESTARTS = "kstream_worker_restarts_total"


def spread(service: Scenario, instance: Instance, workers: int) -> None:
    """Feeds until so many workers have their share of the 8 tasks, and all run."""

    def shares() -> bool:
        tasks = sorted(len(report.tasks) for report in instance.reports)
        low = 8 // workers if workers < 3 else 2
        return len(tasks) == workers and sum(tasks) == 8 and tasks[0] >= low and len(instance.tasks()) == 8

    service.feed_until(shares, f"{workers} workers to share the tasks", chunk=20)


def test_workers_come_and_go(scenario: Scenarios) -> None:
    """And the one that goes takes nobody's time: others have its partitions long before its session would end."""
    service = scenario(session_timeout=30)
    instance = service.start()
    spread(service, instance, 1)
    for workers in (2, 3, 4):
        instance.supervisor.add("default")
        spread(service, instance, workers)
    assert [worker.name for worker in instance.supervisor.workers] == ["0", "1", "2", "3"]
    for workers in (3, 2, 1):
        began = time.monotonic()
        instance.supervisor.retire("default")
        spread(service, instance, workers)
        assert time.monotonic() - began < 15, "the session was waited for"
    assert [worker.name for worker in instance.supervisor.workers] == ["0"]
    service.until(lambda: not instance.supervisor.leaving, "the last one to have left")
    again = instance.supervisor.add("default")  # under the name of one that went
    assert (again.name, again.restarts) == ("1", 0)
    spread(service, instance, 2)
    service.processed()
    service.settled()
    assert instance.restarts == 0
    service.stop()
    service.check()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("add", "revoked:before:1"),
        ("add", "assigned:after:1"),
        ("add", "apply_to_state:before:1"),
        ("retire", "commit_transaction:before:1"),
        ("retire", "commit_transaction:after:1"),
        ("retire", "revoked:after:1"),
    ],
)
def test_a_worker_is_killed_in_the_middle_of_a_change(scenario: Scenarios, change: str, fault: str) -> None:
    """Whichever it strikes: one that stays, the new one, or the one that is about to go."""
    service = scenario(transaction_timeout=3)
    service.order(fault)
    instance = service.start(workers=2)
    spread(service, instance, 2)
    service.arm()
    getattr(instance.supervisor, change)("default")
    service.feed_until(lambda: service.struck, "the fault to strike")
    spread(service, instance, 3 if change == "add" else 1)
    service.processed()
    service.settled()
    service.stop()
    service.check()


def test_the_one_that_goes_is_killed_before_it_can_commit(scenario: Scenarios) -> None:
    """Its transaction is open: who takes over waits until the broker gives it up, and does the work again."""
    service = scenario(transaction_timeout=3, commit_interval=1)
    instance = service.start(workers=2)
    spread(service, instance, 2)
    service.feed(PHASE)
    going = instance.supervisor.retire("default")
    assert going.pid is not None
    os.kill(going.pid, signal.SIGKILL)
    spread(service, instance, 1)
    assert going not in instance.supervisor.workers and going.restarts == 0
    service.processed()
    service.settled()
    service.stop()
    service.check()


def test_one_that_is_down_is_taken_away(scenario: Scenarios) -> None:
    """It died and waits for its restart when it is one too many."""
    service = scenario(restart_initial=30, restart_max=30)
    instance = service.start(workers=2)
    spread(service, instance, 2)
    (_, dead) = instance.supervisor.workers
    assert dead.pid is not None
    os.kill(dead.pid, signal.SIGKILL)
    service.until(lambda: dead.start_at is not None, "the supervisor to see it")
    instance.supervisor.retire("default")
    spread(service, instance, 1)
    service.processed()
    service.settled()
    service.stop()
    service.check()


# ---- by the load


def status(port: int, token: Path) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/status", headers={"Authorization": f"Bearer {token.read_text().strip()}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def metric(port: int, series: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith(series)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_they_follow_the_load(scenario: Scenarios) -> None:
    """`kstream run --workers 1..3`: a load that one cannot carry, then none. It is logged, counted and shown, and a
    kill in between changes nothing."""
    port = free_port()
    service = scenario(autoscale_window=2, autoscale_cooldown=1, web_port=port, commit_interval=0.5, stall_timeout=20)
    service.setenv("KSTREAM_TEST_PAUSE", "0.005")  # its agent takes 200 events a second for each task's record
    command = service.command(workers="1..3")  # type: ignore[arg-type]
    token = service.state_dir("a") / "web-token"
    service.feed(6000)
    service.until(lambda: len(command.children) == 3, "three workers", 60)
    os.kill(command.children[1], signal.SIGKILL)
    service.until(lambda: metric(port, RESTARTS) == 1, "the kill to be counted")
    service.until(lambda: len(command.children) == 3, "three workers again")

    def shown() -> dict[str, Any]:
        (group,) = status(port, token)["scaling"]
        return dict(group)

    service.until(lambda: shown()["workers"] == 3, "the page to show them")
    assert (shown()["group"], shown()["most"]) == ("default", 3)
    assert "busy or backpressured for 2 s" in str(shown()["reason"])
    service.processed(90)
    service.until(lambda: len(command.children) == 1, "one worker, when there is nothing to do", 60)
    until(lambda: metric(port, "kstream_worker_scalings_total{") >= 4, "the changes to be counted")
    assert metric(port, RESTARTS) == 1
    said = command.err.read_text()
    assert "isolation group default: 3 workers, " in said and "less than 20%" in said
    service.setenv("KSTREAM_TEST_PAUSE", "0")
    service.feed(PHASE)
    service.processed()
    command.process.send_signal(signal.SIGTERM)
    assert command.wait() == 0
    service.check()
