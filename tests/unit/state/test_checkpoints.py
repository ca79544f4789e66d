"""Copies of a backend, and backends that go on with one: the same over all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kstream.errors import StateDirectoryError, StateError, StateTooLarge
from kstream.state.backend import Backend, Mark
from kstream.state.choosing import backends
from kstream.state.memory import ENTRY_OVERHEAD, MemoryBackend, MemoryLimit
from kstream.state.rocksdb import RocksBackend, RocksMemory

MEMORY = RocksMemory(8 << 20, 8 << 20)
STORES = ("counts", "default")
MARK = Mark(7, 1.5, b'{"changelog":"id"}')

Make = Callable[[str, tuple[str, ...]], Backend]


@pytest.fixture(params=["memory", "rocksdb", "both"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    made: list[Backend] = []

    def one(name: str, stores: tuple[str, ...] = STORES) -> Backend:
        kind = "rocksdb" if request.param == "both" else request.param
        other = {"default": "memory"} if request.param == "both" else {}
        made.append(backends(kind, other, MEMORY)(tmp_path / name, stores))
        return made[-1]

    yield one
    for backend in made:
        backend.close()


def content(backend: Backend, store: str = "counts") -> dict[bytes, bytes]:
    return dict(backend.scan(store))


def test_a_checkpoint_is_what_was_there_when_it_was_taken(make: Make, tmp_path: Path) -> None:
    one, other = make("one", STORES), make("other", STORES)
    entries = {b"%06d" % number: os.urandom(20) for number in range(25_000)}
    one.write({"counts": entries.items()}, {"counts": MARK})
    one.flush()
    one.write({"counts": [(b"late", b"in memory only")]}, {"counts": MARK._replace(offset=8)})
    complete = one.freeze(tmp_path / "copy")
    one.write({"counts": [(b"after", b"1"), (b"000001", None)]}, {"counts": MARK._replace(offset=9)})
    complete()

    other.write({"counts": [(b"own", b"1")], "default": [(b"own", b"1")]}, {"default": MARK})
    other.detach()
    other.attach(tmp_path / "copy")
    assert content(other) == {**entries, b"late": b"in memory only"}
    assert other.mark("counts") == MARK._replace(offset=8)
    assert content(other, "default") == {}
    assert other.mark("default") is None
    assert not (tmp_path / "copy").exists()
    other.write({"counts": [(b"more", b"1")]}, {"counts": MARK})
    assert other.multi_get("counts", [b"more", b"000001"]) == [b"1", entries[b"000001"]]
    assert other.count("counts", 100_000) == 25_002


def test_stores_that_came_and_went_since(make: Make, tmp_path: Path) -> None:
    one = make("one", ("kept", "gone"))
    one.write({"kept": [(b"k", b"1")], "gone": [(b"k", b"1")]}, {"kept": MARK, "gone": MARK})
    one.checkpoint(tmp_path / "copy")
    other = make("other", ("kept", "new"))
    other.detach()
    other.attach(tmp_path / "copy")
    assert (content(other, "kept"), content(other, "new")) == ({b"k": b"1"}, {})
    assert (other.mark("kept"), other.mark("new")) == (MARK, None)


def test_attached_to_nothing_it_is_empty(make: Make) -> None:
    one = make("one", STORES)
    one.write({"counts": [(b"k", b"1")]}, {"counts": MARK})
    one.detach()
    one.attach(None)
    assert (content(one), one.mark("counts")) == ({}, None)
    one.write({"counts": [(b"k", b"2")]}, {"counts": MARK})
    assert content(one) == {b"k": b"2"}


def test_a_damaged_copy_is_refused_and_another_one_is_taken(make: Make, tmp_path: Path) -> None:
    one, other = make("one", STORES), make("other", STORES)
    one.write({"counts": [(b"k", b"1")]}, {"counts": MARK})
    one.checkpoint(tmp_path / "bad")
    one.checkpoint(tmp_path / "good")
    for path in (tmp_path / "bad").iterdir():
        data = path.read_bytes()
        path.unlink()  # it may be a hard link
        path.write_bytes(data[: len(data) // 2])
    other.detach()
    with pytest.raises(StateError):
        other.attach(tmp_path / "bad")
    other.attach(tmp_path / "good")
    assert content(other) == {b"k": b"1"}


def test_a_backend_that_was_closed_stays_closed(make: Make, tmp_path: Path) -> None:
    one, other = make("one", STORES), make("other", STORES)
    one.checkpoint(tmp_path / "copy")
    other.detach()
    other.close()
    with pytest.raises(StateError, match="closed"):
        other.attach(tmp_path / "copy")
    with pytest.raises(StateError, match="closed"):
        other.checkpoint(tmp_path / "more")


def test_a_copy_goes_into_a_new_directory_only(make: Make, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises((StateError, StateDirectoryError)):
        make("one", STORES).checkpoint(tmp_path / "there")


def test_between_detach_and_attach_the_files_are_nobodys(tmp_path: Path) -> None:
    one = RocksBackend(tmp_path / "one", STORES, MEMORY)
    one.detach()
    for call in (lambda: one.mark("counts"), lambda: one.size_bytes("counts"), lambda: one.multi_get("counts", [b"k"])):
        with pytest.raises(StateError, match="closed"):
            call()
    RocksBackend(tmp_path / "one", STORES, MEMORY).close()
    one.attach(None)
    one.close()


def test_what_is_attached_counts_against_the_limit(tmp_path: Path) -> None:
    limit = MemoryLimit(10 * (ENTRY_OVERHEAD + 2))
    one, other = MemoryBackend(STORES), MemoryBackend(STORES, limit)
    one.write({"counts": [(b"%d" % number, b"1") for number in range(10)]}, {})
    one.checkpoint(tmp_path / "fits")
    one.write({"counts": [(b"x", b"1")]}, {})
    one.checkpoint(tmp_path / "too-large")
    other.write({"counts": [(b"k", b"1")]}, {})
    other.attach(tmp_path / "fits")
    assert limit.used == limit.limit
    with pytest.raises(StateTooLarge):
        other.attach(tmp_path / "too-large")
    other.close()
    assert limit.used == 0
