"""An instance as it is seen from outside, put together from what its workers report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import kstream
from kstream.config import Settings
from kstream.errors import ConfigError
from kstream.observe import logs
from kstream.observe.catalogue import Series
from kstream.observe.status import (
    NOBODY,
    AppPoint,
    CheckpointStatus,
    ErrorStatus,
    InputStatus,
    InstanceStatus,
    TaskStatus,
    Totals,
    WorkerStatus,
)
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.handle import Watcher, WorkerProcess, pauses_from
from kstream.runtime.process.report import Command, Report
from kstream.runtime.process.states import ProcessState
from kstream.runtime.view import observer as view
from kstream.runtime.view.observer import Observer

SETTINGS = Settings(restart_jitter=0, stall_timeout=60)


class Instance:
    """What an observer watches: two workers, and what they were told."""

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        self.workers: Sequence[WorkerProcess] = [
            WorkerProcess(Identity("shop", "a", index), pauses_from(SETTINGS), state=ProcessState.STARTING)
            for index in range(2)
        ]
        self.stopping = False
        self.told: list[Command] = []

    def tell(self, command: Command) -> None:
        self.told.append(command)

    def says(self, index: int, report: Report) -> None:
        worker = self.workers[index]
        worker.hear(report, worker.heard)
        self.watchers[0].heard(worker)


def app() -> kstream.App:
    shop = kstream.App("shop")
    orders = shop.topic("orders", key=str, value=int)
    shop.stream(orders).group_by_key().count(name="n")
    return shop


@pytest.fixture
def instance() -> Instance:
    return Instance()


@pytest.fixture
def observer(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> Iterator[Observer]:
    monkeypatch.setattr("kstream.runtime.view.observer.time.monotonic", lambda: 0.0)
    found = Observer(instance, app().topology(), SETTINGS, "a")
    yield found
    found.close()


def task(name: str, worker: str, state: str = "running", lag: int = 0) -> TaskStatus:
    return TaskStatus(name, worker, state, lag=lag, inputs=[InputStatus("orders", 0, 0, lag)])


def running(index: int, *tasks: TaskStatus, **more: object) -> Report:
    return Report(joined=True, tasks=list(tasks), metrics=[Series("checkpoints_total", (), 1)], **more)  # type: ignore[arg-type]


def test_it_has_started_once_the_loop_goes_round_and_is_ready_once_its_tasks_run(
    observer: Observer, instance: Instance
) -> None:
    """A long first restore must not be killed, a hung start must be."""
    assert not observer.started().ok and observer.started().reasons == ["the supervisor's loop has not gone round yet"]
    observer.tick()
    assert observer.started().ok and not observer.ready().ok
    for index in range(2):
        instance.says(index, running(index, task(f"orders/{index}", str(index), "restoring")))
    assert observer.started().ok and observer.live().ok and not observer.ready().ok
    for index in range(2):
        instance.says(index, running(index, task(f"orders/{index}", str(index))))
    assert observer.ready().ok


def test_a_restore_alone_and_other_reasons_for_not_being_ready_are_told_apart(
    observer: Observer, instance: Instance
) -> None:
    def told() -> tuple[float | None, float | None]:
        observer.metrics()
        return observer.merged.value("ready", {}), observer.merged.value("ready_besides_restores", {})

    observer.tick()
    for states, expected in (
        (("restoring", "running"), (0, 1)),
        (("restoring", "failed"), (0, 0)),
        (("running", "failed"), (0, 0)),
        (("running", "running"), (1, 1)),
    ):
        for index, state in enumerate(states):
            instance.says(index, running(index, task(f"orders/{index}", str(index), state)))
        assert told() == expected, states


def test_the_objective_is_the_longest_time_between_commits_and_what_is_allowed_beyond_it(instance: Instance) -> None:
    settings = Settings(commit_interval=2.0, latency_objective=3.0)
    found = Observer(instance, app().topology(), settings, "a")
    found.metrics()
    assert found.merged.value("latency_objective_seconds", {}) == 5.0
    found.close()


def test_an_instance_that_begins_at_a_bad_record_does_not_start_for_ever(
    observer: Observer, instance: Instance
) -> None:
    instance.says(0, running(0, task("orders/0", "0")))
    assert observer.light_status().state == "starting"
    instance.says(1, running(1, task("orders/1", "1", "failed")))
    assert observer.light_status().state == "degraded"


def test_the_state_says_the_most_that_is_known(observer: Observer, instance: Instance) -> None:
    assert observer.light_status().state == "starting"
    instance.says(0, running(0, restoring=1))
    assert observer.light_status().state == "restoring"
    for index in range(2):
        instance.says(index, running(index, task(f"orders/{index}", str(index))))
    assert observer.light_status().state == "running"
    instance.says(1, running(1, task("orders/1", "1", "failed")))
    assert observer.light_status().state == "degraded", "it was ready once"
    observer.pause()
    assert observer.light_status().state == "paused" and instance.told == [Command(paused=True)]
    instance.stopping = True
    assert observer.light_status().state == "stopping"


def test_autoscaling_is_told_to_leave_the_instances_while_one_restores(observer: Observer, instance: Instance) -> None:
    def other(name: str, state: Any, *tasks: TaskStatus) -> InstanceStatus:
        return InstanceStatus("shop", name, state, 0.0, 0.0, workers=[WorkerStatus("0", "running")], tasks=list(tasks))

    def held() -> bytes:
        (line,) = [one for one in observer.metrics().splitlines() if one.startswith(b"kstream_instances_held{")]
        return line

    instance.says(0, running(0, task("orders/0", "0")))
    assert held() == b'kstream_instances_held{app="shop",group="default"} 0.0'
    restoring = task("orders/1", "0", "restoring")
    heard = [other("b", "restoring", restoring), other("c", "running"), other("a", "running")]  # it hears itself
    gone = [other("d", "silent", restoring), other("e", "stopping", restoring)]
    observer.others = lambda: heard + gone
    assert held().endswith(b" 3.0")
    observer.others = lambda: gone
    assert held().endswith(b" 0.0")
    instance.says(0, running(0, task("orders/0", "0", "restoring")))
    assert held().endswith(b" 1.0")


def test_tasks_of_a_worker_that_is_down_are_not_shown(observer: Observer, instance: Instance) -> None:
    for index in range(2):
        instance.says(index, running(index, task(f"orders/{index}", str(index), lag=5)))
    assert [one.name for one in observer.status().tasks] == ["orders/0", "orders/1"]
    assert observer.status().totals.lag == 10
    dead = instance.workers[1]
    dead.pauses.failed(0.0)
    dead.go(ProcessState.RESTARTING)
    dead.last_error = "was killed by SIGKILL"
    observer.ended(dead, "killed")
    status = observer.status()
    assert [one.name for one in status.tasks] == ["orders/0"] and status.totals.lag == 5
    assert (status.workers[1].state, status.workers[1].restart_in) == ("restarting", 1.0)
    assert status.errors[-1].text == "worker 1 ended and is started again: was killed by SIGKILL"
    assert status.totals.restarts == 1


def test_tasks_that_no_worker_can_have_are_failed_and_told_of_once(observer: Observer, instance: Instance) -> None:
    lost = [TaskStatus(f"orders/{number}", NOBODY, "failed", error="topic orders does not exist") for number in (0, 1)]
    own = TaskStatus("orders/0", "0", "failed", error="topic orders: UNKNOWN_TOPIC_OR_PART")
    beside = task("returns/0", "1")
    instance.says(0, running(0, own, gone=lost))
    instance.says(1, running(1, task("orders/1", "1"), beside, gone=lost))
    found = {one.name: (one.worker, one.state, one.error) for one in observer.status().tasks}
    assert found == {
        "orders/0": ("0", "failed", own.error),
        "orders/1": (NOBODY, "failed", lost[1].error),
        "returns/0": ("1", "running", None),
    }
    assert observer.ready().reasons == [f"2 tasks failed: orders/0, orders/1 ({own.error})"]
    assert b'kstream_tasks{app="shop",state="failed"} 1.0' in observer.metrics(), "beside what its worker says"
    for index, still in enumerate(([task("orders/0", "0")], [task("orders/1", "1"), beside])):
        instance.says(index, running(index, *still))
    assert observer.ready().ok


@pytest.mark.parametrize(("reason", "restarts"), [("stopped", 0), ("retired", 0), ("fenced", 1), ("ended", 1)])
def test_what_was_meant_is_no_restart(observer: Observer, instance: Instance, reason: str, restarts: int) -> None:
    observer.ended(instance.workers[0], reason)
    assert observer.light_status().totals.restarts == restarts


def test_counts_outlive_the_worker_and_levels_do_not(observer: Observer, instance: Instance) -> None:
    instance.says(0, Report(metrics=[Series("checkpoints_total", (), 7), Series("state_entries", ("n",), 5)]))
    observer.ended(instance.workers[0], "killed")
    assert b'kstream_checkpoints_total{app="shop"} 7.0' in observer.metrics()
    assert b"kstream_state_entries{" not in observer.metrics()


def test_checkpoints_errors_and_the_largest_entries_are_kept(observer: Observer, instance: Instance) -> None:
    for index in range(2):
        instance.says(index, Report(
            checkpoints=[CheckpointStatus(1.0, str(index), 0.1)], errors=[ErrorStatus(2.0, f"bad {index}")],
            largest={"n": [("'k'", 10 + index), (f"'{index}'", 5)]},
        ))  # fmt: skip
    status = observer.status()
    assert len(status.checkpoints) == 2 and [(one.text, one.worker) for one in status.errors] == [
        ("bad 0", "0"), ("bad 1", "1"),
    ]  # fmt: skip
    (store,) = status.stores
    assert (store.name, store.largest) == ("n", [("'k'", 11), ("'0'", 5), ("'1'", 5)])


def test_a_store_that_one_worker_estimates_is_an_estimate(observer: Observer, instance: Instance) -> None:
    for index, estimated in enumerate((["n"], [])):
        instance.says(index, running(index, estimated=estimated))
    assert [store.estimated for store in observer.status().stores] == [True]
    instance.says(0, running(0))
    assert [store.estimated for store in observer.status().stores] == [False]


def test_curves_have_the_sum_over_all_instances_that_are_heard_of(
    observer: Observer, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.says(0, running(0, task("orders/0", "0", lag=5)))
    observer.tick()
    assert observer.history()[-1].app is None, "there is one instance only"
    totals = Totals(rate_in=10.0, rate_out=4.0, lag=7)
    observer.others = lambda: [
        InstanceStatus("shop", name, state, 0.0, 0.0, totals=totals)
        for name, state in (("b", "running"), ("c", "silent"), ("a", "running"))
    ]  # fmt: skip
    monkeypatch.setattr("kstream.runtime.view.observer.time.monotonic", lambda: 2.0)
    observer.tick()
    assert observer.history()[-1].app == AppPoint(10.0, 4.0, 12)


def test_a_worker_that_has_no_metrics_yet_takes_none_away(observer: Observer, instance: Instance) -> None:
    instance.says(0, running(0))
    instance.says(0, Report(stopped_by="bad"))
    assert observer.merged.value("checkpoints_total") == 1


def test_levels_are_told_and_remembered(observer: Observer, instance: Instance) -> None:
    before = logs.logging.getLogger().level
    try:
        observer.set_log_level("debug", None)
        observer.set_log_level("error", "kstream.kafka")
        assert observer.light_status().log_level == "DEBUG"
        assert instance.told == [Command(log_levels={"": "DEBUG"}), Command(log_levels={"kstream.kafka": "ERROR"})]
        with pytest.raises(ConfigError, match="LOUD"):
            observer.set_log_level("LOUD", None)
        assert len(instance.told) == 2
    finally:
        logs.set_level(logs.logging.getLevelName(before))
        logs.logging.getLogger("kstream.kafka").setLevel(logs.logging.NOTSET)


def test_the_loggers_whose_level_is_set_are_counted(
    observer: Observer, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "LOGGERS", 2)
    for name in ("none.a", "none.b", "none.a"):
        observer.set_log_level("ERROR", name)
    with pytest.raises(ConfigError, match="the levels of 2 loggers were set already"):
        observer.set_log_level("ERROR", "none.c")
    assert len(instance.told) == 3


def test_workers_elsewhere_are_those_of_instances_that_are_heard_of(observer: Observer) -> None:
    workers = [WorkerStatus("0", "running"), WorkerStatus("1", "retiring"), WorkerStatus("cpu-0", "running", "cpu")]
    observer.others = lambda: [
        InstanceStatus("shop", "b", "running", 0.0, 0.0, workers=workers),
        InstanceStatus("shop", "c", "silent", 0.0, 0.0, workers=workers),
    ]
    assert observer.workers_elsewhere("default") == 1 and observer.workers_elsewhere("cpu") == 1
    assert [one.instance for one in observer.instances()] == ["a", "b", "c"]


def test_workers_that_somebody_invents_are_no_more_than_the_group_has_members(
    observer: Observer, instance: Instance
) -> None:
    """Else whoever may write to the topic of announcements could keep every instance at one worker."""
    invented = [WorkerStatus(str(number), "running") for number in range(1000)]
    observer.others = lambda: [InstanceStatus("shop", "b", "running", 0.0, 0.0, workers=invented)]
    assert observer.workers_elsewhere("default") == 1000, "while Kafka has not said"
    instance.says(0, Report(joined=True, member=True))
    own = sum(1 for one in instance.workers if one.runs and one.report.member)
    assert own
    for members, elsewhere in ((own, 0), (own + 2, 2), (own - 1, 0), (own + 2000, 1000)):
        observer.members = lambda _, members=members: members  # type: ignore[misc]
        assert observer.workers_elsewhere("default") == elsewhere


def test_a_change_of_state_is_told_once(
    observer: Observer, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, now = [], [0.0]
    monkeypatch.setattr("kstream.runtime.view.observer.time.monotonic", lambda: now[0])
    observer.changed = lambda: changes.append(now[0])
    for _ in range(3):
        observer.tick()
        now[0] += 1.0
    instance.says(0, running(0, task("orders/0", "0")))
    for _ in range(3):
        observer.tick()
        now[0] += 1.0
    assert changes == [0.0, 3.0]
