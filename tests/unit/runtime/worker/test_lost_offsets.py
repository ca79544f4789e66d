"""What a task's last commit covered, and is gone: the offsets of one of its inputs."""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.runtime.cluster.metadata import Said, encode
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.leftovers import Leftovers
from kstream.state.rocksdb import RocksBackend
from kstream.testing.clients import MemoryAdmin, MemoryClients
from kstream.types import TopicPartition

from ..harness import ROCKS, Fleet

KEYS = [f"k{i}" for i in range(20)]


class Merged:
    """Counts the records of several inputs together; made again with others, it is the same app."""

    def __init__(self, *names: str) -> None:
        self.app = kstream.App("merged")
        self.inputs = {name: self.app.topic(name, key=str, value=int) for name in names}
        self.counts = self.app.topic("counts", key=str, value=int)
        first, *others = (self.app.stream(topic) for topic in self.inputs.values())
        for other in others:
            first = first.merge(other)
        first.group_by_key().count(name="n").to(self.counts)


class Service:
    """The fleet of such an app; the cluster and the state outlive it."""

    def __init__(self, directory: Path, *names: str, **settings: Any) -> None:
        self.directory, self.settings = directory, settings
        self.merged = Merged(*names)
        self.fleet = Fleet(self.merged.app, directory, partitions=2, **settings)

    def run(self, *topics: str) -> None:
        """Writes each key to these inputs, and the app runs until it has processed them, and is stopped."""
        self.fleet.start("a")
        for topic in topics:
            self.send(topic)
        self.fleet.settle()
        self.fleet.leave("a")

    def send(self, topic: str) -> None:
        self.fleet.send(self.merged.inputs[topic], KEYS)

    def change(self, *names: str) -> None:
        """From now on it reads these."""
        before, self.merged = self.fleet, Merged(*names)
        self.fleet = Fleet(self.merged.app, self.directory, partitions=2, **self.settings)
        self.fleet.cluster, self.fleet.clock = before.cluster, before.clock
        self.fleet.partitions = prepare_topics(
            self.fleet.topology, MemoryClients(before.cluster).admin(), self.fleet.settings
        )

    def lose(self, topic: str) -> None:
        """An operator deletes the offsets of an input, or the brokers do, with the topic."""
        offsets = self.fleet.cluster.group("merged").offsets
        for at in [at for at in offsets if at.topic == topic]:
            del offsets[at]

    def make_anew(self, topic: str) -> None:
        config = dict(self.fleet.cluster.topic(topic).config)
        self.fleet.cluster.delete_topic(topic)
        self.fleet.cluster.create_topic(topic, 2, config)

    def start(self, turns: int = 20) -> set[str]:
        """Runs it. Returns what the tasks say that stopped."""
        self.fleet.start("a")
        for _ in range(turns):
            self.fleet.step(seconds=0.3)
        return self.errors()

    def errors(self) -> set[str]:
        tasks = self.fleet.workers["a"].tasks.values()
        return {str(task.error) for task in tasks if task.state is TaskState.FAILED}

    @property
    def counted(self) -> Counter[int]:
        """How many keys have which count."""
        return Counter(values[-1] for values in self.fleet.outputs(self.merged.counts).values())


Make = Callable[..., Service]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Service] = []

    def service(*names: str, **settings: Any) -> Service:
        made.append(Service(tmp_path, *names, **settings))
        return made[-1]

    yield service
    for one in made:
        one.fleet.close()


# ---- offsets of one of several inputs


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("lost", ["one", "two"])
def test_the_offsets_of_one_of_two_inputs_are_gone(make: Make, lost: str, anew: bool) -> None:
    """It was read from its start, and each record counted twice."""
    service = make("one", "two")
    service.run("one", "two")
    service.lose(lost)
    if anew:
        service.make_anew(lost)
        service.send(lost)
    said = service.start()
    assert len(said) == 2, "each names its partition"
    assert all(text.startswith("state without offsets: ") for text in said), said
    assert all(f"no committed offsets for {lost}[" in text and "lost_offsets" in text for text in said), said
    assert service.counted == {2: 20}


@pytest.mark.parametrize("lost", ["ab", "c", "e"])
def test_some_of_many_inputs_know_of_all(make: Make, lost: str) -> None:
    """A commit of many inputs must not grow with the square of their number: brokers take a megabyte of it."""
    service = make(*"abcde")
    service.run(*"abcde")
    offsets = service.fleet.cluster.group("merged").offsets
    known = {at.topic for at, entry in offsets.items() if '"in"' in str(entry)}
    assert known == {"a", "b", "c"}
    for topic in lost:
        service.lose(topic)
    said = service.start()
    assert len(said) == 2 and all(f"no committed offsets for {lost[0]}[" in text for text in said), said


@pytest.mark.parametrize("settings", [{"lost_offsets": "continue"}, {"processing_guarantee": "at_least_once"}])
def test_it_goes_on_without_them_where_that_is_wanted(make: Make, settings: dict[str, Any]) -> None:
    service = make("one", "two", **settings)
    service.run("one", "two")
    service.lose("two")
    assert service.start() == set()
    service.fleet.settle()
    assert service.counted == {3: 20}
    service.fleet.leave("a")
    service.run("one")
    assert service.counted == {4: 20}, "the offsets of both are committed again"


@pytest.mark.parametrize("crash", [False, True])
def test_an_input_that_the_app_did_not_read_before_has_no_offsets_to_lose(make: Make, crash: bool) -> None:
    from kstream.errors import ProducerLost

    service = make("one")
    service.run("one")
    service.change("one", "two")
    service.send("two")
    if crash:
        service.fleet.cluster.fail_next("commit", ProducerLost("planned"))
    assert service.start() == set()
    service.fleet.settle()
    assert service.counted == {2: 20}
    service.fleet.leave("a")
    service.lose("two")
    assert len(service.start()) == 2, "from its first commit on it has"


def test_an_input_that_is_read_again_begins_where_it_was_left(make: Make) -> None:
    service = make("one", "two")
    service.run("one", "two")
    service.change("one")
    service.run("one")
    service.change("one", "two")
    service.run("two")
    assert service.counted == {4: 20}


def test_the_offsets_of_an_input_that_was_not_read_any_more_may_expire(make: Make) -> None:
    service = make("one", "two")
    service.run("one", "two")
    service.change("one")
    service.run("one")
    service.lose("two")
    service.change("one", "two")
    assert service.start() == set(), "the last commit was without it: where it begins, auto_offset_reset says"


def test_a_task_without_state_has_nothing_that_counts_twice(tmp_path: Path) -> None:
    app = kstream.App("plain")
    one, two, out = (app.topic(name, key=str, value=int) for name in ("one", "two", "out"))
    app.stream(one).merge(app.stream(two)).to(out)
    fleet = Fleet(app, tmp_path, partitions=2)
    fleet.start("a")
    fleet.send(one, KEYS)
    fleet.send(two, KEYS)
    fleet.settle()
    fleet.leave("a")
    offsets = fleet.cluster.group("plain").offsets
    for at in [at for at in offsets if at.topic == "two"]:
        del offsets[at]
    fleet.start("a")
    fleet.settle()
    assert Counter(len(values) for values in fleet.outputs(out).values()) == {3: 20}
    fleet.close()


# ---- an input that is made anew while it is read


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("state", [True, False])
def test_nothing_of_a_topic_made_anew_is_committed_for_the_old_one(tmp_path: Path, state: bool, guarantee: str) -> None:
    """The new topic is longer than the old one by then: reading goes on at the old offset, and what lies before was
    skipped. Only after ten seconds of commits the task stopped."""
    app = kstream.App("anew")
    source, out = (app.topic(name, key=str, value=int) for name in ("in", "out"))
    stream = app.stream(source)
    (stream.group_by_key().count(name="n") if state else stream).to(out)
    fleet = Fleet(app, tmp_path, partitions=2, processing_guarantee=guarantee)
    fleet.start("a")
    fleet.send(source, KEYS)
    fleet.settle()
    committed, outputs = fleet.committed("in"), fleet.outputs(out)
    fleet.cluster.delete_topic("in")
    fleet.cluster.create_topic("in", 2)
    fleet.send(source, KEYS * 5)
    for _ in range(30):
        fleet.step(seconds=0.1)
    tasks = fleet.workers["a"].tasks.values()
    said = {str(task.error)[:40] for task in tasks if task.state is TaskState.FAILED}
    assert said == {"topic in was deleted and created again ("[:40]}
    assert fleet.committed("in") == committed
    if guarantee == "exactly_once":  # else what was sent cannot be taken back
        assert fleet.outputs(out) == outputs
    fleet.leave("a")
    fleet.settings = replace(fleet.settings, lost_offsets="continue")
    fleet.start("a")
    fleet.settle()
    if guarantee == "exactly_once":
        wanted = Counter({6: 20})
        assert Counter(values[-1] if state else len(values) for values in fleet.outputs(out).values()) == wanted
    fleet.close()


# ---- changelogs


def entries_in(directory: Path) -> int:
    """How many keys lie in the local state of workers that are stopped."""
    found = 0
    for current in directory.rglob("CURRENT"):
        backend = RocksBackend(current.parent, ["n"], ROCKS)
        found += sum(1 for _ in backend.scan("n"))
        backend.close()
    return found


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_a_changelog_that_was_made_anew_stops_the_task_and_its_local_state_is_kept(
    make: Make, tmp_path: Path, guarantee: str, other: bool
) -> None:
    """It was taken for the truth: the local state, the only copy left, was emptied, and all was counted from 0."""
    service = make("one", "two", processing_guarantee=guarantee)
    service.fleet.backend = "rocksdb"
    service.run("one", "two")
    service.make_anew("merged-n-changelog")
    if other:  # the new one may have something by then
        service.fleet.cluster.append("merged-n-changelog", b"k0", b"7", partition=0)
    for _ in range(2):
        said = service.start()
        assert len(said) == 2
        assert all("changelog merged-n-changelog was deleted and created again" in text for text in said), said
        assert all("kstream reset" in text and "lost_offsets" in text for text in said), said
        service.fleet.leave("a")
    assert entries_in(tmp_path) == len(KEYS)
    assert service.counted == {2: 20}


def test_it_stops_a_task_that_has_no_local_state_too(make: Make) -> None:
    service = make("one")
    service.run("one")
    service.make_anew("merged-n-changelog")
    assert len(service.start()) == 2, "the memory backend has nothing of its own"


def test_a_changelog_that_is_made_anew_while_the_app_runs_stops_the_task(make: Make) -> None:
    """What is written from then on would be all that a restore finds."""
    service = make("one")
    service.fleet.start("a")
    service.send("one")
    service.fleet.settle()
    service.make_anew("merged-n-changelog")
    for _ in range(40):
        service.fleet.step(seconds=0.3)
    assert {text[:38] for text in service.errors()} == {"changelog merged-n-changelog was delet"}
    service.fleet.leave("a")
    assert len(service.start()) == 2, "and so it does after a restart"


def test_with_the_setting_a_store_begins_with_what_its_new_changelog_has(make: Make) -> None:
    service = make("one", lost_offsets="continue")
    service.run("one")
    service.make_anew("merged-n-changelog")
    service.run("one")
    assert service.counted == {1: 20}
    service.fleet.settings = replace(service.fleet.settings, lost_offsets="stop")
    service.run("one")
    assert service.counted == {2: 20}, "the new one is what the last commit knows"


def test_a_store_that_the_app_did_not_have_before_has_an_empty_changelog_rightly(tmp_path: Path) -> None:
    def app(*stores: str) -> Fleet:
        app = kstream.App("grown")
        source = app.topic("in", key=str, value=int)
        for store in stores:
            app.stream(source).group_by_key().count(name=store).to(app.topic(f"out-{store}", key=str, value=int))
        return Fleet(app, tmp_path, partitions=2)

    first = app("n")
    first.start("a")
    first.cluster.append("in", b"k", b"1")
    first.settle()
    first.leave("a")
    second = app("n", "m")
    second.cluster, second.clock = first.cluster, first.clock
    second.partitions = prepare_topics(second.topology, MemoryClients(first.cluster).admin(), second.settings)
    second.start("a")
    second.cluster.append("in", b"k", b"1")
    second.settle()
    assert all(task.state is TaskState.RUNNING for task in second.workers["a"].tasks.values())
    assert [int(value) for value in second.stores("n").values()] == [2]
    assert [int(value) for value in second.stores("m").values()] == [1]
    first.close()
    second.close()


# ---- what is committed once it goes on


@pytest.mark.parametrize("lost", ["two", "merged-n-changelog"])
def test_a_task_that_goes_on_without_commits_what_holds_now(make: Make, lost: str) -> None:
    """An idle one did not: back at lost_offsets=stop it stopped, for what had been given up long ago."""
    service = make("one", "two", lost_offsets="continue")
    service.run("one", "two")
    service.lose(lost)
    service.make_anew(lost)
    assert service.start() == set()
    service.fleet.leave("a")
    service.fleet.settings = replace(service.fleet.settings, lost_offsets="stop")
    assert service.start() == set()


def test_an_old_offset_of_an_input_that_is_read_again_is_not_the_last_commit(make: Make) -> None:
    """Another tool had set the others, so numbers began at 1, below what the old one had."""
    service = make("one", "two")
    for _ in range(4):
        service.run("one", "two")
    service.change("one")
    service.run("one")
    offsets = service.fleet.cluster.group("merged").offsets
    for at, (offset, _) in list(offsets.items()):
        if at.topic == "one":
            offsets[at] = (offset, "")
    service.make_anew("merged-n-changelog")  # as an import does, which takes the note away
    service.run("one")
    service.run("one")
    service.change("one", "two")
    assert service.start() == set()


# ---- a part without state, before a repartition


class Regrouped:
    """Two inputs, one of them by itself, are counted behind a repartition; with `chained`, behind two."""

    def __init__(self, directory: Path, *, merged: bool, chained: bool, **settings: Any) -> None:
        self.app = kstream.App("regrouped")
        names = ("one", "two") if merged else ("one",)
        self.inputs = [self.app.topic(name, key=str, value=int) for name in names]
        first, *others = map(self.app.stream, self.inputs)
        for other in others:
            first = first.merge(other)
        if chained:
            first = first.repartition(name="first")
        self.out = self.app.topic("out", key=str, value=int)
        first.group_by(str, key=str, name="g").count(name="c").to(self.out)
        self.fleet = Fleet(self.app, directory, partitions=2, **settings)
        self.fleet.start("a")
        for topic in self.inputs:
            self.fleet.send(topic, KEYS)
        self.fleet.settle()

    def restart_without(self, *topics: str) -> set[str]:
        self.fleet.leave("a")
        offsets = self.fleet.cluster.group("regrouped").offsets
        for at in [at for at in offsets if at.topic in topics]:
            del offsets[at]
        self.fleet.start("a")
        for _ in range(20):
            self.fleet.step(seconds=0.3)
        tasks = self.fleet.workers["a"].tasks.values()
        return {str(task.error)[:13] for task in tasks if task.state is TaskState.FAILED}

    @property
    def counted(self) -> int:
        return self.fleet.outputs(self.out)["1"][-1]


@pytest.mark.parametrize(("chained", "merged", "lost"), [
    (False, False, ["one"]), (False, True, ["one"]), (False, True, ["one", "two"]), (True, False, ["one"]),
])  # fmt: skip
def test_what_goes_into_a_repartition_without_state_is_not_counted_twice(
    tmp_path: Path, chained: bool, merged: bool, lost: list[str]
) -> None:
    """It had nothing that could tell: it was read from its start, and written to the repartition topic once more."""
    service = Regrouped(tmp_path, merged=merged, chained=chained)
    right = service.counted
    assert service.restart_without(*lost) == {"lost offsets:"}
    assert service.counted == right == 20 * len(service.inputs)
    service.fleet.close()


@pytest.mark.parametrize("settings", [{"lost_offsets": "continue"}, {"processing_guarantee": "at_least_once"}])
def test_it_is_where_that_is_wanted(tmp_path: Path, settings: dict[str, Any]) -> None:
    service = Regrouped(tmp_path, merged=False, chained=False, **settings)
    assert service.restart_without("one") == set()
    service.fleet.settle()
    assert service.counted == 40
    service.fleet.close()


@pytest.mark.parametrize("how", ["one partition", "crash", "both"])
def test_a_part_that_begins_has_lost_nothing(tmp_path: Path, how: str) -> None:
    """A partition that has had no records has no offset; a crash in the first commit leaves none."""
    from kstream.errors import ProducerLost

    app = kstream.App("regrouped")
    source, out = (app.topic(name, key=str, value=int) for name in ("in", "out"))
    app.stream(source).group_by(str, key=str, name="g").count(name="c").to(out)
    fleet = Fleet(app, tmp_path, partitions=2)
    if how != "one partition":
        fleet.cluster.fail_next("commit", ProducerLost("planned"))
    fleet.start("a")
    fleet.send(source, KEYS if how == "crash" else ["k0"])
    fleet.settle()
    fleet.leave("a")
    fleet.start("a")
    fleet.send(source, KEYS)
    fleet.settle()
    assert fleet.outputs(out)["1"][-1] == (40 if how == "crash" else 21)
    fleet.close()


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("came", [False, True])
def test_an_input_that_is_made_anew_before_any_record_came_has_lost_nothing(
    tmp_path: Path, came: bool, kept: bool, runs: bool
) -> None:
    """What was read behind it were marks of time, by which idle tasks say that they are. They were taken for records,
    and the app had to be reset.

    kept: the offsets are there still: brokers delete them with the topic, sooner or later.
    """
    app = kstream.App("timed")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=kstream.Windowed[str], value=int)
    by_key = app.stream(source).group_by(str, key=str, name="g")
    by_key.window(kstream.Tumbling(timedelta(seconds=1)), grace=timedelta(0)).count(name="c").to(out)
    fleet = Fleet(app, tmp_path, partitions=2)
    fleet.start("a")
    if came:
        fleet.send(source, ["k0"])
    fleet.step(times=60, seconds=0.5)
    assert any(fleet.committed("timed-g-repartition").values())
    if not runs:
        fleet.leave("a")
    fleet.cluster.delete_topic("in")
    fleet.cluster.create_topic("in", 2)
    offsets = fleet.cluster.group("timed").offsets
    for at in [at for at in offsets if at.topic == "in" and not kept]:
        del offsets[at]
    if not runs:
        fleet.start("a")
    fleet.step(times=60, seconds=0.5)
    fleet.send(source, KEYS)
    fleet.step(times=60, seconds=0.5)
    failed = [str(task.error) for task in fleet.workers["a"].tasks.values() if task.state is TaskState.FAILED]
    if came:  # one partition has had it
        wanted = ["topic in was deleted"] if kept else ["lost offsets: group "] * 2
        assert len(failed) == len(wanted), failed
        assert all(one in line for one, line in zip(wanted, failed, strict=True)), failed
    else:
        assert not failed and [counts[-1] for counts in fleet.outputs(out).values()] == [20]
    fleet.close()


def test_what_lies_behind_is_asked_once_for_all_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each task asked for all partitions: 500,000 offsets where there are 500 of them."""
    asked: list[int] = []
    real = MemoryAdmin.committed

    def committed(self: MemoryAdmin, group: str, partitions: Any, **how: Any) -> Any:
        asked.append(len(partitions))
        return real(self, group, partitions, **how)

    fleet, source, _ = grouped(tmp_path, 20)
    fleet.start("a")
    fleet.send(source, ["k0"])
    fleet.settle()
    fleet.leave("a")
    monkeypatch.setattr(MemoryAdmin, "committed", committed)
    fleet.start("a")
    fleet.settle()
    assert sum(asked) <= 5 * 20, "its own inputs twice, and once what lies behind"
    fleet.close()


def test_offsets_that_another_tool_has_set_are_committed_as_this_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle tasks never did. Nothing said that nobody else had had them, so each rebalance restored them in full."""
    ends: list[Any] = []
    real = MemoryAdmin.end_offsets
    fleet, source, out = grouped(tmp_path, 1)
    fleet.start("a")
    fleet.send(source, KEYS)
    fleet.settle()
    counted = fleet.outputs(out)
    fleet.leave("a")
    offsets = fleet.cluster.group("regrouped").offsets
    for at, (offset, _) in list(offsets.items()):
        offsets[at] = (offset, "")
    fleet.start("a")
    fleet.settle()
    assert all(text for _, text in offsets.values())
    monkeypatch.setattr(MemoryAdmin, "end_offsets", lambda self, at: ends.append(at) or real(self, at))
    fleet.start("b")  # the only partition stays with "a"
    fleet.settle("a")
    assert not [at for at in ends if any(one.topic == "regrouped-c-changelog" for one in at)]
    assert fleet.outputs(out) == counted
    fleet.close()


# ---- commits that follow each other at once


def grouped(tmp_path: Path, partitions: int, group: str | None = None) -> tuple[Fleet, Any, Any]:
    app = kstream.App("regrouped")
    source, out = (app.topic(name, key=str, value=int) for name in ("in", "out"))
    numbers = app.stream(source).repartition(name="g", group=group)
    numbers.group_by_key().count(name="c").to(out)
    return Fleet(app, tmp_path, partitions=partitions), source, out


def test_a_commit_of_another_that_is_pending_holds_up_no_task_without_offsets(tmp_path: Path) -> None:
    """It asks for what all partitions have committed, and one of many workers commits at nearly every moment."""
    fleet, source, _ = grouped(tmp_path, 2)
    worker = fleet.start("a")
    fleet.settle()
    fleet.send(source, ["k0"])

    def dies(*_: Any) -> None:
        raise SystemExit

    worker.transaction.commit = dies  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        fleet.step(times=40, seconds=0.1)
    (pending,) = {task for task in ("in/0", "in/1") if worker.tasks[task].touched}
    fleet.crash("a")
    fleet.expire("a")
    other = fleet.start("b")
    fleet.step(times=20, seconds=0.1)
    assert {name for name, task in other.tasks.items() if task.state is not TaskState.RUNNING} == {pending}
    fleet.cluster.time_out_transaction(fleet.identity("a").member)
    fleet.settle()
    fleet.close()


def test_partitions_that_were_added_meanwhile_have_lost_nothing(tmp_path: Path) -> None:
    fleet, source, _ = grouped(tmp_path, 1)
    fleet.start("a")
    fleet.settle()
    fleet.cluster.add_partitions(source.name, 4)
    fleet.step(times=60, seconds=0.3)
    for number in (1, 2, 3):
        fleet.cluster.append(source.name, b"k", b"1", partition=number)
    fleet.step(times=60, seconds=0.3)
    fleet.start("b")
    fleet.step(times=60, seconds=0.3)
    fleet.leave("b")
    fleet.step(times=60, seconds=0.3)
    assert {name: task.error for name, task in fleet.workers["a"].tasks.items()} == dict.fromkeys(
        ("in/0", "in/1", "in/2", "in/3", "regrouped-g-repartition/0")
    )
    fleet.close()


@pytest.mark.parametrize("denied", [False, True])
def test_who_reads_in_an_isolation_group_of_its_own_tells_too(
    tmp_path: Path, denied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this user may not look at that group, nothing is known, and the task goes on."""
    from kstream.errors import KafkaUnavailable
    from kstream.runtime.cluster.naming import consumer_group
    from kstream.testing.groups import Group

    fleet, source, out = grouped(tmp_path, 2, group="x")

    def begin() -> None:
        for group in fleet.topology.groups:
            fleet.start_group(group)

    begin()
    fleet.send(source, KEYS)
    fleet.step(times=60, seconds=0.3)
    right = sum(counts[-1] for counts in fleet.outputs(out).values())
    fleet.stop_groups()
    offsets = fleet.cluster.group(consumer_group("regrouped", "default")).offsets
    for at in [at for at in offsets if at.topic == source.name]:
        del offsets[at]
    if denied:
        ask = Group.committed

        def refuses(self: Group, partitions: Any, *, stable: bool = True) -> Any:
            if self.name == consumer_group("regrouped", "x") and any(at.topic == source.name for at in partitions):
                raise AssertionError("the inputs are not that group's")
            if self.name == consumer_group("regrouped", "x") and not stable:
                raise KafkaUnavailable("GROUP_AUTHORIZATION_FAILED")
            return ask(self, partitions, stable=stable)

        monkeypatch.setattr(Group, "committed", refuses)
    begin()
    fleet.step(times=60, seconds=0.3)
    states = {
        task.state for worker in fleet.workers.values() for name, task in worker.tasks.items() if name[:2] == "in"
    }
    assert states == ({TaskState.RUNNING} if denied else {TaskState.FAILED})
    assert (sum(counts[-1] for counts in fleet.outputs(out).values()) == right) is not denied
    fleet.close()


def test_commits_a_few_milliseconds_apart_are_confirmed_each(tmp_path: Path) -> None:
    """One in 0.1 s was: of two the second committed offsets of a topic that was made anew in between."""
    app = kstream.App("anew")
    source, out = (app.topic(name, key=str, value=int) for name in ("in", "out"))
    app.stream(source).to(out)
    fleet = Fleet(app, tmp_path, partitions=2, commit_interval=0.05)
    fleet.start("a")
    fleet.send(source, KEYS)
    fleet.settle()
    fleet.send(source, ["k0", "k3"])
    fleet.step(times=6, seconds=0.02)
    committed, outputs = fleet.committed("in"), fleet.outputs(out)
    fleet.cluster.delete_topic("in")
    fleet.cluster.create_topic("in", 2)
    fleet.send(source, KEYS * 5)
    fleet.step(times=60, seconds=0.02)
    assert {task.state for task in fleet.workers["a"].tasks.values()} == {TaskState.FAILED}
    assert (fleet.committed("in"), fleet.outputs(out)) == (committed, outputs)
    fleet.close()


def test_commits_do_not_wait_for_brokers_that_never_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a controller each commit waited a second, and asked once more."""
    from concurrent.futures import Future

    from kstream.runtime.worker import inputs

    app = kstream.App("slow")
    source, out = (app.topic(name, key=str, value=int) for name in ("in", "out"))
    app.stream(source).to(out)
    fleet = Fleet(app, tmp_path, partitions=2)
    worker = fleet.start("a")
    fleet.settle()
    monkeypatch.setattr(inputs, "CONFIRM_SECONDS", 0.01)
    asked: list[object] = []
    silent: Future[Any] = Future()
    monkeypatch.setattr(worker.inputs._admin, "describe", lambda names: asked.append(names) or silent)
    before = worker.commits
    for _ in range(3):
        fleet.send(source, KEYS)
        fleet.settle()
    assert worker.commits - before == 3
    assert asked.count(["in"]) == 1
    fleet.close()


# ---- the only copy


@pytest.mark.parametrize("anew", ["deleted", "made anew", "no", "given up"])
def test_the_only_copy_is_not_cleaned_up(make: Make, tmp_path: Path, anew: str) -> None:
    """A changelog was deleted, and local state that was not used since went with state_cleanup_delay."""
    service = make("one", state_cleanup_delay=120.0)
    fleet = service.fleet
    fleet.backend = "rocksdb"
    service.run("one")
    fleet.start("a")
    fleet.settle()
    kept = [one for one in fleet.workers["a"].directory.glob("one/*") if one.is_dir()]
    assert len(kept) == 2
    fleet.leave("a")
    if anew == "deleted":
        fleet.cluster.delete_topic("merged-n-changelog")
    elif anew != "no":
        service.make_anew("merged-n-changelog")
    if anew == "given up":
        fleet.settings = replace(fleet.settings, lost_offsets="continue")
    fleet.settings = replace(fleet.settings, state_dir=str(tmp_path / "other-host"))
    fleet.start("b")
    for _ in range(10):
        fleet.step(seconds=0.3)
    housekeeping = fleet.workers["b"]._housekeeping
    housekeeping._directory = kept[0].parent.parent
    for one in kept:
        for file in one.iterdir():
            os.utime(file, (fleet.clock.time() - 10, fleet.clock.time() - 10))
    fleet.clock.advance(500)
    housekeeping.step({})
    housekeeping.step({})
    assert [one.exists() for one in kept] == [anew in ("deleted", "made anew")] * 2


@pytest.mark.parametrize("what", ["moved", "quiet", "not yet", "one goes by the old one"])
def test_the_state_of_a_partition_that_a_rescale_took_away_is_cleaned_up(make: Make, tmp_path: Path, what: str) -> None:
    """It was kept for ever as what may be the only copy, since its own task can never commit again."""
    service = make("one", state_cleanup_delay=120.0)
    fleet = service.fleet
    fleet.backend = "rocksdb"
    service.run("one")
    fleet.start("a")
    fleet.settle()
    gone = next(fleet.workers["a"].directory.glob("one/1"))
    fleet.leave("a")
    offsets = fleet.cluster.group("merged").offsets
    before = dict(offsets)
    offsets.clear()
    for topic in ("one", "merged-n-changelog"):  # as a restore of a savepoint with another number does
        config = dict(fleet.cluster.topic(topic).config)
        fleet.cluster.delete_topic(topic)
        fleet.cluster.create_topic(topic, 1, config)
    service.change("one")
    fleet = service.fleet
    fleet.settings = replace(fleet.settings, state_dir=str(tmp_path / "other-host"), lost_offsets="continue")
    if what == "quiet":
        offsets[TopicPartition("one", 0)] = 0, encode(Said(commit=7))
    fleet.start("b")
    for _ in range(10):
        fleet.step(seconds=0.3)
    if what not in ("not yet", "quiet"):
        fleet.cluster.append("one", b"k0", b"1")
        fleet.settle()
    if what == "one goes by the old one":
        offsets.update({at: entry for at, entry in before.items() if at.partition == 0})
    leftovers = Leftovers(fleet.topology, MemoryClients(fleet.cluster).admin())
    leftovers.ask([gone])
    assert leftovers.answered() == ([gone] if what in ("moved", "quiet") else [])


def test_without_file_descriptors_no_copy_is_taken_for_damaged(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was deleted as damaged, and may be the only one."""
    service = make("one")
    fleet = service.fleet
    fleet.backend = "rocksdb"
    service.run("one")
    kept = next(Path(fleet.settings.state_dir).glob("*/one/1"))
    service.make_anew("merged-n-changelog")
    leftovers = Leftovers(fleet.topology, MemoryClients(fleet.cluster).admin())
    with no_descriptors():
        leftovers.ask([kept])
        assert leftovers.answered() == []
    assert "Too many open files" in caplog.text
    leftovers.ask([kept])
    assert leftovers.answered() == [], "it is sound, and its changelog is gone"
    for file in kept.glob("*.sst"):
        file.unlink()
    os.utime(kept / "CURRENT", (2e9, 2e9))
    leftovers.ask([kept])
    assert leftovers.answered() == [kept], "damaged"


@contextmanager
def no_descriptors() -> Iterator[None]:
    """The process has none left but a few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    held: list[int] = []
    try:
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            os.close(held.pop())  # for the directory
        yield
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
