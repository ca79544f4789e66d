"""Committed offsets that cannot be trusted: of topics created again, and state without any."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kstream.errors import TopicError
from kstream.runtime.cluster.metadata import VERSION, Said, decode, encode
from kstream.runtime.task.states import TaskState
from kstream.types import TopicPartition

from ..harness import Counting, Fleet

AT = TopicPartition("in", 0)
KEYS = [f"k{i}" for i in range(20)]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., tuple[Counting, Fleet]]]:
    fleets: list[Fleet] = []

    def made(**settings: Any) -> tuple[Counting, Fleet]:
        counting = Counting()
        fleets.append(Fleet(counting.app, tmp_path, partitions=2, **settings))
        return counting, fleets[-1]

    yield made
    for fleet in fleets:
        fleet.close()


def errors(fleet: Fleet, name: str) -> set[str]:
    return {str(task.error) for task in fleet.workers[name].tasks.values() if task.state is TaskState.FAILED}


def make_anew(counting: Counting, fleet: Fleet) -> None:
    fleet.cluster.delete_topic("in")
    fleet.cluster.create_topic("in", 2)


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_each_committed_offset_says_which_topic_it_is_of(make: Any, guarantee: str) -> None:
    counting, fleet = make(processing_guarantee=guarantee)
    fleet.start("a")
    fleet.send(counting.source, KEYS)
    fleet.settle()
    group = fleet.cluster.group(fleet.app.name)
    ids = {decode(text, at).topic_id for at, (_, text) in group.offsets.items()}
    assert ids == {fleet.cluster.topic_id("in")}
    assert all(json.loads(text)["v"] == VERSION for _, text in group.offsets.values())


@pytest.mark.parametrize("new", [3, 60])
def test_a_topic_made_anew_while_the_app_was_stopped_stops_the_tasks(make: Any, new: int) -> None:
    counting, fleet = make()
    fleet.start("a")
    fleet.send(counting.source, KEYS)
    fleet.settle()
    fleet.leave("a")
    make_anew(counting, fleet)
    fleet.send(counting.source, KEYS[:new] * (new // 20 + 1))
    fleet.start("a")
    for _ in range(20):
        fleet.step(seconds=0.3)
    (said,) = {text.split(" belongs")[0].split(": the offset")[0] for text in errors(fleet, "a")}
    assert said.startswith("topic in was deleted and created again"), said
    assert len(errors(fleet, "a")) == 2  # each names its partition
    assert fleet.outputs(counting.by_dsl) == {key: [1] for key in KEYS}


def test_a_topic_made_anew_while_it_is_read_stops_the_tasks_and_stays_so(make: Any) -> None:
    counting, fleet = make(restart_max=2.0)
    fleet.start("a")
    fleet.send(counting.source, KEYS)
    fleet.settle()
    make_anew(counting, fleet)
    for _ in range(120):
        fleet.step(seconds=0.3)
        assert fleet.outputs(counting.by_dsl) == {key: [1] for key in KEYS}
    assert {text[:12] for text in errors(fleet, "a")} == {"topic in was"}


def test_with_the_setting_the_new_topic_is_read_from_its_start(make: Any) -> None:
    counting, fleet = make(lost_offsets="continue", auto_offset_reset="latest")
    fleet.start("a")
    fleet.send(counting.source, KEYS)
    fleet.step(times=30, seconds=0.3)
    fleet.leave("a")
    before = fleet.outputs(counting.by_dsl)
    make_anew(counting, fleet)
    fleet.send(counting.source, KEYS)
    fleet.start("a")
    fleet.settle()
    after = fleet.outputs(counting.by_dsl)
    assert {key: len(values) - len(before.get(key, [])) for key, values in after.items()} == dict.fromkeys(KEYS, 1)
    fleet.leave("a")
    fleet.start("a")
    fleet.settle()  # the offsets are of the new topic now
    assert fleet.outputs(counting.by_dsl) == after


@pytest.mark.parametrize("lost", ["stop", "continue"])
def test_a_log_that_lost_what_was_processed_stops_the_tasks(make: Any, lost: str) -> None:
    """To read what it has from its start on counts all of it twice. Found by `make verify`."""
    counting, fleet = make(lost_offsets=lost)
    fleet.start("a")
    fleet.send(counting.source, KEYS)
    fleet.settle()
    fleet.leave("a")
    offsets = fleet.cluster.group(fleet.app.name).offsets
    for at, (offset, text) in list(offsets.items()):
        offsets[at] = (offset + 5, text)
    fleet.start("a")
    for _ in range(20):
        fleet.step(seconds=0.3)
    counts = [1] if lost == "stop" else [1, 2]
    assert fleet.outputs(counting.by_dsl) == {key: counts for key in KEYS}
    said = errors(fleet, "a")
    assert len(said) == (2 if lost == "stop" else 0)
    assert all("lies beyond the end" in text and "lost_offsets" in text for text in said), said


def test_state_without_offsets_stops_the_task(make: Any) -> None:
    counting, fleet = make()
    fleet.start("a")
    fleet.send(counting.source, KEYS)
    fleet.settle()
    fleet.leave("a")
    fleet.cluster.group(fleet.app.name).offsets.clear()
    fleet.start("a")
    for _ in range(20):
        fleet.step(seconds=0.3)
    assert len(errors(fleet, "a")) == 2
    assert all(text.startswith("state without offsets: ") and "lost_offsets" in text for text in errors(fleet, "a"))
    assert fleet.outputs(counting.by_dsl) == {key: [1] for key in KEYS}


@pytest.mark.parametrize("settings", [{"lost_offsets": "continue"}, {"processing_guarantee": "at_least_once"}])
def test_state_without_offsets_goes_on_where_that_is_wanted(make: Any, settings: dict[str, Any]) -> None:
    counting, fleet = make(**settings)
    fleet.start("a")
    fleet.send(counting.source, KEYS)
    fleet.settle()
    fleet.leave("a")
    fleet.cluster.group(fleet.app.name).offsets.clear()
    fleet.start("a")
    fleet.settle()
    assert {key: values[-1] for key, values in fleet.outputs(counting.by_dsl).items()} == dict.fromkeys(KEYS, 2)


def test_a_crash_in_the_first_commit_is_no_state_without_offsets(make: Any) -> None:
    from kstream.errors import ProducerLost

    counting, fleet = make()
    fleet.start("a")
    fleet.send(counting.source, KEYS)
    fleet.cluster.fail_next("commit", ProducerLost("planned"))
    fleet.settle()
    counting.check(fleet)


@pytest.mark.parametrize("text", ["", "stream time", "[1]", '{"v":"x"}', '{"v":1}', '{"v":1,"id":5}', "null"])
def test_metadata_of_others_says_nothing(text: str) -> None:
    assert decode(text, AT) == Said()


def test_metadata_comes_back_and_a_later_form_is_refused_by_name() -> None:
    for said in (Said("FRd6Dh9RSoqMQIyo3w64KA"), Said("FRd6Dh9RSoqMQIyo3w64KA", 7, 1 << 62, 5), Said(commit=1)):
        assert decode(encode(said), AT) == said
    with pytest.raises(TopicError, match=r"in\[0\].*later version"):
        decode('{"v":2,"id":"x","time":5}', AT)
