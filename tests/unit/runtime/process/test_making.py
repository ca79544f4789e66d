"""A worker as its process makes it: the backends that its settings ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import kstream
from kstream.config import Settings
from kstream.errors import StateTooLarge
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.making import make_worker
from kstream.runtime.worker.loop import StreamWorker
from kstream.state.memory import MemoryBackend
from kstream.state.rocksdb import RocksBackend


@pytest.fixture
def make(tmp_path: Path) -> Iterator[object]:
    """Makes workers that never ask a broker for anything."""
    made: list[StreamWorker] = []

    def make(**settings: object) -> StreamWorker:
        app = kstream.App("a")
        app.stream(app.topic("in", key=str, value=int)).group_by_key().count(name="n")
        given = Settings(bootstrap_servers="localhost:1", state_dir=str(tmp_path), **settings)  # type: ignore[arg-type]
        made.append(make_worker(app, Identity("a", "i", 0), given, {"in": 2}))
        return made[-1]

    yield make
    for worker in made:
        worker.abandon()


def test_the_memory_backends_of_all_tasks_share_memory_backend_limit(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    worker = make(backend="memory", memory_backend_limit=10_000)
    first, second = (worker.parts.backends(tmp_path / str(n), ["n"]) for n in range(2))
    assert isinstance(first, MemoryBackend)
    first.write({"n": [(b"key", b"x" * 6_000)]}, {})
    with pytest.raises(StateTooLarge, match="memory_backend_limit"):
        second.write({"n": [(b"key", b"x" * 6_000)]}, {})


def test_stores_lie_on_disk_by_default_and_a_task_without_any_makes_no_directory(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    worker = make()
    with_stores = worker.parts.backends(tmp_path / "with", ["n"])
    assert isinstance(with_stores, RocksBackend)
    with_stores.close()
    assert isinstance(worker.parts.backends(tmp_path / "without", []), MemoryBackend)
    assert not (tmp_path / "without").exists()
