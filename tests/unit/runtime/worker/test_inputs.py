"""Partitions that are added to the inputs of an app while it runs, or while it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.errors import KafkaUnavailable, TopicError
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.task.states import TaskState
from kstream.testing.clients import MemoryClients
from kstream.types import TopicPartition

from ..harness import Counting, Fleet

KEYS = [f"k{i}" for i in range(50)]
CHANGELOGS = ("counting-n-changelog", "counting-seen-changelog")
EACH = {key: [1] for key in KEYS}


def text(value: int) -> str:
    return str(value)


class Mixed(Counting):
    """The counting app, a stateless part beside it, and a count behind a repartition."""

    def __init__(self) -> None:
        super().__init__("mixed")
        self.plain = self.app.topic("plain", key=str, value=int)
        self.passed = self.app.topic("passed", key=str, value=int)
        self.moved = self.app.topic("moved", key=str, value=int)
        self.app.stream(self.plain).to(self.passed)
        self.app.stream(self.plain).group_by(text, name="by").count(name="m").to(self.moved)


class Shared(Counting):
    """Two inputs of one sub-topology."""

    def __init__(self) -> None:
        super().__init__("shared")
        self.other = self.app.topic("other", key=str, value=int)
        table = self.app.table("both", key=str, value=int, default=0)

        @self.app.agent(self.other, tables=[table])
        def first(value: int, ctx: kstream.Context[str]) -> None:
            table[ctx.key] += 1

        @self.app.agent(self.source, tables=[table])
        def second(value: int, ctx: kstream.Context[str]) -> None:
            table[ctx.key] += 1


Make = Callable[..., Fleet]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    fleets: list[Fleet] = []

    def made(app: kstream.App, **settings: Any) -> Fleet:
        fleets.append(Fleet(app, tmp_path, **settings))
        return fleets[-1]

    yield made
    for fleet in fleets:
        fleet.close()


def failed(fleet: Fleet) -> dict[str, str]:
    tasks = [task for worker in fleet.workers.values() for task in worker.tasks.values()]
    return {task.name: str(task.error) for task in tasks if task.state is TaskState.FAILED}


def restart(fleet: Fleet, name: str) -> None:
    """Stops it and starts it as a new program would be."""
    fleet.leave(name)
    fleet.partitions = prepare_topics(fleet.topology, MemoryClients(fleet.cluster).admin(), fleet.settings)
    fleet.start(name)
    fleet.step(times=20)


@pytest.mark.parametrize("noticed", [True, False], ids=["by the group", "by the question"])
def test_tasks_with_state_stop_and_nothing_is_counted_elsewhere(make: Make, noticed: bool) -> None:
    counting = Counting()
    fleet = make(counting.app)
    for name in ("a", "b"):
        fleet.start(name)
    fleet.send(counting.source, KEYS)
    fleet.settle()
    fleet.cluster.add_partitions("in", 6, noticed=noticed)
    fleet.step(times=40, seconds=0.3)
    fleet.send(counting.source, KEYS)
    for _ in range(60):
        fleet.step(seconds=0.3)
        assert fleet.outputs(counting.by_dsl) == fleet.outputs(counting.by_agent) == EACH
    said = failed(fleet)
    assert said.keys() == {f"in/{partition}" for partition in range(6 if noticed else 4)}
    (line,) = set(said.values())
    assert "reads in (6 partitions)" in line
    assert "copy in into a topic with 4 partitions" in line


def test_what_was_read_before_anybody_looked_is_not_committed(make: Make) -> None:
    """The producer is the first that knows. Keys were counted anew where they went, for ten seconds."""
    counting = Counting()
    fleet = make(counting.app)
    for name in ("a", "b"):
        fleet.start(name)
    fleet.send(counting.source, KEYS)
    fleet.settle()
    fleet.cluster.add_partitions("in", 6, noticed=False)
    fleet.send(counting.source, KEYS)
    fleet.step(times=60)
    assert fleet.outputs(counting.by_dsl) == fleet.outputs(counting.by_agent) == EACH
    said = failed(fleet)
    assert said and said.keys() <= {f"in/{partition}" for partition in range(4)}
    assert all(
        "reads in (6 partitions), its state has counting-n-changelog (4 partitions)" in line for line in said.values()
    )


def test_what_was_read_of_a_repartition_topic_is_not_committed_either(make: Make) -> None:
    """Its writer is a producer of the app's own: it goes on, and writes into all partitions there are."""
    mixed = Mixed()
    fleet = make(mixed.app)
    fleet.start("a")
    fleet.send(mixed.plain, KEYS, value=7)
    fleet.settle()
    counted = fleet.outputs(mixed.moved)
    fleet.cluster.add_partitions("mixed-by-repartition", 60, noticed=False)
    for value in range(40):
        fleet.send(mixed.plain, KEYS[:1], value=value)
    fleet.step(times=60)
    assert (
        {key: values for key, values in fleet.outputs(mixed.moved).items() if values}
        == counted
        == {"7": list(range(1, 51))}
    )
    assert failed(fleet) and all(task.startswith("mixed-by-repartition/") for task in failed(fleet))
    assert fleet.outputs(mixed.passed)["k0"] == [7, *range(40)]


def test_what_was_read_is_not_committed_on_the_way_out_either(make: Make) -> None:
    """The last commit before partitions leave."""
    counting = Counting()
    fleet = make(counting.app)
    worker = fleet.start("a")
    fleet.send(counting.source, KEYS)
    fleet.settle()
    fleet.cluster.add_partitions("in", 6, noticed=False)
    fleet.send(counting.source, KEYS)
    while not worker.uncommitted:
        fleet.step(seconds=0.01)
    fleet.leave("a")
    assert fleet.outputs(counting.by_dsl) == fleet.outputs(counting.by_agent) == EACH


def test_brokers_that_cannot_be_asked_hold_up_no_commit(make: Make) -> None:
    counting = Counting()
    fleet = make(counting.app)
    fleet.start("a")
    fleet.settle()
    for _ in range(1000):
        fleet.cluster.faults.plan("admin.describe", KafkaUnavailable("away"))
    fleet.send(counting.source, KEYS)
    fleet.step(times=40)
    assert fleet.outputs(counting.by_dsl) == EACH


def test_the_group_may_know_of_partitions_before_the_broker_that_is_asked(make: Make) -> None:
    counting = Counting()
    fleet = make(counting.app)
    worker = fleet.start("a")
    fleet.send(counting.source, KEYS)
    fleet.settle()
    fleet.cluster.add_partitions("in", 6)
    topics = [*CHANGELOGS, "in"]
    before = worker.inputs._admin.describe(topics).result()
    before["in"] = before["in"]._replace(partitions=4)
    worker.inputs._admin.describe = lambda names: _done(before)  # type: ignore[method-assign]
    fleet.send(counting.source, KEYS)
    fleet.step(times=30, seconds=0.3)
    assert len(failed(fleet)) == 6
    assert fleet.outputs(counting.by_dsl) == EACH


def test_parts_without_state_go_on_with_the_new_partitions_also_where_reading_starts_at_the_end(make: Make) -> None:
    mixed = Mixed()
    fleet = make(mixed.app, auto_offset_reset="latest")
    fleet.start("a")
    fleet.settle()
    fleet.send(mixed.plain, KEYS)
    fleet.settle()
    fleet.cluster.add_partitions("plain", 6)
    fleet.send(mixed.plain, KEYS)  # before the new partitions are known to anybody
    fleet.partitions = {**fleet.partitions, "plain": 6}
    fleet.settle()
    assert fleet.outputs(mixed.passed) == {key: [1, 1] for key in KEYS}
    assert fleet.outputs(mixed.moved) == {"1": list(range(1, 101))}
    assert not failed(fleet)


def test_a_repartition_topic_keeps_its_partitions_when_its_writers_input_gets_more(make: Make) -> None:
    mixed = Mixed()
    fleet = make(mixed.app)
    fleet.start("a")
    fleet.settle()
    fleet.cluster.add_partitions("plain", 6)
    fleet.send(mixed.plain, KEYS)
    restart(fleet, "a")
    fleet.settle()
    assert fleet.partitions["mixed-by-repartition"] == 4
    assert not failed(fleet)
    assert fleet.outputs(mixed.moved) == {"1": list(range(1, 51))}


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is stopped"])
def test_a_repartition_topic_that_was_changed_by_hand_stops_what_reads_it(make: Make, running: bool) -> None:
    mixed = Mixed()
    fleet = make(mixed.app)
    fleet.start("a")
    fleet.settle()
    fleet.cluster.add_partitions("mixed-by-repartition", 6)
    if not running:
        restart(fleet, "a")
    fleet.send(mixed.plain, KEYS)
    fleet.step(times=60, seconds=0.3)
    assert failed(fleet).keys() == {f"mixed-by-repartition/{partition}" for partition in range(6)}
    assert fleet.outputs(mixed.passed) == EACH
    assert fleet.outputs(mixed.moved) == {}


def test_one_of_several_inputs_stops_all_tasks_of_the_sub_topology(make: Make) -> None:
    shared = Shared()
    fleet = make(shared.app)
    fleet.start("a")
    fleet.send(shared.source, KEYS)
    fleet.settle()
    fleet.cluster.add_partitions("other", 6)
    fleet.send(shared.source, KEYS)
    fleet.step(times=30, seconds=0.3)
    assert failed(fleet).keys() == {f"in+other/{partition}" for partition in range(4)}
    assert fleet.outputs(shared.by_dsl) == EACH
    with pytest.raises(TopicError, match=r"reads in \(4 partitions\), other \(6 partitions\).*copy other into a topic"):
        prepare_topics(fleet.topology, MemoryClients(fleet.cluster).admin(), fleet.settings)


def test_after_a_restart_the_parts_that_fit_run(make: Make) -> None:
    mixed = Mixed()
    fleet = make(mixed.app)
    fleet.start("a")
    fleet.send(mixed.source, KEYS)
    fleet.settle()
    fleet.cluster.add_partitions("in", 6)
    restart(fleet, "a")
    fleet.send(mixed.source, KEYS)
    fleet.send(mixed.plain, KEYS)
    fleet.step(times=30, seconds=0.3)
    assert failed(fleet).keys() == {f"in/{partition}" for partition in range(6)}
    assert fleet.outputs(mixed.by_dsl) == EACH
    assert fleet.outputs(mixed.passed) == EACH
    assert fleet.outputs(mixed.moved) == {"1": list(range(1, 51))}


def test_partitions_that_are_added_to_a_changelog_are_no_matter_until_a_restart(make: Make) -> None:
    mixed = Mixed()
    fleet = make(mixed.app)
    fleet.start("a")
    fleet.cluster.add_partitions("mixed-n-changelog", 6)
    fleet.send(mixed.source, KEYS)
    fleet.settle()
    assert fleet.outputs(mixed.by_dsl) == EACH
    restart(fleet, "a")
    assert failed(fleet).keys() == {f"in/{partition}" for partition in range(4)}
    assert all("its state has mixed-n-changelog (6 partitions)" in line for line in failed(fleet).values())


def _done(value: Any) -> Any:
    from concurrent.futures import Future

    future: Future[Any] = Future()
    future.set_result(value)
    return future


def test_an_input_without_offsets_stops_its_own_tasks_only_where_that_is_an_error(make: Make) -> None:
    mixed = Mixed()
    fleet = make(mixed.app, auto_offset_reset="error")
    group = fleet.cluster.group(mixed.app.name)
    given = [TopicPartition(topic, number) for topic in ("plain", "mixed-by-repartition") for number in range(4)]
    group.commit(dict.fromkeys(given, 0), {})
    fleet.start("a")
    fleet.send(mixed.plain, KEYS)
    fleet.step(times=30, seconds=0.3)
    assert failed(fleet).keys() == {f"in/{partition}" for partition in range(4)}
    assert all("auto_offset_reset is 'error'" in line for line in failed(fleet).values())
    assert fleet.outputs(mixed.moved) == {"1": list(range(1, 51))}


def test_a_task_whose_changelog_is_gone_fails_and_says_so_and_the_others_run(make: Make) -> None:
    """It was restoring for ever, with a line a second that named no topic."""
    mixed = Mixed()
    fleet = make(mixed.app, restart_jitter=0.0)
    fleet.start("a")
    fleet.send(mixed.source, KEYS)
    fleet.settle()
    fleet.leave("a")
    fleet.cluster.delete_topic("mixed-n-changelog")
    fleet.start("b")
    said: dict[str, str] = {}
    for step in range(20):
        fleet.step(seconds=0.5)
        assert step > 8 or not failed(fleet), "a topic that was just made may be unknown for a moment"
        said |= failed(fleet)
    assert said.keys() == {f"in/{partition}" for partition in range(4)}
    assert said["in/2"].startswith("changelog mixed-n-changelog does not exist any more")
    assert "what task in/2 had in it is gone" in said["in/2"]
    fleet.send(mixed.plain, KEYS)
    fleet.step(times=20, seconds=0.2)
    assert fleet.outputs(mixed.passed) == {key: [1] for key in KEYS}
