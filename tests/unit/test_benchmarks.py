"""What the benchmarks rest on still fits the engine."""

from __future__ import annotations

from pathlib import Path

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
