"""What a worker says and is told over its pipes, and that nothing of it can end the worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kstream.errors import ConfigError
from kstream.observe import logs
from kstream.observe.catalogue import Metric, Series
from kstream.runtime.process.report import Command, Held, Report, decode, encode_command
from kstream.runtime.process.reporting import Commands, Reporter
from kstream.runtime.process.sizes import STORES_SECONDS
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.loop import StreamWorker
from unit.runtime.harness import Counting, Fleet

MAX = 1 << 20


class Told:
    """A worker with its reporter, and the supervisor's ends of its pipes."""

    def __init__(self, directory: Path) -> None:
        self.counting = Counting()
        self.fleet = Fleet(self.counting.app, directory, partitions=1)
        self.worker = self.fleet.start("a")
        self.fleet.send(self.counting.source, ["k", "l"])
        self.fleet.settle()
        self.commands, self.reports = os.pipe(), os.pipe()
        os.set_blocking(self.reports[0], False)
        self.more: Callable[[StreamWorker], tuple[list[Metric], list[Series]]] = lambda _: ([], [])
        self.obey: Callable[[Command], None] = lambda _: None
        self.reporter = Reporter(
            self.reports[1], Commands(self.commands[0]), self.fleet.clock.monotonic,
            more=self._more, errors=logs.recent, obey=self._obey,
        )  # fmt: skip

    def _more(self, worker: StreamWorker) -> tuple[list[Metric], list[Series]]:
        return self.more(worker)

    def _obey(self, command: Command) -> None:
        self.obey(command)

    def report(self) -> Report:
        """The next one."""
        self.fleet.clock.advance(1.0)
        self.reporter(self.worker)
        *lines, _ = os.read(self.reports[0], MAX).split(b"\n")
        return decode(lines[-1])

    def failures(self) -> int:
        return sum(count for (phase, _), count in self.worker.measures.errors.items() if phase == "report")

    def close(self) -> None:
        self.fleet.close()
        for descriptor in (*self.commands, *self.reports):
            os.close(descriptor)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    one = Told(tmp_path)
    yield one
    one.close()


def test_while_the_loop_stands_its_watchdog_speaks(told: Told) -> None:
    held = Held(2.0, "price (shop.py, line 31)", "in/0", user=True)
    told.reporter.stands(held)
    assert decode(os.read(told.reports[0], MAX)) == Report(held=held)
    told.fleet.clock.advance(5.0)
    before = told.reporter.turned
    assert told.report().held is None and told.reporter.turned == before + 6.0


def fails(*_: object) -> None:
    raise LookupError("no such thing")


def test_a_report_says_what_the_worker_did(told: Told) -> None:
    report = told.report()
    assert report.records == 2 and report.joined and {task.state for task in report.tasks} == {"running"}
    assert told.failures() == 0


def test_a_key_that_cannot_be_read_back_is_shown_as_it_lies_there(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    store = next(iter(told.worker.measures.parts.values())).stores["seen"]
    store.largest.clear()
    store.largest[b"\xff\xfe"] = 17
    report = told.report()
    assert report.largest["seen"] == [(r"b'\xff\xfe'", 17)] and len(report.metrics) > 20
    assert told.failures() == 1 and "a key of store seen cannot be reported: " in caplog.text
    for _ in range(5):
        told.report()
    assert caplog.text.count("cannot be reported") == 1, "said now and then only"
    assert told.failures() == 6
    assert ("errors_total", "report") in {(one.name, one.labels[0]) for one in told.report().metrics if one.labels}


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "text"), [(Mute(), "Mute (its text cannot be had)"), (ValueError("a\n\udc80b"), r"a \udc80b")]
)
def test_an_error_whose_text_fails_is_named(told: Told, error: Exception, text: str) -> None:
    task = next(iter(told.worker.tasks.values()))
    task.error = error  # type: ignore[assignment]  # any error of the user's may be in its text
    assert [status.error for status in told.report().tasks if status.name == task.name] == [text]


def test_what_the_process_counts_may_fail(told: Told) -> None:
    told.more = fails  # type: ignore[assignment]
    report = told.report()
    assert report.records and len(report.metrics) > 20 and told.failures() == 1


def test_the_stores_sizes_may_fail(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    for task in told.worker.tasks.values():
        monkeypatch.setattr(task.backend, "size_bytes", fails)
    names = {one.name for one in told.report().metrics}
    assert "worker_busy_seconds_total" in names and "state_size_bytes" not in names and told.failures() == 1


def test_entries_are_counts_or_are_said_to_be_estimates(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(report: Report) -> dict[str, float]:
        return {one.labels[0]: one.value for one in report.metrics if one.name == "state_entries"}

    report = told.report()
    assert report.estimated == [] and entries(report)["seen"] == 2
    told.fleet.clock.advance(STORES_SECONDS)
    for task in told.worker.tasks.values():
        monkeypatch.setattr(task.backend, "count", lambda store, most: None)
        monkeypatch.setattr(task.backend, "entries", lambda store: 17)
    report = told.report()
    assert "seen" in report.estimated and entries(report)["seen"] == 17


def test_a_worker_of_which_nothing_can_be_told_still_reports(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told.reporter, "report", fails)
    report = told.report()
    assert report.tasks == [] and told.failures() == 1
    told.reporter.last(told.worker, stopped_by="the disk is full", usage=True)
    last = decode(os.read(told.reports[0], MAX).split(b"\n")[-2])
    assert last.stopped_by == "the disk is full" and last.usage


def test_text_and_numbers_that_json_does_not_have_are_left_out(told: Told) -> None:
    told.more = lambda _: (
        [], [Series("user", ("\udc80",), 1.0), Series("user", ("b",), float("nan")), Series("user", ("c",), 2.0)]
    )  # fmt: skip
    report = told.report()
    assert [one for one in report.metrics if one.name == "user"] == [Series("user", ("c",), 2.0)]
    assert report.tasks and report.joined


def test_a_command_that_cannot_be_obeyed_is_a_line(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    def refuses(_: Command) -> None:
        raise ConfigError("log level: 'LOUD' is none of ...")

    told.obey = refuses
    os.write(told.commands[1], encode_command(Command(paused=True, log_levels={"": "LOUD"})) + b"\n{not json\n")
    told.report()
    assert told.worker.paused and "LOUD" in caplog.text and not told.worker.stopping
    os.write(told.commands[1], encode_command(Command(paused=False)) + b"\n")
    told.report()
    assert not told.worker.paused


def test_a_worker_stops_when_it_is_told_to(told: Told) -> None:
    os.write(told.commands[1], encode_command(Command(stop=True)) + b"\n")
    told.report()
    assert told.worker.stopping
    told.report()


def test_the_end_of_the_commands_is_the_end_of_the_supervisor(told: Told) -> None:
    told.report()
    assert not told.worker.stopping
    os.close(told.commands[1])
    told.commands = (told.commands[0], os.dup(told.commands[0]))
    told.report()
    assert told.worker.stopping
    assert all(task.state is TaskState.RUNNING for task in told.worker.tasks.values())
