"""What a worker deletes of its state directory, and what it never touches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.config import Settings
from kstream.runtime.cluster.naming import directory_name, keep_whole_name
from kstream.runtime.worker.housekeeping import Housekeeping
from kstream.state.memory import MemoryBackend
from kstream.testing import ManualClock, MemoryCluster
from kstream.testing.clients import MemoryClients
from unit.runtime.harness import Counting, Fleet

DELAY = 3600.0
"""`state_cleanup_delay`, in seconds."""


class Bench:
    """Housekeeping over a worker's directory, on a clock. No task runs: which are open is said by name."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.clock = directory / "worker", ManualClock()
        app = kstream.App("app")
        app.stream(app.topic("in", key=str, value=int)).group_by_key().count(name="n")
        settings = Settings(state_cleanup_delay=DELAY, flush_interval=30.0)
        admin = MemoryClients(MemoryCluster(self.clock)).admin()
        self.housekeeping = Housekeeping(app.topology(), settings, admin, self.directory, self.clock)

    def task(self, name: str, *, idle: float) -> Path:
        """The directory of a task whose last change is `idle` seconds old."""
        made = self.directory / name
        made.mkdir(parents=True)
        for file, age in (("CURRENT", 10 * idle), ("LOG", idle)):
            (made / file).write_text("x")
            os.utime(made / file, (self.clock.time() - age,) * 2)
        return made

    def clean(self, *open_tasks: str, warm: Sequence[str] = ()) -> None:
        """What housekeeping does once the worker has run for long enough."""
        self.clock.advance(DELAY)
        self.housekeeping.step(dict.fromkeys(open_tasks, _RESTING), [_Warm(name) for name in warm])


class _Warm:
    """A warm copy as far as housekeeping looks at one: it flushes them too."""

    def __init__(self, name: str) -> None:
        self.name, self.backend = name, MemoryBackend([])


class _Resting:
    """A task as far as housekeeping looks at one that does not run."""

    state = None


_RESTING: Any = _Resting()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.housekeeping.close()


def test_the_state_of_a_task_that_is_elsewhere_for_long_goes(bench: Bench) -> None:
    gone, open_one = bench.task("in/0", idle=DELAY), bench.task("in/1", idle=DELAY)
    bench.clean("in/1")
    assert not gone.exists() and open_one.exists()


def test_it_is_kept_for_as_long_as_the_setting_says(bench: Bench) -> None:
    """From its last change on: closing it is one."""
    moved = bench.task("in/0", idle=-1)  # in a second
    bench.clean()
    assert moved.exists()
    bench.clock.advance(31)
    bench.housekeeping.step({})
    assert not moved.exists()


def test_nothing_goes_until_the_worker_has_run_for_that_long(bench: Bench) -> None:
    """After a restart of everything, tasks come back to the worker that had them, but not all at once."""
    moved = bench.task("in/0", idle=100 * DELAY)
    bench.clock.advance(DELAY - 1)
    bench.housekeeping.step({})
    assert moved.exists()


def test_memory_is_given_back_when_the_state_is_flushed(bench: Bench) -> None:
    """What was flushed is free by then. Not in between: it takes the time of whoever allocates."""
    done: list[str] = []
    copy: Any = _Warm("in/0")
    copy.backend.flush = lambda: done.append("flushed")
    bench.housekeeping.give_back = lambda: done.append("given back")
    for _ in range(2):
        bench.clock.advance(29)
        bench.housekeeping.step({}, [copy])
    bench.housekeeping.close()
    assert done == ["flushed", "given back"]


def test_names_that_do_not_fit_a_file_system_are_told_apart(bench: Bench) -> None:
    """`a/b` is a topic's name with a slash, written as `a%2Fb`."""
    used = bench.task("a%2Fb/0", idle=DELAY)
    bench.clean("a/b/0")
    assert used.exists()
    bench.clean()
    assert not used.exists()


def test_long_names_whose_directories_have_short_ones_are_told_apart(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    long, other = ("+".join([f"topic-{n}" * 4 for n in range(12)]) + end for end in ("a", "b"))
    used, gone = (bench.task(f"{directory_name(name)}/0", idle=DELAY) for name in (long, other))
    keep_whole_name(gone.parent, other)
    with caplog.at_level("INFO"):
        bench.clean(f"{long}/0")
    assert used.exists() and not gone.exists()
    assert f"the local state of task {other}/0" in caplog.text


def test_what_is_no_directory_of_a_task_is_left_alone(bench: Bench) -> None:
    """A file between them ended the worker."""
    gone = bench.task("in/0", idle=DELAY)
    (bench.directory / "in" / "notes.txt").write_text("somebody's")
    (bench.directory / "file").write_text("somebody's")
    bench.clean()
    assert not gone.exists()
    assert (bench.directory / "in" / "notes.txt").exists()


def test_copies_of_a_savepoint_are_left_alone_until_they_are_stored(bench: Bench) -> None:
    """However long that takes: they are hard links, which are as old as what they are links to."""
    copy, gone = bench.task("@savepoint/in/0", idle=DELAY), bench.task("in/0", idle=DELAY)
    bench.clean()
    assert copy.exists() and not gone.exists()


def test_warm_copies_that_are_open_are_left_alone(bench: Bench) -> None:
    """The task of the same name that runs here is not its copy."""
    used, gone = bench.task("@warm/in/0", idle=DELAY), bench.task("@warm/in/1", idle=DELAY)
    bench.clean("in/1", warm=["in/0"])
    assert used.exists() and not gone.exists()


def test_a_directory_that_vanishes_meanwhile_ends_nothing(bench: Bench) -> None:
    """RocksDB deletes files in the background: what was listed may be gone when it is looked at."""
    bench.task("in/0", idle=DELAY)
    (bench.directory / "in" / "0" / "000012.sst").symlink_to("nowhere")  # listed, but not there
    bench.clean()
    assert not (bench.directory / "in" / "0").exists()


def test_what_cannot_be_deleted_ends_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Tests may run as root, whom no permission stops: the operating system's answer is given here."""
    kept = bench.task("in/0", idle=DELAY)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(kept))

    monkeypatch.setattr(os, "rmdir", refuse)
    monkeypatch.setattr(os, "unlink", refuse)
    bench.clean()
    assert kept.exists()
    assert "the local state of task in/0 cannot be deleted" in caplog.text


def test_the_states_of_other_workers_are_never_touched(tmp_path: Path) -> None:
    """Two workers of an instance on one state directory: what moved from one to the other goes where it was, and stays
    where it is."""
    counting = Counting()
    fleet = Fleet(counting.app, tmp_path, partitions=4, backend="rocksdb", state_cleanup_delay=DELAY)
    first = fleet.start("a")
    fleet.send(counting.source, [f"k{n}" for n in range(40)])
    fleet.settle()
    held = {path for path in first.directory.glob("*/*")}
    assert len(held) == 4
    second = fleet.start("b")
    fleet.settle()
    moved = {first.directory / name.partition("/")[0] / name.partition("/")[2] for name in second.tasks}
    assert moved < held
    for path in tmp_path.rglob("*"):
        os.utime(path, (fleet.clock.time(),) * 2)
    fleet.step(seconds=2 * DELAY)
    fleet.settle()
    assert set(first.directory.glob("*/*")) == held - moved
    assert len(set(second.directory.glob("*/*"))) == len(moved)
    fleet.send(counting.source, [f"k{n}" for n in range(40)])
    fleet.settle()
    counting.check(fleet)
    fleet.close()


def test_a_copy_that_somebody_made_is_left_alone(bench: Bench) -> None:
    """It is no directory of a task; its name ended the worker."""
    copy = bench.task("in/0.bak", idle=DELAY)
    gone = bench.task("in/0", idle=DELAY)
    bench.clean()
    assert copy.exists() and not gone.exists()


def test_a_directory_that_cannot_be_looked_at_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = bench.task("in/0", idle=DELAY)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(kept))

    monkeypatch.setattr("kstream.runtime.worker.leftovers.last_change", refuse)
    bench.clean()
    assert kept.exists()
    assert "the local state in" in caplog.text and "trying again later" in caplog.text
    monkeypatch.undo()
    bench.clean()
    assert not kept.exists()
