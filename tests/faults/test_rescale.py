"""`kstream rescale`, killed around each of its steps, and run again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.errors import ConfigError
from kstream.runtime.cluster.control import refuse_unfinished_restore
from kstream.runtime.cluster.records import looking
from support.running import TESTS, until
from support.saving import Place, places

STEPS = [
    ["say:after:1", "gathered:after:1", "grow:after:1", "delete:after:1", "entry:after:30", "offsets:after:1"],
    [
        "gathered:before:1", "grow:before:1", "say:before:1", "say:after:1", "group:after:1", "delete:before:1",
        "make:after:1", "entry:after:1", "entries:after:1", "types:after:1",
    ],
]  # fmt: skip


@pytest.fixture
def place(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from places(bootstrap_servers, tmp_path, monkeypatch, partitions=2, words=40)


@pytest.mark.parametrize("steps", STEPS, ids=["six steps", "the others"])
def test_killed_at_each_step_it_is_run_again(place: Place, steps: list[str]) -> None:
    """4 partitions from 2, of a stopped app, which does not start meanwhile."""
    place.run("one")
    place.send(200)
    place.exact()
    place.stop()
    command = (
        "rescale", place.target, "--partitions", 4, "--grow-inputs", "--in", place.directory / "saved", "--yes"
    )  # fmt: skip
    place.killed("say:before:1", *command)
    place.run("one")
    place.send(40)
    place.exact()
    place.stop()
    clients = looking(place.settings, "test")
    admin = clients.admin()
    for order in steps:
        place.killed(order, *command)
        with pytest.raises(ConfigError, match=r"in 4 partitions.*kstream rescale"):  # what a start does first
            refuse_unfinished_restore(clients, admin, place.name)
    admin.close()
    refused = place.run("one")
    assert refused.wait() == 2 and "in 4 partitions" in refused.err.read_text()
    place.running.clear()
    place.killed("say:before:2", *command)
    assert place.rescale(4) == 0
    place.start_two()
    place.send(200)
    place.exact()
    place.stop()


SLOW = [pytest.param(order, marks=pytest.mark.slow) for order in ("check:after:1", "write:after:1", "say:after:3")]


@pytest.mark.parametrize("order", [*SLOW, "say:after:4", pytest.param("say:after:5", marks=pytest.mark.slow)])
def test_killed_while_the_app_is_stopped(place: Place, order: str) -> None:
    """The app runs on when the time is over, or is stopped and does not start; then it is moved."""
    place.run("one")
    place.send(200)
    place.exact()
    where = ("--in", place.directory / "saved", "--yes", "--timeout", "5")
    place.killed(order, "rescale", place.target, "--partitions", 6, "--only", "per-word", *where)
    place.send(100)
    if order in ("say:after:4", "say:after:5"):  # told to stop, or its topics are about to be made anew
        assert place.running[0].wait() == 0
        refused = place.run("two")
        assert refused.wait() == 2 and "kstream rescale" in refused.err.read_text()
        place.running.clear()
    until(lambda: place.rescale(6, "--only", "per-word") == 0, "the state to be moved")  # it may hold its inputs still
    for one in place.running:
        assert one.wait() == 0, place.said
    place.running.clear()
    place.run("one")
    place.send(100)
    place.exact()
    place.stop()


INJECTED = """
from faults import injection

injection.install()
"""


@pytest.mark.more
@pytest.mark.parametrize("fault", ["captured:after:1", "capturing:before:1", "storing:before:1"])
def test_a_worker_is_killed_while_records_come_and_the_app_is_stopped_for_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Of two instances, in its part of the savepoint, with the counts behind a repartition: the state is moved then, or
    by the next command, and each record counts once."""
    monkeypatch.setenv("KSTREAM_TEST_DIR", str(place.directory))
    monkeypatch.setenv("KSTREAM_TEST_KILL", fault)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS.parent), str(TESTS)]))
    place.write(more=INJECTED)
    place.start_two()
    place.send(200)
    (place.directory / "armed").touch()

    def moved() -> bool:
        return place.rescale(6, "--only", "per-word", "--timeout", 30) == 0

    with place.sending():
        until(moved, "the state to be moved", 180)
    assert (place.directory / "struck").exists()
    for one in place.running:
        assert one.wait() == 0, place.said
    place.running.clear()
    place.run("one"), place.run("two")
    place.send(100)
    place.exact()
    place.stop()
