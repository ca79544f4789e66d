"""What a supervisor does about its workers, on a clock and with processes that do as they are told."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence

import pytest

from kstream.config import Settings
from kstream.errors import LeavingFailed, RestartsExhausted, UsageError
from kstream.observe.status import CheckpointStatus, InputStatus, TaskStatus
from kstream.runtime.instance.supervisor import FENCED_AGAIN, Supervisor
from kstream.runtime.process.handle import WorkerProcess
from kstream.runtime.process.program import Program
from kstream.runtime.process.report import Command, Held, Report
from kstream.runtime.process.states import ProcessState
from kstream.runtime.view import health
from kstream.testing import ManualClock
from unit.runtime.processes import FakeProcess, FakeProcesses

JOINED = Report(joined=True, member=True)


class Events:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []
        self.reports = self.ticks = 0

    def heard(self, worker: WorkerProcess) -> None:
        self.reports += 1

    def ended(self, worker: WorkerProcess, reason: str) -> None:
        self.ends.append((worker.name, reason))

    def tick(self) -> None:
        self.ticks += 1


class Instance:
    """A supervisor with everything around it faked. `left` are the members taken out of their groups."""

    def __init__(self, count: int = 2, groups: Sequence[str] = ("default",), **settings: object) -> None:
        self.clock = ManualClock()
        self.processes = FakeProcesses(self.clock)
        self.left: list[tuple[str, list[str]]] = []
        self.kafka_answers = True
        self.supervisor = Supervisor(
            Program("svc:app"), "app", "a", Settings(**{"restart_jitter": 0.0, **settings}), {"in": 4}, count, groups,
            processes=self.processes, remove=self.remove, ask=lambda _: self.kafka_answers, clock=self.clock,
        )  # fmt: skip
        self.events = Events()
        self.supervisor.watchers.append(self.events)

    def remove(self, group: str, members: Sequence[str], seconds: float) -> None:
        self.left.append((group, list(members)))

    def start(self) -> Instance:
        self.supervisor.start()
        for process in self.processes.made:
            process.say(JOINED)
        self.poll()
        return self

    def poll(self, seconds: float = 0.0) -> None:
        """Time goes by, the loop goes round."""
        self.clock.advance(seconds)
        self.supervisor.poll(0.0)

    def worker(self, index: int = 0) -> WorkerProcess:
        return self.supervisor.workers[index]

    def process(self, name: str = "0") -> FakeProcess:
        return self.processes.latest(name)


def states(instance: Instance) -> list[str]:
    return [worker.state.value for worker in instance.supervisor.workers]


# ---- starts and restarts


def test_workers_start_and_run_once_they_have_joined() -> None:
    instance = Instance(2, ("default", "cpu"))
    assert states(instance) == ["new"] * 4 and not instance.supervisor.running
    instance.supervisor.start()
    assert instance.processes.alive == ["0", "1", "cpu-0", "cpu-1"] and states(instance) == ["starting"] * 4
    handover = instance.process("cpu-1").handover
    assert (handover.program.target, handover.group, handover.index) == ("svc:app", "cpu", 1)
    assert handover.partitions == {"in": 4}
    instance.process("1").say(Report())
    instance.process("cpu-0").say(JOINED)
    instance.poll()
    assert states(instance) == ["starting", "starting", "running", "starting"]
    assert instance.events.reports == 2


def test_one_that_dies_is_started_again_after_a_growing_pause_and_the_others_go_on() -> None:
    instance = Instance(restart_initial=1.0, restart_multiplier=3.0, restart_max=5.0).start()
    worker, other = instance.supervisor.workers
    for life, pause in enumerate([1.0, 3.0, 5.0, 5.0], 1):
        instance.process().exit(-signal.SIGKILL)
        instance.poll()
        assert worker.state is ProcessState.RESTARTING and worker.process is None and worker.pid is None
        assert worker.last_error == "was killed by SIGKILL" and worker.restarts == life
        instance.poll(pause - 0.01)
        assert len(instance.processes.alive) == 1, "not yet"
        instance.poll(0.01)
        assert worker.state is ProcessState.STARTING and worker.start_at is None
    assert other.restarts == 0 and instance.events.ends == [("0", "killed")] * 4


def test_a_quiet_time_begins_the_pauses_anew() -> None:
    instance = Instance(1, restart_initial=1.0, restart_reset_after=100.0).start()
    for pause in (1.0, 2.0):
        instance.process().exit(1)
        instance.poll()
        assert instance.worker().pauses.pause == pause
        instance.poll(pause)
    instance.clock.advance(99.0)
    instance.process().say(JOINED)
    instance.poll()
    instance.process().exit(0)
    instance.poll(1.0)
    assert instance.worker().pauses.pause == 1.0 and instance.events.ends[-1] == ("0", "ended")


def test_what_it_said_last_is_heard_and_is_what_ended_it() -> None:
    instance = Instance(1).start()
    instance.process().exit(1, Report(joined=True, records=7, stopped_by="the disk is full"))
    instance.poll()
    assert instance.worker().report.records == 7 and instance.worker().last_error == "the disk is full"
    assert instance.events.ends == [("0", "error")] and instance.process().closed


def test_a_first_start_that_hangs_is_started_again() -> None:
    """It never says a word: an import of the app's waits for ever, say."""
    instance = Instance(1, max_poll_interval=300.0, restart_initial=1.0)
    instance.supervisor.start()
    hung = instance.process()
    instance.poll(299.0)
    assert hung.signals == []
    instance.poll(2.0)
    assert hung.signals == [signal.SIGKILL]
    hung.exit(-signal.SIGKILL)
    instance.poll()
    instance.poll(1.0)
    assert instance.process() is not hung and states(instance) == ["starting"]


def test_a_restore_of_hours_is_waited_for() -> None:
    """Nobody is killed for it, and the probe for which the instance would be stays green."""
    instance = Instance(1, max_poll_interval=300.0, stall_timeout=60.0, stall_restart=600.0).start()
    restoring = TaskStatus("t/0", "0", "restoring", lag=10**9, inputs=[InputStatus("t", 0, 0, 10**9)])
    for _ in range(5 * 3600 // 20):
        instance.process().say(Report(joined=True, member=True, restoring=1, tasks=[restoring]))
        instance.poll(20.0)
        now = instance.clock.monotonic()
        assert health.live(now, now, instance.supervisor.workers, Settings()).ok
    assert instance.process().signals == [] and instance.worker().restarts == 0 and states(instance) == ["running"]


def test_a_silent_one_is_killed_once(caplog: pytest.LogCaptureFixture) -> None:
    instance = Instance(1, max_poll_interval=300.0).start()
    process = instance.process()
    instance.poll(299.0)
    assert process.signals == []
    instance.poll(2.0)
    assert process.signals == [signal.SIGKILL]
    instance.poll(1.0)
    assert instance.worker().state is ProcessState.RESTARTING and instance.events.ends == [("0", "killed")]
    assert [record.getMessage() for record in caplog.records].count(
        "worker 0 has not reported for 301 s (the reason is not known): killing it"
    ) == 1  # fmt: skip


def test_one_whose_watchdog_speaks_is_as_silent_as_before(caplog: pytest.LogCaptureFixture) -> None:
    instance = Instance(1, max_poll_interval=300.0).start()
    instance.poll(299.0)
    instance.process().say(Report(held=Held(299.0, "price (shop.py, line 31)", "in/0", user=True)))
    instance.poll(2.0)
    assert instance.process().signals == [signal.SIGKILL] and instance.events.reports == 1
    assert (
        "not reported for 301 s (slow user code: price (shop.py, line 31) has not returned for 299 s, in task in/0)"
        in caplog.text
    )


def test_one_that_is_silent_for_half_of_the_time_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    instance = Instance(1, max_poll_interval=300.0).start()
    instance.poll(149.0)
    instance.process().say(Report(held=Held(149.0, "price (shop.py, line 31)", "in/0", user=True)))
    instance.poll()
    assert "half of" not in caplog.text
    instance.poll(2.0)
    instance.poll(2.0)
    assert caplog.text.count("half of max_poll_interval") == 1 and instance.process().signals == []
    assert (
        "worker 0 has not reported for 151 s, half of max_poll_interval (slow user code: price (shop.py, line 31) has "
        "not returned for 149 s, in task in/0): after 300 s it is killed"
    ) in caplog.text
    instance.process().say(JOINED)
    instance.poll()
    instance.poll(151.0)
    assert caplog.text.count("half of max_poll_interval") == 2, "it spoke meanwhile"


# ---- what restarting does not mend


def test_what_the_user_must_mend_stops_the_instance_with_it() -> None:
    instance = Instance(2)

    def ends(_: Supervisor) -> None:
        instance.process("1").exit(2, Report(stopped_by="topic in: 3 partitions", usage=True))

    with pytest.raises(UsageError, match="topic in: 3 partitions"):
        instance.supervisor.run(every=ends)
    assert instance.processes.alive == [] and states(instance) == ["stopped", "stopped"]
    assert len(instance.processes.made) == 2 and instance.process("0").signals == [signal.SIGTERM]


def test_a_fenced_one_tries_once_to_take_over(caplog: pytest.LogCaptureFixture) -> None:
    instance = Instance(1, restart_initial=1.0).start()
    taken = Report(joined=True, stopped_by="fenced (text)", usage=True, fenced=True)
    instance.process().exit(2, taken)
    instance.poll()
    assert instance.worker().state is ProcessState.RESTARTING and instance.events.ends == [("0", "fenced")]
    assert "another instance" not in caplog.text, "it may have been a connection of its own"
    instance.poll(1.0)
    instance.process().exit(2, taken)
    instance.poll(FENCED_AGAIN - 2.0)
    assert instance.worker().state is ProcessState.STOPPED and instance.supervisor.stopping
    said = str(instance.supervisor.failure)
    assert said == "another instance runs as 'a': give each its own --instance (fenced (text))"


def test_fenced_again_after_a_long_time_is_the_first_time() -> None:
    instance = Instance(1, restart_initial=1.0).start()
    taken = Report(joined=True, stopped_by="fenced (text)", usage=True, fenced=True)
    for _ in range(3):
        instance.process().exit(2, taken)
        instance.poll()
        assert instance.worker().state is ProcessState.RESTARTING and instance.supervisor.failure is None
        instance.poll(1.0)
        instance.poll(FENCED_AGAIN)


# ---- stops


def test_a_stop_asks_all_and_waits_for_them() -> None:
    instance = Instance(2, on_stop="stay").start()
    instance.supervisor.stop()
    assert instance.supervisor.stopping
    instance.supervisor.wait()
    assert [process.signals for process in instance.processes.made] == [[signal.SIGTERM]] * 2
    assert states(instance) == ["stopped", "stopped"] and not instance.supervisor.running
    assert instance.events.ends == [("0", "stopped"), ("1", "stopped")] and instance.left == []
    assert [worker.status for worker in instance.supervisor.workers] == [0, 0]


def test_those_that_ended_well_leave_their_groups_when_the_instance_does_not_come_back() -> None:
    instance = Instance(2, ("default", "cpu"), on_stop="leave").start()
    instance.process("1").stubborn = True
    instance.supervisor.stop()
    instance.poll()
    instance.process("1").exit(1)
    instance.supervisor.wait()
    assert sorted(instance.left) == [
        ("app", ["app-default-a-0"]), ("app-cpu", ["app-cpu-a-0", "app-cpu-a-1"]),
    ]  # fmt: skip


def test_they_leave_their_groups_where_the_whole_app_stops() -> None:
    """As with a savepoint: an instance that has a name stayed a member for session_timeout, and a restore was refused
    for so long."""
    instance = Instance(2, on_stop="stay").start()
    instance.supervisor.stop(for_good=True)
    instance.supervisor.wait()
    assert sorted(instance.left) == [("app", ["app-default-a-0", "app-default-a-1"])]


def test_those_that_take_too_long_are_killed() -> None:
    instance = Instance(2, shutdown_timeout=10.0).start()
    instance.process("1").stubborn = True
    began = instance.clock.monotonic()
    instance.supervisor.stop()
    instance.supervisor.wait()
    assert instance.process("1").signals == [signal.SIGTERM, signal.SIGKILL]
    assert 10.0 < instance.clock.monotonic() - began < 10.2 and states(instance) == ["stopped", "stopped"]


def test_one_that_was_about_to_start_again_does_not() -> None:
    instance = Instance(2, restart_initial=1.0).start()
    instance.process("0").exit(1)
    instance.poll()
    instance.supervisor.stop()
    instance.poll(5.0)
    assert states(instance) == ["stopped", "stopped"] and len(instance.processes.made) == 2


def test_asked_between_two_looks_by_another_thread_or_a_signal() -> None:
    """Wherever the loop is meanwhile, the workers are told at its next turn; being killed is not taken back."""
    instance = Instance(2).start()
    for process in instance.processes.made:
        process.stubborn = True
    for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        asking = threading.Thread(target=instance.supervisor.stop, args=(how,))
        asking.start()
        asking.join()
    assert [process.signals for process in instance.processes.made] == [[], []]
    instance.poll()
    assert [process.signals for process in instance.processes.made] == [[signal.SIGKILL]] * 2
    instance.supervisor.kill()
    assert states(instance) == ["stopped", "stopped"]


def test_asked_to_stop_before_the_start_nothing_starts() -> None:
    instance = Instance(2)
    instance.supervisor.stop()
    instance.supervisor.start()
    instance.supervisor.wait()
    instance.poll()
    assert instance.processes.made == [] and states(instance) == ["stopped", "stopped"]


# ---- one more, one fewer


def test_one_more_has_the_lowest_name_that_is_free() -> None:
    instance = Instance(2).start()
    added = instance.supervisor.add("default")
    assert (added.name, added.added, added.state) == ("2", True, ProcessState.STARTING)
    assert instance.process("2").handover.index == 2


def test_one_fewer_makes_its_last_commit_and_leaves() -> None:
    instance = Instance(2).start()
    instance.process("1").stubborn = True
    going = instance.supervisor.retire("default")
    assert (going.name, going.state) == ("1", ProcessState.RETIRING)
    assert [worker.name for worker in instance.supervisor.of_group("default")] == ["0"]
    instance.process("1").exit(-signal.SIGKILL)
    instance.poll()
    instance.supervisor._leaving.wait()
    assert [worker.name for worker in instance.supervisor.workers] == ["0"]
    assert instance.left == [("app", ["app-default-a-1"])] and instance.events.ends == [("1", "retired")]
    assert instance.supervisor.add("default").name == "1", "its state may still be there"


def test_one_fewer_where_it_was_about_to_start_again() -> None:
    instance = Instance(2).start()
    instance.process("1").exit(1)
    instance.poll()
    assert instance.supervisor.retire("default").state is ProcessState.STOPPED
    instance.poll(100.0)
    assert [worker.name for worker in instance.supervisor.workers] == ["0"] and len(instance.processes.made) == 2


def test_the_instance_stops_while_one_retires() -> None:
    instance = Instance(2, on_stop="stay").start()
    instance.process("1").stubborn = True
    instance.supervisor.retire("default")
    instance.supervisor.stop()
    instance.poll()
    instance.process("1").exit(0)
    instance.supervisor.wait()
    assert instance.events.ends == [("0", "stopped"), ("1", "stopped")] and instance.left == []


def test_a_name_is_taken_until_its_member_has_left() -> None:
    instance, leaves = Instance(2), threading.Event()
    instance.supervisor._leaving._remove = lambda *_: leaves.wait(60)
    instance.start()
    instance.supervisor.retire("default")
    instance.poll()
    assert instance.supervisor.leaving == {"1"} and instance.supervisor.add("default").name == "2"
    leaves.set()
    instance.supervisor._leaving.wait()
    assert instance.supervisor.leaving == set()


def test_a_member_that_cannot_be_taken_out_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    def fails(*_: object) -> None:
        raise LeavingFailed("no broker answers")

    instance = Instance(2)
    instance.supervisor._leaving._remove = fails
    instance.start()
    instance.supervisor.retire("default")
    instance.poll()
    instance.supervisor._leaving.wait()
    assert "no broker answers" in caplog.text


# ---- what they are told


def test_what_is_told_reaches_those_that_run_and_those_that_start_later() -> None:
    instance = Instance(2, restart_initial=1.0).start()
    instance.supervisor.tell(Command(paused=True))
    instance.supervisor.tell(Command(log_levels={"": "DEBUG"}))
    instance.process("1").exit(1)
    instance.poll()
    assert instance.process("0").told == [Command(paused=True), Command(log_levels={"": "DEBUG"})]
    instance.poll(1.0)
    assert instance.process("1").handover.command == Command(True, {"": "DEBUG"}) and instance.process("1").told == []


# ---- who watches


def test_what_only_observes_never_ends_the_instance(caplog: pytest.LogCaptureFixture) -> None:
    """psutil may run out of descriptors, a report may hold what nobody thought of."""

    def fails(*_: object) -> None:
        raise OSError(24, "Too many open files")

    instance = Instance(1, restart_initial=1.0)
    instance.events.heard = instance.events.ended = instance.events.tick = fails  # type: ignore[method-assign]
    instance.supervisor.scaler = fails
    instance.start()
    for _ in range(20):
        instance.poll()
    instance.process().exit(1)
    instance.poll(1.0)
    instance.poll(1.0)
    assert instance.worker().state is ProcessState.STARTING and instance.worker().restarts == 1
    assert 1 <= caplog.text.count("Too many open files") <= 8, "said now and then only"
    instance.supervisor.kill()
    assert states(instance) == ["stopped"]


# ---- restart strategies


FIXED = {"restart_strategy": "fixed-delay", "restart_attempts": 2, "restart_delay": 3.0}


def test_the_line_of_a_restart_says_why_the_worker_ended(caplog: pytest.LogCaptureFixture) -> None:
    instance = Instance(1).start()
    instance.process().exit(1, Report(stopped_by="/state is full: No space left on device"))
    instance.poll()
    said = "worker 0 ended with status 1 (/state is full: No space left on device): starting it again in 1.0 s"
    assert said in caplog.messages


def test_where_the_restarts_of_a_worker_are_used_up_the_instance_stops() -> None:
    instance = Instance(2, **FIXED).start()
    for _ in range(2):
        instance.process().exit(-signal.SIGKILL)
        instance.poll()
        assert states(instance) == ["restarting", "running"]
        instance.poll(3.0)
    instance.process().exit(1, Report(stopped_by="the disk is full"))
    instance.poll()
    assert instance.supervisor.stopping and states(instance)[0] == "stopped"
    instance.poll()
    failure = instance.supervisor.failure
    assert isinstance(failure, RestartsExhausted) and failure.exit_status == 1
    assert str(failure) == (
        "worker 0 ended with status 1: the disk is full; it is not started again "
        "(restart strategy fixed-delay: its 2 restarts are used up)"
    )
    instance.supervisor.wait()
    assert states(instance) == ["stopped", "stopped"] and len(instance.processes.made) == 4
    assert instance.process("1").signals == [signal.SIGTERM], "the others drain and commit"


def test_the_restarts_of_each_worker_are_its_own() -> None:
    instance = Instance(2, restart_strategy="failure-rate", restart_max_failures=1, restart_delay=1.0).start()
    for name in ("0", "1"):
        instance.process(name).exit(1)
    instance.poll()
    assert states(instance) == ["restarting", "restarting"] and not instance.supervisor.stopping
    instance.poll(1.0)
    instance.poll(60.0)  # the first failures are out of the interval
    instance.process("1").exit(1)
    instance.poll()
    assert states(instance) == ["starting", "restarting"]
    instance.poll(1.0)
    instance.process("1").exit(1)
    instance.poll()
    assert "failure-rate: more than 1 failure within 60 s" in str(instance.supervisor.failure)


def test_without_restarts_the_first_end_of_a_worker_ends_the_instance() -> None:
    instance = Instance(1, restart_strategy="none")

    def ends(_: Supervisor) -> None:
        instance.process().exit(0)

    with pytest.raises(RestartsExhausted, match=r"worker 0 ended with status 0; .*none: nothing is restarted"):
        instance.supervisor.run(every=ends)
    assert len(instance.processes.made) == 1


def test_a_worker_that_ends_by_an_exhausted_task_is_not_started_again() -> None:
    instance = Instance(2).start()
    why = "task in/0 stopped at in[0] offset 7: ValueError: bad; the task is not tried again (restart strategy none)"
    instance.process().exit(1, Report(joined=True, stopped_by=why, exhausted=True))
    instance.poll()
    instance.supervisor.wait()
    assert isinstance(instance.supervisor.failure, RestartsExhausted) and str(instance.supervisor.failure) == why
    assert len(instance.processes.made) == 2 and states(instance) == ["stopped", "stopped"]


# ---- workers that report and do not do their work


STALLED = Report(
    joined=True, member=True,
    tasks=[TaskStatus("t/0", "0", "running", lag=7, why="agent 'a' waits", inputs=[InputStatus("t", 0, 5, 7)])],
)  # fmt: skip
IDLE = Report(joined=True, member=False)
UNCOMMITTED = Report(
    joined=True, member=True, uncommitted=3, checkpoints=[CheckpointStatus(0.0, "0", 1.0, error="took too long")]
)


def keep(instance: Instance, report: Report, seconds: float) -> None:
    """Worker 0 says this every five seconds, the other that all is well; the supervisor may ask Kafka."""
    process = instance.process()
    for _ in range(round(seconds / 5)):
        if process.signals:
            break
        process.say(report)
        instance.process("1").say(JOINED)
        instance.poll(5.0)
        for thread in threading.enumerate():
            if thread.name == "answering":
                thread.join()


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (STALLED, "task t/0 has lag and has not moved: agent 'a' waits"),
        (UNCOMMITTED, "has processed records and has not committed: took too long"),
        (IDLE, "has had no place in its consumer group"),
    ],
    ids=["stalled", "no commit", "no place"],
)
def test_one_that_does_not_do_its_work_is_killed_and_started_again(
    report: Report, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    instance = Instance(stall_restart=400, restart_initial=2.0, restart_max=2.0).start()
    first = instance.process()
    keep(instance, report, 395)
    assert not first.signals
    keep(instance, report, 20)
    assert first.signals == [signal.SIGKILL]
    assert f"worker 0 {why} (" in caplog.text
    instance.poll()
    assert states(instance) == ["restarting", "running"]
    assert instance.worker().last_error.startswith(f"killed: {why} (")  # type: ignore[union-attr]
    assert instance.worker().pauses.pause == 2.0, "its restart strategy has counted it"
    instance.poll(2.0)
    assert instance.process() is not first
    keep(instance, JOINED, 600)
    assert not instance.process().signals and not instance.process("1").signals


def test_time_in_which_others_of_the_group_may_stand_is_given(caplog: pytest.LogCaptureFixture) -> None:
    instance = Instance(stall_restart=100, max_poll_interval=300).start()
    keep(instance, IDLE, 295)
    assert not instance.process().signals
    keep(instance, IDLE, 20)
    assert instance.process().signals == [signal.SIGKILL]
    instance = Instance(stall_restart=100, max_poll_interval=300).start()
    keep(instance, STALLED, 120)
    assert instance.process().signals == [signal.SIGKILL], "no other member has a part in this"


def test_one_that_is_silent_has_its_time() -> None:
    """Slow user code: the task does not move either."""
    instance = Instance(stall_restart=100, max_poll_interval=600).start()
    keep(instance, STALLED, 95)
    instance.process().say(Report(held=Held(1.0, "charge (svc.py, line 7)", "t/0", user=True)))
    for _ in range(40):
        instance.poll(5.0)
    assert not instance.process().signals
    keep(instance, Report(joined=True, member=True, commits=1), 50)
    assert not instance.process().signals


def test_where_such_restarts_are_used_up_the_instance_stops() -> None:
    instance = Instance(stall_restart=300, restart_strategy="none").start()
    keep(instance, STALLED, 320)
    instance.poll()
    failure = instance.supervisor.failure
    assert isinstance(failure, RestartsExhausted) and failure.exit_status == 1
    assert "worker 0 was killed by SIGKILL: killed: task t/0 has lag" in str(failure)


def test_while_kafka_does_not_answer_nobody_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    """No restart would help, and what is restored would be restored again."""
    instance = Instance(stall_restart=300).start()
    instance.kafka_answers = False
    keep(instance, UNCOMMITTED, 900)
    assert not instance.process().signals
    (line,) = (one.getMessage() for one in caplog.records if "Kafka does not answer" in one.getMessage())
    assert line.startswith("worker 0 has processed records and has not committed: took too long (")
    assert instance.worker().spared
    instance.kafka_answers = True
    keep(instance, Report(joined=True, member=True, commits=1), 30)
    assert not instance.process().signals and not instance.worker().spared, "it did its work as soon as it could"
    keep(instance, STALLED, 320)
    assert instance.process().signals == [signal.SIGKILL]


def test_without_a_time_nobody_is_killed_for_it() -> None:
    instance = Instance(stall_restart="never").start()
    keep(instance, STALLED, 3000)
    assert not instance.process().signals


def test_one_that_is_to_end_is_left_to_end() -> None:
    instance = Instance(stall_restart=300).start()
    for index in (0, 1):
        instance.process(str(index)).stubborn = True
    keep(instance, STALLED, 200)
    instance.supervisor.retire("default")
    instance.supervisor.stop()
    keep(instance, STALLED, 200)
    assert signal.SIGKILL not in instance.process().signals


def test_a_watcher_that_fails_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Fails:
        def heard(self, worker: WorkerProcess) -> None:
            raise RuntimeError("blind")

        def ended(self, worker: WorkerProcess, reason: str) -> None:
            raise RuntimeError("blind")

        def tick(self) -> None:
            raise RuntimeError("blind")

    instance = Instance(1)
    instance.supervisor.watchers.insert(0, Fails())
    instance.start()
    instance.process().exit(1)
    instance.poll()
    assert instance.events.ends == [("0", "error")] and instance.events.ticks == 2
    assert "ended failed: RuntimeError: blind" in caplog.text
