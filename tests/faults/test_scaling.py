"""Workers that come and go while records flow: exactly once across every change, and across kills in the middle."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kstream.runtime.instance import leaving
from support.running import SECONDS, Command, Instance
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


def test_workers_come_and_go(scenario: Scenarios, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the one that goes takes nobody's time: others have its partitions before its session would end."""
    monkeypatch.setattr(leaving, "LEAVE_SECONDS", SECONDS)  # on a busy machine
    service = scenario(session_timeout=2 * SECONDS)
    instance = service.start()
    spread(service, instance, 1)
    for workers in (2, 3, 4):
        instance.supervisor.add("default")
        spread(service, instance, workers)
    assert [worker.name for worker in instance.supervisor.workers] == ["0", "1", "2", "3"]
    for workers in (3, 2, 1):
        instance.supervisor.retire("default")
        spread(service, instance, workers)  # in half a session
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
    going = instance.supervisor.workers[-1]
    assert going.pid is not None
    os.kill(going.pid, signal.SIGSTOP)  # it does not get to what it is told
    assert instance.supervisor.retire("default") is going
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


class Shown:
    """What a `kstream run` shows of itself."""

    def __init__(self, command: Command, token: Path) -> None:
        self.command, self._token = command, token

    def group(self) -> dict[str, Any]:
        """Its one isolation group, on the status page."""
        token = self._token.read_text().strip()
        (group,) = json.loads(self._get("/api/status", {"Authorization": f"Bearer {token}"}))["scaling"]
        return dict(group)

    def metric(self, series: str) -> float:
        lines = [line for line in self._get("/metrics", {}).decode().splitlines() if line.startswith(series)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def _get(self, path: str, headers: dict[str, str]) -> bytes:
        found = re.search(r"status page: (http://[^/ ]+)", self.command.err.read_text())
        assert found is not None
        request = urllib.request.Request(found[1] + path, headers=headers)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return bytes(answer.read())


def test_they_follow_the_load(scenario: Scenarios) -> None:
    """`kstream run --workers 1..3`: a load that one cannot carry, then none. It is logged, counted and shown, and a
    kill in between changes nothing."""
    service = scenario(autoscale_window=2, autoscale_cooldown=1, web_port=0, commit_interval=0.5, stall_timeout=20)
    service.setenv("KSTREAM_TEST_PAUSE", "0.005")  # its agent takes 200 events a second for each task's record
    command = service.command(workers="1..3")  # type: ignore[arg-type]
    shown = Shown(command, service.state_dir("a") / "web-token")

    def under_load(condition: Callable[[], Any], what: str) -> None:
        """Waits while there is more to do than workers can, but not much more: it is to be over soon."""

        def holds() -> Any:
            if service.fed - len(service.output.rows[f"{service.app}.counts"]) < 2000:
                service.feed(1000)
            return condition()

        service.until(holds, what)

    under_load(lambda: len(command.children) == 3, "three workers")
    os.kill(command.children[1], signal.SIGKILL)
    under_load(lambda: shown.metric(RESTARTS) >= 1, "the kill to be counted")
    under_load(lambda: len(command.children) == 3, "three workers again")
    under_load(lambda: shown.group()["workers"] == 3, "the page to show them")
    assert (shown.group()["group"], shown.group()["most"]) == ("default", 3)
    assert "busy or backpressured for 2 s" in str(shown.group()["reason"])
    service.processed()
    service.until(lambda: len(command.children) == 1, "one worker, when there is nothing to do")
    service.until(lambda: shown.metric("kstream_worker_scalings_total{") >= 4, "the changes to be counted")
    assert shown.metric(RESTARTS) == 1
    said = command.err.read_text()
    assert "isolation group default: 3 workers, " in said and "less than 20%" in said
    service.setenv("KSTREAM_TEST_PAUSE", "0")
    service.feed(PHASE)
    service.processed()
    command.process.send_signal(signal.SIGTERM)
    assert command.wait() == 0
    service.check()
