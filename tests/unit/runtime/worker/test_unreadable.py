"""An input that is deleted, or may not be read any more, while others are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import kstream
from kstream.errors import TopicError
from kstream.runtime.task.states import TaskState

from ..harness import Counting, Fleet

KEYS = [f"k{i}" for i in range(20)]


class Beside(Counting):
    """The counting app, and a topic that is handed on."""

    def __init__(self) -> None:
        super().__init__("beside")
        self.plain = self.app.topic("plain", key=str, value=int)
        self.passed = self.app.topic("passed", key=str, value=int)
        self.app.stream(self.plain).to(self.passed)


@pytest.fixture
def app() -> Beside:
    return Beside()


@pytest.fixture(params=["exactly_once", "at_least_once"])
def fleet(request: pytest.FixtureRequest, app: Beside, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(app.app, tmp_path, partitions=2, restart_max=2.0, processing_guarantee=request.param)
    yield fleet
    fleet.close()


def failed(fleet: Fleet) -> dict[str, str]:
    found = (task for worker in fleet.workers.values() for task in worker.tasks.values())
    return {task.name: str(task.error) for task in found if task.state is TaskState.FAILED}


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


def rows(fleet: Fleet, topic: kstream.Topic[str, int]) -> int:
    return len(fleet.cluster.records(topic.name))


def test_an_input_that_may_not_be_read_stops_its_own_tasks_until_it_may(
    app: Beside, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.start("a")
    for topic in (app.source, app.plain):
        fleet.send(topic, KEYS)
    fleet.settle()
    fleet.cluster.deny("in", read=True)
    for topic in (app.source, app.plain):
        fleet.send(topic, KEYS)
    fleet.step()
    assert failed(fleet).keys() == {"in/0", "in/1"}
    assert all(f"task {name}: topic in: " in text for name, text in failed(fleet).items())
    for name in failed(fleet):
        (_,) = lines(caplog, f"task {name}: topic in: ")
    fleet.step(times=30, seconds=0.3)
    assert rows(fleet, app.passed) == 40
    assert rows(fleet, app.by_dsl) == 20
    fleet.cluster.deny("in")
    fleet.step(times=30, seconds=0.3)
    app.check(fleet)
    assert not failed(fleet)


def test_the_tasks_of_an_input_that_is_deleted_stop_and_those_of_the_others_go_on(
    app: Beside, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        fleet.start(name)
    for topic in (app.source, app.plain):
        fleet.send(topic, KEYS)
    fleet.settle()
    fleet.cluster.delete_topic("in")
    fleet.send(app.plain, KEYS)
    fleet.step()
    assert failed(fleet).keys() == {"in/0", "in/1"}
    for name in failed(fleet):
        (_,) = lines(caplog, f"task {name}: topic in: UNKNOWN_TOPIC_OR_PART")
    fleet.step(times=30, seconds=0.3)
    assert rows(fleet, app.passed) == 40
    assert {task.state for worker in fleet.workers.values() for task in worker.tasks.values()} == {TaskState.RUNNING}

    fleet.cluster.create_topic("in", 2)
    fleet.send(app.plain, KEYS)
    fleet.step(times=30, seconds=0.3)
    assert rows(fleet, app.passed) == 60
    assert failed(fleet).keys() == {"in/0", "in/1"}
    assert all("was deleted and created again" in text for text in failed(fleet).values())


def test_uncommitted_work_on_what_is_gone_takes_back_no_more_than_a_failure_does(app: Beside, fleet: Fleet) -> None:
    fleet.start("a")
    fleet.send(app.plain, KEYS)
    fleet.settle()
    fleet.send(app.source, KEYS)
    fleet.send(app.plain, KEYS)
    fleet.step(times=3)  # processed, not committed
    assert fleet.workers["a"].uncommitted
    fleet.cluster.delete_topic("in")
    fleet.step(times=30, seconds=0.3)
    passed = fleet.outputs(app.passed)
    if fleet.settings.processing_guarantee == "exactly_once":
        assert passed == {key: [1, 1] for key in KEYS}
        assert not rows(fleet, app.by_dsl)
    else:
        assert all(values[:2] == [1, 1] for values in passed.values())


def test_a_worker_that_has_never_read_an_input_does_not_begin_without_it(app: Beside, fleet: Fleet) -> None:
    fleet.start("a")
    fleet.cluster.delete_topic("in")
    with pytest.raises(TopicError, match="topic in: UNKNOWN_TOPIC_OR_PART"):
        fleet.step()
