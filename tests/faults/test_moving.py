"""Local state that goes along with tasks between the workers of an instance; the one that gets it is killed there."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstream.runtime.instance import leaving
from support.running import SECONDS, Instance
from support.scenario import Scenario, Scenarios

PHASE = 800


def places(service: Scenario) -> dict[str, set[str]]:
    """The workers that have a directory of each task."""
    found: dict[str, set[str]] = {}
    for path in service.state_dir("a").glob("*/*/*/CURRENT"):
        found.setdefault("/".join(path.parts[-3:-1]), set()).add(path.parts[-4])
    return found


def begin(service: Scenario) -> Instance:
    """Two workers share 8 tasks, and have state."""
    service.feed(PHASE)
    instance = service.start(workers=2)
    service.processed()
    service.until(lambda: all(len(report.tasks) == 4 for report in instance.reports), "two workers to share the tasks")
    service.settled()
    return instance


def test_a_worker_that_leaves_hands_its_local_state_on(scenario: Scenarios, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "LEAVE_SECONDS", SECONDS)
    service = scenario(session_timeout=SECONDS)
    instance = begin(service)
    inodes = {path.stat().st_ino for path in Path(service.state_dir("a")).glob("*/*/*/*.sst")}
    instance.supervisor.retire("default")
    service.until(lambda: len(instance.tasks()) == 8 and len(instance.reports) == 1, "one worker to have all tasks")
    (report,) = instance.reports
    assert report.restored == 0, "it replayed what lay beside it"
    assert all(len(workers) == 1 for workers in places(service).values()), "something was copied"
    service.feed(PHASE)
    service.processed()
    service.settled()
    instance.supervisor.add("default")
    service.until(
        lambda: sorted(len(one.tasks) for one in instance.reports) == [4, 4] and len(instance.tasks()) == 8,
        "two workers to share the tasks again",
    )
    assert [one.restored for one in instance.reports] == [0, 0]
    assert inodes & {path.stat().st_ino for path in Path(service.state_dir("a")).glob("*/*/*/*.sst")}
    service.feed(PHASE)
    service.processed()
    service.settled()
    service.stop()
    service.check()


@pytest.mark.parametrize(
    "fault", ["open:before:2", "move:before:1", "move:after:2", pytest.param("open:after:2", marks=pytest.mark.slow)]
)
def test_killed_while_it_takes_local_state_along(
    scenario: Scenarios, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The other worker has closed it and is gone; the one that is to have it dies before, between or after."""
    monkeypatch.setattr(leaving, "LEAVE_SECONDS", SECONDS)
    service = scenario(session_timeout=SECONDS)
    service.order(fault)
    instance = begin(service)
    service.arm()
    instance.supervisor.retire("default")
    service.until(lambda: service.struck, "the fault to strike")
    service.feed(PHASE)
    service.until(lambda: len(instance.tasks()) == 8, "one worker to have all tasks")
    service.processed()
    service.settled()
    assert instance.restarts == 1
    assert all(len(workers) == 1 for workers in places(service).values())
    service.stop()
    service.check()
