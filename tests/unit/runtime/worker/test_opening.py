"""Local state that goes along with a task from one worker of a host to another, without a copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.errors import StateError, StateInUse
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.opening import HANDOVER_SECONDS, REPLACED, WARM, WIPED
from kstream.state.lock import locked
from kstream.state.rocksdb import RocksBackend
from unit.runtime.harness import ROCKS, Counting, Fleet

COUNTING = Counting()
KEYS = [f"k{i}" for i in range(30)]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """One worker with state on disk, in one partition; every key is there once."""
    made = Fleet(COUNTING.app, tmp_path, partitions=1, backend="rocksdb")
    made.start("a")
    made.send(COUNTING.source, KEYS)
    made.settle()
    yield made
    made.close()


def directory(fleet: Fleet, worker: str) -> Path:
    return Path(fleet.settings.state_dir) / fleet.identity(worker).member / "in" / "0"


def restored(fleet: Fleet, worker: str) -> int:
    return fleet.workers[worker].restorer.replay.records


def finish(fleet: Fleet) -> None:
    fleet.settle()
    COUNTING.check(fleet)


def inodes(folder: Path) -> dict[str, int]:
    """Of its tables, as the directory has them: RocksDB may remove one at any time."""
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries if entry.name.endswith(".sst")}


def test_a_task_takes_its_local_state_along(fleet: Fleet) -> None:
    fleet.leave("a")
    files = inodes(directory(fleet, "a"))
    fleet.start("b")
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    assert files and restored(fleet, "b") == 0
    moved = inodes(directory(fleet, "b"))
    both = files.keys() & moved.keys()  # RocksDB may have merged some meanwhile
    assert both and all(moved[name] == files[name] for name in both), "they were copied"
    assert not directory(fleet, "a").exists()


def test_workers_that_come_and_go_hand_it_on_within_a_rebalance(fleet: Fleet) -> None:
    """The former owner closes a moment after the new one was told: it is waited for."""
    fleet.start("b")
    fleet.settle()
    owner = next(name for name, worker in fleet.workers.items() if worker.tasks)
    other = {"a": "b", "b": "a"}[owner]
    fleet.send(COUNTING.source, KEYS)
    fleet.settle()
    fleet.workers[owner].stop()
    fleet.leave(owner)
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    assert restored(fleet, other) == 0


def test_only_the_tail_is_replayed_of_what_lies_behind(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its owner was killed: it has what was flushed."""
    fleet.task("a", 0).backend.flush()
    copy = tmp_path_factory.mktemp("copy") / "0"
    shutil.copytree(directory(fleet, "a"), copy)
    fleet.send(COUNTING.source, KEYS[:4])
    fleet.settle()
    fleet.leave("a")
    shutil.rmtree(directory(fleet, "a"))
    copy.rename(directory(fleet, "a"))
    fleet.start("b")
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    assert restored(fleet, "b") == 2 * 4  # two stores


def test_the_newest_wins_over_an_older_one_of_its_own(fleet: Fleet) -> None:
    fleet.leave("a")
    own = directory(fleet, "b")
    shutil.copytree(directory(fleet, "a"), own)
    for file in own.iterdir():
        os.utime(file, (1, 1))
    fleet.start("a")
    fleet.send(COUNTING.source, KEYS)
    fleet.settle()
    fleet.leave("a")
    fleet.start("b")
    finish(fleet)
    assert restored(fleet, "b") == 0
    assert [path.name for path in own.parent.iterdir()] == ["0"], "what it replaced is still there"


def test_its_own_stays_where_it_is_newer(fleet: Fleet) -> None:
    fleet.leave("a")
    older = directory(fleet, "b")
    shutil.copytree(directory(fleet, "a"), older)
    for file in older.iterdir():
        os.utime(file, (1, 1))
    fleet.start("a")
    finish(fleet)
    assert older.exists() and restored(fleet, "a") == 0


def test_a_live_owner_is_never_robbed(fleet: Fleet) -> None:
    """A worker that was expelled and does not know it yet has its state open. Its successor waits for a while, and
    begins with the changelog."""
    fleet.expire("a")
    fleet.start("b")
    waited = 0.0
    while not fleet.workers["b"].tasks or fleet.task("b", 0).state is not TaskState.RUNNING:
        fleet.step("b", seconds=0.1)
        waited += 0.1
        assert waited < 2 * HANDOVER_SECONDS
    assert waited >= HANDOVER_SECONDS
    assert directory(fleet, "a").exists() and restored(fleet, "b") == 2 * len(KEYS)
    fleet.crash("a")
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)


def test_its_own_state_that_a_predecessor_has_open_is_waited_for(fleet: Fleet) -> None:
    """Its process is about to end."""
    fleet.leave("a")
    opened = RocksBackend(directory(fleet, "a"), ["n", "seen"], ROCKS)
    fleet.start("a")
    fleet.step("a", times=20)
    assert fleet.task("a", 0).state is TaskState.RESTORING
    opened.close()
    finish(fleet)
    assert restored(fleet, "a") == 0


def test_its_own_state_that_stays_open_ends_the_worker(fleet: Fleet) -> None:
    fleet.leave("a")
    opened = RocksBackend(directory(fleet, "a"), ["n", "seen"], ROCKS)
    fleet.start("a")
    with pytest.raises(StateInUse, match="in use by another process"):
        fleet.step("a", times=20, seconds=HANDOVER_SECONDS)
    fleet.crash("a")
    opened.close()


def test_state_that_is_damaged_is_taken_and_rebuilt(fleet: Fleet) -> None:
    fleet.leave("a")
    for file in directory(fleet, "a").glob("*.sst"):
        file.write_bytes(b"\0" * file.stat().st_size)
    fleet.start("b")
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)
    assert restored(fleet, "b") >= 2 * len(KEYS)


# ---- other processes

HOLD = """
import sys
from pathlib import Path
from kstream.state.rocksdb import RocksBackend, RocksMemory
backend = RocksBackend(Path(sys.argv[1]), ["n"], RocksMemory(1 << 20, 1 << 20))
print("open", flush=True)
sys.stdin.read()
"""

ADOPT = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from kstream.clock import SystemClock
from kstream.runtime.worker import opening
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.state.unopened import Unopened

state_dir, member, die = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
rename = Path.rename
def dying(self, to):
    if die == "before": os._exit(9)
    rename(self, to)
    if die == "after": os._exit(9)
Path.rename = dying
memory = RocksMemory(1 << 20, 1 << 20)
one = opening.Opening(state_dir, member, lambda at, stores: RocksBackend(at, stores, memory), SystemClock())
task = SimpleNamespace(
    name="in/0", part=SimpleNamespace(name="in"), partition=0, backend=Unopened(),
    stores={"n": SimpleNamespace(backend=None, families=("n",))},
)
print("ready", flush=True)
sys.stdin.readline()
while not one.open(task):
    pass
print(task.backend.multi_get("n", [b"k"]), flush=True)
task.backend.close()
"""


def program(text: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def filled(directory: Path) -> Path:
    backend = RocksBackend(directory, ["n"], ROCKS)
    backend.write({"n": [(b"k", b"v")]}, {})
    backend.close()
    return directory


def test_what_another_process_has_open_is_locked_and_what_a_dead_one_had_is_not(tmp_path: Path) -> None:
    there = filled(tmp_path / "0")
    with locked(there) as free:
        assert free
        holder = program(HOLD, there)
        assert holder.communicate()[0] == "", "it opened what was locked"
    holder = program(HOLD, there)
    assert holder.stdout and holder.stdout.readline() == "open\n"
    with locked(there) as free:
        assert not free
    holder.kill()
    holder.communicate()
    with locked(there) as free:
        assert free


def test_what_this_process_has_open_is_locked_and_stays_so(tmp_path: Path) -> None:
    """A lock of POSIX goes when any descriptor of the file is closed: RocksDB's must not go by being looked at."""
    backend = RocksBackend(filled(tmp_path / "0"), ["n"], ROCKS)
    with locked(tmp_path / "0") as free:
        assert not free
    assert program(HOLD, tmp_path / "0").communicate()[0] == ""
    backend.close()


def test_a_directory_that_is_gone_is_nobodys(tmp_path: Path) -> None:
    with locked(tmp_path / "gone") as free:
        assert not free
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("die", ["before", "after"])
def test_killed_around_the_rename_nothing_is_lost(tmp_path: Path, die: str) -> None:
    filled(tmp_path / "a" / "in" / "0")
    killed = program(ADOPT, tmp_path, "b", die)
    killed.communicate("\n")
    assert killed.returncode == 9
    places = [path.parts[-3] for path in tmp_path.glob("*/in/0")]
    assert places == (["a"] if die == "before" else ["b"])
    for member in ("b", "c"):
        assert program(ADOPT, tmp_path, member, "never").communicate("\n")[0] == "ready\n[b'v']\n"


def test_killed_between_the_two_renames_the_next_takes_it(tmp_path: Path) -> None:
    """Where an older one of its own makes room first."""
    old = filled(tmp_path / "b" / "in" / "0")
    for file in old.iterdir():
        os.utime(file, (1, 1))
    filled(tmp_path / "a" / "in" / "0")
    killed = program(ADOPT, tmp_path, "b", "after")
    killed.communicate("\n")
    assert not old.exists() and (tmp_path / "a" / "in" / "0").exists()
    assert program(ADOPT, tmp_path, "b", "never").communicate("\n")[0] == "ready\n[b'v']\n"
    assert [path.name for path in old.parent.iterdir()] == ["0"]


def test_what_was_replaced_when_a_predecessor_was_killed_is_no_longer_there(fleet: Fleet) -> None:
    """Deleted where a newer one has its place, and back in it where there is none."""
    fleet.leave("a")
    own, warm = directory(fleet, "a"), directory(fleet, "a").parents[1] / WARM / "in" / "1"
    shutil.copytree(own, own.with_name("0" + REPLACED))
    shutil.copytree(own, warm.with_name("1" + REPLACED))
    fleet.start("a")
    assert [path.name for path in own.parent.iterdir()] == ["0"]
    assert [path.name for path in warm.parent.iterdir()] == ["1"]
    finish(fleet)
    assert restored(fleet, "a") == 0


@pytest.mark.parametrize("how", ["damaged while it ran", "damaged when it is opened"])
def test_what_is_wiped_while_another_worker_moves_it_is_taken_whole_or_not_at_all(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It is not open for a moment, as between the two opens of a bulk load."""
    own, taken = directory(fleet, "a"), tmp_path / "taken"
    if how == "damaged when it is opened":
        fleet.leave("a")
        (own / "CURRENT").write_text("nothing\n")
    unlink = os.unlink

    def moved_meanwhile(*arguments: object, **named: object) -> None:
        unlink(*arguments, **named)  # type: ignore[arg-type]
        if own.exists() and not taken.exists():
            own.rename(taken)

    monkeypatch.setattr(os, "unlink", moved_meanwhile)
    if how == "damaged when it is opened":
        fleet.start("a")
    else:
        task = fleet.task("a", 0)
        fleet.workers["a"]._recovery._rebuild(task, StateError("it was taken by somebody else"))
    fleet.settle()
    monkeypatch.undo()
    assert not taken.exists(), "it was taken half deleted"
    assert [path.name for path in own.parent.iterdir()] == ["0"]
    fleet.send(COUNTING.source, KEYS)
    finish(fleet)


def test_what_was_being_deleted_when_a_predecessor_was_killed_goes(fleet: Fleet) -> None:
    fleet.leave("a")
    own, warm = directory(fleet, "a"), directory(fleet, "a").parents[1] / WARM / "in" / "1"
    shutil.copytree(own, own.with_name("0" + WIPED))
    shutil.copytree(own, warm.with_name("1" + WIPED))
    fleet.start("a")
    assert [path.name for path in own.parent.iterdir()] == ["0"]
    assert not list(warm.parent.iterdir())
    finish(fleet)
    assert restored(fleet, "a") == 0


def test_of_two_that_race_one_gets_it_and_the_other_begins_anew(tmp_path: Path) -> None:
    filled(tmp_path / "a" / "in" / "0")
    racers = [program(ADOPT, tmp_path, member, "never") for member in ("b", "c")]
    for racer in racers:
        assert racer.stdout and racer.stdin and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [racer.communicate()[0] for racer in racers]
    # the second may come after the first has closed it, and take it in turn
    assert sorted(said) in (["[None]\n", "[b'v']\n"], ["[b'v']\n", "[b'v']\n"])
    assert [racer.returncode for racer in racers] == [0, 0]


# ---- which of several


def begun_late(fleet: Fleet, worker: str) -> Path:
    """Local state that was written to just now, and has next to nothing."""
    young = directory(fleet, worker)
    backend = RocksBackend(young, ["n", "seen"], ROCKS)
    source = RocksBackend(directory(fleet, "a"), ["n", "seen"], ROCKS)
    mark = source.mark("n")
    source.close()
    assert mark is not None
    backend.write({}, {"n": mark._replace(offset=0)})
    backend.close()
    return young


def make_old(there: Path) -> None:
    for file in there.iterdir():
        os.utime(file, (1, 1))


def test_one_that_has_more_stays_where_a_younger_one_has_less(fleet: Fleet) -> None:
    fleet.leave("a")
    young = begun_late(fleet, "c")
    make_old(directory(fleet, "a"))
    fleet.start("a")
    finish(fleet)
    assert restored(fleet, "a") == 0
    assert young.exists()


def test_of_several_the_one_that_has_most_is_taken(fleet: Fleet) -> None:
    fleet.leave("a")
    begun_late(fleet, "c")
    make_old(directory(fleet, "a"))
    fleet.start("b")
    finish(fleet)
    assert restored(fleet, "b") == 0
    assert not directory(fleet, "a").exists()


@pytest.mark.parametrize("own", [True, False])
def test_where_the_rename_fails_its_own_is_kept(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    fleet.leave("a")
    if own:
        shutil.copytree(directory(fleet, "a"), directory(fleet, "b"))
        make_old(directory(fleet, "b"))
    there, really = directory(fleet, "a"), Path.rename

    def refused(self: Path, to: Path) -> Path:
        if self == there:
            raise OSError(18, "Invalid cross-device link")
        return really(self, to)

    monkeypatch.setattr(Path, "rename", refused)
    fleet.start("b")
    finish(fleet)
    assert restored(fleet, "b") == (0 if own else 2 * len(KEYS))
    assert there.exists() and [path.name for path in directory(fleet, "b").parent.iterdir()] == ["0"]


def test_a_former_owner_that_closes_late_is_waited_for(fleet: Fleet) -> None:
    """It closes one task after the other, and flushes each."""
    fleet.expire("a")
    fleet.start("b")
    fleet.step("b", times=40, seconds=1.0)
    assert fleet.task("b", 0).state is TaskState.RESTORING
    fleet.crash("a")
    finish(fleet)
    assert restored(fleet, "b") == 0
