"""What is said of a worker that reports nothing, and of its tasks."""

from __future__ import annotations

from kstream.config import Settings
from kstream.observe.status import TaskStatus
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.handle import REMEMBERED_SECONDS, WorkerProcess, pauses_from
from kstream.runtime.process.report import Held, Report
from kstream.runtime.process.states import ProcessState
from kstream.runtime.view.holdups import explained, held_up

SLOW = Held(4.0, "price (shop.py, line 31)", "shop/0", user=True)
RESTORING = TaskStatus("shop/1", "0", "restoring", why="waiting for stable offsets")
TASKS = [
    TaskStatus("shop/0", "0", "running", lag=5),
    RESTORING,
    TaskStatus("shop/2", "0", "running", lag=5),
    TaskStatus("shop/3", "0", "running"),
    TaskStatus("shop/4", "0", "failed", lag=5, error="ValueError"),
]


def worker() -> WorkerProcess:
    one = WorkerProcess(Identity("shop", "a", 0), pauses_from(Settings(restart_jitter=0)), state=ProcessState.RUNNING)
    one.hear(Report(joined=True, tasks=TASKS), 100.0)
    return one


def whys(one: WorkerProcess, now: float) -> list[str | None]:
    return [task.why for task in explained(one, now, lambda task, now: False)]


def test_slow_user_code_is_called_so_and_what_it_holds_up_says_that() -> None:
    one = worker()
    assert held_up(one, 101.0) is None and whys(one, 101.0) == [task.why for task in TASKS]
    one.hear(Report(held=SLOW), 104.0)
    words = "slow user code: price (shop.py, line 31) has not returned for 4 s"
    waits = f"its worker is held up: {words}, in task shop/0"
    assert held_up(one, 104.0) == f"{words}, in task shop/0"
    assert whys(one, 104.0) == [words, waits, waits, None, None]
    assert one.heard == 100.0, "the worker itself is as silent as before: it is killed at max_poll_interval"


def test_what_was_slow_a_moment_ago_is_still_named_where_a_restore_waits_for_it() -> None:
    one = worker()
    one.hear(Report(held=SLOW), 104.0)
    one.hear(Report(joined=True, tasks=TASKS), 104.5)
    took = "slow user code: price (shop.py, line 31) took 4 s, in task shop/0"
    assert held_up(one, 104.5) == took
    assert whys(one, 104.5) == [None, f"its worker is held up: {took}", None, None, None]
    one.hear(Report(joined=True, tasks=TASKS), 104.0 + REMEMBERED_SECONDS + 1)
    assert held_up(one, 115.0) is None and whys(one, 115.0) == [task.why for task in TASKS]


def test_silence_of_which_nothing_is_known_is_said_as_that() -> None:
    """Code that keeps the interpreter to itself does not let the watchdog speak."""
    one = worker()
    words = "worker 0 has not reported for 5 s, and the reason is not known"
    assert held_up(one, 105.0) == words
    assert whys(one, 105.0)[:4] == [f"its worker is held up: {words}"] * 3 + [None]


def test_what_stands_in_kstream_is_not_called_user_code() -> None:
    one = worker()
    one.hear(Report(held=Held(12.0, "Producer.commit (producer.py, line 7)", None, user=False)), 112.0)
    assert held_up(one, 112.0) == "the worker's loop has hung for 12 s in Producer.commit (producer.py, line 7)"


def test_a_new_process_is_not_held_up_by_what_held_up_the_old_one() -> None:
    one = worker()
    one.hear(Report(held=SLOW), 104.0)
    one.state = ProcessState.RESTARTING
    assert held_up(one, 104.0) is None
    one.begin(None, 105.0)  # type: ignore[arg-type]  # nothing is asked of it here
    assert held_up(one, 105.0) is None


def test_what_a_task_that_moves_waits_for_is_not_told() -> None:
    """Every task waits for a commit of its producer many times a second: that is no stall."""
    why = "what is left belongs to a transaction of its producer that is still open"
    one = worker()
    one.hear(Report(joined=True, tasks=[TaskStatus("shop/0", "0", "running", lag=5, why=why)]), 100.0)
    assert [task.why for task in explained(one, 100.0, lambda task, now: task == "shop/0" and now == 100.0)] == [None]
    assert whys(one, 100.0) == [why]
    one.hear(Report(held=SLOW), 104.0)
    (held,) = explained(one, 104.0, lambda task, now: True)
    assert held.why is not None and held.why.startswith("slow user code"), "that is told at once"
