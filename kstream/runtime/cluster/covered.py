"""What a commit covered: the inputs that had offsets with it, and the changelogs its state went to.

A task commits the offsets of all its inputs at once. So an input without an offset is either new to the app, or its
offset is gone (brokers delete offsets with the topic). The offsets that are left tell which: some of them name all
inputs that they were committed with. They name the changelogs too, with their ids: one that has another id now lost
what was in it, while a store that the commit did not name is new, and rightly empty.

Names are kept as checksums of eight characters, since metadata is short. Two that are equal by chance are one case in
four thousand million. What does not fit is not named, and nothing is known of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from zlib import crc32

from kstream.runtime.cluster.metadata import Said, decode
from kstream.types import TopicPartition

MOST: Final = 1600
"""Characters for the inputs, and as many for the changelogs: 200 inputs and 100 stores a task. All of an offset's
metadata may be 4096 characters long."""

WITNESSES: Final = 3
"""Inputs of a task beside whose offsets this lies. Brokers write all offsets of a worker's commit as one batch, of at
most a megabyte: beside each of twenty inputs of a hundred tasks it would not fit. Where the offsets of all three are
gone and others are not, nothing is known."""

_WIDTH: Final = 8


def inputs_of(topics: Iterable[str]) -> str:
    """How a commit names its inputs. One that is alone has nobody to be told of."""
    names = "".join(map(_sum, topics))
    return names[:MOST] if len(names) > _WIDTH else ""


def changelogs_of(ids: Mapping[str, str], topics: Iterable[str], said: Said) -> str:
    """How a commit names its changelogs.

    Args:
        ids: by topic.
        topics: all of them. Of one without an id, what was said before holds: an answer without ids says nothing of it.
        said: by the task's last commit.
    """
    names = {_sum(topic): _sum(one) for topic, one in ids.items()}
    before = _pairs(said.changelogs)
    kept = {name: before[name] for name in map(_sum, topics) if name in before and name not in names}
    return "".join(name + one for name, one in (names | kept).items())[:MOST]


def newest(found: Mapping[TopicPartition, tuple[int, str] | None]) -> Said:
    """What the last commit of a task said, of all that lies beside its offsets: where it said most.

    Raises:
        TopicError: a later version of kstream committed one of them.
    """
    said = (decode(entry[1], at) for at, entry in found.items() if entry is not None)
    return max(said, key=lambda one: (one.commit, len(one.inputs) + len(one.changelogs)), default=Said())


def is_by_others(said: Said, committed: Mapping[TopicPartition, object | None]) -> bool:
    """Whether another tool has set all offsets that there are (`kafka-consumer-groups --reset-offsets`).

    Args:
        said: by the task's last commit.
        committed: None where nothing is committed.
    """
    return not said.commit and any(entry is not None for entry in committed.values())


def is_new(note: str, said: Said, committed: Mapping[TopicPartition, object | None]) -> bool:
    """Whether a task's next commit says what lies beside none of its offsets, as where these came from another tool, or
    with a savepoint: it is made soon, though there be no record.

    Args:
        note: which changelogs there are, as that commit says it.
    """
    if all(entry is None for entry in committed.values()):
        return False
    return is_by_others(said, committed) or bool(note and not said.changelogs)


def number_of(said: Said, committed: Mapping[TopicPartition, object | None], now: float) -> int:
    """The number of a task's last commit. Where there are offsets and no number, another tool set them: it goes on
    above all numbers that there have been, since an input that is not read for the moment may still have one.

    Args:
        said: by the task's last commit.
        committed: None where nothing is committed.
        now: seconds since the epoch. No task commits a thousand times a second.
    """
    return int(now * 1000) if is_by_others(said, committed) else said.commit


def lost_inputs(committed: Mapping[TopicPartition, object | None], said: Said) -> list[TopicPartition]:
    """The inputs of a task that must have had offsets, if it has state, and have none.

    Args:
        committed: None where nothing is committed.
        said: by the task's last commit.
    """
    without = [at for at, entry in committed.items() if entry is None]
    if len(without) == len(committed):
        return without
    known = set(_parts(said.inputs))
    return [at for at in without if _sum(at.topic) in known]


def lost_changelogs(said: Said, ids: Mapping[str, str]) -> list[str]:
    """The changelogs, by topic, that are others than those of the task's last commit.

    Args:
        ids: as they are now.
    """
    known = _pairs(said.changelogs)
    return [topic for topic, one in ids.items() if known.get(_sum(topic), _sum(one)) != _sum(one)]


def names_changelog(said: Said, topic: str, one: str) -> bool:
    """Whether a commit was made with the changelog that has this id."""
    return _pairs(said.changelogs).get(_sum(topic)) == _sum(one)


def without_changelog(said: Said, topic: str) -> Said:
    """For a changelog that was made anew on purpose, with what the store is to have."""
    gone = _sum(topic)
    return said._replace(
        changelogs="".join(name + one for name, one in _pairs(said.changelogs).items() if name != gone)
    )


def _pairs(text: str) -> dict[str, str]:
    parts = _parts(text)
    return dict(zip(parts[::2], parts[1::2], strict=False))


def _parts(text: str) -> list[str]:
    return [text[start : start + _WIDTH] for start in range(0, len(text), _WIDTH)]


def _sum(text: str) -> str:
    return f"{crc32(text.encode()):08x}"
