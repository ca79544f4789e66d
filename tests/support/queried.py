"""An instance that answers queries of state, whose worker is that of a TestDriver."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

from kstream.config import Settings
from kstream.observe.status import InstanceStatus, TaskStatus
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.handle import WorkerProcess, pauses_from
from kstream.runtime.process.queries import QueryServer
from kstream.runtime.process.report import Report
from kstream.runtime.process.states import ProcessState
from kstream.runtime.worker.global_view import GlobalView
from kstream.testing import TestDriver


@dataclass
class Asked:
    """What answers for a worker's process."""

    driver: TestDriver
    taken: bool = False

    def take_queries(self) -> socket.socket | None:
        if self.taken:
            return None
        self.taken = True
        ours, theirs = socket.socketpair()
        worker = self.driver.worker
        tables = [GlobalView(copy) for copy in worker.tables.copies.values()]
        QueryServer(theirs.detach(), lambda: [*worker.tasks.values(), *tables]).start()
        return ours


@dataclass
class Instance:
    """A `Watched` with one worker, that of the TestDriver."""

    driver: TestDriver
    watchers: list[Any] = field(default_factory=list)
    stopping: bool = False
    others: list[InstanceStatus] = field(default_factory=list)

    def __post_init__(self) -> None:
        worker = WorkerProcess(Identity("shop", "a", 0), pauses_from(Settings()), state=ProcessState.RUNNING)
        worker.process = Asked(self.driver)  # type: ignore[assignment]
        self.workers = [worker]
        self.report()

    def report(self) -> None:
        tasks = [TaskStatus(task.name, "0", task.state.value) for task in self.driver.worker.tasks.values()]
        self.workers[0].report = Report(tasks=tasks, tables=self.driver.worker.tables.told("0"))

    def tell(self, _: Any) -> None:
        raise AssertionError("nothing is told")
