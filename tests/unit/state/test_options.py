"""RocksDB's options: each of the list exists in its binding, and reaches the database."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rocksdict import BlockBasedOptions, Options

from kstream.config import Settings
from kstream.config.given import checked
from kstream.config.rocksdb import CHOICES, FLAGS, NAMES, NUMBERS, PRESETS, REALS
from kstream.config.sources import resolve_settings
from kstream.errors import ConfigError
from kstream.state.backend import Mark
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.state.rocksdb.options import apply

TYPICAL: dict[str, str] = {
    **dict.fromkeys(FLAGS, "true"),
    **dict.fromkeys(NUMBERS, "4"),
    **dict.fromkeys(REALS, "0.5"),
    **{name: choices[-1] for name, choices in CHOICES.items()},
}


def opened(directory: Path, preset: str = "default", **raw: str) -> str:
    """Opens a database, uses it, and returns the options that RocksDB says it has."""
    backend = RocksBackend(directory, ["a"], RocksMemory(8 << 20, 8 << 20, preset, raw))
    backend.write({"a": [(b"%d" % number, b"x" * 100) for number in range(1000)]}, {"a": Mark(1, 0.0)})
    backend.flush()
    assert backend.multi_get("a", [b"7"]) == [b"x" * 100]
    backend.close()
    return max(directory.glob("OPTIONS-*")).read_text()


@pytest.mark.parametrize("name", NAMES)
def test_each_option_is_one_of_the_binding(name: str) -> None:
    from kstream.config.rocksdb import options_of

    apply(options_of({name: TYPICAL[name]}), Options(raw_mode=True), BlockBasedOptions())


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_makes_a_database_that_works(preset: str, tmp_path: Path) -> None:
    text = opened(tmp_path / "db", preset)
    for name, value in PRESETS[preset].items():
        if name.startswith(("max_", "write_", "compaction_read", "bytes_per")) and value.isdigit():
            assert f"{name}={value}" in text


def test_options_reach_the_database_over_those_of_the_preset(tmp_path: Path) -> None:
    text = opened(tmp_path / "db", "flash", max_background_jobs="3", block_size="32KiB", compression="zstd")
    assert "max_background_jobs=3" in text and "block_size=32768" in text and "compression=kZSTD" in text
    assert "max_subcompactions=2" in text, "of the preset"
    assert re.search(r"cache_index_and_filter_blocks=true", text), "of kstream"


def test_a_database_opens_with_another_preset_than_it_was_made_with(tmp_path: Path) -> None:
    for preset in (*PRESETS, "default"):
        opened(tmp_path / "db", preset)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"block_sise": "1"}, "holds block_sise, which is no option of RocksDB's; did you mean block_size"),
        ({"wal_dir": "/tmp"}, "may not hold wal_dir: the changelog is the log"),
        ({"use_fsync": "2"}, "has a value for use_fsync that is neither true nor false"),
        ({"block_size": "much"}, "has a value for block_size that is neither a whole number nor a size"),
        ({"compression": "lz"}, "has a value for compression that is not one of none, snappy"),
        ({"compaction_style": "fifo"}, "has a value for compaction_style that is not one of level, universal"),
        ({"blob_gc_age_cutoff": "x"}, "has a value for blob_gc_age_cutoff that is not a number"),
    ],
    ids=["unknown", "guaranteed", "flag", "size", "choice", "fifo", "real"],
)
def test_what_is_no_option_is_refused_by_name(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        Settings(rocksdb=given)


def test_from_the_command_line_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked({"rocksdb.block_size": "32KiB"}, "command line") == {"rocksdb": {"block_size": "32KiB"}}
    monkeypatch.setenv("KSTREAM_ROCKSDB__MAX_BACKGROUND_JOBS", "3")
    settings, sources = resolve_settings({}, {"rocksdb.block_size": "1MiB"}, None)
    assert settings.rocksdb == {"max_background_jobs": "3", "block_size": "1MiB"}
    assert sources["rocksdb.max_background_jobs"] == "environment KSTREAM_ROCKSDB__MAX_BACKGROUND_JOBS"
