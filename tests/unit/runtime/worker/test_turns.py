"""Inputs that the client leaves unread while others have a backlog have their turn (librdkafka #1854; KIP-74)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import kstream
from kstream.errors import AbortRequired
from kstream.runtime.worker.turns import LONGEST_TURN, POLLS, STUCK_SECONDS, TURN_SECONDS, Turns
from kstream.testing import ManualClock
from kstream.testing.consumer import MemoryConsumer
from kstream.types import TopicPartition

from ..harness import Counting, Fleet

BATCH = 20


class Client:
    """Inputs with a backlog of which only the first two that are not set aside are read, as librdkafka does it."""

    def __init__(self, inputs: int, dead: Sequence[int] = ()) -> None:
        self.at = {TopicPartition("in", n): 0 for n in range(inputs)}
        self.dead = {TopicPartition("in", n) for n in dead}
        self.aside: set[TopicPartition] = set()
        self.room = True
        self.clock = ManualClock()
        self.turns = Turns(self.clock, BATCH, self.behind, self.leave, self.aside.clear)

    def behind(self) -> Mapping[TopicPartition, int] | None:
        return dict(self.at) if self.room else None

    def leave(self, partitions: Sequence[TopicPartition]) -> None:
        self.aside.update(partitions)

    def poll(self, seconds: float = 0.1) -> None:
        self.clock.advance(seconds)
        for at in [at for at in self.at if at not in self.aside and at not in self.dead][:2]:
            self.at[at] += self.turns.size
        self.turns.step()

    def polls(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self.poll()

    def read(self) -> list[int]:
        return [at.partition for at, reach in self.at.items() if reach]


def test_each_has_its_turn_two_at_a_time_and_then_all_are_read_again() -> None:
    client = Client(6)
    client.polls(TURN_SECONDS)
    assert client.read() == [0, 1]
    while len(client.read()) < 6:
        client.poll()
    client.polls(TURN_SECONDS)
    assert not client.aside


def test_nobody_is_left_unread_for_longer_than_a_round() -> None:
    client = Client(8)
    client.polls(30.0)
    before = dict(client.at)
    client.polls((2 + 8 / 2 + 1) * TURN_SECONDS)
    assert all(reach > before[at] for at, reach in client.at.items())


def test_more_of_what_is_fetched_is_taken_before_an_input_steps_aside() -> None:
    client = Client(4)
    while not client.aside:
        last = client.turns.size
        client.poll()
    assert (last, client.turns.size) == (POLLS * BATCH, BATCH)


def test_nobody_steps_aside_where_all_are_read() -> None:
    client = Client(2)
    for _ in range(100):
        client.poll()
        assert not client.aside and client.turns.size == BATCH


def test_an_input_that_is_behind_for_less_than_a_turn_does_not_wait() -> None:
    client = Client(2)
    client.polls(TURN_SECONDS)
    client.at[TopicPartition("in", 2)] = 0
    client.polls(0.9 * TURN_SECONDS)
    assert client.turns.size == BATCH and not client.aside


def test_what_cannot_be_read_holds_the_others_up_for_a_turn_and_ever_more_seldom() -> None:
    """Its broker is down, or what lies there is of a transaction that is open."""
    client = Client(3, dead=[2])
    held = [0, 0, 0]
    for n in range(3):
        for _ in range(round(2 * STUCK_SECONDS / 0.1)):
            client.poll()
            held[n] += bool(client.aside)
    assert held[0] * 0.1 <= 2 * (TURN_SECONDS + 0.1) and held[0] > 0
    assert held[1] * 0.1 <= TURN_SECONDS + 0.1
    assert held[2] * 0.1 <= TURN_SECONDS + 0.1


def test_what_can_be_read_again_has_its_turns_as_the_others_have() -> None:
    client = Client(4, dead=[3])
    client.polls(3 * STUCK_SECONDS)
    client.dead.clear()
    client.polls(5 * STUCK_SECONDS)
    before = client.at[TopicPartition("in", 3)]
    client.polls(4 * TURN_SECONDS)
    assert client.at[TopicPartition("in", 3)] > before > 0


def test_those_beside_one_that_cannot_be_read_have_their_turns() -> None:
    client = Client(6, dead=[2])
    client.polls(10.0)
    assert client.read() == [0, 1, 3, 4, 5]


def test_nothing_more_is_taken_where_there_is_no_room() -> None:
    client = Client(6)
    client.room = False
    client.polls(5.0)
    assert client.read() == [0, 1] and not client.aside


def test_a_turn_ends_where_what_is_buffered_waits_for_those_that_stepped_aside() -> None:
    client = Client(6)
    while not client.aside:
        client.poll()
    client.room = False
    client.polls(LONGEST_TURN)
    assert not client.aside


@pytest.fixture
def greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers read the first partition that is not paused until it has nothing more."""

    def active(self: MemoryConsumer) -> list[TopicPartition]:
        return sorted(at for at, position in self._positions.items() if not position.paused)

    monkeypatch.setattr(MemoryConsumer, "_active", active)
    monkeypatch.setattr(MemoryConsumer, "_cut", lambda self, most, active: min(most, BATCH))


def begun(app: kstream.App, source: kstream.Topic[str, int], folder: Path) -> Fleet:
    """Worker "a" before a backlog of 2,000 records."""
    fleet = Fleet(app, folder, poll_batch=BATCH)
    fleet.send(source, [f"k{n % 50}" for n in range(2_000)])
    fleet.start("a")
    return fleet


@pytest.mark.usefixtures("greedy")
class TestWorkers:
    def test_each_input_is_read_while_the_first_has_a_backlog(self, tmp_path: Path) -> None:
        counting = Counting()
        fleet = begun(counting.app, counting.source, tmp_path)
        while fleet.workers["a"].records < 1_000:
            fleet.step()
        assert all(task.records > 50 for task in fleet.workers["a"].tasks.values())
        fleet.settle()
        counting.check(fleet)
        fleet.close()

    def test_a_task_that_has_a_delay_topic_is_read_as_others_are(self, tmp_path: Path) -> None:
        """Nothing waits for what was set aside: its input stayed paused for no turn of the loop."""
        app = kstream.App("later", on_error=[kstream.RetryLater([60.0]), kstream.DeadLetter()])
        source, target = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
        app.stream(source).map(lambda n: n).to(target)
        fleet = begun(app, source, tmp_path)
        while fleet.workers["a"].records < 1_000:
            fleet.step()
        assert all(task.records > 50 for task in fleet.workers["a"].tasks.values())
        fleet.close()

    def test_whatever_happens_to_those_that_have_stepped_aside(self, tmp_path: Path) -> None:
        """Aborts, a crash and a rebalance: what is read then is what is to be read."""
        counting = Counting()
        fleet = begun(counting.app, counting.source, tmp_path)
        for n in range(30):
            fleet.step(times=3)
            if n % 4 == 1:
                fleet.cluster.fail_next("commit", AbortRequired("planned"))
            if n == 13:
                fleet.start("b")
            if n == 21:
                fleet.crash("a")
                fleet.expire("a")
        fleet.settle()
        counting.check(fleet)
        fleet.close()


def test_nobody_steps_aside_for_what_is_not_committed_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker writes to a repartition topic lies behind its end until the commit, and cannot be read: with
    commits a second apart a fifth of the time went by in turns that brought nothing."""
    monkeypatch.setattr(MemoryConsumer, "_cut", lambda self, most, active: min(most, BATCH))
    app = kstream.App("own")
    source = app.topic("in", key=str, value=int)
    app.stream(source).rekey(lambda _, ctx: f"{ctx.key}-again", key=str).group_by_key().count(name="n")
    fleet = Fleet(app, tmp_path, poll_batch=BATCH, commit_interval=1.0)
    fleet.send(source, [f"k{n % 50}" for n in range(8_000)])
    worker = fleet.start("a")
    for _ in range(500):
        fleet.step(seconds=0.02)
        assert worker.registry.turns.size == BATCH
    assert 8_000 < worker.records < 16_000
    fleet.close()
