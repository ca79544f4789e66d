"""What probes answer, and why."""

from __future__ import annotations

import pytest

from kstream.config import Settings
from kstream.observe.status import InputStatus, TableStatus, TaskStatus
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.handle import WorkerProcess, pauses_from
from kstream.runtime.process.report import Held, Report
from kstream.runtime.process.states import ProcessState
from kstream.runtime.view import health
from kstream.runtime.view.health import Stalls
from kstream.runtime.view.holdups import explained

SETTINGS = Settings(restart_jitter=0, stall_timeout=60, max_poll_interval=300)


def task(position: int = 0, lag: int = 0, state: str = "running", **more: str) -> TaskStatus:
    return TaskStatus("t/0", "0", state, lag=lag, inputs=[InputStatus("t", 0, position, lag)], **more)


def worker(*tasks: TaskStatus, joined: bool = True) -> WorkerProcess:
    state = ProcessState.RUNNING if joined else ProcessState.STARTING
    report = Report(joined=joined, tasks=list(tasks))
    return WorkerProcess(Identity("app", "a", 0), pauses_from(SETTINGS), state=state, report=report, heard=100.0)


def down(now: float, why: str) -> WorkerProcess:
    one = worker()
    one.pauses.failed(now)
    one.go(ProcessState.RESTARTING)
    one.last_error = why
    return one


def ready(one: WorkerProcess, stalls: Stalls | None = None, now: float = 101.0, **how: bool) -> tuple[bool, list[str]]:
    tasks = list(explained(one, now, lambda task, now: False)) if one.runs else []
    found = health.ready(
        now, [one], tasks, stalls or Stalls(60), SETTINGS, **{"stopping": False, "paused": False, **how}
    )
    return found.ok, found.reasons


def test_ready_is_when_every_task_runs() -> None:
    assert ready(worker(task())) == (True, [])
    assert ready(worker()) == (True, []), "a worker without partitions has nothing to wait for"
    assert ready(worker(joined=False)) == (False, ["worker 0 has not joined its group yet"])


def test_ready_is_when_global_tables_are_read() -> None:
    """Tasks that wait for one are no stall, for which a worker is killed in the end: others may go on."""
    one = worker(joined=False)
    one.report.loading, one.report.tables = True, [TableStatus("prices", "prices", "0", lag=70)]
    said = "worker 0 has not joined its group yet: it reads its global tables first: prices (70 records left)"
    assert ready(one) == (False, [said])
    one = worker(task())
    one.report.tables = [TableStatus("prices", "prices", "0", why="topic prices does not exist")]
    said = "worker 0 has tasks that wait for global tables: prices (topic prices does not exist)"
    assert ready(one) == (False, [said])
    one.report.tables[0].there = True
    assert ready(one) == (True, []), "tasks go on with what it has"
    assert ready(worker(task()), stopping=True) == (False, ["stopping"])
    assert ready(worker(task()), paused=True) == (True, ["paused by an operator: no records are processed"])
    restoring = task(state="restoring", why="replaying changelogs")
    assert ready(worker(restoring)) == (False, ["1 task restoring: t/0 (replaying changelogs)"])
    failed = task(state="failed", error="task t/0 stopped at t[0] offset 7: ValueError: bad")
    assert "offset 7: ValueError: bad" in ready(worker(failed))[1][0]
    assert ready(worker(task()), now=161.0) == (False, ["worker 0 has not reported for 61 s"])


def test_a_worker_without_a_broker_says_so_at_once() -> None:
    one = worker(task())
    one.report.alone = 0.5
    assert ready(one) == (False, ["worker 0 has no connection to any broker of Kafka (2 s)"])
    one.hear(Report(joined=True, tasks=[task()]), 103.0)
    assert ready(one, now=103.0) == (True, [])


@pytest.mark.parametrize(("user", "most"), [(False, 5.0), (True, 60.0)])
def test_a_loop_that_stands_in_kafkas_client_is_told_sooner_than_one_in_user_code(user: bool, most: float) -> None:
    one = worker(task())
    one.hear(Report(held=Held(1.0, "commit (producer.py, line 5)", None, user)), 101.0)
    assert ready(one, now=100.0 + most)[0]
    (reason,) = ready(one, now=101.0 + most)[1]
    assert reason.startswith(f"worker 0 has not reported for {most + 1:.0f} s: ")
    one.hear(Report(joined=True, tasks=[task()]), 101.0 + most)
    assert ready(one, now=101.0 + most) == (True, [])


def test_a_worker_that_is_down_says_when_it_is_back() -> None:
    killed = down(104.0, "was killed by SIGKILL")
    assert ready(killed) == (False, ["worker 0 starts again in 4 s: was killed by SIGKILL"])


def test_live_is_green_whatever_kafka_does() -> None:
    """Liveness that turns red during restore, rebalance or an outage kills healthy pods."""
    for one in (down(104.0, "was killed"), worker(joined=False), worker(task(state="restoring"))):
        assert health.live(101.0, 100.0, [one], SETTINGS).ok
    assert health.live(399.0, 399.0, [worker()], SETTINGS).ok, "the supervisor will kill it, and mend it so"
    stuck = health.live(431.0, 431.0, [worker()], SETTINGS)
    assert stuck.reasons == ["worker 0 has not reported for 331 s and could not be killed"]
    assert health.live(140.0, 100.0, [], SETTINGS).reasons == [
        "the supervisor's loop has hung for 40 s"
    ]  # fmt: skip


def test_a_stall_is_lag_without_movement() -> None:
    stalls = Stalls(60)
    for now, found in ((0, task(5, 10)), (30, task(6, 10)), (31, task(6, 11)), (89, task(6, 40))):
        stalls.look(now, [found], paused=False)
        assert not stalls.stalled(now)
    stalls.look(91, [task(6, 50)], paused=False)
    assert stalls.stalled(91) == {"t/0": 61}
    stuck = worker(task(6, 50, why="its agents wait for something outside"))
    assert ready(stuck, stalls, now=91)[1] == [
        "task t/0 has lag and has not moved for 61 s: its agents wait for something outside"
    ]
    for still in (task(6, 0), task(6, 50, state="restoring")):
        stalls.look(200, [task(6, 50)], paused=False)
        stalls.look(201, [still], paused=False)
        assert not stalls.stalled(300), "no lag, or a state that has a reason of its own"
    stalls.look(400, [task(6, 50)], paused=True)
    stalls.look(500, [task(6, 50)], paused=True)
    assert not stalls.stalled(500)
    stalls.look(501, [], paused=False)
    assert not stalls.stalled(900), "it went elsewhere"


def test_work_that_is_not_committed_and_a_lost_place_turn_it_red() -> None:
    one = worker(task())
    one.liveness.hear(Report(joined=True, member=True, uncommitted=3), 101.0)
    assert ready(one, now=150.0)[0]
    assert ready(one, now=99.0 + 63.0)[1] == ["worker 0 has not reported for 62 s"]
    one.heard = 165.0
    assert ready(one, now=165.0)[1] == ["worker 0 has processed records and has not committed (64 s)"]
    one.liveness.hear(Report(joined=True, member=False), 166.0)
    one.heard = 230.0
    assert ready(one, now=230.0)[1] == ["worker 0 has had no place in its consumer group (64 s)"]
    one.spared = True
    assert "Kafka does not answer" in ready(one, now=230.0)[1][-1]


def test_a_task_that_moved_a_moment_ago_moves() -> None:
    stalls = Stalls(60)
    for now, found in ((0, task(5, 10)), (30, task(6, 10)), (31, task(6, 11))):
        stalls.look(now, [found], paused=False)
    assert stalls.moves("t/0", 32.9) and not stalls.moves("t/0", 33.0)
    stalls.look(40, [task(6, 0)], paused=False)
    assert not stalls.moves("t/0", 40), "at its end it may wait for something outside with its last record"
    stalls.look(41, [task(7, 0)], paused=True)
    assert not stalls.moves("t/0", 41), "paused: that is told at once"
    assert not stalls.moves("u/0", 41)


def test_one_that_counts_as_stalled_is_said_to_move_no_more() -> None:
    """With a time shorter than that moment: a stall has its reason from its first second."""
    stalls = Stalls(1.0)
    for now in (30.0, 31.0):
        stalls.look(now, [task(7, 5)], paused=False)
    assert stalls.stalled(31.0) == {"t/0": 1.0} and not stalls.moves("t/0", 31.0)


def test_time_in_which_a_task_did_not_run_is_no_part_of_a_stall() -> None:
    stalls = Stalls(1.0)
    for now, found in ((30.0, task(7, 5, "restoring")), (31.0, task(7, 5)), (32.0, task(7, 5))):
        assert not stalls.stalled(now)
        stalls.look(now, [found], paused=False)
    assert stalls.stalled(32.0) == {"t/0": 1.0}
