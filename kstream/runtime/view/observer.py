"""An instance as it is seen from outside: what its workers report is kept here, and put together in picture.py.

The supervisor's thread feeds it (`heard`, `ended`, `tick`); the web server, the announcer and tests read it from
theirs. It implements `kstream.observe.observed.Observed`.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from importlib.metadata import version
from threading import RLock
from typing import Final

from kstream.config import Settings
from kstream.errors import ConfigError
from kstream.observe import logs
from kstream.observe.catalogue import Series
from kstream.observe.merging import Merged
from kstream.observe.settings import setting_rows
from kstream.observe.status import (
    NOBODY,
    CheckpointStatus,
    ErrorStatus,
    Graph,
    Health,
    InstanceState,
    InstanceStatus,
    Point,
    SettingStatus,
    SnapshotStatus,
    Totals,
)
from kstream.runtime.cluster.directory import is_unread
from kstream.runtime.cluster.records import looking
from kstream.runtime.kafka import KafkaClients
from kstream.runtime.process.garbage import GarbageCollection, process_name
from kstream.runtime.process.handle import WorkerProcess
from kstream.runtime.process.liveness import Stalls
from kstream.runtime.process.report import Command
from kstream.runtime.process.states import ProcessState
from kstream.runtime.task.states import TaskState
from kstream.runtime.view import health
from kstream.runtime.view.graph import Drawing
from kstream.runtime.view.held import held
from kstream.runtime.view.history import History
from kstream.runtime.view.letters import LetterView
from kstream.runtime.view.lookups import Lookups
from kstream.runtime.view.picture import Picture, state_of
from kstream.runtime.view.savepoints import Savepoints
from kstream.runtime.view.system import Processes
from kstream.runtime.view.watched import Scalings, Watched
from kstream.topology import Topology

LOOK_SECONDS: Final = 1.0
CHECKPOINTS: Final = 100
LOGGERS: Final = 100
"""Loggers whose level may be set by request: a worker that starts is told all of them."""
SNAPSHOTS: Final = 200
ERRORS: Final = 100
SUPERVISOR: Final = "supervisor"
SUPERVISOR_LOGGER: Final = "kstream.runtime.instance.supervisor"

Others = Callable[[], list[InstanceStatus]]


class Observer:
    """See the module's text.

    Args:
        sources: where each setting comes from.
    """

    def __init__(
        self,
        watched: Watched,
        topology: Topology,
        settings: Settings,
        instance: str,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        self._supervisor, self._topology, self._settings = watched, topology, settings
        self._sources = sources or {}
        self._processes = Processes(settings.system_metrics_interval)
        self._collections = GarbageCollection()
        self.others: Others = list  # the app's other instances, as they announced themselves
        self.members: Callable[[str], int | None] = _unknown  # by isolation group: those of its consumer group
        self.changed: Callable[[], None] = _nothing  # called when the state of the instance or of a worker changes
        self._states: list[str] = []
        self.url: str | None = None
        self.scaler: Scalings | None = None  # where workers follow the load
        self.merged = Merged()
        self._lock = RLock()
        self._app, self._instance = topology.app, instance
        self._drawing = Drawing(topology)
        self._history = History()
        self._stalls = Stalls(settings.stall_timeout)
        rarest = max(min(settings.commit_interval, within) for within in topology.within_of_groups.values())
        self._objective = rarest + settings.latency_objective
        self._picture = Picture(watched, topology, self._history, self.merged, self._stalls)
        self._started, self._version = time.time(), version("kstream")
        self._was_ready = self._went_round = False
        self._beat = self._next = time.monotonic()
        self._loggers: set[str] = set()  # those whose level was set by request
        self._paused, self._log_level = False, str(settings.log_level)
        self._restarts = dict.fromkeys(("killed", "error", "fenced"), 0)
        self._checkpoints: deque[CheckpointStatus] = deque(maxlen=CHECKPOINTS)
        self._snapshots: deque[SnapshotStatus] = deque(maxlen=SNAPSHOTS)
        self._errors: deque[ErrorStatus] = deque(maxlen=ERRORS)
        self._largest: dict[str, dict[str, list[tuple[str, int]]]] = {}
        self._hottest: dict[str, dict[str, list[tuple[str, float, int]]]] = {}
        self._lookups = Lookups(watched, topology)
        self.look_up = self._lookups.ask
        self._letters = LetterView(topology, self._clients)
        self.dead_letters, self.dead_letter = self._letters.latest, self._letters.one
        self._savepoints = Savepoints(topology, settings, self._clients)
        self.make_savepoint = self._savepoints.make
        watched.watchers.append(self)

    def _clients(self) -> KafkaClients:
        return looking(self._settings, f"{self._app}-page")

    def close(self) -> None:
        self._letters.close()
        self._collections.close()

    # ---- fed by the supervisor

    def heard(self, worker: WorkerProcess) -> None:
        report = worker.report
        self._lookups.heard(worker.name, report.answers)
        with self._lock:
            if report.metrics:  # a worker that ended before it had any has none to tell
                self.merged.update(worker.name, report.metrics, report.defined)
            self._checkpoints.extend(report.checkpoints)
            self._snapshots.extend(report.snapshots)
            for error in report.errors:
                error.worker = worker.name
                self._errors.append(error)
            self._largest.setdefault(worker.name, {}).update(report.largest)
            self._hottest[worker.name] = report.hottest

    def ended(self, worker: WorkerProcess, reason: str) -> None:
        self._lookups.ended(worker.name)
        with self._lock:
            self.merged.ended(worker.name)
            if reason not in ("stopped", "retired"):
                self._restarts[reason] = self._restarts.get(reason, 0) + 1
                text = f"worker {worker.name} ended and is started again: {worker.last_error}"
                self._errors.append(ErrorStatus(time.time(), text, worker.name, logger=SUPERVISOR_LOGGER))

    def tick(self) -> None:
        now = self._beat = time.monotonic()
        self._went_round = True
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        with self._lock:
            self._stalls.look(now, self._picture.tasks(), self._paused)
            # the supervisor's own lines are about workers that end: `ended` has those, whether logs are kept or not
            self._errors.extend(error for error in logs.recent() if error.logger != SUPERVISOR_LOGGER)
            self.merged.update(SUPERVISOR, self._own_series())
            self._history.look(now, self.merged)
            others = [one.totals for one in self.others() if one.state != "silent" and one.instance != self._instance]
            self._history.points.append(self._picture.point(self._totals(), others))
            states = [self._state(self.ready()), *map(state_of, self._supervisor.workers)]
            if self._settings.state_queries:  # the others ask by what this one has announced
                states += [f"{task.name} {task.state}" for task in self._picture.tasks()]
            changed, self._states = states != self._states, states
        if changed:
            self.changed()

    def _own_series(self) -> list[Series]:
        workers = self._supervisor.workers
        states = dict.fromkeys((state.value for state in ProcessState if state is not ProcessState.NEW), 0)
        for worker in workers:
            states[state_of(worker)] += 1
        labels = self._instance, self._version, platform.python_version(), _librdkafka()
        tasks = self._picture.tasks()
        others = [other for other in self.others() if other.state not in ("silent", "stopping")]
        elsewhere = [one for one in others if one.instance != self._instance]
        of_each = [([worker.group for worker in one.workers], one.tasks) for one in elsewhere]
        unread = sum(map(is_unread, self.others()))
        hold = held(self._topology.groups, [([worker.group for worker in workers], tasks), *of_each], unread)
        own = [
            Series("build_info", labels, 1),
            Series("start_time_seconds", (), self._started),
            Series("live", (), float(self.live().ok)),
            Series("ready", (), float(self.ready().ok)),
            Series("ready_besides_restores", (), float(self._ready(restores=False).ok)),
            Series("latency_objective_seconds", (), self._objective),
            Series("instances", (), 1 + len(others)),
        ]
        own += [Series("instances_held", (group,), count) for group, count in hold.items()]
        own += [Series("workers", (state,), count) for state, count in states.items()]
        lost = sum(1 for task in tasks if task.worker == NOBODY)
        own += [Series("tasks", (TaskState.FAILED.value,), lost)] if lost else []
        own += [Series("worker_restarts_total", (reason,), count) for reason, count in self._restarts.items()]
        if self.scaler is not None:
            own += [Series("worker_scalings_total", labels, count) for labels, count in self.scaler.counts.items()]
        own += [Series("log_lines_total", (level,), count) for level, count in logs.counts().items()]
        pids = {process_name(worker.name): worker.pid for worker in workers if worker.pid}
        own += self._processes.collect({process_name(None): os.getpid(), **pids})
        return own + self._collections.collect(process_name(None))

    # ---- read by others

    def status(self) -> InstanceStatus:
        with self._lock:
            status = self.light_status()
            status.stores = self._picture.stores(self._largest, self._hottest)
            status.checkpoints = list(self._checkpoints)
            status.snapshots = list(self._snapshots)
            status.savepoints = self._savepoints.latest()
            status.errors = list(self._errors)
            status.edges = self._drawing.rates(self._history.rates("operator_records_total"))
            return status

    def light_status(self) -> InstanceStatus:
        """What is announced to the other instances."""
        with self._lock:
            ready, tasks = self.ready(), self._picture.rated_tasks()
            return InstanceStatus(
                app=self._app,
                instance=self._instance,
                state=self._state(ready),
                at=time.time(),
                started=self._started,
                version=self._version,
                host=socket.gethostname(),
                pid=os.getpid(),
                url=self.url,
                ready=ready.ok,
                reasons=ready.reasons,
                paused=self._paused,
                log_level=self._log_level,
                totals=self._totals(),
                restore=self._picture.restore(),
                tables=self._picture.tables(),
                workers=list(self._picture.workers(tasks)),
                scaling=[] if self.scaler is None else self.scaler.status(),
                tasks=tasks,
                failing=self._drawing.failing(self._history.failures()),
            )

    def workers_elsewhere(self, group: str) -> int:
        """The workers of an isolation group in the app's other instances: as many as were heard of lately, and no more
        than its consumer group has members besides this instance's. Anybody may claim workers."""
        claimed = sum(
            1
            for other in self.others()
            if other.state != "silent"
            for worker in other.workers
            if worker.group == group and worker.state != "retiring"
        )
        members = self.members(group)
        own = sum(1 for one in self._supervisor.workers if one.group == group and one.runs and one.report.member)
        return claimed if members is None else min(claimed, max(0, members - own))

    def instances(self) -> list[InstanceStatus]:
        return [self.light_status(), *(one for one in self.others() if one.instance != self._instance)]

    def history(self) -> list[Point]:
        with self._lock:
            return list(self._history.points)

    def graph(self) -> Graph:
        return self._drawing.graph

    def settings(self) -> list[SettingStatus]:
        return setting_rows(self._settings, self._sources, self._topology.within_of_groups)

    def metrics(self) -> bytes:
        from kstream.observe import exposition  # a start has other things to do than to import prometheus_client

        with self._lock:  # what the instance says of itself is as of now, as its probes are
            self.merged.update(SUPERVISOR, self._own_series())
        return exposition.text(self.merged, self._app)

    def live(self) -> Health:
        return health.live(time.monotonic(), self._beat, self._supervisor.workers, self._settings)

    def ready(self) -> Health:
        with self._lock:
            found = self._ready()
            self._was_ready = self._was_ready or found.ok
            return found

    def _ready(self, *, restores: bool = True) -> Health:
        """`restores`: whether a task that is being restored counts."""
        watched, tasks = self._supervisor, self._picture.tasks()
        return health.ready(
            time.monotonic(), watched.workers,
            [task for task in tasks if restores or task.state != TaskState.RESTORING.value],
            self._stalls, self._settings, stopping=watched.stopping, paused=self._paused,
        )  # fmt: skip

    def started(self) -> Health:
        """Green once the supervisor's loop goes round; only `ready` is about what the tasks need to be restored."""
        return Health(True) if self._went_round else Health(False, ["the supervisor's loop has not gone round yet"])

    # ---- told by others

    def pause(self) -> None:
        self._set_paused(True)

    def resume(self) -> None:
        self._set_paused(False)

    def _set_paused(self, paused: bool) -> None:
        with self._lock:
            self._paused = paused
            self._supervisor.tell(Command(paused=paused))

    def set_log_level(self, level: str, logger: str | None) -> None:
        with self._lock:
            if logger and logger not in self._loggers and len(self._loggers) >= LOGGERS:
                raise ConfigError(f"the levels of {LOGGERS} loggers were set already: set one of theirs, or restart")
            logs.set_level(level, logger)
            if logger:
                self._loggers.add(logger)
            if logger is None:
                self._log_level = level.upper()
            self._supervisor.tell(Command(log_levels={logger or "": level.upper()}))

    def _totals(self) -> Totals:
        return self._picture.totals(sum(self._restarts.values()))

    def _state(self, ready: Health) -> InstanceState:
        workers = self._supervisor.workers
        if self._supervisor.stopping:
            return "stopping"
        if self._paused:
            return "paused"
        if any(worker.runs and worker.report.restoring for worker in workers):
            return "restoring"
        if ready.ok:
            return "running"
        begun = self._was_ready or any(task.state == "failed" for task in self._picture.tasks())
        return "degraded" if begun else "starting"


def _nothing() -> None:
    return


def _unknown(_: str) -> None:
    return


def _librdkafka() -> str:
    from kstream.runtime.kafka import librdkafka_version

    return librdkafka_version()
