"""A worker's side of the pipes to its supervisor: what it says of itself, and what it is told.

A report is written about twice a second, and right after each commit: so a worker that is killed takes no more of its
counts with it than it had not committed. Whatever goes wrong here, the worker goes on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any

import msgspec

from kstream.observe.catalogue import Metric, Series
from kstream.observe.status import ErrorStatus
from kstream.runtime.process.lookup import look_up
from kstream.runtime.process.report import Answer, Command, Held, Report, decode_command, encodable, encode
from kstream.runtime.process.series import Telling, report_of
from kstream.runtime.process.sizes import StoreSizes
from kstream.runtime.worker.loop import StreamWorker

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.5
EAGER_SECONDS = 0.05
"""The same while a savepoint is made."""
MAX_UNSENT = 8 << 20

More = Callable[[StreamWorker], tuple[list[Metric], list[Series]]]
"""Series besides the worker's own: user metrics, clients, the process."""


class Reporter:
    """Called after each turn of the worker.

    Args:
        descriptor: where reports go.
        commands: their end means that the supervisor has ended.
        more: further series for each report.
        errors: what was logged at ERROR since the last call.
        obey: carries out what is not the worker's own business (log levels).
    """

    def __init__(
        self,
        descriptor: int,
        commands: Commands,
        clock: Callable[[], float],
        *,
        more: More,
        errors: Callable[[], list[ErrorStatus]],
        obey: Callable[[Command], None],
    ) -> None:
        os.set_blocking(descriptor, False)  # a supervisor that does not read must not hold the worker up
        self._out, self._commands, self._clock = descriptor, commands, clock
        self._more, self._errors, self._obey = more, errors, obey
        self._writing, self._unsent = Lock(), b""
        self.turned = clock()
        """When the worker's loop turned last."""
        self._next = self._told = 0.0
        self._commits = 0
        self._sizes = StoreSizes(clock)
        self._answers: list[Answer] = []
        self.also: list[Callable[[], list[Series]]] = []
        """Tell what else is counted in this process."""

    def __call__(self, worker: StreamWorker) -> None:
        now = self.turned = self._clock()
        if worker.savepoint.active:  # others stand still meanwhile
            self._next = min(self._next, self._told + EAGER_SECONDS)
        if now < self._next and worker.commits == self._commits:
            return
        if now >= self._next:
            self._next = now + REPORT_SECONDS
            self._listen(worker)
        self._commits, self._told = worker.commits, now
        self._tell(worker)

    def report(self, worker: StreamWorker) -> Report:
        report, telling = report_of(worker, self._sizes), Telling(worker.measures)
        none: tuple[list[Metric], list[Series]] = [], []
        report.defined, series = telling.of("what the process counts", lambda: self._more(worker), none)
        report.metrics += telling.all_of("what the process counts", lambda: series)
        for tell in self.also:
            report.metrics += telling.all_of("what the process counts", tell)
        report.errors = self._errors()
        report.answers, self._answers = self._answers, []
        report.savepoint = worker.savepoint.answers()
        return report

    def _tell(self, worker: StreamWorker, **said: Any) -> None:
        """What it says, and what else there is to report."""
        telling = Telling(worker.measures)
        report = msgspec.structs.replace(telling.of("the worker", lambda: self.report(worker), Report()), **said)
        try:
            data = encode(report)
        except Exception as error:  # text that is not Unicode in a label, say
            telling.failed("the worker", error)
            data = encode(encodable(report))
        self._write(data)

    def last(self, worker: StreamWorker | None, **said: Any) -> None:
        """The last report of this process. What the worker counted is in it, as far as there was one."""
        if worker is None:
            self._write(encode(Report(errors=self._errors(), **said)))
        else:
            self._tell(worker, **said)

    def _listen(self, worker: StreamWorker) -> None:
        for command in self._commands.read():
            if command.paused is not None and command.paused != worker.paused:
                worker.paused = command.paused
                log.info("paused: tasks keep their partitions and process nothing" if worker.paused else "resumed")
            if command.warm is not None:
                worker.warm.follow(command.warm)
            if command.stop:
                worker.stop()
            if command.savepoint is not None:
                worker.savepoint.ask(command.savepoint, paused=worker.paused)
            telling = Telling(worker.measures)
            for asked in command.lookups:
                answer = partial(look_up, worker.tasks.values(), asked)
                self._answers.append(telling.of(f"a key of table {asked.store}", answer, Answer(asked.number)))
            telling.of("that it obeyed", partial(self._obey, command), None)
        if self._commands.ended and not worker.stopping:
            log.warning("the supervisor has ended: this worker stops")
            worker.stop()

    def stands(self, held: Held) -> None:
        """Said on the watchdog's thread."""
        self._write(encode(Report(held=held)))

    def _write(self, report: bytes) -> None:
        with self._writing:
            if len(self._unsent) < MAX_UNSENT:
                self._unsent += report + b"\n"
            try:
                while self._unsent:
                    self._unsent = self._unsent[os.write(self._out, self._unsent) :]
            except BlockingIOError:
                return
            except BrokenPipeError:
                log.warning("a report could not be sent: the supervisor has ended")


class Commands:
    """Reads commands without waiting. `ended` once the other side is closed."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._in = descriptor
        self._buffer = b""
        self.ended = False

    def read(self) -> list[Command]:
        while not self.ended:
            try:
                data = os.read(self._in, 1 << 16)
            except BlockingIOError:
                break
            self.ended = not data
            self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        commands = []
        for line in lines:
            try:
                commands.append(decode_command(line))
            except msgspec.DecodeError as error:
                log.error("a command of the supervisor cannot be decoded: %s", error)
        return commands
