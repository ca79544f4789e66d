"""Stores into which much is written at once, and of which nothing is read meanwhile: a restore from the changelog.

RocksDB's usual pace is that of a database that is read as well: it keeps what is in memory in order (two thirds of the
time that a write takes), merges new files at once, so that each byte is written some five times on the way to a
gigabyte, and slows writers down where it does not keep up. Here what is in memory is sorted when it is flushed, on
RocksDB's threads, and files gather, to be merged afterwards, while the task runs. Kafka Streams once had the like.

Marks lie with the data as ever, so a crash in between leaves what was flushed, and a mark that says so.
"""

from __future__ import annotations

from typing import Final

from rocksdict import MemtableFactory, Options, Rdict

from kstream.state.rocksdb.memory import RocksMemory

GATHERED: Final = 64
"""Files that gather before they are merged all the same. Until then each read looks into all of them, by their bloom
filters: a few microseconds more."""

_SLOWDOWN: Final = "level0_slowdown_writes_trigger"
_USUAL: Final = {
    _SLOWDOWN: "20",
    "level0_stop_writes_trigger": "36",
    "soft_pending_compaction_bytes_limit": str(64 << 30),
    "hard_pending_compaction_bytes_limit": str(256 << 30),
}
"""What RocksDB takes where nothing else was chosen."""

_UNBOUNDED: Final = {name: "0" if "bytes" in name else str(1 << 30) for name in _USUAL}
"""Writers are never slowed down."""


class BulkLoads:
    """Which stores of a database are loaded, or were and are still to be merged. Calls must not overlap.

    Attributes:
        loaded: stores into which much is written now.
    """

    def __init__(self, memory: RocksMemory) -> None:
        self._memory = memory
        self._usual = {name: str(memory.chosen.get(name, value)) for name, value in _USUAL.items()}
        self.loaded: set[str] = set()
        self._to_merge: set[str] = set()

    def options(self) -> Options:
        """Of a store that is loaded, and of a database that has one."""
        options = self._memory.options()
        options.set_memtable_factory(MemtableFactory.vector())
        options.set_allow_concurrent_memtable_write(False)  # there is one writer, and that kind of memtable takes one
        options.set_level_zero_file_num_compaction_trigger(GATHERED)
        options.set_level_zero_slowdown_writes_trigger(1 << 30)
        options.set_level_zero_stop_writes_trigger(1 << 30)
        options.set_soft_pending_compaction_bytes_limit(0)
        options.set_hard_pending_compaction_bytes_limit(0)
        return options

    def opened(self, store: str, family: Rdict) -> None:
        """What gathered is merged in the background. Until then writers are not slowed down."""
        self._to_merge.discard(store)
        if store not in self.loaded and _files(family) >= int(self._usual[_SLOWDOWN]):
            self._to_merge.add(store)
            family.set_options(_UNBOUNDED)

    def gathers(self, store: str) -> bool:
        """It is loaded, or its files are still to be merged. A scan of it sorts what is in memory and opens each file:
        0.1 to 0.4 s until its first entry."""
        return store in self.loaded or store in self._to_merge

    def look(self, store: str, family: Rdict) -> None:
        """Ends what was left unbounded, where its files are merged."""
        if store in self._to_merge and _files(family) < int(self._usual[_SLOWDOWN]):
            self._to_merge.discard(store)
            family.set_options(self._usual)


def _files(family: Rdict) -> int:
    """Those that are not merged yet."""
    return int(family.property_value("rocksdb.num-files-at-level0") or 0)
