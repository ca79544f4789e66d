"""The command that makes a savepoint, with a real worker on a Kafka in memory: what becomes of its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from kstream.errors import SavepointFailed, UsageError
from kstream.runtime.cluster import saving
from kstream.runtime.cluster.control import Control, Request, ensure_topic
from kstream.runtime.cluster.saving import Saving
from kstream.state.savepoint import FILE, begin_attempt, damages_of, read_savepoint
from kstream.state.snapshots.storage import open_storage
from kstream.testing.clients import MemoryClients
from unit.runtime.harness import Counting, Fleet

KEYS = [f"k{i}" for i in range(12)]


class Bench(MemoryClients):
    """Clients of the command. While it waits for a word the worker goes on, and hears what was asked.

    Attributes:
        heard: the phases, in order.
        on: called when a phase is heard, or answered.
    """

    def __init__(self, directory: Path, name: str = "counting") -> None:
        self.counting = Counting(name)
        self.fleet = Fleet(self.counting.app, directory / "state")
        super().__init__(self.fleet.cluster)
        self.storage = open_storage(str(directory / "saved"))
        self.folder = directory / "saved" / "first"
        self.stages: list[str] = []
        self.heard: list[str] = []
        self.on: dict[str, Callable[[], object]] = {}
        self.worker = self.fleet.start("a")
        self.fleet.send(self.counting.source, KEYS)
        self.fleet.settle()
        ensure_topic(self.admin(), name, 1)
        self.control = Control(MemoryClients(self.cluster), self.admin(), name)

    def reader(self) -> Any:
        reader = super().reader()
        real = reader.poll

        def polled(count: int, seconds: float) -> Any:
            self.go_on()
            return real(count, 0.0)

        reader.poll = polled  # type: ignore[method-assign]
        return reader

    def go_on(self) -> None:
        for said in self.control.read(0.0):
            if isinstance(said, Request):
                self.heard.append(said.phase)
                self.on.get(said.phase, lambda: None)()
                self.worker.savepoint.ask(said)
        wait(self.worker.savepoint._storing.values(), 0.05)  # on threads, which starve beside a loop that never rests
        self.fleet.step(seconds=0.0001)  # and by no clock of ours
        for answer in self.worker.savepoint.answers():
            self.on.get(answer.phase, lambda: None)()
            self.control.write(answer)

    def saving(self, **more: Any) -> Saving:
        given = {"timeout": 20.0, "stop": False, **more}
        return Saving(
            self.fleet.topology, self, self.admin(), self.storage, "first", on_stage=self.stages.append, **given
        )

    def files(self) -> list[str]:
        """As far as they are there: storing threads may remove directories meanwhile, which os.walk passes over."""
        found = (Path(folder) / name for folder, _, names in os.walk(self.folder) for name in names)
        return sorted(str(path.relative_to(self.folder)) for path in found)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.fleet.close()


def test_it_is_there_and_what_was_left_by_an_attempt_is_gone(bench: Bench) -> None:
    begin_attempt(bench.storage, "first", "aaaaaaaaaaaa", "counting")
    bench.storage.put("first/aaaaaaaaaaaa/in/0/files/x", [b"x"])
    bench.on["hold"] = lambda: bench.storage.put("first/aaaaaaaaaaaa/in/0/files/y", [b"y"])
    made = bench.saving().make()
    assert read_savepoint(bench.storage, "first") == made and not list(damages_of(bench.storage, made))
    assert {name.partition("/")[0] for name in bench.files()} == {FILE, made.id}
    assert bench.heard == ["hold", "capture", "resume"]
    bench.fleet.settle()
    bench.counting.check(bench.fleet)


def test_a_folder_of_somebody_else_is_refused_before_anything_is_asked(bench: Bench) -> None:
    bench.folder.mkdir(parents=True)
    (bench.folder / "main.py").write_text("print()")
    with pytest.raises(UsageError, match="not a savepoint's"):
        bench.saving().make()
    bench.go_on()
    assert bench.files() == ["main.py"] and bench.heard == []


def test_two_apps_that_make_one_of_the_same_name_do_not_rob_each_other(bench: Bench, tmp_path: Path) -> None:
    """The other begins while this one waits for its workers."""
    bench.on["hold"] = lambda: begin_attempt(bench.storage, "first", "aaaaaaaaaaaa", "other")
    with pytest.raises(UsageError, match="app other makes a savepoint first"):
        bench.saving().make()
    bench.go_on()
    assert bench.files() == ["aaaaaaaaaaaa/app"]
    assert bench.heard == ["hold", "abort"]
    bench.fleet.settle()
    bench.counting.check(bench.fleet)


def test_one_that_was_made_meanwhile_is_not_overwritten(bench: Bench) -> None:
    bench.on["resume"] = lambda: bench.storage.put(f"first/{FILE}", [b"another's"])
    with pytest.raises(SavepointFailed, match="another one of this name was made"):
        bench.saving().make()
    assert bench.files() == [FILE]
    assert (bench.folder / FILE).read_bytes() == b"another's"


def test_the_same_app_twice_leaves_the_first_alone(bench: Bench) -> None:
    """The second is refused by the workers; what the first has stored by then stays."""
    first = bench.saving()

    def second() -> None:
        bench.on.clear()
        with pytest.raises(SavepointFailed, match="refuses"):
            bench.saving().make()

    bench.on["capture"] = second
    made = first.make()
    assert not list(damages_of(bench.storage, made))


@pytest.mark.parametrize("when", ["before", "after"])
def test_of_two_at_the_same_time_none_is_made_of_files_that_the_other_deletes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """All of the first is stored, and its file is not written yet: the workers have a part in a second one by then,
    which takes what it finds in the folder for what is left of one that was broken off."""
    create = saving.create_savepoint
    there: list[Any] = []

    def second(storage: Any, savepoint: Any) -> bool:
        monkeypatch.setattr(saving, "create_savepoint", create)
        if when == "after":
            assert create(storage, savepoint)
            with pytest.raises(UsageError, match="there is a savepoint first"):
                bench.saving().make()
            return True
        there.append(bench.saving().make())
        return create(storage, savepoint)

    monkeypatch.setattr(saving, "create_savepoint", second)
    if when == "before":
        with pytest.raises(SavepointFailed, match="another one of this name was made"):
            bench.saving().make()
    else:
        there.append(bench.saving().make())
    assert read_savepoint(bench.storage, "first") == there[0]
    assert not list(damages_of(bench.storage, there[0]))
    bench.on.clear()
    bench.fleet.settle()
    bench.counting.check(bench.fleet)


def test_a_second_attempt_that_looked_before_the_file_was_there_ends_the_first(bench: Bench) -> None:
    """Its note lies in the folder, and what it deletes is not known yet."""
    bench.on["stored"] = lambda: begin_attempt(bench.storage, "first", "aaaaaaaaaaaa", "counting")
    with pytest.raises(SavepointFailed, match=r"another one of this name is made .* at the same time"):
        bench.saving().make()
    assert bench.files() == ["aaaaaaaaaaaa/app"]
    bench.on.clear()
    made = bench.saving().make()  # the note is of one that was broken off, now
    assert not list(damages_of(bench.storage, made))


def test_a_file_that_went_meanwhile_ends_it(bench: Bench) -> None:
    def delete() -> None:
        next(bench.folder.rglob("files/*")).unlink()

    bench.on["stored"] = delete
    with pytest.raises(SavepointFailed, match="was deleted meanwhile"):
        bench.saving().make()
    assert FILE not in bench.files()


def test_interrupted_after_it_was_written_it_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Control.write

    def interrupted(control: Control, said: Any) -> None:
        if isinstance(said, Request) and said.phase == "stop":
            raise KeyboardInterrupt
        write(control, said)

    monkeypatch.setattr(Control, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.saving(stop=True).make()
    assert not list(damages_of(bench.storage, read_savepoint(bench.storage, "first")))
    assert "savepoint first is there" in bench.stages[-1]
    bench.go_on()
    assert "abort" not in bench.heard


def test_interrupted_before_that_its_files_go(bench: Bench) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    bench.on["resume"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        bench.saving().make()
    assert FILE not in bench.files()
    bench.go_on()
    assert bench.heard[-1] == "abort"


def test_with_stop_it_is_not_written_when_the_instances_wait_no_longer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is stored, and the command hears of it late: the workers may have gone on by then."""

    class Late:
        by = 0.0

        def monotonic(self) -> float:
            return self.by

        def time(self) -> float:
            return 1.0

    late = Late()
    monkeypatch.setattr(saving, "time", late)
    bench.on["stored"] = lambda: setattr(late, "by", 21.0)
    with pytest.raises(SavepointFailed, match="it took 20 s"):
        bench.saving(stop=True).make()
    assert FILE not in bench.files()
    bench.go_on()
    assert bench.heard == ["hold", "capture", "abort"]
