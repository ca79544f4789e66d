"""A savepoint of an app that runs, over all of its instances: who makes it, and why what it has is of one moment.

The command asks through the control topic (control.py), each worker answers for its tasks (worker/savepoint.py):

1. HOLDING: nothing more is taken from outside. The app goes on with its own topics until they are empty.
2. CAPTURING: nothing more is processed or committed; each worker copies its local state.
3. STORING: the workers go on (or, where they are to stop, wait), and store the copies. When all are there, the
   savepoint's own file is written, last.

Whatever the clocks and whoever dies meanwhile: when all have captured, Kafka is asked once more. Offsets only grow.
Where each committed offset is the one that was captured, and the app's own topics end where they were read to, nobody
has committed a record between the first copy and the last: all of them are of one moment. Else there is no savepoint.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Final

from kstream.runtime.cluster.control import Answer, Offset, TaskPart
from kstream.types import TopicPartition


class Stage(Enum):
    """How far a savepoint is.

        HOLDING -> CAPTURING -> STORING -> DONE

    Each but DONE may go to ABORTED.
    """

    HOLDING = "waiting until nothing is under way"
    CAPTURING = "copying local state"
    STORING = "storing the copies"
    DONE = "done"
    ABORTED = "aborted"


STAGE_MOVES: Final[Mapping[Stage, frozenset[Stage]]] = {
    Stage.HOLDING: frozenset({Stage.CAPTURING, Stage.ABORTED}),
    Stage.CAPTURING: frozenset({Stage.STORING, Stage.ABORTED}),
    Stage.STORING: frozenset({Stage.DONE, Stage.ABORTED}),
    Stage.DONE: frozenset(),
    Stage.ABORTED: frozenset(),
}

SHOWN: Final = 3


class Coordination:
    """What is known of a savepoint that is being made. Does no I/O.

    Args:
        id: answers to other attempts are passed over.
        tasks: all that the app has, each with its isolation group.
        internal: its repartition and delay topics.

    Attributes:
        why: of an abort.
    """

    def __init__(self, id: str, tasks: Mapping[str, str], internal: Collection[str]) -> None:
        self._id, self._groups, self._tasks, self._internal = id, tasks, frozenset(tasks), frozenset(internal)
        self._answers: dict[str, Answer] = {}  # the latest of each worker
        self.stage = Stage.HOLDING
        self.why = ""

    def go(self, to: Stage) -> None:
        """Raises RuntimeError when it may not go there."""
        if to not in STAGE_MOVES[self.stage]:
            raise RuntimeError(f"a savepoint cannot go from {self.stage.value} to {to.value}")
        self.stage = to

    def abort(self, why: str) -> None:
        self.go(Stage.ABORTED)
        self.why = why

    def hear(self, answer: Answer) -> None:
        if answer.id != self._id or self.stage in (Stage.DONE, Stage.ABORTED):
            return
        if answer.phase == "refused":
            self.abort(f"worker {answer.worker} refuses: {answer.why}")
            return
        self._answers[answer.worker] = answer

    # ---- what is known

    def parts(self, *phases: str) -> dict[str, TaskPart]:
        """The tasks of workers that are in one of these phases."""
        return {
            name: part
            for answer in self._answers.values()
            if answer.phase in phases
            for name, part in answer.tasks.items()
            if name in self._tasks
        }

    @property
    def quiet(self) -> bool:
        """Every task is held by a worker, and has nothing more to do."""
        held = self.parts("holding")
        return held.keys() == self._tasks and all(part.quiet for part in held.values())

    @property
    def captured(self) -> bool:
        return self.parts("captured", "stored").keys() == self._tasks

    @property
    def stored(self) -> bool:
        return self.parts("stored").keys() == self._tasks

    def left_in(self, ends: Mapping[TopicPartition, int]) -> list[TopicPartition]:
        """The app's own topics, as far as there is something in them that was not read.

        Args:
            ends: of the logs, asked for just now.
        """
        read = [each for _, each in self.offsets() if each.topic in self._internal]
        return [at for each in read if each.position < ends[at := TopicPartition(each.topic, each.partition)]]

    def offsets(self) -> list[tuple[str, Offset]]:
        """Of all inputs of all tasks, with the isolation group that reads them."""
        parts = self.parts("holding", "captured", "stored")
        return [(self._groups[name], each) for name, part in parts.items() for each in part.offsets]

    def moved(
        self,
        committed: Mapping[str, Mapping[TopicPartition, tuple[int, str] | None]],
        ends: Mapping[TopicPartition, int],
    ) -> str | None:
        """What somebody did since tasks were captured; None where nobody did anything, so that all are of one moment.

        Args:
            committed: in Kafka by each isolation group, asked for when all had captured.
            ends: of the app's own topics, the same.
        """
        for group, each in self.offsets():
            at = TopicPartition(each.topic, each.partition)
            now = committed[group].get(at)
            if now is not None and now[0] != each.committed:
                return f"{at} was committed at {each.committed} and is at {now[0]} now"
        if left := self.left_in(ends):
            return f"{left[0]} has records that came meanwhile"
        return None

    def waiting_for(self) -> str:
        """Why it does not go on, for whoever waits."""
        if self.stage is Stage.HOLDING:
            held = self.parts("holding")
            if missing := self._tasks - held.keys():
                return f"no worker has answered for {_shown(missing)}"
            if busy := {name for name, part in held.items() if not part.quiet}:
                return f"{_shown(busy)} still has records under way"
            return "there are records in the app's repartition and delay topics"
        if self.stage is Stage.CAPTURING:
            return f"{_shown(self._tasks - self.parts('captured', 'stored').keys())} is not copied"
        return f"{_shown(self._tasks - self.parts('stored').keys())} is not stored"


def _shown(tasks: Collection[str]) -> str:
    first = ", ".join(sorted(tasks)[:SHOWN])
    more = f" and {len(tasks) - SHOWN} more" if len(tasks) > SHOWN else ""
    return f"task {first}{more}"
