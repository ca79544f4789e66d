"""The states of a worker, of its membership in the group and of its transaction, with their legal moves."""

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
