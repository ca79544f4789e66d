"""RocksDB's own options that may be set, by RocksDB's names, and the presets made of them.

Not all of RocksDB's: those with one value, which its binding has. Options on which exactly-once or the memory budget
rests are refused with the reason (`GUARANTEED`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

from kstream.config import units

FLAGS: Final = (
    "advise_random_on_open", "allow_concurrent_memtable_write", "allow_mmap_reads", "allow_mmap_writes",
    "cache_index_and_filter_blocks", "disable_auto_compactions", "enable_blob_files", "enable_blob_gc",
    "enable_pipelined_write", "enable_write_thread_adaptive_yield", "is_fd_close_on_exec",
    "level_compaction_dynamic_level_bytes", "memtable_whole_key_filtering", "optimize_filters_for_hits",
    "paranoid_checks", "partition_filters", "pin_l0_filter_and_index_blocks_in_cache",
    "pin_top_level_index_and_filter", "report_bg_io_stats", "skip_stats_update_on_db_open", "use_adaptive_mutex",
    "use_direct_io_for_flush_and_compaction", "use_direct_reads", "use_fsync",
)  # fmt: skip
NUMBERS: Final = (
    "arena_block_size", "blob_compaction_readahead_size", "blob_file_size", "block_restart_interval", "block_size",
    "bloom_locality", "bytes_per_sync", "compaction_readahead_size", "delete_obsolete_files_period_micros",
    "format_version", "hard_pending_compaction_bytes_limit", "index_block_restart_interval", "keep_log_file_num",
    "level0_file_num_compaction_trigger", "level0_slowdown_writes_trigger", "level0_stop_writes_trigger",
    "log_file_time_to_roll", "manifest_preallocation_size", "max_background_jobs", "max_bytes_for_level_base",
    "max_compaction_bytes", "max_file_opening_threads", "max_log_file_size", "max_manifest_file_size",
    "max_open_files", "max_sequential_skip_in_iterations", "max_subcompactions", "max_write_buffer_number",
    "max_write_buffer_size_to_maintain", "memtable_huge_page_size", "metadata_block_size", "min_blob_size",
    "min_write_buffer_number_to_merge", "num_levels", "recycle_log_file_num", "soft_pending_compaction_bytes_limit",
    "stats_dump_period_sec", "stats_persist_period_sec", "table_cache_num_shard_bits", "target_file_size_base",
    "target_file_size_multiplier", "writable_file_max_buffer_size", "write_buffer_size", "zstd_max_train_bytes",
)  # fmt: skip
"""Whole numbers; sizes are in bytes, or with a unit."""
REALS: Final = (
    "blob_gc_age_cutoff", "blob_gc_force_threshold", "data_block_hash_ratio", "max_bytes_for_level_multiplier",
    "memtable_prefix_bloom_ratio",
)  # fmt: skip
_COMPRESSIONS: Final = ("none", "snappy", "zlib", "bz2", "lz4", "lz4hc", "zstd")
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "blob_compression_type": _COMPRESSIONS,
    "bottommost_compression": _COMPRESSIONS,
    "compaction_style": ("level", "universal"),
    "compression": _COMPRESSIONS,
}
NAMES: Final = (*FLAGS, *NUMBERS, *REALS, *CHOICES)

GUARANTEED: Final[Mapping[str, str]] = {
    "allow_ingest_behind": "kstream writes state itself",
    "atomic_flush": "each store is flushed with its own mark",
    "block_cache": "set memory and memory_state_fraction",
    "create_if_missing": "kstream makes its databases",
    "db_paths": "set state_dir",
    "db_write_buffer_size": "set memory and memory_state_fraction",
    "error_if_exists": "local state is opened again after a restart",
    "inplace_update_support": "a scan sees the store as it was when it began",
    "no_block_cache": "set memory and memory_state_fraction",
    "row_cache": "it would be outside of the memory budget",
    "unordered_write": "a checkpoint's changes are applied in one step",
    "wal_dir": "the changelog is the log of what is written",
    "write_buffer_manager": "set memory and memory_state_fraction",
}

PRESETS: Final[Mapping[str, Mapping[str, str]]] = {
    "default": {},
    "flash": {
        "max_background_jobs": "4",
        "max_subcompactions": "2",
        "bytes_per_sync": "1MiB",
    },
    "spinning-disk": {
        "block_size": "64KiB",
        "compaction_readahead_size": "8MiB",
        "target_file_size_base": "256MiB",
        "max_bytes_for_level_base": "512MiB",
        "bytes_per_sync": "1MiB",
    },
    "low-memory": {
        "write_buffer_size": "2MiB",
        "max_write_buffer_number": "2",
        "memtable_prefix_bloom_ratio": "0",
        "max_background_jobs": "1",
        "max_open_files": "256",
        "optimize_filters_for_hits": "true",
        "pin_l0_filter_and_index_blocks_in_cache": "false",
    },
}
"""What each changes of kstream's own choice, for all databases of a worker."""


def options_of(given: Mapping[str, str]) -> dict[str, bool | int | float | str]:
    """Options as RocksDB takes them, from text. Raises ValueError: there is no such option, or it takes something else;
    the text goes on after "the value ..."."""
    return {name: _parsed(name, text) for name, text in given.items()}


def _parsed(name: str, text: str) -> bool | int | float | str:
    if name in GUARANTEED:
        raise ValueError(f"may not hold {name}: {GUARANTEED[name]}")
    if name in FLAGS:
        flags: Mapping[str, bool] = {"true": True, "false": False}
        if (flag := flags.get(text.lower())) is None:
            raise ValueError(f"has a value for {name} that is neither true nor false")
        return flag
    if name in NUMBERS:
        return _number(name, text)
    if name in REALS:
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"has a value for {name} that is not a number") from None
    if name in CHOICES:
        if text not in CHOICES[name]:
            raise ValueError(f"has a value for {name} that is not one of {', '.join(CHOICES[name])}")
        return text
    near = difflib.get_close_matches(name, (*NAMES, *GUARANTEED), n=1)
    raise ValueError(f"holds {name}, which is no option of RocksDB's" + (f"; did you mean {near[0]}?" if near else ""))


def _number(name: str, text: str) -> int:
    if name == "max_open_files" and text == "-1":  # all
        return -1
    try:
        return units.size(int(text) if text.isdigit() else text)
    except ValueError:
        raise ValueError(f"has a value for {name} that is neither a whole number nor a size such as 64MiB") from None


def keys(value: Any) -> dict[str, str]:
    """The setting `rocksdb`: options, checked. Raises ValueError, as a parser does."""
    from kstream.config.kinds import flat

    given = flat(value, 'a table of RocksDB\'s options, such as {"max_background_jobs": "4"}')
    options_of(given)
    return given
