"""What is committed with an offset, and offsets that cannot be trusted.

An offset belongs to one topic, known by its id: a topic that was deleted and created again has other records at the
same offsets. The id is committed with each offset, in its metadata. State is committed with offsets in one transaction:
where there is state and there are no offsets, they were deleted or have expired, and reading from the start would count
everything twice.

A commit may move no offset, and change state all the same: so each one has a number. Equal offsets alone do not say
that nobody else had the task meanwhile.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from kstream.errors import TopicError
from kstream.runtime.task.failures import TaskFailed
from kstream.runtime.task.task import Task
from kstream.types import DescribedTopic, TopicPartition

log = logging.getLogger(__name__)

VERSION: Final = 1
"""Of the form of the metadata. It has 4096 bytes at most, by the brokers' default."""


class Said(NamedTuple):
    """What is committed with an offset.

    Attributes:
        topic_id: None where the broker gives topics no id, and where another tool set the offset.
        commit: the number of the task's commit.
        event_time, wall_time: the time of the task's state (ms since the epoch), 0 where it keeps none.
    """

    topic_id: str | None = None
    commit: int = 0
    event_time: int = 0
    wall_time: int = 0


_NAMES: Final = {"topic_id": "id", "commit": "n", "event_time": "e", "wall_time": "w"}


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
    if found["v"] > VERSION:
        raise TopicError(
            f"{at}: its offset was committed by a later version of kstream (metadata version {found['v']}, this "
            f"version reads up to {VERSION}): run the later version"
        )
    topic_id, *numbers = (found.get(name) for name in _NAMES.values())
    return Said(
        topic_id if isinstance(topic_id, str) else None,
        *(one if isinstance(one, int) else 0 for one in numbers),
    )


def metadata_of(task: Task, commit: int) -> dict[TopicPartition, str]:
    """What lies beside the offsets of a task's commit of this number."""
    times = task.ageing.times
    return {at: encode(Said(task.topic_ids.get(at), commit, *times)) for at in task.positions}


def made_anew(at: TopicPartition, was: str, now: str) -> TopicError:
    """What is said when a topic is not the one that the offset was committed for."""
    return TopicError(
        f"topic {at.topic} was deleted and created again (its id was {was}, now it is {now}): the offset committed for "
        f"{at} belongs to the deleted topic; set lost_offsets to continue, to read the new topic from its start with "
        "the state as it is, or reset the app"
    )


class CommittedOffsets:
    """Looks at what a restore found committed.

    Args:
        group: whose offsets they are, for messages.
        lost: what a task does whose offsets cannot be trusted.
        reset: where an input without a committed offset is read from (`auto_offset_reset`).
        exactly_once: with at-least-once, a crash in the very first commit leaves state without offsets: that is only
            logged.
    """

    def __init__(
        self, group: str, lost: Literal["stop", "continue"], reset: Literal["earliest", "latest", "error"], *,
        exactly_once: bool,
    ) -> None:  # fmt: skip
        self._group, self._stop, self._reset, self._exactly_once = group, lost == "stop", reset, exactly_once

    def position(self, task: Task, at: TopicPartition, committed: int | None, start: int, end: int) -> int:
        """Where an input is read from: the committed offset, if the log still has it.

        Args:
            committed: None where nothing is committed.
            start, end: the bounds of the input's log.

        Raises:
            TaskFailed: the log does not have it, and `auto_offset_reset` is "error".
        """
        if committed is not None and start <= committed <= end:
            return committed
        if committed is None:
            problem = f"{at} has no committed offset"
        elif committed < start:
            problem = f"{at}: {start - committed} records after the committed offset {committed} were deleted"
        else:
            problem = f"{at}: the committed offset {committed} lies beyond the end {end}: was the topic created again?"
        if self._reset == "error":
            text = f"{problem}, and auto_offset_reset is 'error': set it to earliest or latest, or reset the app"
            raise TaskFailed(task.name, TopicError(text))
        if committed is not None:
            log.error(
                "task %s: %s; reading continues with the first record that is there, at offset %d",
                task.name, problem, start,
            )  # fmt: skip
            return start
        if self._reset == "latest":
            task.touched = True  # committed soon, so that a restart does not skip what comes until then
            return end
        return start

    def made_anew(
        self, task: Task, found: Mapping[TopicPartition, tuple[int, str] | None], topics: Mapping[str, DescribedTopic]
    ) -> set[TopicPartition]:
        """Inputs whose offsets were committed for a topic that was deleted since, and created again under its name.

        Raises:
            TaskFailed: there are some, and that stops the task; or a later version of kstream committed them.
        """
        anew = set()
        for at, entry in found.items():
            now = topics[at.topic].id if at.topic in topics else None
            try:
                was = None if entry is None else decode(entry[1], at).topic_id
            except TopicError as error:
                raise TaskFailed(task.name, error) from None
            if was is None or now is None or was == now:
                continue
            problem = made_anew(at, was, now)
            if self._stop:
                raise TaskFailed(task.name, problem)
            log.warning("task %s: %s", task.name, problem)
            anew.add(at)
        return anew

    def check_state(self, task: Task, committed: Mapping[TopicPartition, int | None]) -> None:
        """Once the state is restored.

        Raises:
            TaskFailed: there is state without any offsets.
        """
        if any(offset is not None for offset in committed.values()):
            return
        kept = [name for name in task.stores if next(iter(task.backend.scan(name)), None) is not None]
        if not kept:
            return
        problem = (
            f"state without offsets: task {task.name} has entries in {', '.join(kept)}, but group "
            f"{self._group} has no committed offsets for {', '.join(map(str, task.inputs))} "
            "(deleted, as they are with the topic, or expired)"
        )
        if not self._stop or not self._exactly_once:
            log.warning("%s; reading starts where auto_offset_reset says, and records may count twice", problem)
            return
        raise TaskFailed(
            task.name,
            TopicError(
                f"{problem}: set the group's offsets, or reset the app; with lost_offsets=continue reading starts "
                "where auto_offset_reset says, and records may count twice"
            ),
        )
