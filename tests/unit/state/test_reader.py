"""The stores of a stopped instance, read as they lie on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstream.state.backend import Mark
from kstream.state.rocksdb import RocksBackend, RocksMemory, RocksReader, reader

MEMORY = RocksMemory(8 << 20, 8 << 20)


@pytest.mark.parametrize("most", [100, 3], ids=["counted", "as its files say"])
def test_it_knows_how_many_entries_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """RocksDB's own estimate is 0 where a database was opened for reading only."""
    monkeypatch.setattr(reader, "COUNTED", most)
    backend = RocksBackend(tmp_path / "0", ["counts", "empty"], MEMORY)
    for n in range(20):
        backend.write({"counts": [(b"k%d" % key, b"%d" % n) for key in range(7)]}, {"counts": Mark(n + 1, 0.0)})
    backend.flush()
    backend.close()
    found = RocksReader(tmp_path / "0", MEMORY)
    assert (found.entries("counts"), found.entries("empty")) == (7, 0)
    found.close()
