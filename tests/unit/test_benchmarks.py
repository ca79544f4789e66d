"""What the benchmarks rest on still fits the engine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.catchup import compare, windows_of, written
from benchmarks.micro import BATCH, Engine, messages
from benchmarks.unchecked import Unchecked


def test_the_engine_runs_without_a_broker_and_without_checks(tmp_path: Path) -> None:
    """`python -m benchmarks --micro` had stopped working: topics were asked about that its clients did not know."""
    batches = messages()[:4]
    for path in (engine := Engine("commit", tmp_path / "a"), Unchecked(other := Engine("commit", tmp_path / "b"))):
        path.begin()
        for batch in batches:
            path.batch(batch)
        path.commit()
    assert engine.records == other.records == 4 * BATCH
    engine.close()
    other.close()


def test_what_windows_lack_is_found() -> None:
    """benchmarks.catchup says what of the records is in no window, and what is too much."""
    records = written((10_000, 20_000), 0, 120_000)
    expected = windows_of(records)
    assert expected[b"0", 0] == 2 and expected.total() == len(records) == 18
    assert set(compare(expected, Counter(expected), 0).items()) >= {
        ("small", 0),
        ("missing", 0),
        ("lost", 0),
        ("wrong", 0),
    }
    found = Counter(expected)
    found[b"0", 0] -= 1
    found[b"1", 0] += 1
    del found[b"2", 0]
    assert compare(expected, found, 3) == {
        "windows": len(expected), "small": 1, "missing": 1, "records": 18, "lost": 1 + expected[b"2", 0], "wrong": 4,
    }  # fmt: skip
