"""The moves of a worker process in its instance."""

from __future__ import annotations

import itertools

import pytest

from kstream.config import Settings
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.handle import WorkerProcess, pauses_from
from kstream.runtime.process.states import PROCESS_MOVES, ProcessState


@pytest.mark.parametrize(("now", "to"), list(itertools.product(ProcessState, ProcessState)))
def test_only_legal_moves_are_made(now: ProcessState, to: ProcessState) -> None:
    worker = WorkerProcess(Identity("app", "a", 0), pauses_from(Settings(restart_jitter=0)), state=now)
    if to in PROCESS_MOVES[now]:
        worker.go(to)
        assert worker.state is to
    else:
        with pytest.raises(RuntimeError, match=f"worker 0 cannot go from {now.value} to {to.value}"):
            worker.go(to)
        assert worker.state is now


def test_stopped_is_final_and_reached_from_everywhere() -> None:
    assert PROCESS_MOVES[ProcessState.STOPPED] == frozenset()
    assert all(
        ProcessState.STOPPED in PROCESS_MOVES[state] for state in ProcessState if state is not ProcessState.STOPPED
    )


def test_only_what_has_no_process_is_started() -> None:
    begins = {state for state in ProcessState if ProcessState.STARTING in PROCESS_MOVES[state]}
    assert begins == {ProcessState.NEW, ProcessState.RESTARTING}
    assert not any(state.has_process for state in begins)
