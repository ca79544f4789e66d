"""How RocksDB is set up, and the memory that all databases of a worker share.

Speed, 2 million keys of 15 bytes, values of 60, one core of an AMD EPYC: 1.1 million changes/s written, 0.4 million/s
read when every key is there (a random read is a handful of cache misses), 2.3 million/s when none is. What matters:
writing a batch in key order (twice as fast: a random insert into the memtable is a walk of cache misses), a bloom
filter on the memtable too (without it each miss walks the memtable: 0.7 million/s), the hyper clock cache (a sixth),
blocks of 16 KiB (their index stays in the CPU's cache). Checksums on read, where indexes lie, file size and compaction
style do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DataBlockIndexType,
    DBCompressionType,
    Options,
    WriteBufferManager,
)

from kstream.state.rocksdb.options import apply, chosen

_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_ARENA_BYTES: Final = 64 << 10
"""By which memtables grow, at most. RocksDB's own choice, an eighth of a memtable, counts as used before anything is in
it: with 64 tasks the write buffers would seem full always, and each write would flush."""
_ARENAS: Final = 512
"""So many of these fit into the write buffers, however small they are: as many tasks have written a little."""
_BLOOM_RATIO: Final = 0.004
"""Of a memtable, for its bloom filter, which is made at once and at full size, twice in each task. A fifth of what a
full memtable could do with finds absent keys as fast (0.57 us against 0.60; 0.87 without one), and writes faster."""


class RocksMemory:
    """The memory that all RocksDBs of one worker share: read cache and write buffers. Make one per worker.

    Args:
        block_cache_bytes: blocks, indexes and filters that were read; a hard bound.
        write_buffer_bytes: memtables. Above it the database being written to is flushed, so it may be passed by a few
            memtables for a moment; writes are never stalled for it, because the memory may be held by another task's
            database that nothing would flush.
        preset: how RocksDB is set up; raw: its own options over that, both as `kstream.config.rocksdb` has them.

    Attributes:
        chosen: what preset and raw options are together.

    Raises:
        ValueError: an option does not exist, or takes something else.
    """

    def __init__(
        self, block_cache_bytes: int, write_buffer_bytes: int, preset: str = "default", raw: Mapping[str, str] = _NONE
    ) -> None:
        self._cache = Cache.new_hyper_clock_cache(block_cache_bytes, 0)
        self._buffers = WriteBufferManager(write_buffer_bytes, False)
        self.chosen = chosen(preset, raw)
        # Small memtables: they fit the CPU's cache (an insert costs half of what it does at 64 MiB).
        self._memtable_bytes = max(min(16 << 20, write_buffer_bytes // 4), 64 << 10)
        self._arena_bytes = max(min(_ARENA_BYTES, write_buffer_bytes // _ARENAS), 4 << 10) & ~4095

    def usage(self) -> tuple[int, int]:
        """Bytes in use now: (block cache, write buffers)."""
        return self._cache.get_usage(), self._buffers.get_usage()

    def options(self) -> Options:
        """Options of a database and of each of its families."""
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_cache_index_and_filter_blocks(True)  # else they are outside the bound
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        table.set_bloom_filter(10, False)
        table.set_format_version(5)
        table.set_block_size(16 << 10)
        table.set_block_restart_interval(4)
        table.set_data_block_index_type(DataBlockIndexType.binary_and_hash())
        table.set_data_block_hash_ratio(0.75)

        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_atomic_flush(True)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_write_buffer_manager(self._buffers)
        options.set_write_buffer_size(self._memtable_bytes)
        # One is written to, one is flushed; whoever writes faster than that waits. With four of them, four tasks that
        # wrote 60 MB a second held 280 MiB where 51 are their share.
        options.set_max_write_buffer_number(2)
        options.set_arena_block_size(self._arena_bytes)
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(_BLOOM_RATIO)
        options.set_max_background_jobs(2)
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_max_bytes_for_level_base(64 << 20)
        options.set_skip_stats_update_on_db_open(True)
        options.set_manifest_preallocation_size(64 << 10)  # 4 MiB by default, times the number of tasks
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(1 << 20)
        options.set_stats_dump_period_sec(0)
        options.set_table_cache_num_shard_bits(0)  # 64 shards take 24 KiB, and a task has one thread
        apply(self.chosen, options, table)
        options.set_block_based_table_factory(table)
        return options

    def unused(self) -> Options:
        """Options of a family that nothing is written to, as RocksDB's own `default`: without a filter that is made at
        once."""
        options = self.options()
        options.set_memtable_prefix_bloom_ratio(0.0)
        return options
