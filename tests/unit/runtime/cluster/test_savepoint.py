"""Who makes a savepoint: what it knows from answers and from Kafka."""

from __future__ import annotations

import itertools

import pytest

from kstream.runtime.cluster.control import Answer, Offset, TaskPart
from kstream.runtime.cluster.savepoint import Coordination, Stage
from kstream.types import TopicPartition

IN, OWN = "in", "app-by-word-repartition"
TASKS = {"in/0": "default", "in/1": "default", f"{OWN}/0": "default"}


def part(topic: str, partition: int, position: int, *, quiet: bool = True, stored: str | None = None) -> TaskPart:
    return TaskPart(quiet, [Offset(topic, partition, position - 1, position)], stored)


def answer(worker: str, phase: str, *tasks: str, position: int = 10, quiet: bool = True, id: str = "1") -> Answer:
    parts = {name: part(*_split(name), position, quiet=quiet) for name in tasks}
    return Answer(id, worker, phase, parts)  # type: ignore[arg-type]


def _split(name: str) -> tuple[str, int]:
    topic, _, partition = name.rpartition("/")
    return topic, int(partition)


@pytest.fixture
def made() -> Coordination:
    return Coordination("1", TASKS, [OWN])


LEGAL = {
    (Stage.HOLDING, Stage.CAPTURING),
    (Stage.CAPTURING, Stage.STORING),
    (Stage.STORING, Stage.DONE),
    *((stage, Stage.ABORTED) for stage in (Stage.HOLDING, Stage.CAPTURING, Stage.STORING)),
}


@pytest.mark.parametrize(("now", "to"), list(itertools.product(Stage, Stage)), ids=lambda stage: stage.name)
def test_only_these_moves(made: Coordination, now: Stage, to: Stage) -> None:
    made.stage = now
    if (now, to) in LEGAL:
        made.go(to)
        assert made.stage is to
    else:
        with pytest.raises(RuntimeError):
            made.go(to)


def test_it_is_quiet_when_every_task_is_held_and_has_nothing_to_do(made: Coordination) -> None:
    made.hear(answer("a", "holding", "in/0", f"{OWN}/0"))
    assert not made.quiet
    assert made.waiting_for() == "no worker has answered for task in/1"
    made.hear(answer("b", "holding", "in/1", quiet=False))
    assert not made.quiet
    assert made.waiting_for() == "task in/1 still has records under way"
    made.hear(answer("b", "holding", "in/1"))
    assert made.quiet


def test_answers_to_another_attempt_are_passed_over(made: Coordination) -> None:
    made.hear(answer("a", "holding", *TASKS, id="0"))
    assert not made.quiet
    made.hear(Answer("0", "a", "refused", why="old"))
    assert made.stage is Stage.HOLDING


def test_the_own_topics_must_be_read_to_their_ends(made: Coordination) -> None:
    made.hear(answer("a", "holding", *TASKS, position=10))
    assert made.left_in({TopicPartition(OWN, 0): 11}) == [TopicPartition(OWN, 0)]
    assert made.left_in({TopicPartition(OWN, 0): 10}) == []
    assert "repartition and delay topics" in made.waiting_for()


@pytest.mark.parametrize("phase", ["holding", "captured", "stored"])
def test_one_refusal_ends_it(made: Coordination, phase: str) -> None:
    made.hear(answer("a", phase, "in/0"))
    made.hear(Answer("1", "b", "refused", why="its process ended (killed)"))
    assert made.stage is Stage.ABORTED
    assert made.why == "worker b refuses: its process ended (killed)"
    made.hear(Answer("1", "b", "refused", why="once more"))  # nothing comes of it
    assert made.why.endswith("(killed)")


def captured(made: Coordination) -> Coordination:
    made.hear(answer("a", "captured", *TASKS, position=10))
    assert made.captured
    return made


def test_nobody_did_anything_since(made: Coordination) -> None:
    committed = {at: (9, "") for name in TASKS if (at := TopicPartition(*_split(name)))}
    assert captured(made).moved({"default": committed}, {TopicPartition(OWN, 0): 10}) is None
    never = dict.fromkeys(committed)
    assert made.moved({"default": never}, {TopicPartition(OWN, 0): 10}) is None


def test_a_commit_after_the_copy_is_found(made: Coordination) -> None:
    """A worker that died and came back went on before another one had copied."""
    committed = {TopicPartition("in", 0): (9, ""), TopicPartition("in", 1): (12, ""), TopicPartition(OWN, 0): (9, "")}
    why = captured(made).moved({"default": committed}, {TopicPartition(OWN, 0): 10})
    assert why == "in[1] was committed at 9 and is at 12 now"


def test_records_that_came_into_an_own_topic_after_the_copy_are_found(made: Coordination) -> None:
    committed = {at: (9, "") for name in TASKS if (at := TopicPartition(*_split(name)))}
    why = captured(made).moved({"default": committed}, {TopicPartition(OWN, 0): 13})
    assert why == f"{OWN}[0] has records that came meanwhile"


def test_offsets_are_compared_within_their_isolation_group() -> None:
    made = Coordination("1", {"in/0": "default", "in@fast/0": "fast"}, [])
    made.hear(Answer("1", "a", "captured", {"in/0": part("in", 0, 10), "in@fast/0": part("in", 0, 20)}))
    at = TopicPartition("in", 0)
    assert made.moved({"default": {at: (9, "")}, "fast": {at: (19, "")}}, {}) is None
    assert made.moved({"default": {at: (9, "")}, "fast": {at: (9, "")}}, {}) is not None


def test_it_is_there_when_all_is_stored(made: Coordination) -> None:
    captured(made)
    made.stage = Stage.STORING
    made.hear(answer("a", "stored", "in/0", "in/1"))
    assert not made.stored
    assert made.waiting_for() == f"task {OWN}/0 is not stored"
    made.hear(answer("b", "stored", f"{OWN}/0"))
    assert made.stored
