"""Offsets that cannot be trusted, and what is committed with them (runtime/cluster/metadata.py)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from kstream.config import Settings
from kstream.errors import TopicError
from kstream.runtime.cluster.covered import WITNESSES, inputs_of, lost_changelogs, lost_inputs
from kstream.runtime.cluster.metadata import (
    SET_OR_RESET,
    Said,
    changelog_lost,
    counted_without_offsets,
    decode,
    encode,
    made_anew,
    state_without_offsets,
)
from kstream.runtime.task.failures import TaskFailed
from kstream.runtime.task.task import Task
from kstream.runtime.worker.downstream import Downstream
from kstream.topology import Topology
from kstream.types import DescribedTopic, TopicPartition

log = logging.getLogger(__name__)


def metadata_of(task: Task, commit: int) -> dict[TopicPartition, str]:
    """What lies beside the offsets of a task's commit of this number."""
    ageing, positions = task.ageing, task.positions
    covered = inputs_of(at.topic for at in positions), task.changelog_note
    witnesses = set(sorted(positions)[:WITNESSES])
    return {
        at: encode(
            Said(
                task.topic_ids.get(at), commit, *ageing.times, *ageing.times_of(at),
                *(covered if at in witnesses else ("", "")), waited=ageing.waited(at),
            )
        )
        for at in positions
    }  # fmt: skip


class CommittedOffsets:
    """Looks at what a restore found committed.

    Args:
        group: whose offsets they are, for messages.
        settings: what a task does whose offsets cannot be trusted (`lost_offsets`), and where an input without a
            committed offset is read from (`auto_offset_reset`).
        counts: partitions of each topic.
        exactly_once: with at-least-once, a crash in the very first commit leaves state without offsets: that is only
            logged.

    Attributes:
        downstream: where what tasks without state write is counted.
    """

    def __init__(
        self, group: str, settings: Settings, topology: Topology, counts: Mapping[str, int], *, exactly_once: bool
    ) -> None:
        self.downstream = Downstream(topology, counts)
        self._group, self._reset, self._exactly_once = group, settings.auto_offset_reset, exactly_once
        self._stop = settings.lost_offsets == "stop"

    def position(self, task: Task, at: TopicPartition, committed: int | None, start: int, end: int) -> int:
        """Where an input is read from: the committed offset, if the log still has it.

        Args:
            committed: None where nothing is committed.
            start, end: the bounds of the input's log.

        Raises:
            TaskFailed: the log does not have it, and `auto_offset_reset` is "error"; or it has lost records that were
                processed, and that stops the task.
        """
        if committed is not None and start <= committed <= end:
            return committed
        if committed is None:
            problem = f"{at} has no committed offset"
        elif committed < start:
            problem = f"{at}: {start - committed} records after the committed offset {committed} were deleted"
        else:
            problem = f"{at}: the committed offset {committed} lies beyond the end {end}: records that were processed"
            problem += " are gone (a broker that had them died, and one without them took its place)"
            if self._stop:  # what the log has from its start on was processed, too
                raise TaskFailed(task.name, TopicError(f"{problem}: {SET_OR_RESET}"))
        if self._reset == "error":
            text = f"{problem}, and auto_offset_reset is 'error': set it to earliest or latest, or reset the app"
            raise TaskFailed(task.name, TopicError(text))
        if committed is not None:
            to = end if committed > end and self._reset == "latest" else start
            log.error("task %s: %s; reading continues at offset %d", task.name, problem, to)
            return to
        if self._reset == "latest":
            task.touched = True  # committed soon, so that a restart does not skip what comes until then
            return end
        return start

    def said(self, task: Task, found: Mapping[TopicPartition, tuple[int, str] | None]) -> dict[TopicPartition, Said]:
        """What lies beside each offset; nothing where there is none.

        Raises:
            TaskFailed: a later version of kstream committed one of them.
        """
        try:
            return {at: Said() if entry is None else decode(entry[1], at) for at, entry in found.items()}
        except TopicError as error:
            raise TaskFailed(task.name, error) from None

    def made_anew(
        self,
        task: Task,
        said: Mapping[TopicPartition, Said],
        committed: Mapping[TopicPartition, int | None],
        topics: Mapping[str, DescribedTopic],
    ) -> set[TopicPartition]:
        """Inputs whose offsets were committed for a topic that was deleted since, and created again under its name.
        With 0 nothing of it was read.

        Args:
            said: beside each offset.
            topics: all that the task reads.

        Raises:
            TaskFailed: there are some, and that stops the task.
        """
        anew = set()
        for at, one in said.items():
            was, now = one.topic_id, topics[at.topic].id
            if was is None or now is None or was == now:
                continue
            anew.add(at)
            if not committed[at]:
                continue
            problem = made_anew(at, was, now)
            if self._stop:
                raise TaskFailed(task.name, problem)
            log.warning("task %s: %s", task.name, problem)
        return anew

    def lost_state(self, task: Task, said: Said, ids: Mapping[str, str]) -> bool:
        """Whether a changelog was deleted, and created again, since it was committed to. Before anything is done to the
        local state: it is the only copy left.

        Args:
            said: by the task's last commit.
            ids: of its changelogs, by topic.

        Raises:
            TaskFailed: so it is, and that stops the task.
        """
        lost = lost_changelogs(said, ids)
        for topic in lost:
            problem = changelog_lost(topic, task.name)
            if self._stop:
                raise TaskFailed(task.name, problem)
            log.warning("task %s: %s", task.name, problem)
        return bool(lost)

    def check_state(
        self, task: Task, committed: Mapping[TopicPartition, int | None], said: Said, counted: Sequence[str]
    ) -> bool:
        """Once the state is restored: whether it goes on without offsets that it had.

        Args:
            said: by the task's last commit.
            counted: the app's own topics whose readers counted what came of inputs that have no offsets.

        Raises:
            TaskFailed: there is state, here or behind, and the offset of an input that was committed with it is gone.
        """
        lost = lost_inputs(committed, said)
        if not lost:
            return False
        kept = [name for name in task.stores if next(iter(task.backend.scan(name)), None) is not None]
        if kept:
            problem = state_without_offsets(task.name, kept, self._group, lost)
        elif counted := counted or (self.downstream.leading(task.part) if len(lost) < len(committed) else []):
            problem = counted_without_offsets(task.name, counted, self._group, lost)
        else:
            return False
        if not self._stop or not self._exactly_once:
            log.warning("%s; reading starts where auto_offset_reset says, and records may count twice", problem)
            return True
        raise TaskFailed(task.name, TopicError(f"{problem}: {SET_OR_RESET}"))
