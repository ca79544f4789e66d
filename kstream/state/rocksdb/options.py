"""RocksDB's options by their names (kstream/config/rocksdb.py), put where its binding has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rocksdict import BlockBasedOptions, DBCompactionStyle, DBCompressionType, Options

from kstream.config.rocksdb import PRESETS, options_of

_RENAMED: Final[Mapping[str, str]] = {
    "bottommost_compression": "bottommost_compression_type",
    "compression": "compression_type",
    "level0_file_num_compaction_trigger": "level_zero_file_num_compaction_trigger",
    "level0_slowdown_writes_trigger": "level_zero_slowdown_writes_trigger",
    "level0_stop_writes_trigger": "level_zero_stop_writes_trigger",
}
"""Options that the binding calls otherwise than RocksDB."""

_ENUMS: Final[Mapping[str, Any]] = {
    "blob_compression_type": DBCompressionType,
    "bottommost_compression": DBCompressionType,
    "compaction_style": DBCompactionStyle,
    "compression": DBCompressionType,
}


def chosen(preset: str, raw: Mapping[str, str]) -> dict[str, bool | int | float | str]:
    """The options of a preset, and those given singly over them."""
    return options_of({**PRESETS[preset], **raw})


def apply(chosen: Mapping[str, bool | int | float | str], options: Options, table: BlockBasedOptions) -> None:
    """Sets them, each where it belongs. `options` is to be given `table` afterwards, for it takes a copy."""
    for name, value in chosen.items():
        setter = f"set_{_RENAMED.get(name, name)}"
        place = options if hasattr(options, setter) else table
        getattr(place, setter)(getattr(_ENUMS[name], str(value))() if name in _ENUMS else value)
