"""Exactly once over joins, leaves, lost sessions, zombies and lost producers: several workers on one cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.errors import AbortRequired, InstanceFenced, KafkaUnavailable, ProducerLost
from kstream.partitioning import partition_of
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.loop import StreamWorker
from kstream.types import TopicPartition
from support.strikes import Kind, Planner, Strikes
from unit.runtime.harness import Counting, Fleet

#: Three of each of the four partitions.
KEYS = [key for part in range(4) for key in [f"k{i}" for i in range(40) if partition_of(b"k%d" % i, 4) == part][:3]]
COUNTING = Counting()
STRIKES = Strikes()


@pytest.fixture(params=["memory", "rocksdb"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(COUNTING.app, tmp_path, backend=request.param)
    yield made
    made.close()


def finish(fleet: Fleet) -> None:
    fleet.settle()
    COUNTING.check(fleet)


def at_work(fleet: Fleet, *names: str) -> None:
    """These workers run, have committed something, and have something in an open transaction."""
    fleet.send(COUNTING.source, KEYS)
    for name in names:
        fleet.start(name)
        fleet.settle()
    fleet.send(COUNTING.source, KEYS)
    fleet.step(seconds=0.01)
    assert all(any(task.touched for task in fleet.workers[name].tasks.values()) for name in names)


def test_a_worker_joins_in_the_middle_of_a_transaction(fleet: Fleet) -> None:
    """Faust #323, #177, #136: exactly-once, scale 1 -> 2; #216, #241: fetching went on before the seek."""
    at_work(fleet, "a")
    fleet.start("b")
    fleet.step(seconds=0.01)
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    assert {len(worker.tasks) for worker in fleet.workers.values()} == {2}


def test_a_rebalance_commits_what_was_done_before_it_gives_the_partitions_away(fleet: Fleet) -> None:
    at_work(fleet, "a")
    before = fleet.workers["a"].aborts
    fleet.start("b")
    fleet.step("b", "a", seconds=0.0)
    assert fleet.workers["a"].aborts == before
    assert fleet.committed("in") == {p: fleet.cluster.log(TopicPartition("in", p)).end for p in range(4)}


def test_a_worker_leaves(fleet: Fleet) -> None:
    at_work(fleet, "a", "b")
    fleet.leave("b")
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    assert len(fleet.workers["a"].tasks) == 4


def test_a_worker_is_killed_and_comes_back_under_its_name(fleet: Fleet) -> None:
    at_work(fleet, "a", "b")
    fleet.crash("b")
    fleet.start("b")
    finish(fleet)


def test_a_worker_is_killed_and_its_session_ends(fleet: Fleet) -> None:
    at_work(fleet, "a", "b")
    fleet.crash("b")
    fleet.expire("b")
    fleet.cluster.time_out_transaction(fleet.identity("b").member)
    finish(fleet)


def test_the_successor_waits_for_the_transaction_of_one_that_was_killed(fleet: Fleet) -> None:
    """Faust #47: a transaction left open by a worker that is gone. Nothing of its partitions is fed until it ends."""
    at_work(fleet, "a", "b")
    fleet.cluster.fail_next("fence", KafkaUnavailable("planned"))  # else it is ended: test_lingering.py
    fleet.cluster.fail_next("commit", _Killed())  # dies between sending the offsets and committing
    with pytest.raises(_Killed):
        fleet.clock.advance(1.0)
        fleet.workers["b"].step()
    fleet.crash("b")
    fleet.expire("b")
    fleet.step("a", times=30)
    assert [task.partition for task in fleet.workers["a"].tasks.values() if task.state is TaskState.RUNNING] == [0, 1]
    assert set(fleet.workers["a"].restorer.stages().values()) == {"waiting for stable offsets"}
    fleet.cluster.time_out_transaction(fleet.identity("b").member)
    finish(fleet)


class _Killed(BaseException):
    """As good as a SIGKILL at that place."""


def test_a_lost_worker_drops_what_it_has_and_joins_again(fleet: Fleet) -> None:
    at_work(fleet, "a")
    fleet.expire("a")
    before = fleet.workers["a"].aborts
    fleet.step("a")
    assert fleet.workers["a"].aborts == before + 1
    finish(fleet)


def test_nothing_of_a_zombie_is_committed(fleet: Fleet) -> None:
    """It goes on after its partitions moved: the group's metadata of its assignment fences it."""
    at_work(fleet, "a")
    zombie = fleet.workers.pop("a")
    fleet.expire("a")
    fleet.start("b")
    fleet.settle("b")
    with pytest.raises(AbortRequired, match="UNKNOWN_MEMBER_ID"):
        zombie.committer.commit()
    COUNTING.check(fleet)
    fleet.workers["a"] = zombie
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)


def test_a_zombie_that_had_joined_again_elsewhere_is_fenced_by_generation(fleet: Fleet) -> None:
    """Work done under the old assignment never goes out with the metadata of the new one."""
    at_work(fleet, "a")
    fleet.expire("a")
    fleet.start("b")
    fleet.step("b", times=5)
    # a is told `lost` and joins; what it had open is gone before it can be sent with its new membership
    fleet.step("a", "b", times=10)
    finish(fleet)


def test_offsets_sent_before_the_session_ended_may_still_be_committed_and_count_once(fleet: Fleet) -> None:
    """The commit of the old owner comes after the new owner asked for offsets: it must have waited for it."""
    at_work(fleet, "a")
    worker = fleet.workers["a"]
    commit = worker.transaction.commit

    def slow_commit() -> None:
        worker.transaction.commit = commit  # type: ignore[method-assign]
        fleet.expire("a")
        fleet.start("b")
        fleet.step("b", times=20)
        assert all(task.state is TaskState.RESTORING for task in fleet.workers["b"].tasks.values())
        commit()

    worker.transaction.commit = slow_commit  # type: ignore[method-assign]
    fleet.clock.advance(1.0)
    worker.step()
    assert len(fleet.workers) == 2
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)


def test_two_under_one_identity_the_older_stops(fleet: Fleet) -> None:
    at_work(fleet, "a")
    older = fleet.workers["a"]
    if fleet.backend == "rocksdb":
        fleet.backend = "memory"  # two processes on one directory are kept apart by its lock
    fleet.start("a")
    fleet.step("a", times=2, seconds=0.01)
    with pytest.raises(InstanceFenced):
        for _ in range(5):
            fleet.clock.advance(0.5)
            older.step()
    older.abandon()
    finish(fleet)


@pytest.mark.parametrize(
    ("error", "after"), [(AbortRequired, False), (ProducerLost, False), (ProducerLost, True)], ids=str
)
@pytest.mark.parametrize("when", ["commit", "rebalance"])
def test_a_commit_fails(fleet: Fleet, when: str, error: type[Exception], after: bool) -> None:
    """Before or after it took effect, in a step of its own or while the partitions are being revoked."""
    at_work(fleet, "a")
    fleet.cluster.fail_next("commit", error("planned"), after=after)
    if when == "rebalance":
        fleet.start("b")
        fleet.step("b", "a", seconds=0.0)
    else:
        fleet.clock.advance(1.0)
        fleet.step("a")
    taken = all(set(values) == {1, 2} for values in fleet.outputs(COUNTING.by_dsl).values())
    assert taken == after
    finish(fleet)


def test_a_task_comes_back_untouched_and_replays_nothing(fleet: Fleet) -> None:
    """A rebalance that moves two of four partitions leaves the others' stores as they are."""
    at_work(fleet, "a")
    worker = fleet.workers["a"]
    kept = worker.tasks["in/0"]
    restored = worker.restorer.replay.records
    fleet.start("b")
    fleet.settle()
    assert worker.tasks["in/0"] is kept
    assert worker.restorer.replay.records == restored
    assert kept.stores["n"].live, "its cache is still warm"
    finish(fleet)


def test_a_task_comes_back_after_another_had_moved_it_on(fleet: Fleet) -> None:
    """Faust #318: a partition leaves and returns. The task was open all the time, its state is old by now."""
    at_work(fleet, "a")
    worker = fleet.workers["a"]
    kept = worker.tasks["in/0"]
    fleet.expire("a")
    fleet.start("b")
    fleet.settle("b")
    fleet.send(COUNTING.source, KEYS)
    fleet.settle("b")
    fleet.leave("b")
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    assert worker.tasks["in/0"] is kept
    assert worker.restorer.replay.records > 0
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)


@pytest.mark.parametrize("end", ["stays", "dies"])
def test_a_rebalance_during_restore(tmp_path: Path, end: str) -> None:
    """Quix #1146, #1067: lost messages, stuck. KAFKA-16017: a wrong checkpoint after closing in mid-restore."""
    fleet = Fleet(COUNTING.app, tmp_path, backend="rocksdb", poll_batch=1)
    keys = [f"{i}" for i in range(60)]
    fleet.send(COUNTING.source, keys)
    fleet.start("a")
    fleet.settle()
    fleet.leave("a")
    shutil.rmtree(tmp_path)  # or its local state would go along
    fleet.send(COUNTING.source, keys)
    fleet.start("b")
    while not fleet.workers["b"].restorer.replay.records:
        fleet.step("b")
    assert fleet.workers["b"].restorer.replay.remaining() > 0
    fleet.start("c")  # takes two of the four in the middle of it
    fleet.step(times=3)
    assert len(fleet.workers["c"].restorer) == 2
    if end == "dies":
        fleet.crash("c")
        fleet.expire("c")
    finish(fleet)
    assert not any(worker.restorer.replay for worker in fleet.workers.values())
    fleet.close()


def test_no_partition_stays_paused_after_recovery(fleet: Fleet) -> None:
    """Quix #1125; robinhood/faust #736: processes, but never commits."""
    at_work(fleet, "a")
    for error in (ProducerLost("one"), AbortRequired("two")):
        fleet.cluster.fail_next("send_offsets", error)
        fleet.step("a", times=5, seconds=0.5)
    fleet.start("b")
    finish(fleet)
    for _ in range(3):
        fleet.send(COUNTING.source, KEYS)
        finish(fleet)


def test_a_producer_that_cannot_be_made_is_made_later_and_nothing_is_lost(fleet: Fleet) -> None:
    at_work(fleet, "a")
    fleet.cluster.fail_next("commit", ProducerLost("planned"))
    fleet.cluster.fail_next("init_transactions", ProducerLost("no coordinator"))
    fleet.step("a", times=5, seconds=0.5)
    fleet.crash("a")
    fleet.start("a")
    finish(fleet)


def test_the_broker_gives_a_transaction_up(fleet: Fleet) -> None:
    at_work(fleet, "a")
    fleet.cluster.time_out_transaction(fleet.identity("a").member)
    finish(fleet)


def test_reports_without_offsets_lose_nothing(fleet: Fleet) -> None:
    """DUPLICATE_SEQUENCE: the older offset stays, and a restore replays a little more."""
    at_work(fleet, "a")
    finish(fleet)
    fleet.cluster.delivery_offsets = False
    for _ in range(3):
        fleet.send(COUNTING.source, KEYS)
        finish(fleet)
    fleet.crash("a")
    fleet.start("a")
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_full_queue_is_waited_for_wherever_records_are_produced(tmp_path: Path, limit: int) -> None:
    """Sinks, agents' outputs, ctx.send, changelogs: BufferError is served by polling, no record goes twice."""
    fleet = Fleet(COUNTING.app, tmp_path)
    fleet.cluster.produce_buffer_limit = limit
    fleet.start("a")
    for _ in range(3):
        fleet.send(COUNTING.source, KEYS)
        finish(fleet)
    fleet.close()


@pytest.mark.parametrize("call", ["produce", "send_offsets"])
def test_a_worker_that_leaves_aborts_what_it_could_not_commit(fleet: Fleet, call: str) -> None:
    """Else the transaction stays open until the broker gives it up, and those who take over wait for that."""
    at_work(fleet, "a")
    fleet.start("b")
    fleet.step(times=2)
    fleet.send(COUNTING.source, KEYS)
    fleet.step("a", seconds=0.01)
    assert any(task.touched for task in fleet.workers["a"].tasks.values())
    fleet.cluster.fail_next(call, AbortRequired("planned"), after=True)
    fleet.leave("a")
    finish(fleet)


def test_a_paused_worker_with_records_at_hand_waits(tmp_path: Path) -> None:
    """It used to go round and round: a quarter of a core."""
    fleet = Fleet(COUNTING.app, tmp_path)
    worker = fleet.start("a")
    fleet.settle()
    worker.paused = True
    fleet.send(COUNTING.source, KEYS)
    fleet.step(times=3)
    assert sum(task.buffered for task in worker.tasks.values()) > 0 and worker._patience() > 0
    worker.paused = False
    finish(fleet)
    fleet.close()


# ---- any order of all that


def _faults() -> st.SearchStrategy[tuple[Any, ...]]:
    error = st.sampled_from([AbortRequired, ProducerLost])
    produce = st.tuples(st.builds(Kind, st.just("produce"), error, st.booleans()), st.integers(0, 6))
    offsets = st.builds(Kind, st.just("send_offsets"), error, st.booleans())
    commit = st.sampled_from(
        [Kind("commit", AbortRequired, False), Kind("commit", ProducerLost, False), Kind("commit", ProducerLost, True)]
    )
    once = st.tuples(st.one_of(offsets, commit), st.integers(0, 1))  # there is one a transaction
    return st.tuples(st.just("fault"), st.one_of(produce, once))


names = st.sampled_from(["a", "b", "c"])
events = st.one_of(
    st.tuples(st.just("step"), names),
    st.tuples(st.just("step"), names),
    st.tuples(st.just("commit"), names),
    st.tuples(st.sampled_from(["start", "expire", "crash", "leave"]), names),
    st.tuples(st.just("send"), st.lists(st.sampled_from(KEYS), min_size=1, max_size=8)),
    _faults(),
)


def happen(fleet: Fleet, faults: Planner, event: tuple[Any, ...]) -> None:
    running: Callable[[str], StreamWorker | None] = fleet.workers.get
    match event:
        case ("send", keys):
            fleet.send(COUNTING.source, keys)
        case ("fault", (kind, skip)):
            faults.plan(kind, skip)
        case ("start", name) if not running(name):
            fleet.start(name)
        case ("step", name) if running(name):
            fleet.step(name, times=2)
        case ("commit", name) if running(name):
            fleet.step(name, seconds=1.0)
        case ("crash", name) if running(name):
            fleet.crash(name)
        case ("leave", name) if running(name) and _is_member(fleet, name):
            fleet.leave(name)
        case ("expire", name) if _is_member(fleet, name):
            fleet.expire(name)


def _is_member(fleet: Fleet, name: str) -> bool:
    return fleet.identity(name).member in fleet.cluster.group(fleet.app.name).members


@given(
    script=st.lists(events, min_size=10, max_size=40),
    sizes=st.lists(st.integers(0, 5), max_size=20),
    backend=st.sampled_from(["memory", "memory", "rocksdb"]),
)
def test_exactly_once_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[Any, ...]], sizes: list[int], backend: str
) -> None:
    fleet = Fleet(COUNTING.app, tmp_path_factory.mktemp("state"), backend=backend)
    faults = Planner(fleet.cluster, STRIKES)
    try:
        fleet.cluster.batch_sizes = iter(sizes)
        fleet.send(COUNTING.source, KEYS)
        fleet.start("a")
        for event in script:
            happen(fleet, faults, event)
        for name in ("a", "b", "c"):
            if name not in fleet.workers and _is_member(fleet, name):
                fleet.start(name)  # the supervisor brings back what was killed
        if not fleet.workers:
            fleet.start("a")
        fleet.send(COUNTING.source, KEYS)
        finish(fleet)
    finally:
        faults.count()
        fleet.close()


def test_most_planned_faults_struck() -> None:
    """Of the runs above: else they would say little about failures."""
    STRIKES.check(share=0.5)
