"""Commands that change or write state, killed around their steps: run again, they do what they were to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest

from support.running import until
from support.saving import BOTH, Place, places


@pytest.fixture
def place(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from places(bootstrap_servers, tmp_path, monkeypatch)


def exported(folder: Path) -> Counter[str]:
    rows = [row for file in folder.glob("*.parquet") for row in pyarrow.parquet.read_table(file).to_pylist()]
    return Counter({row["key"]: row["value"] for row in rows})


EXPORT = ["rename:before:1", "rename:after:1", "rename:after:2", "table:after:1", "table:before:3"]
"""Before the earlier one is renamed, between the renames, when both are done, and in it."""


@pytest.mark.parametrize("order", EXPORT)
def test_an_export_that_is_killed_never_mixes_with_an_earlier_one(place: Place, order: str) -> None:
    """The earlier one had a partition more, too."""
    place.run("one")
    place.send(70)
    place.all_done()
    out = place.directory / "out"
    export = ("state", "export", place.target, "seen", "--to", out)
    assert place.kstream(*export) == 0
    before = exported(out / "seen")
    (out / "seen" / "3.parquet").write_bytes((out / "seen" / "0.parquet").read_bytes())
    place.send(70)
    place.all_done()
    place.killed(order, *export)
    if order == "rename:after:1":
        assert not (out / "seen").exists() and exported(out / ".seen.old") == before
    else:
        assert exported(out / "seen") == (place.words if order == "rename:after:2" else before)
    assert place.kstream(*export) == 0
    assert exported(out / "seen") == place.words
    assert [path.name for path in out.iterdir()] == ["seen"]
    assert sorted(path.name for path in (out / "seen").iterdir()) == ["0.parquet", "1.parquet", "2.parquet"]
    place.stop()


RESET = ["state:after:1", "delete:before:1", "group:after:1", "delete:after:1", "begin:before:1"]


@pytest.mark.parametrize("order", RESET)
def test_a_reset_that_is_killed_is_run_again(place: Place, order: str) -> None:
    """And between the two nothing is counted on half a state: the app's tasks stop, or begin anew."""
    place.run("one")
    place.send(60)
    place.all_done()
    place.stop()
    reset = ("reset", place.target, "--yes", "--to", "earliest", "--set", f"state_dir={place.directory / 'state-one'}")
    place.killed(order, *reset)
    place.outputs_before = dict(place.words)
    if order in RESET[:3]:
        stopped = place.run("one")
        until(lambda: "state without offsets" in stopped.err.read_text(), "the tasks to stop, and why")
        place.stop()
        for which in BOTH:
            assert {key: len(values) for key, values in place.outputs(which).items()} == place.words, which
    assert place.kstream(*reset) == 0
    place.run("one")
    place.repeated(dict.fromkeys(place.words, 0))
    place.stop()
