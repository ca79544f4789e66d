"""An input that is deleted, or may not be read any more, while others are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

import kstream
from kstream.errors import AbortRequired, TopicError
from kstream.observe.status import TaskStatus
from kstream.runtime.process.report import Report
from kstream.runtime.process.series import report_of
from kstream.runtime.process.sizes import StoreSizes
from kstream.runtime.task.states import TaskState
from kstream.testing.clients import MemoryAdmin
from kstream.types import DescribedTopic, TopicPartition

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


def test_a_changelog_that_may_not_be_read_stops_the_tasks_that_are_restored_from_it(app: Beside, fleet: Fleet) -> None:
    """They waited for ever, behind one line that no task reads it."""
    fleet.start("a")
    fleet.send(app.source, KEYS)
    fleet.settle()
    fleet.leave("a")
    topology = app.app.topology()
    parts = [part for part in topology.parts if "in" in part.topics]
    changelog = topology.changelog(parts[0].stores[0])
    fleet.cluster.deny(changelog, read=True)
    fleet.start("a")  # its state was in memory
    for topic in (app.source, app.plain):
        fleet.send(topic, KEYS)
    fleet.step(times=30, seconds=0.3)
    assert failed(fleet).keys() == {"in/0", "in/1"}
    assert all(f"task {name}: topic {changelog}: " in text for name, text in failed(fleet).items())
    assert rows(fleet, app.passed) == 20
    fleet.cluster.deny(changelog)
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


def gone(fleet: Fleet) -> list[TaskStatus]:
    (said,) = {tuple(map(repr, report.gone)) for report in reports(fleet)}
    assert len(said) in (0, 2)
    return reports(fleet)[0].gone


def reports(fleet: Fleet) -> list[Report]:
    return [report_of(worker, StoreSizes(fleet.clock.monotonic)) for worker in fleet.workers.values()]


def test_tasks_whose_input_is_gone_are_told_of_until_it_is_back(app: Beside, fleet: Fleet) -> None:
    """The group gives their partitions to nobody, so no task is there to say it: every worker does, a new one too."""
    for name in ("a", "b"):
        fleet.start(name)
    fleet.send(app.source, KEYS)
    fleet.settle()
    fleet.step(times=40, seconds=0.3)
    assert not gone(fleet)
    fleet.cluster.delete_topic("in")
    fleet.step(times=20, seconds=0.3)
    names = {task.name for worker in fleet.workers.values() for task in worker.tasks.values()}
    assert names == {"plain/0", "plain/1"}
    for partition, task in enumerate(gone(fleet)):
        assert (task.name, task.worker, task.state) == (f"in/{partition}", "-", "failed")
        assert task.error == (
            f"task in/{partition}: topic in does not exist, or this user may not see it: create the topic, or give "
            "this user the right to read it"
        )
    fleet.crash("b")
    fleet.start("b")
    fleet.send(app.plain, KEYS)
    fleet.step(times=40, seconds=0.3)
    assert rows(fleet, app.passed) == 20
    assert len(gone(fleet)) == 2
    fleet.cluster.create_topic("in", 2)
    fleet.step(times=80, seconds=0.3)
    assert not gone(fleet)


def test_a_topic_that_one_answer_lacks_is_not_gone(app: Beside, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker may not have heard yet of a topic that was just made."""
    worker = fleet.start("a")
    fleet.settle()
    describe, lacking = MemoryAdmin.describe, [True]

    def once(self: MemoryAdmin, names: Sequence[str]) -> Future[dict[str, DescribedTopic]]:
        known = [name for name in names if not (lacking and name == "in")]
        lacking.clear()
        return describe(self, known)

    monkeypatch.setattr(MemoryAdmin, "describe", once)
    for _ in range(100):
        fleet.step(seconds=0.2)
        assert not worker.inputs.gone
    assert not lacking


def test_a_worker_that_begins_without_an_input_reads_the_others(app: Beside, fleet: Fleet) -> None:
    fleet.start("a")
    fleet.cluster.delete_topic("in")
    fleet.send(app.plain, KEYS)
    fleet.step(times=20, seconds=0.3)
    assert rows(fleet, app.passed) == 20
    assert len(gone(fleet)) == 2


def test_a_worker_does_not_begin_without_all_it_reads(tmp_path: Path) -> None:
    fleet = Fleet(Counting().app, tmp_path, partitions=2)
    fleet.start("a")
    fleet.cluster.delete_topic("in")
    with pytest.raises(TopicError, match="topic in: UNKNOWN_TOPIC_OR_PART"):
        fleet.step()
    fleet.close()


def test_a_worker_that_raises_failures_does_not_begin_without_an_input(app: Beside, fleet: Fleet) -> None:
    fleet.raise_failures = True
    fleet.start("a")
    fleet.cluster.delete_topic("in")
    with pytest.raises(TopicError, match="topic in: UNKNOWN_TOPIC_OR_PART"):
        fleet.step()


# ---- what lies in a partition cannot be unpacked


def spoil(fleet: Fleet, topic: str, partition: int = 0) -> int:
    log = fleet.cluster.log(TopicPartition(topic, partition))
    log.spoilt = fleet.cluster.append(topic, b"k", b"bomb", partition=partition).offset
    return log.spoilt


def test_a_batch_that_cannot_be_unpacked_stops_its_task_and_no_other(
    app: Beside, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """What lies before it is processed and committed, however often the task is tried again."""
    fleet.start("a")
    fleet.send(app.source, KEYS)
    before = {at: fleet.cluster.log(TopicPartition("in", at)).end for at in (0, 1)}
    at = spoil(fleet, "in")
    fleet.send(app.source, KEYS)
    fleet.send(app.plain, KEYS)
    fleet.step(times=5)
    assert failed(fleet) == {"in/0": f"task in/0 stopped: in[0] cannot be read at offset {at}: it is spoilt"}
    assert fleet.committed("in")[0] == before[0] == at
    fleet.step(times=60, seconds=0.3)
    assert failed(fleet).keys() == {"in/0"}
    assert fleet.committed("in") == {0: at, 1: 2 * before[1]}
    assert rows(fleet, app.passed) == 20
    (first, *_) = (one for one in caplog.records if "cannot be read" in one.getMessage() and one.levelname == "ERROR")
    assert (first.topic, first.partition, first.offset) == ("in", 0, at)  # type: ignore[attr-defined]
    fleet.cluster.log(TopicPartition("in", 0)).truncate(at + 1)  # as an operator does
    fleet.step(times=30, seconds=0.3)
    assert fleet.outputs(app.by_dsl) == fleet.outputs(app.by_agent) == {key: [1, 2] for key in KEYS}
    assert not failed(fleet)


def test_what_comes_before_it_is_not_lost_when_its_commit_fails(app: Beside, fleet: Fleet) -> None:
    if fleet.settings.processing_guarantee == "at_least_once":
        pytest.skip("what was sent cannot be taken back")
    fleet.start("a")
    fleet.send(app.source, KEYS)
    fleet.settle()
    fleet.send(app.source, KEYS)
    at = spoil(fleet, "in")
    fleet.cluster.faults.plan("producer.commit", AbortRequired("as it happens"))
    fleet.step(times=60, seconds=0.3)
    assert failed(fleet).keys() == {"in/0"}
    assert fleet.committed("in")[0] == at
    fleet.cluster.log(TopicPartition("in", 0)).truncate(at + 1)
    fleet.step(times=30, seconds=0.3)
    assert fleet.outputs(app.by_dsl) == fleet.outputs(app.by_agent) == {key: [1, 2] for key in KEYS}


def test_a_changelog_that_cannot_be_unpacked_stops_the_task_that_restores(
    app: Beside, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.start("a")
    fleet.send(app.source, KEYS)
    fleet.settle()
    at = spoil(fleet, "beside-n-changelog")
    fleet.crash("a")
    fleet.expire("a")
    fleet.start("b")
    fleet.send(app.plain, KEYS)
    fleet.step(times=60, seconds=0.3)
    changelog = f"beside-n-changelog[0] cannot be read at offset {at}: it is spoilt"
    assert failed(fleet) == {"in/0": f"task in/0 stopped: {changelog}"}
    assert rows(fleet, app.passed) == 20
