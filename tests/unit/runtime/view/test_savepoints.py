"""Savepoints that the page asks for, with a real worker on a Kafka in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.config import Settings
from kstream.errors import SavepointFailed, UsageError
from kstream.observe.status import SavepointStatus
from kstream.runtime.view.savepoints import KEPT, Savepoints
from kstream.state.savepoint import damages_of, read_savepoint
from support.running import until
from unit.runtime.cluster.test_saving import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.fleet.close()


def ended(savepoints: Savepoints) -> SavepointStatus:
    until(lambda: savepoints.latest()[-1].state != "making", "the end of it")
    return savepoints.latest()[-1]


def test_one_is_made_and_told_of(bench: Bench, tmp_path: Path) -> None:
    settings = Settings(savepoints=str(tmp_path / "saved"), replication_factor=1)
    savepoints = Savepoints(bench.fleet.topology, settings, lambda: bench)
    begun = savepoints.make("first", 20.0)
    assert (begun.name, begun.state) == ("first", "making")
    done = ended(savepoints)
    assert (done.state, done.error) == ("made", None), done
    saved = read_savepoint(bench.storage, "first")
    assert not list(damages_of(bench.storage, saved))
    assert (done.tasks, done.size, done.place) == (len(saved.tasks), saved.size, str(tmp_path / "saved"))
    assert done.steps[0].startswith("the inputs are held") and len(done.steps) == 3 and done.seconds > 0


def test_what_the_command_refuses_it_refuses_too(bench: Bench, tmp_path: Path) -> None:
    settings = Settings(savepoints=str(tmp_path / "saved"), replication_factor=1)
    savepoints = Savepoints(bench.fleet.topology, settings, lambda: bench)
    with pytest.raises(UsageError, match="a name has letters"):
        savepoints.make("../elsewhere", 20.0)
    assert savepoints.latest() == []
    bench.folder.mkdir(parents=True)
    (bench.folder / "main.py").write_text("print()")
    savepoints.make("first", 20.0)
    done = ended(savepoints)
    assert done.state == "failed" and "not a savepoint's" in str(done.error)
    assert (bench.folder / "main.py").exists()
    savepoints.make(None, 20.0)
    assert ended(savepoints).state == "made"
    assert read_savepoint(bench.storage, savepoints.latest()[-1].name)


def test_one_at_a_time(bench: Bench, tmp_path: Path) -> None:
    settings = Settings(savepoints=str(tmp_path / "saved"), replication_factor=1)
    savepoints = Savepoints(bench.fleet.topology, settings, lambda: bench)
    refused: list[str] = []

    def again() -> None:
        try:
            savepoints.make("second", 20.0)
        except SavepointFailed as error:
            refused.append(error.why)

    bench.on["hold"] = again
    savepoints.make("first", 20.0)
    assert ended(savepoints).state == "made"
    assert refused == ["savepoint first is being made"]
    assert [one.name for one in savepoints.latest()] == ["first"] and KEPT > 1
