"""Look-ups in tables: what is asked of the workers, what they answer, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.config import Settings
from kstream.errors import UsageError
from kstream.observe.status import TableEntry
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.handle import WorkerProcess, pauses_from
from kstream.runtime.process.lookup import look_up
from kstream.runtime.process.report import Answer, Command, Lookup
from kstream.runtime.process.states import ProcessState
from kstream.runtime.view.lookups import Lookups
from kstream.testing import TestDriver

app = kstream.App("shop")
orders = app.topic("orders", key=str, value=int)
app.stream(orders).group_by_key().count(name="count")


@dataclass
class Instance:
    """A `Watched` whose workers are said to run; what they are told is kept."""

    count: int = 2
    watchers: list[Any] = field(default_factory=list)
    stopping: bool = False
    told: list[Command] = field(default_factory=list)

    @property
    def workers(self) -> list[WorkerProcess]:
        pauses = pauses_from(Settings(restart_jitter=0))
        return [
            WorkerProcess(Identity("shop", "a", number), pauses, state=ProcessState.RUNNING)
            for number in range(self.count)
        ]

    def tell(self, command: Command) -> None:
        self.told.append(command)


def test_the_first_worker_that_has_it_is_enough() -> None:
    instance = Instance()
    lookups = Lookups(instance, app.topology())
    entry = lookups.ask("count", "ann")
    assert instance.told == [Command(lookups=[Lookup(1, "count", b"ann")])]
    lookups.heard("1", [Answer(1, [1, 3], b"7")])
    assert entry.result(0) == TableEntry("count", "ann", True, 7, [1, 3])
    lookups.heard("0", [Answer(1, [0, 2])])  # too late: it does no harm


def test_it_is_not_there_when_all_have_said_so_or_ended() -> None:
    lookups = Lookups(Instance(3), app.topology())
    entry = lookups.ask("count", "bob")
    lookups.heard("0", [Answer(1, [2])])
    lookups.heard("1", [Answer(1, [0])])
    assert not entry.done()
    lookups.ended("2")
    assert entry.result(0) == TableEntry("count", "bob", False, None, [0, 2])


def test_without_workers_nothing_is_waited_for() -> None:
    assert Lookups(Instance(0), app.topology()).ask("count", "ann").result(0).partitions == []


def test_who_gave_up_is_not_told() -> None:
    lookups = Lookups(Instance(1), app.topology())
    entry = lookups.ask("count", "ann")
    assert entry.cancel()
    lookups.heard("0", [Answer(1, [0], b"7")])
    assert entry.cancelled()


def test_a_value_that_cannot_be_decoded_is_shown() -> None:
    lookups = Lookups(Instance(1), app.topology())
    entry = lookups.ask("count", "ann")
    lookups.heard("0", [Answer(1, [0], b"{no")])
    assert entry.result(0).value == "{no" and entry.result(0).undecodable


@pytest.mark.parametrize("table,key,why", [("counts", "ann", "there is no table 'counts'; there are: count")])
def test_what_makes_no_sense_is_refused(table: str, key: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Lookups(Instance(), app.topology()).ask(table, key)


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_a_worker_answers_with_what_is_committed(tmp_path: Path, backend: str) -> None:
    with TestDriver(app, partitions=2, backend=backend) as d:
        d.send(orders, 1, key="ann")
        tasks = d.worker.tasks.values()
        assert look_up(tasks, Lookup(5, "count", b"ann")) == Answer(5, [0, 1], None)
        d.commit()
        d.send(orders, 1, key="ann")
        assert look_up(tasks, Lookup(6, "count", b"ann")) == Answer(6, [0, 1], b"1")
        assert look_up(tasks, Lookup(7, "other", b"ann")) == Answer(7)
