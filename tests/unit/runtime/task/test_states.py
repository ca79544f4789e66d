"""States and their legal moves: the tables are the whole of what is legal, and each illegal move raises."""

from __future__ import annotations

from enum import Enum
from itertools import product
from typing import Any

import pytest

from kstream.runtime.task.states import TASK_MOVES, TaskState, move
from kstream.runtime.worker.states import (
    MEMBERSHIP_MOVES,
    RESTORE_MOVES,
    TRANSACTION_MOVES,
    WORKER_MOVES,
    MembershipState,
    RestoreStage,
    TransactionState,
    WorkerState,
)

TABLES: list[tuple[type[Enum], Any]] = [
    (TaskState, TASK_MOVES),
    (TransactionState, TRANSACTION_MOVES),
    (WorkerState, WORKER_MOVES),
    (MembershipState, MEMBERSHIP_MOVES),
    (RestoreStage, RESTORE_MOVES),
]


@pytest.mark.parametrize(("states", "moves"), TABLES)
def test_every_state_is_in_the_table_and_can_be_reached(states: type[Enum], moves: Any) -> None:
    assert set(moves) == set(states)
    first = next(iter(states))
    reached, new = {first}, {first}
    while new:
        new = {to for state in new for to in moves[state]} - reached
        reached |= new
    assert reached == set(states)


@pytest.mark.parametrize(("states", "moves"), TABLES)
def test_only_moves_of_the_table_are_legal(states: type[Enum], moves: Any) -> None:
    for now, to in product(states, states):
        if to in moves[now]:
            move("it", now, to, moves)
        else:
            with pytest.raises(RuntimeError, match=f"it cannot go from {now.value} to {to.value}"):
                move("it", now, to, moves)


def test_what_the_drawing_of_the_tasks_states_says() -> None:
    S = TaskState
    assert all(S.CLOSED in TASK_MOVES[state] for state in S if state is not S.CLOSED)
    assert TASK_MOVES[S.CLOSED] == frozenset()
    assert S.RUNNING not in TASK_MOVES[S.CREATED], "a task is restored before it runs"
    assert S.RUNNING not in TASK_MOVES[S.FAILED], "a task that failed is restored before it runs"
    assert S.SUSPENDED in TASK_MOVES[S.RUNNING] & TASK_MOVES[S.RESTORING] & TASK_MOVES[S.FAILED]


def test_a_lost_producer_is_replaced_before_anything_is_sent() -> None:
    assert TRANSACTION_MOVES[TransactionState.LOST] == {TransactionState.IDLE}
