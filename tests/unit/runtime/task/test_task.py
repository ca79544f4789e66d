"""The order in which a task takes its inputs, what it skips, how much it takes at a time."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kstream
from kstream.errors import StateError
from kstream.testing.clients import MemoryClients
from kstream.types import TopicPartition
from unit.runtime.harness import Counting, Fleet


class Merging:
    """Two inputs of one task; what it sees goes to one output, in the order it was taken."""

    def __init__(self) -> None:
        self.app = kstream.App("merging")
        self.left = self.app.topic("left", key=str, value=int, timestamp=int)
        self.right = self.app.topic("right", key=str, value=int, timestamp=int)
        self.out = self.app.topic("out", key=str, value=str)
        table = self.app.table("seen", key=str, value=int, default=0)

        def see(which: str, n: int) -> str:
            table["k"] += 1
            return f"{which}{n}"

        self.app.agent(self.left, to=self.out, name="l", tables=[table])(lambda n: see("l", n))
        self.app.agent(self.right, to=self.out, name="r", tables=[table])(lambda n: see("r", n))


MERGING = Merging()


def lowest_head_first(left: list[int], right: list[int]) -> list[str]:
    """The order wanted: of the two heads the earlier, and at equal times the topic that comes first by name."""
    left, right, merged = left[:], right[:], []
    while left or right:
        if left and (not right or left[0] <= right[0]):
            merged.append(f"l{left.pop(0)}")
        else:
            merged.append(f"r{right.pop(0)}")
    return merged


times = st.lists(st.integers(1, 6), max_size=8)


@example(left=[2], right=[1, 2], sizes=[], singly=False)  # of equal times, the first topic's comes first
@example(left=[1, 1], right=[1, 1], sizes=[1], singly=False)
@given(left=times, right=times, sizes=st.lists(st.integers(0, 6), max_size=10), singly=st.booleans())
def test_inputs_are_taken_in_the_order_of_their_times_however_they_are_fetched(
    left: list[int], right: list[int], sizes: list[int], singly: bool
) -> None:
    fleet = Fleet(MERGING.app, Path("/nonexistent"), partitions=1)
    for topic, stamps in (("left", left), ("right", right)):
        for at in stamps:
            fleet.cluster.append(topic, b"k", b"%d" % at)  # the broker's times are all the same
    fleet.start("a")
    fleet.step("a")
    fleet.cluster.batch_sizes = iter(sizes)
    for task in fleet.workers["a"].tasks.values():
        task.plan.one_at_a_time = singly  # in runs, too
    fleet.settle()
    assert fleet.outputs(MERGING.out).get("k", []) == lowest_head_first(left, right)
    fleet.close()


def test_records_that_are_fetched_again_are_not_processed_again(tmp_path: Path) -> None:
    counting = Counting("again")
    fleet = Fleet(counting.app, tmp_path, partitions=1, poll_batch=4)
    fleet.start("a")
    fleet.settle()
    fleet.send(counting.source, ["k"] * 6)
    for start in (0, 3, 5):
        fleet.step("a", seconds=0.0)
        fleet.workers["a"]._consumer.seek({TopicPartition("in", 0): start})
    fleet.settle()
    counting.check(fleet)
    fleet.close()


def test_an_empty_input_is_waited_for_as_long_as_it_was_said() -> None:
    fleet = Fleet(MERGING.app, Path("/nonexistent"), partitions=1, max_task_idle=5.0, commit_interval=0.1)
    fleet.start("a")
    fleet.step("a", times=5)
    fleet.send(MERGING.left, ["k"], 1)
    fleet.step("a", times=5, seconds=0.2)
    assert fleet.outputs(MERGING.out) == {}
    fleet.send(MERGING.right, ["k"], 3)
    fleet.step("a", times=2, seconds=0.2)
    assert fleet.outputs(MERGING.out) == {"k": ["l1"]}
    fleet.step("a", times=30, seconds=0.2)
    assert fleet.outputs(MERGING.out) == {"k": ["l1", "r3"]}
    fleet.close()


def test_records_of_a_large_fetch_are_read_for_their_time_once_or_twice_not_for_each_other_record() -> None:
    """Two inputs, event time in the value: reading on from a fetch must not decode what is left of it each time."""
    reads = 0

    def read(n: int) -> int:
        nonlocal reads
        reads += 1
        return n

    app = kstream.App("many")
    left, right = (app.topic(name, key=str, value=int, timestamp=read) for name in ("left", "right"))
    table = app.table("seen", key=str, value=int)
    for one in (left, right):
        app.agent(one, name=one.name, tables=[table])(lambda n: None)
    fleet = Fleet(app, Path("/nonexistent"), partitions=1)
    for n in range(300):
        fleet.send(left, ["k"], n)
        fleet.send(right, ["k"], n)
    fleet.start("a")
    fleet.settle()
    assert reads <= 10 * 600
    fleet.close()


def test_markers_at_the_end_are_passed_without_a_commit_of_their_own(tmp_path: Path) -> None:
    counting = Counting("markers")
    fleet = Fleet(counting.app, tmp_path, partitions=1)
    fleet.start("a")
    fleet.settle()
    producer = (
        __import__("kstream.testing.clients", fromlist=["MemoryClients"]).MemoryClients(fleet.cluster).producer("p")
    )
    producer.init_transactions(1.0)
    producer.begin()
    producer.produce("in", b"1", b"k")
    producer.commit(1.0)
    producer.begin()
    producer.produce("in", b"1", b"k")
    producer.abort(1.0)
    fleet.settle()
    commits = fleet.workers["a"].commits
    assert fleet.task("a", 0).positions == {TopicPartition("in", 0): 4}
    assert sum(fleet.workers["a"].lags_of(fleet.task("a", 0)).values()) == 0
    fleet.step("a", times=20, seconds=0.5)
    assert fleet.workers["a"].commits == commits == 1
    counting_outputs = fleet.outputs(counting.by_dsl)
    assert counting_outputs == {"k": [1]}


def test_markers_at_the_end_are_committed_with_the_next_flush(tmp_path: Path) -> None:
    """Once. To whoever compares committed offsets with the log's ends, as autoscalers do, they would be a record that
    waits for ever."""
    counting = Counting("markers")
    fleet = Fleet(counting.app, tmp_path, partitions=1, flush_interval=30.0)
    fleet.start("a")
    fleet.settle()
    producer = MemoryClients(fleet.cluster).producer("p")
    producer.init_transactions(1.0)
    producer.begin()
    producer.produce("in", b"1", b"k")
    producer.commit(1.0)
    fleet.settle()
    producer.begin()
    producer.produce("in", b"1", b"k")
    producer.abort(1.0)
    fleet.settle()
    assert fleet.committed("in") == {0: 2} and fleet.cluster.log(TopicPartition("in", 0)).stable_end == 4
    fleet.step("a", times=80, seconds=0.5)
    assert fleet.committed("in") == {0: 4}
    fleet.step("a", times=200, seconds=0.5)  # the mark of its store is renewed, too
    commits = fleet.workers["a"].commits
    fleet.step("a", times=400, seconds=0.5)
    assert fleet.workers["a"].commits == commits
    assert fleet.outputs(counting.by_dsl) == {"k": [1]}
    fleet.close()
    fleet.close()


def test_a_flood_is_held_back_and_let_in_again(tmp_path: Path) -> None:
    """A task that cannot keep up pauses its inputs far above what it takes at a time, and resumes below that."""
    app = kstream.App("flood")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    gate = {"open": False}

    @app.agent(source, to=out)
    async def agent(stream: kstream.AgentStream[str, int]) -> object:
        async for n in stream:
            while not gate["open"]:
                await asyncio.sleep(0)
            yield n

    fleet = Fleet(app, tmp_path, partitions=1, poll_batch=5, commit_interval=100.0, transaction_timeout=300.0)
    fleet.start("a")
    fleet.send(source, ["k"], 0)
    fleet.step("a", times=5, seconds=0.0)
    for n in range(1, 200):
        fleet.send(source, ["k"], n)
    fleet.step("a", times=60, seconds=0.0)
    assert 50 < fleet.task("a", 0).buffered <= 60
    gate["open"] = True
    fleet.settle()
    assert fleet.outputs(out) == {"k": list(range(200))}
    fleet.close()


def test_slow_functions_get_less_at_a_time(tmp_path: Path) -> None:
    app = kstream.App("slow")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    fleet: Fleet
    app.stream(source).map(lambda n: fleet.clock.advance(0.1) or n, value=int).to(out)
    fleet = Fleet(app, tmp_path, partitions=1, commit_interval=1.0, transaction_timeout=10.0)
    for n in range(300):
        fleet.send(source, ["k"], n)
    fleet.start("a")
    commits = []
    for _ in range(400):
        fleet.step("a", seconds=0.01)
        if fleet.workers["a"].commits > len(commits):
            commits.append(fleet.clock.monotonic())
    assert fleet.outputs(out)["k"] == list(range(300))
    gaps = [later - earlier for earlier, later in pairwise(commits[3:])]
    assert len(gaps) > 5
    assert max(gaps) <= 3.0
    fleet.close()


def test_damaged_state_found_while_running_is_rebuilt(tmp_path: Path) -> None:
    counting = Counting("damaged")
    fleet = Fleet(counting.app, tmp_path, partitions=2, backend="rocksdb")
    keys = [f"k{i}" for i in range(10)]
    fleet.start("a")
    for round_ in range(3):
        fleet.send(counting.source, keys)
        fleet.step("a", seconds=0.0)
        backend = fleet.task("a", round_ % 2).backend
        write = backend.write
        if round_ < 2:

            def broken(*_: object) -> None:
                raise StateError("the disk is full of sand")

            backend.write = broken  # type: ignore[method-assign]
        fleet.settle()
        counting.check(fleet)
        del write
    assert fleet.workers["a"].aborts >= 2
    fleet.close()


def test_a_million_increments_of_one_key_would_count_to_a_million(tmp_path: Path) -> None:
    """Faust #333, in small: 20,000 increments of one key through an agent's table and an aggregation."""
    counting = Counting("increments")
    fleet = Fleet(counting.app, tmp_path, partitions=1, poll_batch=500)
    fleet.send(counting.source, ["k"] * 20_000)
    fleet.start("a")
    began = time.process_time()
    fleet.settle()
    assert fleet.changelog("n") == fleet.changelog("seen") == {(0, b"k"): b"20000"}
    assert fleet.outputs(counting.by_dsl)["k"] == list(range(1, 20_001))
    assert time.process_time() - began < 20
    fleet.close()


@pytest.mark.parametrize("limit", [10, 25])
def test_many_uncommitted_records_or_keys_bring_the_commit_forward(tmp_path: Path, limit: int) -> None:
    counting = Counting("early")
    fleet = Fleet(
        counting.app, tmp_path, partitions=1, poll_batch=5, commit_interval=1000.0, transaction_timeout=3000.0,
        max_uncommitted_records=limit,
    )  # fmt: skip
    fleet.start("a")
    fleet.step("a", times=4, seconds=0.0)
    for n in range(100):
        fleet.send(counting.source, [f"k{n}"])
    fleet.step("a", times=60, seconds=0.0)
    assert fleet.workers["a"].commits == 100 // limit
    fleet.close()
