"""What is committed with an offset.

An offset belongs to one topic, known by its id: a topic that was deleted and created again has other records at the
same offsets. The id is committed with each offset, in its metadata. State is committed with offsets in one transaction:
where there is state and there are no offsets, they were deleted or have expired, and reading from the start would count
everything twice.

A commit may move no offset, and change state all the same: so each one has a number. Equal offsets alone do not say
that nobody else had the task meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from kstream.errors import TopicError
from kstream.specs.stored import OFFSETS
from kstream.types import TopicPartition

VERSION: Final = OFFSETS.number
"""Of the form of the metadata. It has 4096 bytes at most, by the brokers' default."""


class Said(NamedTuple):
    """What is committed with an offset.

    Attributes:
        topic_id: None where the broker gives topics no id, and where another tool set the offset.
        commit: the number of the task's commit.
        event_time, wall_time: the time of the task's state (ms since the epoch), 0 where it keeps none.
        task_time, input_time: event time as windows have it, of the task and of this input; 0 where it keeps none.
        inputs, changelogs: what else the commit covered (covered.py); empty where that is not known.
        waited: for how many ms the input was quiet after its time, where that goes on with the clock then.
    """

    topic_id: str | None = None
    commit: int = 0
    event_time: int = 0
    wall_time: int = 0
    task_time: int = 0
    input_time: int = 0
    inputs: str = ""
    changelogs: str = ""
    waited: int = 0


_NAMES: Final = {"topic_id": "id", "commit": "n", "event_time": "e", "wall_time": "w",
    "task_time": "t", "input_time": "i", "waited": "q", "inputs": "in", "changelogs": "c",
}  # fmt: skip

_TEXTS: Final = ("topic_id", "inputs", "changelogs")
NUMBERS: Final = tuple(name for name in Said._fields if name not in _TEXTS)


def encode(said: Said) -> str:
    found = {_NAMES[name]: value for name, value in said._asdict().items() if value}
    return json.dumps({"v": VERSION, **found}, separators=(",", ":"))


def decode(text: str, at: TopicPartition) -> Said:
    """The metadata of a committed offset; of what another tool wrote, nothing.

    Raises:
        TopicError: a later version of kstream wrote it.
    """
    try:
        found = json.loads(text)
    except ValueError:
        return Said()
    if not isinstance(found, dict) or not isinstance(found.get("v"), int):
        return Said()
    if refusal := OFFSETS.refusal(f"the committed offset of {at}", found["v"]):
        raise TopicError(refusal)
    read = {name: found.get(short) for name, short in _NAMES.items()}
    known: dict[str, Any] = {name: one for name, one in read.items() if isinstance(one, str if name in _TEXTS else int)}
    return Said(**known)


def made_anew(at: TopicPartition, was: str, now: str, *, read: bool = True) -> TopicError:
    """What is said when a topic is not the one that the offset was committed for.

    Args:
        read: something was read of the deleted one.
    """
    how = f"topic {at.topic} was deleted and created again (its id was {was}, now it is {now})"
    if not read:
        return TopicError(f"{how}: nothing of {at} was read before, and the new one is read from its start")
    return TopicError(
        f"{how}: the offset committed for "
        f"{at} belongs to the deleted topic; set lost_offsets to continue, to read the new topic from its start with "
        "the state as it is, or reset the app"
    )


def changelog_lost(topic: str, task: str, *, again: bool = True) -> TopicError:
    """What is said when a changelog is not the one that the task's offsets were committed with.

    Args:
        again: there is one of that name.
    """
    how = "was deleted and created again" if again else "does not exist any more (or this user may not see it)"
    return TopicError(
        f"changelog {topic} {how}: what task {task} had in it is gone, and the committed offsets lie behind "
        "the records that made it; the local state is left as it is. Fill the store from it (kstream state export "
        "--state-dir, kstream state import), restore a savepoint, or begin anew (kstream reset); with "
        "lost_offsets=continue the store begins with what "
        "the new changelog has, and the local state is given up"
    )


def state_without_offsets(task: str, stores: Sequence[str], group: str, inputs: Sequence[TopicPartition]) -> str:
    """What is said when a task has entries, and nothing is committed of its inputs."""
    return (
        f"state without offsets: task {task} has entries in {', '.join(stores)}, but group {group} has no committed "
        f"offsets for {', '.join(map(str, inputs))} (deleted, as they are with the topic, or expired)"
    )


def counted_without_offsets(task: str, topics: Sequence[str], group: str, inputs: Sequence[TopicPartition]) -> str:
    """What is said when what a task wrote was read, and nothing is committed of its inputs."""
    return (
        f"lost offsets: group {group} has no committed offsets for {', '.join(map(str, inputs))} (deleted, as they are "
        f"with the topic, or expired), but what task {task} wrote to {', '.join(topics)} was counted"
    )


SET_OR_RESET: Final = (
    "set the group's offsets, or reset the app; with lost_offsets=continue reading starts where auto_offset_reset says,"
    " and records may count twice"
)
