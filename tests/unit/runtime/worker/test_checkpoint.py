"""The checkpoint alone, on a real task and the clients in memory: the order of its steps, and what each failure raises
and leaves behind. tests/faults kills a real worker around the same steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.config import Settings
from kstream.errors import (
    AbortRequired,
    InstanceFenced,
    KafkaUnavailable,
    ProducerLost,
    StateError,
    StateTooLarge,
)
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.task.context import Worker
from kstream.runtime.task.failures import StateDamaged, TaskFailed
from kstream.runtime.task.measures import Measures
from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task
from kstream.runtime.worker.assembly import TaskMaker, WorkerParts
from kstream.runtime.worker.checkpoint import checkpoint, send_offsets
from kstream.runtime.worker.opening import Opening
from kstream.runtime.worker.states import TransactionState
from kstream.runtime.worker.transaction import Transaction
from kstream.state.backend import Changes, Mark
from kstream.state.changelog import Changelog
from kstream.state.memory import MemoryBackend
from kstream.testing import ManualClock, MemoryCluster
from kstream.testing.clients import MemoryClients
from kstream.types import TopicPartition

PARTITIONS = 2


class ObservedBackend(MemoryBackend):
    """Notes its writes; raises `error` instead of one, when there is one."""

    def __init__(self, stores: Sequence[str], notes: list[str]) -> None:
        super().__init__(stores)
        self.notes = notes
        self.error: Exception | None = None

    def write(self, changes: Mapping[str, Changes], marks: Mapping[str, Mark]) -> None:
        self.notes.append("state")
        if self.error is not None:
            raise self.error
        super().write(changes, marks)


class ObservedTransaction(Transaction):
    """Notes the calls of a checkpoint."""

    notes: list[str]

    def send_offsets(
        self, offsets: Mapping[TopicPartition, int], group: object, metadata: Mapping[TopicPartition, str]
    ) -> None:
        self.notes.append("offsets")
        super().send_offsets(offsets, group, metadata)

    def commit(self) -> None:
        self.notes.append("commit")
        super().commit()


class ObservedChangelog(Changelog):
    notes: list[str]

    def write(self, changes: Any, transaction: Any) -> None:
        self.notes.append("changelog")
        super().write(changes, transaction)


class Member:
    """A member of the group: what a checkpoint needs of it, and what a rebalance asks of it."""

    def __init__(self, clients: MemoryClients, identity: Identity, topics: Sequence[str], notes: list[str]) -> None:
        self.notes = notes
        self.consumer = clients.consumer(identity.group, identity.member)
        self.consumer.subscribe(topics, self)
        self.owned: list[TopicPartition] = []

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.owned = list(partitions)
        return dict.fromkeys(partitions, 0)

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.owned = []

    lost = revoked

    def metadata(self) -> object:
        return self.consumer.group_metadata()

    def commit(self, offsets: dict[TopicPartition, int], metadata: dict[TopicPartition, str]) -> None:
        self.notes.append("offsets")
        self.consumer.commit(offsets, {})


class Bench:
    """The tasks of an app that numbers the records of each key, `PARTITIONS` of them, and one checkpoint at a time.

    `notes` has the steps of the last checkpoint in their order.
    """

    def __init__(self, directory: Path, *, exactly_once: bool = True, value: Any = int) -> None:
        app = kstream.App("app")
        self.source = app.topic("in", key=str, value=int)
        self.out = app.topic("out", key=str, value=value)
        app.stream(self.source).group_by_key().aggregate(
            int, lambda total, n: total + n, value=value, name="sums", emit="commit"
        ).to(self.out)
        self.clock, self.notes, self.identity = ManualClock(), list[str](), Identity("app", "i", 0)
        self.cluster = MemoryCluster(self.clock)
        clients, settings = MemoryClients(self.cluster), Settings(default_partitions=PARTITIONS)
        prepare_topics(app.topology(), clients.admin(), settings)
        self.loop = asyncio.new_event_loop()
        self.transaction = ObservedTransaction(clients, self.identity.member if exactly_once else None, timeout=1.0)
        self.transaction.notes = self.notes
        self.transaction.start()
        parts = WorkerParts(
            topology=app.topology(),
            partitions={"in": PARTITIONS, "out": PARTITIONS},
            settings=settings,
            identity=self.identity,
            clients=clients,
            clock=self.clock,
            backends=lambda directory, stores: ObservedBackend(stores, self.notes),
            verify=True,
        )
        (self.part,) = parts.topology.parts
        self.member = Member(clients, self.identity, self.part.topics, self.notes)
        measures = Measures(parts.topology.parts, 0.0, 0.0)
        maker = TaskMaker(parts, Worker(self.identity), self.transaction, self.loop, measures, {})
        self.tasks = [maker.make(self.part, partition, PARTITIONS) for partition in range(PARTITIONS)]
        opening = Opening(Path(settings.state_dir), self.identity.member, parts.backends, self.clock)
        assert all(map(opening.open, self.tasks))
        self.changelogs: dict[str, ObservedChangelog] = {}
        while not self.member.owned:
            self.member.consumer.poll(10, 0.0)
        self.member.consumer.resume(self.member.owned)
        for task in self.tasks:
            task.start_from(dict.fromkeys(task.inputs, 0))
            task.go(TaskState.RESTORING)
            task.go(TaskState.RUNNING)

    def process(self, *values: int, partition: int = 0) -> None:
        """These values of key "k" go through the partition's task; nothing is committed."""
        task = self.tasks[partition]
        for value in values:
            self.cluster.append("in", b"k", b"%d" % value, partition=partition)
        while fetches := self.member.consumer.poll(100, 0.0).fetches:
            for fetch in fetches:
                task.add(fetch)
        self.transaction.begin()
        while task.buffered:
            task.run(self.clock.monotonic() + 1.0)

    def changelog(self, task: Task, store: str) -> Changelog:
        if task.name not in self.changelogs:
            made = ObservedChangelog(f"app-{store}-changelog", task.partition, task.stores[store].spec)
            made.notes = self.notes
            self.changelogs[task.name] = made
        return self.changelogs[task.name]

    def drain(self, tasks: Sequence[Task]) -> None:
        self.notes.append("drain")

    def confirm(self, tasks: Sequence[Task]) -> None:
        self.notes.append("confirm")

    def checkpoint(self) -> int:
        self.notes.clear()
        return checkpoint(
            self.tasks, self.changelog, self.transaction, self.member, self.clock, self.drain, self.confirm
        )

    def sums(self) -> list[int]:
        """What was committed of the output."""
        return [int(record.value or b"") for record in self.cluster.records("out")]

    def changelog_values(self) -> list[bytes | None]:
        return [record.value for record in self.cluster.records("app-sums-changelog")]

    def offsets(self) -> dict[int, int]:
        """The group's committed offsets by partition, where there are any."""
        committed = self.cluster.group(self.identity.group).offsets
        return {at.partition: offset for at, (offset, _) in sorted(committed.items()) if offset}

    def stored(self, partition: int = 0) -> dict[bytes, bytes]:
        return dict(self.tasks[partition].backend.scan("sums"))

    def backend(self, partition: int = 0) -> ObservedBackend:
        backend = self.tasks[partition].backend
        assert isinstance(backend, ObservedBackend)
        return backend

    def close(self) -> None:
        for task in self.tasks:
            task.close()
        self.transaction.discard()
        self.member.consumer.close()
        self.loop.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**how: Any) -> Bench:
        made.append(Bench(tmp_path, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


# ---- the order


def test_the_steps_of_exactly_once(bench: Callable[..., Bench]) -> None:
    """Changelogs and offsets are in the transaction before it is committed; local state follows, never leads."""
    one = bench()
    one.process(3, 4)
    assert one.checkpoint() == 1
    assert one.notes == ["drain", "changelog", "offsets", "confirm", "commit", "state"]
    assert one.sums() == [7]
    assert one.changelog_values() == [b"7"]
    assert one.offsets() == {0: 2}
    assert one.stored() == {b"k": b"7"}
    assert one.transaction.state is TransactionState.IDLE


def test_the_steps_of_at_least_once(bench: Callable[..., Bench]) -> None:
    """Offsets come last: whatever is lost before is done again."""
    one = bench(exactly_once=False)
    one.process(3, 4)
    assert one.checkpoint() == 1
    assert one.notes == ["drain", "changelog", "confirm", "commit", "state", "offsets"]
    assert (one.sums(), one.offsets(), one.stored()) == ([7], {0: 2}, {b"k": b"7"})


def test_all_tasks_that_did_something_go_into_one_transaction(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.process(1)
    one.process(2, 3, partition=1)
    assert one.checkpoint() == 2
    assert one.notes == ["drain", "changelog", "changelog", "offsets", "confirm", "commit", "state", "state"]
    assert one.offsets() == {0: 1, 1: 2}
    assert (one.stored(0), one.stored(1)) == ({b"k": b"1"}, {b"k": b"5"})


def test_a_task_that_did_nothing_is_left_out_and_without_any_nothing_is_called(bench: Callable[..., Bench]) -> None:
    one = bench()
    assert one.checkpoint() == 0
    assert one.notes == []
    one.process(1, partition=1)
    assert one.checkpoint() == 1
    assert one.offsets() == {1: 1}
    assert not any(task.touched for task in one.tasks)
    assert one.checkpoint() == 0
    assert one.notes == []


def test_the_mark_says_how_far_the_changelog_is_in_the_state(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.process(1)
    one.checkpoint()
    end = one.cluster.log(TopicPartition("app-sums-changelog", 0)).end
    mark = one.backend().mark("sums")
    assert mark is not None
    assert (mark.offset, mark.wall_time) == (end - 1, one.clock.time())  # the transaction's marker follows it


# ---- what fails


@pytest.mark.parametrize("error", [AbortRequired, ProducerLost, InstanceFenced])
@pytest.mark.parametrize(
    ("call", "skip", "steps"),
    [
        ("produce", 0, []),  # of the output
        ("produce", 1, ["drain", "changelog"]),
        ("send_offsets", 0, ["drain", "changelog", "offsets"]),
        ("commit", 0, ["drain", "changelog", "offsets", "confirm", "commit"]),
    ],
)
def test_what_fails_up_to_the_commit_leaves_nothing(
    bench: Callable[..., Bench], call: str, skip: int, steps: list[str], error: type[Exception]
) -> None:
    """The client's error comes out as it is: the worker aborts, starts over or ends by its class."""
    one = bench()
    one.process(3)
    one.checkpoint()
    one.process(4)
    one.cluster.fail_next(call, error("planned"), skip=skip)
    with pytest.raises(error, match="planned"):
        one.checkpoint()
    assert one.notes == steps
    assert (one.sums(), one.changelog_values()) == ([3], [b"3"])
    assert one.offsets() == {0: 1}
    assert one.stored() == {b"k": b"3"}
    assert one.tasks[0].touched


def test_a_commit_of_unknown_outcome_does_not_touch_the_state(bench: Callable[..., Bench]) -> None:
    """It was committed, but nobody knows: a restore from the changelog tells."""
    one = bench()
    one.process(3)
    one.cluster.fail_next("commit", ProducerLost("planned"), after=True)
    with pytest.raises(ProducerLost, match="planned"):
        one.checkpoint()
    assert one.notes[-1] == "commit"
    assert (one.sums(), one.offsets(), one.stored()) == ([3], {0: 1}, {})
    assert one.transaction.state is TransactionState.LOST


def test_state_that_cannot_follow_is_damaged_and_named(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.process(3, partition=1)
    one.backend(1).error = StateError("the disk is gone")
    with pytest.raises(StateDamaged, match="the disk is gone") as caught:
        one.checkpoint()
    assert caught.value.task == one.tasks[1].name
    assert (one.sums(), one.offsets()) == ([3], {1: 1}), "it is committed all the same"


def test_state_that_cannot_be_read_for_what_follows_is_damaged_and_named(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expiry index is read once more behind the commit."""

    def raises() -> dict[str, Changes]:
        raise StateError("a block is damaged")

    one = bench()
    one.process(3, partition=1)
    monkeypatch.setattr(one.tasks[1].stores["sums"], "local_changes", raises)
    with pytest.raises(StateDamaged, match="a block is damaged") as caught:
        one.checkpoint()
    assert caught.value.task == one.tasks[1].name
    assert (one.sums(), one.offsets()) == ([3], {1: 1}), "it is committed all the same"


def test_state_that_is_too_large_ends_the_worker(bench: Callable[..., Bench]) -> None:
    """It is nothing that a rebuild would mend."""
    one = bench()
    one.process(3)
    one.backend().error = StateTooLarge("the memory backend holds more")
    with pytest.raises(StateTooLarge):
        one.checkpoint()
    assert one.offsets() == {0: 1}


class Picky:
    """A codec that has no bytes for 13."""

    def encode(self, value: int) -> bytes:
        if value == 13:
            raise ValueError("13 has no bytes")
        return b"%d" % value

    def decode(self, data: bytes) -> int:
        return int(data)


def test_what_cannot_be_encoded_fails_its_task_before_anything_is_sent(bench: Callable[..., Bench]) -> None:
    one = bench(value=Picky())
    one.process(1)
    one.process(13, partition=1)
    with pytest.raises(TaskFailed, match="13 has no bytes") as caught:
        one.checkpoint()
    assert caught.value.task == one.tasks[1].name
    assert "commit" not in one.notes and "changelog" not in one.notes
    assert (one.sums(), one.offsets()) == ([], {})


def test_a_transaction_without_offsets_is_not_committed(bench: Callable[..., Bench]) -> None:
    """Offsets are what fences a worker that no longer owns its partitions."""
    one = bench()
    with pytest.raises(AbortRequired, match="cannot be fenced"):
        send_offsets([], one.transaction, one.member)
    assert one.notes == []


def test_a_worker_that_the_group_gave_up_commits_nothing(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.process(3)
    one.cluster.expire(one.identity.member)
    with pytest.raises((AbortRequired, InstanceFenced)):
        one.checkpoint()
    assert one.notes[-1] == "offsets"
    assert (one.sums(), one.offsets(), one.stored()) == ([], {}, {})


@pytest.mark.parametrize("error", [AbortRequired, KafkaUnavailable])
def test_offsets_that_cannot_be_committed_are_done_again_at_least_once(
    bench: Callable[..., Bench], error: type[Exception]
) -> None:
    one = bench(exactly_once=False)
    one.process(3)
    one.cluster.fail_next("consumer.commit", error("planned"))
    with pytest.raises(error, match="planned"):
        one.checkpoint()
    assert (one.sums(), one.stored(), one.offsets()) == ([3], {b"k": b"3"}, {})
