"""What a worker that died left open: those who are left end it, and nobody who lives loses anything by that."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.errors import InstanceFenced, KafkaUnavailable
from kstream.partitioning import partition_of
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.lingering import ENDED_BY
from kstream.testing.clients import MemoryAdmin, MemoryClients
from unit.runtime.harness import Counting, Fleet

KEYS = [key for part in range(4) for key in [f"k{i}" for i in range(40) if partition_of(b"k%d" % i, 4) == part][:3]]
COUNTING = Counting("lingering")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(COUNTING.app, tmp_path)
    yield made
    made.close()


@pytest.fixture
def fenced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The transactional ids of those who were, by others."""
    found: list[str] = []
    real = MemoryClients.fence

    def fence(self: MemoryClients, transactional_id: str, timeout: float) -> Future[None]:
        found.append(transactional_id)
        return real(self, transactional_id, timeout)

    monkeypatch.setattr(MemoryClients, "fence", fence)
    return found


class Killed(BaseException):
    """As good as a SIGKILL at that place."""


def at_work(fleet: Fleet, *names: str) -> None:
    """These workers run, have committed something, and have something in an open transaction."""
    for name in names:
        fleet.start(name)
    fleet.send(COUNTING.source, KEYS)
    fleet.settle()
    fleet.send(COUNTING.source, KEYS)
    fleet.step(seconds=0.01)
    assert all(is_open(fleet, name) for name in names)


def is_open(fleet: Fleet, name: str) -> bool:
    return fleet.cluster.transactions.open_transaction(fleet.identity(name).member) is not None


def dies(fleet: Fleet, name: str, call: str | None) -> None:
    """With outputs in its transaction; or in its commit, after this call of its producer."""
    if call is not None:
        fleet.cluster.fail_next(call, Killed(), after=call == "send_offsets")
        with pytest.raises(Killed):
            fleet.step(name, seconds=1.0)
    fleet.crash(name)
    fleet.expire(name)


def finish(fleet: Fleet) -> None:
    fleet.settle()
    COUNTING.check(fleet)


@pytest.mark.parametrize("call", [None, "send_offsets", "commit"])
def test_those_who_are_left_end_it_and_go_on_at_once(fleet: Fleet, fenced: list[str], call: str | None) -> None:
    at_work(fleet, "a", "b")
    dies(fleet, "b", call)
    assert is_open(fleet, "b")
    fleet.step("a", times=4, seconds=0.01)
    assert fenced == [fleet.identity("b").member]
    assert not is_open(fleet, "b")
    fleet.step("a", times=6, seconds=0.01)
    assert [task.state for task in fleet.workers["a"].tasks.values()] == [TaskState.RUNNING] * 4
    finish(fleet)
    fleet.start("b")  # it is not taken for the dead one
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)


def test_whoever_only_gives_partitions_away_is_left_alone(fleet: Fleet, fenced: list[str]) -> None:
    at_work(fleet, "a")
    for name in ("b", "c"):
        fleet.start(name)
        fleet.send(COUNTING.source, KEYS)
        finish(fleet)
    fleet.leave("c")
    finish(fleet)
    assert set(fenced) == {fleet.identity("c").member}, "it left the group, and had ended what it had begun"
    assert all(worker.measures.producer_restarts == 0 for worker in fleet.workers.values())


def test_two_of_those_who_are_left_do_it(fleet: Fleet, fenced: list[str]) -> None:
    at_work(fleet, "a", "b", "c", "d")
    dies(fleet, "d", None)
    finish(fleet)
    assert fenced == [fleet.identity("d").member] * ENDED_BY


def test_a_zombie_drops_what_it_had_and_joins_again(fleet: Fleet, fenced: list[str]) -> None:
    """The group let it go while it stood still. It was fenced, and is not taken for one of two with one name."""
    at_work(fleet, "a", "b")
    zombie = fleet.workers.pop("b")
    fleet.expire("b")
    fleet.settle("a")
    assert fenced == [fleet.identity("b").member]
    fleet.workers["b"] = zombie
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    assert zombie.measures.producer_restarts <= 1


def test_a_zombie_that_goes_on_in_its_commit(fleet: Fleet) -> None:
    """It is fenced before it hears that it has lost its place: the group says which of both it is."""
    at_work(fleet, "a", "b")
    fleet.expire("b")
    fleet.settle("a")
    fleet.workers["b"].commit_now()
    assert fleet.workers["b"].measures.producer_restarts == 1
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)


def test_a_zombie_that_cannot_ask_the_group_goes_on_too(fleet: Fleet) -> None:
    at_work(fleet, "a", "b")
    fleet.expire("b")
    fleet.settle("a")
    fleet.cluster.fail_next("members", KafkaUnavailable("no coordinator"))
    fleet.workers["b"].commit_now()
    finish(fleet)


def test_one_of_two_with_one_name_is_not_taken_for_a_zombie(fleet: Fleet) -> None:
    at_work(fleet, "a", "b")
    older = fleet.workers["b"]
    fleet.start("b")
    fleet.step("b", times=2, seconds=0.01)  # it joins, and has a producer
    with pytest.raises(InstanceFenced):
        older.commit_now()
    older.abandon()
    finish(fleet)


def test_what_cannot_be_ended_is_waited_for(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    at_work(fleet, "a", "b")
    fleet.cluster.fail_next("fence", KafkaUnavailable("no coordinator"))
    dies(fleet, "b", "commit")
    fleet.step("a", times=30, seconds=0.01)
    assert set(fleet.workers["a"].restorer.stages().values()) == {"waiting for stable offsets"}
    assert "cannot be ended: no coordinator" in caplog.text
    fleet.cluster.time_out_transaction(fleet.identity("b").member)
    finish(fleet)


def test_who_is_in_the_group_is_asked_again(fleet: Fleet) -> None:
    at_work(fleet, "a", "b")
    dies(fleet, "b", None)
    for _ in range(3):
        fleet.cluster.fail_next("members", KafkaUnavailable("no coordinator"))
    fleet.step("a", times=2, seconds=0.01)
    assert is_open(fleet, "b")
    fleet.step("a", times=6, seconds=1.0)
    assert not is_open(fleet, "b")
    finish(fleet)


def test_an_answer_of_before_another_rebalance_is_dropped(
    fleet: Fleet, fenced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes late, and whom it misses is back by then: with a producer, after all others gave up their partitions."""
    at_work(fleet, "a", "b")
    real, late = MemoryAdmin.members, list[tuple[Future[frozenset[str]], Future[frozenset[str]]]]()

    def members(self: MemoryAdmin, group: str) -> Future[frozenset[str]]:
        late.append((Future(), real(self, group)))
        return late[-1][0]

    monkeypatch.setattr(MemoryAdmin, "members", members)
    dies(fleet, "b", None)
    fleet.step("a", times=2, seconds=0.01)
    monkeypatch.undo()
    fleet.start("b")
    fleet.step("b", "a", times=6, seconds=0.01)
    for answer, found in late:
        answer.set_result(found.result())
    finish(fleet)
    assert fleet.identity("b").member not in fenced
    assert fleet.workers["b"].measures.producer_restarts == 0


def test_one_that_is_back_before_its_end_was_told_is_known(
    fleet: Fleet, fenced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is ended the next time, too."""
    at_work(fleet, "a", "b")
    real, slow = MemoryClients.fence, Future[None]()

    def fence(self: MemoryClients, transactional_id: str, timeout: float) -> Future[None]:
        real(self, transactional_id, timeout)
        return slow

    with monkeypatch.context() as patch:
        patch.setattr(MemoryClients, "fence", fence)
        dies(fleet, "b", None)
        fleet.step("a", times=4, seconds=0.01)
    assert fenced == [fleet.identity("b").member]
    fleet.start("b")
    finish(fleet)
    slow.set_result(None)
    fleet.send(COUNTING.source, KEYS)
    fleet.step(seconds=0.01)
    assert is_open(fleet, "b")
    dies(fleet, "b", None)
    fleet.step("a", times=4, seconds=0.01)
    assert fenced == [fleet.identity("b").member] * 2
    finish(fleet)


def test_at_least_once_has_nothing_open(tmp_path: Path, fenced: list[str]) -> None:
    fleet = Fleet(COUNTING.app, tmp_path, processing_guarantee="at_least_once")
    for name in ("a", "b"):
        fleet.start(name)
    fleet.send(COUNTING.source, KEYS)
    fleet.settle()
    fleet.crash("b")
    fleet.expire("b")
    fleet.settle()
    assert not fenced
    fleet.close()


NAMES = ("a", "b", "c")
EVENTS = st.one_of(
    st.tuples(st.just("step"), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["die", "expire", "start", "leave", "freeze", "thaw"]), st.sampled_from(NAMES)),
    st.tuples(st.just("send"), st.just("")),
)


@given(script=st.lists(EVENTS, min_size=10, max_size=50))
def test_nobody_who_lives_is_fenced_and_all_counts_once(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, str]]
) -> None:
    """Workers die, are let go, come back at once or later, stand still and go on: no step of one raises that another
    process has its name, and only those whom the group let go make a new producer."""
    fleet = Fleet(COUNTING.app, tmp_path_factory.mktemp("state"))
    frozen, let_go = dict[str, object](), set[str]()
    group = fleet.cluster.group(fleet.app.name)

    def is_member(name: str) -> bool:
        return fleet.identity(name).member in group.members

    try:
        for name in NAMES:
            fleet.start(name)
        for what, name in script:
            running = name in fleet.workers
            if what == "send":
                fleet.send(COUNTING.source, KEYS)
            elif what == "step" and running:
                fleet.step(name, times=2)
            elif what == "die" and running:
                fleet.crash(name)
            elif what == "expire" and is_member(name):
                fleet.expire(name)
                let_go.add(name)
            elif what == "start" and not running and name not in frozen:
                fleet.start(name)
                let_go.discard(name)
            elif what == "leave" and running and is_member(name):
                fleet.leave(name)
            elif what == "freeze" and running:
                frozen[name] = fleet.workers.pop(name)
            elif what == "thaw" and name in frozen:
                fleet.workers[name] = frozen.pop(name)  # type: ignore[assignment]
        fleet.workers |= frozen  # type: ignore[arg-type]
        for name in NAMES:
            if name not in fleet.workers:
                fleet.start(name)
                let_go.discard(name)
        fleet.send(COUNTING.source, KEYS)
        finish(fleet)
        for name, worker in fleet.workers.items():
            assert not worker.measures.producer_restarts or name in let_go, name
    finally:
        fleet.close()
