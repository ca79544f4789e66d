"""Stores of one task in several backends."""

from __future__ import annotations

from pathlib import Path

import pytest

import kstream
from kstream.errors import StateError, StateTooLarge, TopologyError
from kstream.state.backend import Mark
from kstream.state.choosing import backends
from kstream.state.memory import MemoryBackend, MemoryLimit
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.testing import TestDriver

ROCKS = RocksMemory(8 << 20, 8 << 20)


def test_each_store_lies_where_it_says(tmp_path: Path) -> None:
    backend = backends("rocksdb", {"a": None, "b": "memory"}, ROCKS)(tmp_path / "task", ["a", "b"])
    backend.write({"a": [(b"k", b"1")], "b": [(b"k", b"2")]}, {"a": Mark(1, 0.0), "b": Mark(2, 0.0)})
    backend.close()
    disk = RocksBackend(tmp_path / "task", ["a", "b"], ROCKS)
    assert (disk.multi_get("a", [b"k"]), disk.mark("a")) == ([b"1"], Mark(1, 0.0))
    assert (disk.multi_get("b", [b"k"]), disk.mark("b")) == ([None], None)
    disk.close()


def test_no_database_is_opened_where_nothing_lies_on_disk(tmp_path: Path) -> None:
    made = backends("rocksdb", {"a": "memory"}, ROCKS)
    assert isinstance(made(tmp_path / "one", ["a"]), MemoryBackend)
    assert isinstance(made(tmp_path / "two", []), MemoryBackend)
    assert not list(tmp_path.iterdir())


def test_all_in_memory_share_one_limit(tmp_path: Path) -> None:
    made = backends("rocksdb", {"b": "memory"}, ROCKS, MemoryLimit(1000))
    one, other = (made(tmp_path / name, ["a", "b"]) for name in ("one", "two"))
    one.write({"b": [(b"k", b"x" * 600)]}, {})
    with pytest.raises(StateTooLarge, match="memory_backend_limit"):
        other.write({"b": [(b"k", b"x" * 600)]}, {})
    for backend in (one, other):
        backend.close()


def test_all_are_closed_even_where_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends("rocksdb", {"b": "memory"}, ROCKS)(tmp_path / "task", ["a", "b"])
    rocks, memory = backend.parts  # type: ignore[attr-defined]

    def fails() -> None:
        rocks_close()
        raise StateError("the flush failed")

    rocks_close = rocks.close
    monkeypatch.setattr(rocks, "close", fails)
    with pytest.raises(StateError, match="the flush failed"):
        backend.close()
    with pytest.raises(StateError, match="closed"):
        memory.multi_get("b", [b"k"])


def test_an_app_with_a_table_in_memory_beside_one_on_disk() -> None:
    app = kstream.App("mixed")
    words = app.topic("words", key=str, value=str)
    counted = app.stream(words).group_by_key().count(name="counted", backend="memory")
    last = app.table("last", key=str, value=str, backend="rocksdb")

    @app.agent(words)
    def keep(word: str, ctx: kstream.Context[str]) -> None:
        last[ctx.key] = word

    for default in ("memory", "rocksdb"):
        with TestDriver(app, backend=default) as d:
            d.send(words, "a", key="k")
            d.send(words, "b", key="k")
            assert d.table(counted)["k"] == 2 and d.table(last)["k"] == "b"


@pytest.mark.parametrize("declare", ["table", "count"])
def test_what_is_no_backend_is_refused_where_it_is_declared(declare: str) -> None:
    app = kstream.App("mixed")
    with pytest.raises(TopologyError, match=f"{declare} 'n': backend='disk' is not one of rocksdb, memory"):
        if declare == "table":
            app.table("n", key=str, value=int, backend="disk")  # type: ignore[call-overload]
        else:
            app.stream(app.topic("a", key=str, value=str)).group_by_key().count(name="n", backend="disk")  # type: ignore[arg-type]
