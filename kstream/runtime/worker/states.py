"""The states of a worker, its membership in the group, its transaction, its restores and its part in a savepoint, with
their legal moves."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class WorkerState(Enum):
    """NEW -> RUNNING -> STOPPING -> CLOSED; any state may go to CLOSED (without a last commit)."""

    NEW = "new"
    RUNNING = "running"
    STOPPING = "stopping"
    CLOSED = "closed"


WORKER_MOVES: Mapping[WorkerState, frozenset[WorkerState]] = {
    WorkerState.NEW: frozenset({WorkerState.RUNNING, WorkerState.STOPPING, WorkerState.CLOSED}),
    WorkerState.RUNNING: frozenset({WorkerState.STOPPING, WorkerState.CLOSED}),
    WorkerState.STOPPING: frozenset({WorkerState.CLOSED}),
    WorkerState.CLOSED: frozenset(),
}


class MembershipState(Enum):
    """What the worker is in its consumer group.

        OUT -> ASSIGNED -> MEMBER -> OUT or DOUBTFUL -> ASSIGNED -> ...

    OUT: no partitions, and what was done before was committed or taken back. DOUBTFUL: no partitions, and the last
    commit failed half-way: whatever comes back is restored in full. ASSIGNED: partitions were just told; the
    group's metadata is not taken yet. MEMBER: the metadata at hand is that of this assignment.
    """

    OUT = "out"
    DOUBTFUL = "doubtful"
    ASSIGNED = "assigned"
    MEMBER = "member"


MEMBERSHIP_MOVES: Mapping[MembershipState, frozenset[MembershipState]] = {
    MembershipState.OUT: frozenset({MembershipState.ASSIGNED, MembershipState.OUT, MembershipState.DOUBTFUL}),
    MembershipState.DOUBTFUL: frozenset({MembershipState.ASSIGNED, MembershipState.DOUBTFUL}),
    MembershipState.ASSIGNED: frozenset(
        {MembershipState.MEMBER, MembershipState.OUT, MembershipState.DOUBTFUL, MembershipState.ASSIGNED}
    ),
    MembershipState.MEMBER: frozenset({MembershipState.OUT, MembershipState.DOUBTFUL, MembershipState.ASSIGNED}),
}


class TransactionState(Enum):
    """IDLE -> OPEN -> IDLE by commit or abort; any -> LOST when the producer is of no more use; LOST -> IDLE by a
    new producer."""

    LOST = "lost"
    IDLE = "idle"
    OPEN = "open"


TRANSACTION_MOVES: Mapping[TransactionState, frozenset[TransactionState]] = {
    TransactionState.LOST: frozenset({TransactionState.IDLE}),
    TransactionState.IDLE: frozenset({TransactionState.OPEN, TransactionState.LOST}),
    TransactionState.OPEN: frozenset({TransactionState.IDLE, TransactionState.LOST}),
}


class RestoreStage(Enum):
    """How far the restore of one task is.

        OFFSETS <-> ENDS -> REPLAY -> DONE
           |        ^  ^       |
           |    FETCH  +-------+
           +----------------------> DONE

    A task without local state fetches a snapshot (ENDS to FETCH and back), where there are some.
    A topic that was made anew meanwhile leads from ENDS back to OFFSETS, and a position that is no longer in its
    changelog from REPLAY back to ENDS. A task whose own offsets are still
    the group's has nothing to replay. A restore begins anew by a new one, in OFFSETS.
    """

    OFFSETS = "waiting for stable offsets"
    ENDS = "asking for the changelogs' ends"
    FETCH = "fetching a snapshot"
    REPLAY = "replaying changelogs"
    DONE = "restored"


RESTORE_MOVES: Mapping[RestoreStage, frozenset[RestoreStage]] = {
    RestoreStage.OFFSETS: frozenset({RestoreStage.ENDS, RestoreStage.DONE}),
    RestoreStage.ENDS: frozenset({RestoreStage.FETCH, RestoreStage.REPLAY, RestoreStage.OFFSETS}),
    RestoreStage.FETCH: frozenset({RestoreStage.ENDS}),
    RestoreStage.REPLAY: frozenset({RestoreStage.DONE, RestoreStage.ENDS}),
    RestoreStage.DONE: frozenset(),
}


class PartState(Enum):
    """A worker's part in a savepoint.

        IDLE -> HOLDING -> CAPTURING -> CAPTURED -> IDLE

    HOLDING: nothing is taken of inputs that are not the app's own. CAPTURING, CAPTURED: nothing is processed or
    committed; the local state is being, has been copied. From each of them a refusal, the time limit or an abort leads
    to IDLE, where the tasks go on.
    """

    IDLE = "idle"
    HOLDING = "holding"
    CAPTURING = "capturing"
    CAPTURED = "captured"


PART_MOVES: Mapping[PartState, frozenset[PartState]] = {
    PartState.IDLE: frozenset({PartState.HOLDING}),
    PartState.HOLDING: frozenset({PartState.CAPTURING, PartState.IDLE}),
    PartState.CAPTURING: frozenset({PartState.CAPTURED, PartState.IDLE}),
    PartState.CAPTURED: frozenset({PartState.IDLE}),
}
