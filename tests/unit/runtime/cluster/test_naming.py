"""Names made fit for a file system: as they are where they can be, short where they are long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.runtime.cluster.naming import directory_name, keep_whole_name, whole_name
from kstream.testing import TestDriver

LONG = "+".join(f"a-topic-with-a-name{n:02}" for n in range(13))


@given(st.text(min_size=1, max_size=400))
def test_a_directory_can_be_called_so_and_is_called_the_same_each_time(name: str) -> None:
    made = directory_name(name)
    assert len(made.encode()) <= 255
    assert made == directory_name(name)
    assert "/" not in made


@pytest.mark.parametrize("name", ["orders", "a+b", "A.b_c-9", "x" * 255, "orders@cpu"])
def test_a_name_that_fits_stays_readable(name: str) -> None:
    assert directory_name(name) == name.replace("@", "%40")


def test_long_names_that_differ_at_their_ends_are_told_apart() -> None:
    assert directory_name("x" * 300 + "a") != directory_name("x" * 300 + "b")
    assert directory_name(LONG).startswith("a-topic-with-a-name00+a-topic-with-a-name01")


@pytest.mark.parametrize("name", [LONG, "in", "orders@cpu"])
def test_the_whole_name_is_found_in_the_directory(name: str, tmp_path: Path) -> None:
    directory = tmp_path / directory_name(name)
    keep_whole_name(directory, name)  # nothing to do while there is no directory
    directory.mkdir()
    keep_whole_name(directory, name)
    assert whole_name(directory) == name
    assert bool(list(directory.iterdir())) == (name == LONG)


@pytest.mark.parametrize("backend", ["rocksdb", "memory"])
def test_a_table_of_many_topics_has_state(backend: str, tmp_path: Path) -> None:
    """One task reads all topics whose agents share a table, and is called after them."""
    app = kstream.App("names")
    shared = app.table("shared", key=str, value=int, default=int)
    topics: list[Any] = [app.topic(name, key=str, value=str, partitions=1) for name in LONG.split("+")]

    def count(value: str, ctx: kstream.Context[str]) -> None:
        shared[ctx.key] += 1

    for n, topic in enumerate(topics):
        app.agent(topic, name=f"a{n}")(count)
    with TestDriver(app, backend=backend, state_dir=str(tmp_path)) as driver:
        for topic in topics:
            driver.send(topic, "x", key="k")
        assert driver.table(shared)["k"] == 13
        driver.crash()
        assert driver.table(shared)["k"] == 13
    found = [path.read_text() for path in tmp_path.glob("*/*/name")]
    assert found == ([LONG] if backend == "rocksdb" else [])
