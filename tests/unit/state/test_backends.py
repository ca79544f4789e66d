"""What every backend must do, and what only the one on disk must (crashes, locks, damage)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.errors import StateDirectoryError, StateError
from kstream.state.backend import Backend, Mark
from kstream.state.choosing import backends
from kstream.state.lock import locked
from kstream.state.memory import MemoryBackend
from kstream.state.rocksdb import MARK_KEY, RocksBackend, RocksMemory
from support.cases import examples

MEMORY = RocksMemory(8 << 20, 8 << 20)
STORES = ("counts", "default")  # the second: RocksDB has a family of that name itself


def rocks(directory: Path, stores: tuple[str, ...] = STORES) -> RocksBackend:
    return RocksBackend(directory, stores, MEMORY)


MADE: dict[str, Callable[[Path], Backend]] = {
    "memory": lambda directory: MemoryBackend(STORES),
    "rocksdb": rocks,
    "both": lambda directory: backends("rocksdb", {"default": "memory"}, MEMORY)(directory, STORES),
    "both, the other way": lambda directory: backends("memory", {"default": "rocksdb"}, MEMORY)(directory, STORES),
}


@pytest.fixture(params=list(MADE))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    made = MADE[request.param](tmp_path / "task")
    yield made
    made.close()


def test_a_new_store_is_empty_and_has_no_mark(backend: Backend) -> None:
    assert backend.multi_get("counts", [b"a", b"b"]) == [None, None]
    assert backend.multi_get("counts", []) == []
    assert list(backend.scan("counts")) == []
    assert backend.mark("counts") is None


def test_what_was_written_is_read_in_the_order_of_the_keys_asked_for(backend: Backend) -> None:
    backend.write({"counts": [(b"b", b"2"), (b"a", b"1"), (b"", b"empty key"), (b"e", b"")]}, {})
    assert backend.multi_get("counts", (b"b", b"x", b"a", b"b", b"", b"e")) == [
        b"2", None, b"1", b"2", b"empty key", b"",
    ]  # fmt: skip


def test_stores_do_not_see_each_other(backend: Backend) -> None:
    backend.write({"counts": [(b"a", b"1")], "default": [(b"a", b"2")]}, {"counts": Mark(1, 0.5)})
    assert backend.multi_get("counts", [b"a"]) == [b"1"]
    assert backend.multi_get("default", [b"a"]) == [b"2"]
    assert backend.mark("default") is None


def test_marks_come_back_as_written(backend: Backend) -> None:
    backend.write({}, {"counts": Mark(5, 1700000000.25)})
    backend.write({"counts": [(b"a", b"1")]}, {"counts": Mark(2**40, 1.5), "default": Mark(0, 0.0)})
    backend.write({"counts": [(b"b", b"1")]}, {})
    assert backend.mark("counts") == Mark(2**40, 1.5)
    assert backend.mark("default") == Mark(0, 0.0)


def test_none_deletes_and_the_last_of_equal_keys_counts(backend: Backend) -> None:
    backend.write({"counts": [(b"a", b"1"), (b"b", b"1"), (b"c", None)]}, {})
    backend.write({"counts": iter([(b"a", None), (b"b", None), (b"b", b"2"), (b"d", b"1"), (b"d", None)])}, {})
    assert list(backend.scan("counts")) == [(b"b", b"2")]
    assert backend.multi_get("counts", [b"a", b"b", b"d"]) == [None, b"2", None]


def test_a_scan_is_sorted_bytewise_and_shows_the_store_as_it_was(backend: Backend) -> None:
    keys = [b"\x00", b"a", b"a\x00", b"ab", MARK_KEY[:5], b"\xff", b"\xff\xff"]
    backend.write({"counts": [(key, b"1") for key in reversed(keys)]}, {"counts": Mark(1, 1.0)})
    scan = backend.scan("counts")
    backend.write({"counts": [(b"a", None), (b"zz", b"1"), (b"ab", b"2")]}, {})
    assert list(scan) == [(key, b"1") for key in sorted(keys)]
    assert list(scan) == []


def test_nothing_of_a_write_that_raises_is_applied(backend: Backend) -> None:
    def broken() -> Iterator[tuple[bytes, bytes | None]]:
        yield b"b", b"1"
        raise RuntimeError("encoder")

    with pytest.raises(RuntimeError, match="encoder"):
        backend.write({"counts": [(b"a", b"1")], "default": broken()}, {"counts": Mark(1, 1.0)})
    with pytest.raises(KeyError, match="unknown"):
        backend.write({"counts": [(b"a", b"1")], "unknown": [(b"a", b"1")]}, {})
    assert list(backend.scan("counts")) == list(backend.scan("default")) == []
    assert backend.mark("counts") is None


def test_reset_empties_one_store_and_forgets_its_mark(backend: Backend) -> None:
    for store in STORES:
        backend.write({store: [(b"a", b"1")]}, {store: Mark(9, 1.0)})
    backend.reset("counts")
    assert backend.mark("counts") is None
    assert list(backend.scan("counts")) == []
    assert backend.mark("default") == Mark(9, 1.0)
    assert list(backend.scan("default")) == [(b"a", b"1")]
    backend.write({"counts": [(b"b", b"2")]}, {"counts": Mark(1, 2.0)})
    assert list(backend.scan("counts")) == [(b"b", b"2")]


def test_a_store_that_is_loaded_is_what_it_always_is(backend: Backend) -> None:
    for number in range(4):
        backend.bulk(["counts"], on=number % 2 == 0)
        backend.bulk(["counts"], on=number % 2 == 0)
        backend.write({"counts": [(b"a", b"%d" % number), (b"b", None)]}, {"counts": Mark(number, 1.0)})
        assert backend.multi_get("counts", [b"a", b"b"]) == [b"%d" % number, None]
        assert backend.mark("counts") == Mark(number, 1.0)
    backend.bulk(["counts"], on=True)
    backend.reset("counts")
    assert list(backend.scan("counts")) == [] and backend.mark("counts") is None
    with pytest.raises(KeyError):
        backend.bulk(["missing"], on=True)


def test_size_grows_with_the_data(backend: Backend) -> None:
    backend.write({"counts": [(b"%d" % i, os.urandom(1000)) for i in range(2000)]}, {})
    backend.flush()
    assert backend.size_bytes("counts") > 1_500_000
    assert backend.size_bytes("default") < 1_000_000


def test_entries_are_counted_exactly_up_to_a_bound(backend: Backend) -> None:
    assert backend.count("counts", 10) == 0
    for number in range(300):
        backend.write({"counts": [(b"%d" % i, b"x") for i in range(10)]}, {"counts": Mark(number, 0.0)})
    assert (backend.count("counts", 10), backend.count("default", 10)) == (10, 0)
    backend.write({"counts": [(b"%d" % i, None) for i in range(7)]}, {})
    backend.flush()
    assert backend.count("counts", 10) == 3


def test_more_entries_than_the_bound_are_not_counted(tmp_path: Path) -> None:
    backend = rocks(tmp_path / "task")
    backend.write({"counts": [(b"%d" % i, b"x") for i in range(11)]}, {})
    assert (backend.count("counts", 10), backend.count("counts", 11)) == (None, 11)
    backend.close()


def test_the_estimate_is_that_of_the_last_flush_however_often_keys_are_written(tmp_path: Path) -> None:
    """RocksDB's own counts each write, and the mark's: 20 000 keys came out as 121 000."""
    backend = rocks(tmp_path / "task")
    backend.write({"counts": [(b"%d" % i, b"x") for i in range(20_000)]}, {"counts": Mark(1, 0.0)})
    assert backend.entries("counts") == 20_000, "nothing lies on disk yet"
    backend.flush()
    for number in range(100):
        backend.write({"counts": [(b"%d" % i, b"y") for i in range(500)]}, {"counts": Mark(number, 0.0)})
    assert backend.entries("counts") == 20_000
    backend.close()


def test_an_unknown_store_is_a_key_error_and_a_closed_backend_says_so(backend: Backend) -> None:
    uses: list[Callable[[str], object]] = [
        lambda store: backend.multi_get(store, [b"a"]),
        backend.scan,
        lambda store: backend.write({store: []}, {}),
        backend.mark,
        backend.reset,
        backend.size_bytes,
        backend.entries,
        partial(backend.count, most=5),
    ]
    for use in uses:
        with pytest.raises(KeyError, match="nowhere"):
            use("nowhere")
    backend.close()
    backend.close()
    for use in uses:
        with pytest.raises(StateError, match="closed"):
            use("counts")
    backend.flush()  # the flusher's thread may come last


@examples(30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(STORES),
            st.lists(st.tuples(st.binary(max_size=3), st.one_of(st.none(), st.binary(max_size=3))), max_size=8),
        ),
        max_size=8,
    ),
    st.lists(st.tuples(st.binary(max_size=3), st.one_of(st.none(), st.binary(max_size=3))), max_size=4),
)
def test_the_one_on_disk_is_the_one_in_memory(
    tmp_path_factory: pytest.TempPathFactory,
    writes: list[tuple[str, list[tuple[bytes, bytes | None]]]],
    bounds: list[tuple[bytes, bytes | None]],
) -> None:
    directory = tmp_path_factory.mktemp("rocks")
    disk, memory = rocks(directory), MemoryBackend(STORES)
    for offset, (store, changes) in enumerate(writes):
        for each in (disk, memory):
            each.write({store: changes}, {store: Mark(offset, 1.0)})
        for start, stop in bounds:
            assert list(disk.scan(store, start, stop)) == list(memory.scan(store, start, stop))
        if offset % 3 == 2:
            disk.close()
            disk = rocks(directory)
    for store in STORES:
        found = list(disk.scan(store))
        assert found == list(memory.scan(store))
        for start, stop in bounds:
            expected = [entry for entry in found if start <= entry[0] and (stop is None or entry[0] < stop)]
            assert list(disk.scan(store, start, stop)) == list(memory.scan(store, start, stop)) == expected
        assert disk.mark(store) == memory.mark(store)
    disk.close()


# ---- RocksDB only


def test_the_reserved_key_is_refused_and_hidden(tmp_path: Path) -> None:
    backend = rocks(tmp_path)
    backend.write({"counts": [(b"a", b"1"), (b"\xff", b"2")]}, {"counts": Mark(3, 1.0)})
    with pytest.raises(ValueError, match="reserved"):
        backend.write({"counts": [(b"x", b"1"), (MARK_KEY, b"1"), (b"\xff", b"1")]}, {})
    assert list(backend.scan("counts")) == [(b"a", b"1"), (b"\xff", b"2")]
    assert backend.multi_get("counts", [b"a", MARK_KEY, b"\xff"]) == [b"1", None, b"2"]
    backend.close()
    rocks(tmp_path).close()  # the refused batch keeps no lock


def test_close_keeps_what_was_written_and_frees_the_lock_at_once(tmp_path: Path) -> None:
    backend = rocks(tmp_path)
    backend.write({"counts": [(b"%03d" % i, b"1") for i in range(100)]}, {"counts": Mark(3, 1.0)})
    started, half, finished = (backend.scan("counts") for _ in range(3))
    next(half)
    assert len(list(finished)) == 100
    backend.reset("default")
    backend.close()
    again = rocks(tmp_path)
    assert len(list(again.scan("counts"))) == 100
    assert again.mark("counts") == Mark(3, 1.0)
    for scan in (started, half):
        with pytest.raises(StateError, match="ended"):
            next(scan)
    again.close()


def test_reset_ends_the_scans_of_that_store_only(tmp_path: Path) -> None:
    backend = rocks(tmp_path)
    for store in STORES:
        backend.write({store: [(b"a", b"1"), (b"b", b"1")]}, {})
    scans = [backend.scan(store) for store in STORES]
    backend.reset("counts")
    with pytest.raises(StateError, match="ended"):
        next(scans[0])
    assert len(list(scans[1])) == 2
    backend.close()


def test_stores_come_and_go_with_the_topology(tmp_path: Path) -> None:
    first = rocks(tmp_path, ("a", "b"))
    first.write({"a": [(b"k", b"a")], "b": [(b"k", b"b")]}, {"a": Mark(1, 1.0), "b": Mark(2, 1.0)})
    first.close()
    second = rocks(tmp_path, ("b", "c"))
    assert second.multi_get("b", [b"k"]) == [b"b"]
    assert second.mark("c") is None
    second.close()
    third = rocks(tmp_path, ("a",))
    assert third.multi_get("a", [b"k"]) == [b"a"]
    assert third.mark("a") == Mark(1, 1.0)
    third.close()


def test_a_directory_in_use_is_one_clear_line(tmp_path: Path) -> None:
    backend = rocks(tmp_path)
    with pytest.raises(StateDirectoryError, match="in use by another process") as caught:
        rocks(tmp_path)
    assert "\n" not in str(caught.value)
    other = subprocess.run(
        [sys.executable, "-c", OPEN, str(tmp_path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert "StateInUse" in other.stdout, other.stderr
    backend.close()


OPEN = """
import sys
from pathlib import Path
from kstream.state.rocksdb import RocksBackend, RocksMemory
try:
    RocksBackend(Path(sys.argv[1]), ["counts", "default"], RocksMemory(1 << 20, 1 << 20))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StateDirectoryError, match="cannot be used"):
        rocks(tmp_path / "task")


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "task").write_text("")
    with pytest.raises(StateDirectoryError, match="cannot be used"):
        rocks(tmp_path / "task")


def filled(directory: Path) -> None:
    backend = rocks(directory)
    backend.write({"counts": [(b"%06d" % i, os.urandom(50)) for i in range(20_000)]}, {"counts": Mark(1, 1.0)})
    backend.close()


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        for at in range(20_000, path.stat().st_size - 60_000, 4096):
            file.seek(at)
            file.write(b"\xde\xad\xbe\xef" * 8)


def biggest(directory: Path) -> Path:
    return max(directory.glob("*.sst"), key=lambda path: path.stat().st_size)


def test_damaged_data_are_found_when_read_and_the_directory_can_be_opened_anew_at_once(tmp_path: Path) -> None:
    filled(tmp_path)
    damage(biggest(tmp_path))
    backend = rocks(tmp_path)
    scan = backend.scan("counts")
    try:
        for _ in scan:  # rocksdict's own iterator would just end here
            pass
        pytest.fail("the scan did not notice")
    except StateError as error:
        assert "damaged" in str(error)
        backend.close()  # while the traceback is alive
        rocks(tmp_path).close()
    backend = rocks(tmp_path)
    try:
        backend.multi_get("counts", [b"%06d" % i for i in range(0, 20_000, 10)])
        pytest.fail("multi_get did not notice")
    except StateError as error:
        assert "damaged" in str(error)
        backend.close()
        rocks(tmp_path).close()


@pytest.mark.parametrize("pattern", ["*.sst", "CURRENT", "MANIFEST-*"])
def test_lost_or_torn_files_are_damage_or_an_honest_older_state(tmp_path: Path, pattern: str) -> None:
    filled(tmp_path)
    for path in tmp_path.glob(pattern):
        os.truncate(path, path.stat().st_size // 2)
    try:
        backend = rocks(tmp_path)
        entries, mark = len(list(backend.scan("counts"))), backend.mark("counts")
    except StateError:
        return
    backend.close()
    assert (entries, mark) in ((0, None), (20_000, Mark(1, 1.0)))


@pytest.mark.parametrize("pattern", ["*.sst", "CURRENT", "MANIFEST-*"])
def test_missing_files_likewise(tmp_path: Path, pattern: str) -> None:
    filled(tmp_path)
    for path in tmp_path.glob(pattern):
        path.unlink()
    try:
        backend = rocks(tmp_path)
        entries, mark = len(list(backend.scan("counts"))), backend.mark("counts")
    except StateError:
        return
    backend.close()
    assert (entries, mark) in ((0, None), (20_000, Mark(1, 1.0)))


def test_flush_on_another_thread_while_the_loop_works(tmp_path: Path) -> None:
    backend = rocks(tmp_path)
    stop, errors = threading.Event(), []

    def flusher() -> None:
        try:
            while not stop.is_set():
                backend.flush()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=flusher)
    thread.start()
    for i in range(200):
        backend.write({store: [(b"k%d" % j, b"%d" % i) for j in range(50)] for store in STORES}, {"counts": Mark(i, 1)})
        assert backend.multi_get("counts", [b"k7"]) == [b"%d" % i]
        if i % 50 == 49:
            backend.reset("default")
    backend.close()
    stop.set()
    thread.join()
    assert not errors
    again = rocks(tmp_path)
    assert again.multi_get("counts", [b"k7"]) == [b"199"]
    again.close()


def test_a_checkpoint_is_a_backend_of_its_own(tmp_path: Path) -> None:
    backend = rocks(tmp_path / "task")
    backend.write({"counts": [(b"a", b"1")]}, {"counts": Mark(1, 1.0)})
    backend.checkpoint(tmp_path / "copy")
    backend.write({"counts": [(b"a", b"2")]}, {"counts": Mark(2, 1.0)})
    copy = rocks(tmp_path / "copy")
    assert (copy.multi_get("counts", [b"a"]), copy.mark("counts")) == ([b"1"], Mark(1, 1.0))
    copy.close()
    backend.close()
    rocks(tmp_path / "task").close()


def test_memory_is_shared_and_told(tmp_path: Path) -> None:
    memory = RocksMemory(4 << 20, 4 << 20)
    backends = [RocksBackend(tmp_path / str(i), ["s"], memory) for i in range(4)]
    for backend in backends:
        backend.write({"s": [(b"%06d" % i, os.urandom(200)) for i in range(20_000)]}, {})
        backend.flush()
        list(backend.scan("s"))
    cached, _ = memory.usage()
    assert 0 < cached <= 5 << 20
    for backend in backends:
        backend.close()


def level0(backend: RocksBackend) -> int:
    return int(backend._stores["counts"][0].property_value("rocksdb.num-files-at-level0") or 0)


def option(directory: Path, name: str) -> str:
    """As RocksDB has it in force for the store, by its own notes."""
    newest = max(directory.glob("OPTIONS-*"), key=lambda path: path.name)
    _, _, family = newest.read_text().partition('[CFOptions "store.counts"]')
    return next(line.partition("=")[2] for line in family.splitlines() if line.strip().startswith(f"{name}="))


def load(backend: RocksBackend, files: int) -> None:
    backend.bulk(["counts"], on=True)
    for number in range(files):
        backend.write({"counts": [(b"%d" % key, b"%d" % number) for key in range(100)]}, {"counts": Mark(number, 1.0)})
        backend.flush()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_files_gather_while_a_store_is_loaded_and_are_merged_afterwards(tmp_path: Path) -> None:
    backend = rocks(tmp_path)
    usual = option(tmp_path, "level0_stop_writes_trigger")
    load(backend, 40)
    assert level0(backend) == 40, "none was merged, and more than RocksDB usually takes"
    backend.bulk(["counts"], on=False)
    assert option(tmp_path, "level0_stop_writes_trigger") != usual
    until(lambda: level0(backend) < 4)
    backend.flush()
    assert option(tmp_path, "level0_stop_writes_trigger") == usual
    assert backend.multi_get("counts", [b"7"]) == [b"39"]
    backend.close()


def test_a_store_is_not_counted_until_its_files_are_merged(tmp_path: Path) -> None:
    """Each look would open all of them, and those who run beside it wait for that."""
    backend = rocks(tmp_path)
    load(backend, 40)
    assert backend.count("counts", 1000) is None and backend.entries("counts")
    backend.bulk(["counts"], on=False)
    assert backend.count("counts", 1000) is None
    until(lambda: level0(backend) < 4)
    backend.flush()
    assert backend.count("counts", 1000) == 100
    backend.close()


@pytest.mark.parametrize("files", [3, 40])
def test_the_users_own_options_are_back_afterwards(tmp_path: Path, files: int) -> None:
    raw = {"level0_slowdown_writes_trigger": "31", "level0_stop_writes_trigger": "41"}
    backend = RocksBackend(tmp_path, STORES, RocksMemory(8 << 20, 8 << 20, raw=raw))
    load(backend, files)
    backend.bulk(["counts"], on=False)
    until(lambda: level0(backend) < 31)
    backend.flush()
    assert option(tmp_path, "level0_slowdown_writes_trigger") == "31"
    assert option(tmp_path, "level0_stop_writes_trigger") == "41"
    backend.close()


def test_files_that_somebody_takes_in_between_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what follows would be written into an empty store, with a mark that says that it is whole."""
    backend = rocks(tmp_path / "task")
    load(backend, 3)
    really = backend._let_go

    def taken() -> None:
        really()
        (tmp_path / "task").rename(tmp_path / "elsewhere")

    monkeypatch.setattr(backend, "_let_go", taken)
    with pytest.raises(StateError, match="was changed by another process"):
        backend.bulk(["counts"], on=False)
    monkeypatch.undo()
    backend.close()


def test_a_store_whose_load_was_broken_off_does_not_stand_still(tmp_path: Path) -> None:
    """Opened with more files than RocksDB lets anybody write beside."""
    code = LOADED.replace("FILES", "60")
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    backend = rocks(tmp_path)
    mark = backend.mark("counts")
    assert mark is not None and backend.multi_get("counts", [b"7"]) == [b"%d" % mark.offset]
    began = time.monotonic()
    for number in range(100, 110):
        backend.write({"counts": [(b"%d" % key, b"%d" % number) for key in range(100)]}, {"counts": Mark(number, 1.0)})
    assert time.monotonic() - began < 60  # it would stand for good
    until(lambda: level0(backend) < 20)
    backend.flush()
    assert option(tmp_path, "level0_stop_writes_trigger") == "36"
    assert backend.multi_get("counts", [b"7"]) == [b"109"]
    backend.close()


LOADED = """
import os, sys
from pathlib import Path
from kstream.state.backend import Mark
from kstream.state.rocksdb import RocksBackend, RocksMemory
backend = RocksBackend(Path(sys.argv[1]), ["counts", "default"], RocksMemory(8 << 20, 8 << 20))
backend.bulk(["counts"], on=True)
for number in range(FILES):
    backend.write({"counts": [(b"%d" % key, b"%d" % number) for key in range(100)]}, {"counts": Mark(number, 1.0)})
    backend.flush()
os._exit(9)
"""


# A store's changes and mark i: key k has the value i for every k. Whatever survives must agree with the mark.
CRASH = """
import sys
from pathlib import Path
from kstream.state.backend import Mark
from kstream.state.rocksdb import RocksBackend, RocksMemory
backend = RocksBackend(Path(sys.argv[1]), ["a", "b", "c"], RocksMemory(1 << 20, 256 << 10))  # memtables of 64 KiB
if sys.argv[2] == "bulk":
    backend.bulk(["a", "b", "c"], on=True)
print("open", flush=True)
i = 0
while True:
    i += 1
    value = b"%08d" % i + b"x" * 200
    backend.write({s: [(b"%d" % k, value) for k in range(50)] for s in "abc"}, {s: Mark(i, float(i)) for s in "abc"})
    if sys.argv[2] == "flush" and i % 7 == 0:
        backend.flush()
        print(i, flush=True)
    elif sys.argv[2] != "flush" and i % 50 == 0:
        if sys.argv[2] == "bulk" and i % 450 == 0:
            backend.bulk(["b"], on=i % 900 == 0)
        print(i, flush=True)
"""


@pytest.mark.parametrize("mode", ["flush", "memtables", "bulk"])
@pytest.mark.parametrize("lines", [1, 9, pytest.param(30, marks=pytest.mark.more)])
def test_after_a_kill_every_store_agrees_with_its_mark(tmp_path: Path, mode: str, lines: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", CRASH, str(tmp_path), mode], stdout=subprocess.PIPE)
    assert process.stdout is not None
    last = b""
    for _ in range(lines):
        last = process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    rest = process.stdout.read().split(b"\n")
    process.stdout.close()
    reached = [int(text) for text in (last, *rest[:-1]) if text.strip().isdigit()]
    backend = rocks(tmp_path, ("a", "b", "c"))
    for store in "abc":
        mark = backend.mark(store)
        values = {value[:8] for _, value in backend.scan(store)}
        assert values == (set() if mark is None else {b"%08d" % mark.offset})
        assert mark is None or mark.wall_time == mark.offset
        if mode == "flush" and reached:
            assert mark is not None
            assert mark.offset >= max(reached)
    backend.close()


def test_a_kill_in_a_reset_leaves_the_store_whole_or_empty(tmp_path: Path) -> None:
    code = CRASH.replace("while True:", "while True:\n    if i % 5 == 0: backend.reset('b')")
    for lines in (2, 5, 8):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), "flush"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        backend = rocks(tmp_path, ("a", "b", "c"))
        mark = backend.mark("b")
        assert {value[:8] for _, value in backend.scan("b")} == (set() if mark is None else {b"%08d" % mark.offset})
        backend.close()


def test_databases_that_hold_little_take_little_and_are_not_flushed_for_it(tmp_path: Path) -> None:
    """Of 64 tasks, with the write buffers of the default budget: those count what is in them, not what may come."""
    memory = RocksMemory(48 << 20, 48 << 20)
    databases = [RocksBackend(tmp_path / str(n), ["counts"], memory) for n in range(64)]
    for round_ in range(5):
        for database in databases:
            database.write({"counts": [(b"%d-%d" % (round_, n), b"x" * 50) for n in range(20)]}, {})
    _, buffers = memory.usage()
    assert buffers < 64 * (256 << 10)
    assert list(tmp_path.rglob("*.sst")) == []
    for database in databases:
        database.close()


@given(
    st.dictionaries(st.binary(max_size=3), st.binary(max_size=9), max_size=30),
    st.binary(max_size=3),
    st.none() | st.binary(max_size=3),
    st.integers(1, 12),
    st.integers(1, 40),
)
@examples(60)
def test_a_page_is_the_beginning_of_a_range(
    tmp_path_factory: pytest.TempPathFactory,
    entries: dict[bytes, bytes],
    start: bytes,
    stop: bytes | None,
    limit: int,
    most: int,
) -> None:
    wanted = [(key, entries[key]) for key in sorted(entries) if key >= start and (stop is None or key < stop)]
    for backend in (MemoryBackend(STORES), rocks(tmp_path_factory.mktemp("page") / "task")):
        backend.write({"counts": entries.items()}, {"counts": Mark(1, 1.0)})
        page = backend.page("counts", start, stop, limit, most)
        assert page.entries == wanted[: len(page.entries)] and len(page.entries) <= limit
        assert page.more == (len(page.entries) < len(wanted))
        assert bool(page.entries) == bool(wanted)
        size = sum(len(key) + len(value) for key, value in page.entries)
        assert size <= most or len(page.entries) == 1
        backend.close()


def test_a_backend_that_is_read_by_others_is_not_closed_under_them(backend: Backend) -> None:
    """Queries read on a thread of their own: closing (a rebalance) and emptying wait for the look that is under way."""
    backend.write({"counts": [(b"%06d" % n, b"1") for n in range(20_000)]}, {})
    wrong: list[object] = []
    ending = threading.Event()

    def read() -> None:
        while not ending.is_set():
            with backend.queried:
                try:
                    found = backend.multi_get("counts", [b"000001"])[0]
                    entries = len(backend.page("counts", b"", None, 999, 1 << 20).entries)
                except StateError:
                    return
                if (found, entries) not in ((b"1", 999), (None, 0)):
                    wrong.append((found, entries))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(200):
        backend.write({"counts": [(b"x%d" % n, b"1")]}, {})
    backend.reset("counts")
    backend.close()
    for thread in threads:
        thread.join(30)
    ending.set()
    assert not wrong and not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("on", [True, False])
def test_a_lock_that_somebody_holds_in_between_is_damage_of_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: bool
) -> None:
    """Not the end of the worker: another one is just taking the files."""
    backend = rocks(tmp_path / "task")
    backend.bulk(["counts"], on=not on)
    really, holding = backend._let_go, ExitStack()

    def taken() -> None:
        really()
        assert holding.enter_context(locked(tmp_path / "task"))

    monkeypatch.setattr(backend, "_let_go", taken)
    with holding, pytest.raises(StateError, match="was taken by somebody else"):
        backend.bulk(["counts"], on=on)
    backend.close()


def test_stores_are_loaded_together_with_one_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = rocks(tmp_path)
    really, opened = backend._open_all, []

    def counted() -> None:
        opened.append(1)
        really()

    monkeypatch.setattr(backend, "_open_all", counted)
    backend.bulk(STORES, on=True)
    backend.bulk(STORES[:1], on=True)
    backend.bulk(STORES, on=False)
    backend.bulk([], on=False)
    assert len(opened) == 2
    backend.close()


@pytest.mark.parametrize("how", ["bulk", "attach"])
def test_a_query_while_it_is_opened_again_finds_it_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It was told that there is no such store."""
    backend = rocks(tmp_path / "task")
    backend.checkpoint(tmp_path / "copy")
    really, found = backend._open, []

    def opened(store: str) -> None:
        for one in STORES[len(found) :]:
            with pytest.raises(StateError, match="is closed"):
                backend.multi_get(one, [b"a"])
        found.append(store)
        really(store)

    monkeypatch.setattr(backend, "_open", opened)
    if how == "bulk":
        backend.bulk(["counts"], on=True)
    else:
        backend.detach()
        backend.attach(tmp_path / "copy")
    assert found == list(STORES)
    with pytest.raises(KeyError):
        backend.multi_get("missing", [b"a"])
    backend.close()


@pytest.mark.parametrize("files", [True, False])
def test_files_are_not_put_into_a_directory_that_somebody_is_moving(tmp_path: Path, files: bool) -> None:
    """What was attached would have gone with it, while it was open."""
    backend = rocks(tmp_path / "task")
    backend.write({"counts": [(b"a", b"1")]}, {})
    backend.checkpoint(tmp_path / "copy")
    backend.detach()
    with locked(tmp_path / "task") as free:
        assert free
        with pytest.raises(StateError, match="was taken by somebody else"):
            backend.attach(tmp_path / "copy" if files else None)
        assert (tmp_path / "task" / "CURRENT").exists()
        (tmp_path / "task").rename(tmp_path / "elsewhere")
    backend.attach(tmp_path / "copy")
    assert backend.multi_get("counts", [b"a"]) == [b"1"]
    backend.close()


def test_a_range_notices_damaged_data_in_it(tmp_path: Path) -> None:
    filled(tmp_path)
    damage(biggest(tmp_path))
    backend = rocks(tmp_path)
    with pytest.raises(StateError, match="damaged"):
        list(backend.scan("counts", b"000100", b"019000"))
    backend.close()


def test_a_range_of_the_memory_backend_shows_the_store_as_it_was_when_it_began() -> None:
    backend = MemoryBackend(STORES)
    backend.write({"counts": [(b"%d" % n, b"1") for n in range(5)]}, {})
    scan = backend.scan("counts", b"1", b"4")
    backend.write({"counts": [(b"2", None), (b"3", b"2"), (b"15", b"1")]}, {})
    assert list(scan) == [(b"1", b"1"), (b"2", b"1"), (b"3", b"1")]
    assert list(backend.scan("counts", b"1", b"4")) == [(b"1", b"1"), (b"15", b"1"), (b"3", b"2")]
    backend.write({"counts": [(b"2", b"3")]}, {})
    assert [key for key, _ in backend.scan("counts", b"1", b"4")] == [b"1", b"15", b"2", b"3"]
