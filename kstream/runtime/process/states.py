"""The states of a worker process, as its supervisor sees them, with their legal moves."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class ProcessState(Enum):
    r"""The place of a worker in its instance, which outlives its processes.

        NEW -> STARTING -> RUNNING -> RETIRING
                 ^    |       |   \      |
                 |    v       v    v     v
                RESTARTING <--+   STOPPING
                      |              |
                      v              v
                    STOPPED <--------+

    STARTING is over when the worker was given an assignment. RETIRING makes its last commit because there is one worker
    too many, STOPPING because the instance stops. From every state it may go to STOPPED, which is final.
    """

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    RETIRING = "retiring"
    STOPPING = "stopping"
    RESTARTING = "restarting"
    STOPPED = "stopped"

    @property
    def has_process(self) -> bool:
        return self in _WITH_PROCESS


_WITH_PROCESS = frozenset(
    {ProcessState.STARTING, ProcessState.RUNNING, ProcessState.RETIRING, ProcessState.STOPPING}
)  # fmt: skip

PROCESS_MOVES: Mapping[ProcessState, frozenset[ProcessState]] = {
    ProcessState.NEW: frozenset({ProcessState.STARTING, ProcessState.STOPPED}),
    ProcessState.STARTING: frozenset(
        {
            ProcessState.RUNNING, ProcessState.RETIRING, ProcessState.STOPPING, ProcessState.RESTARTING,
            ProcessState.STOPPED,
        }
    ),
    ProcessState.RUNNING: frozenset(
        {ProcessState.RETIRING, ProcessState.STOPPING, ProcessState.RESTARTING, ProcessState.STOPPED}
    ),
    ProcessState.RETIRING: frozenset({ProcessState.STOPPING, ProcessState.STOPPED}),
    ProcessState.STOPPING: frozenset({ProcessState.STOPPED}),
    ProcessState.RESTARTING: frozenset({ProcessState.STARTING, ProcessState.STOPPED}),
    ProcessState.STOPPED: frozenset(),
}  # fmt: skip
