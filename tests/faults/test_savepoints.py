"""Savepoints and restores of them, killed around each of their steps: workers, and the command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.errors import ConfigError
from kstream.runtime.cluster.control import refuse_unfinished_restore
from kstream.runtime.cluster.records import looking
from kstream.state.savepoint import FILE, damages_of, read_savepoint
from kstream.state.snapshots.storage import open_storage
from support.running import Command, until
from support.saving import Place, places
from support.scenario import Scenarios

WORKER = [
    f"{step}:{when}:1"
    for step in ("holding", "capturing", "captured", "storing", "released")
    for when in ("before", "after")
]


@pytest.mark.parametrize("fault", WORKER)
def test_a_worker_killed_in_its_part(scenario: Scenarios, fault: str) -> None:
    """There is no savepoint, or a whole one; every record counts once."""
    service = scenario(session_timeout=30.0)
    service.order(fault)
    commands = [service.command(name) for name in ("a", "b")]
    service.feed(400)
    service.processed()
    for command in commands:
        service.until(lambda command=command: "assigned" in command.err.read_text(), "both to have tasks")
    service.arm()
    service.feed(200)
    place = service.directory / "saved"

    def create(name: str) -> tuple[int, str]:
        command = Command(
            service.directory / f"create-{name}-{len(service.commands)}",  # each says its own
            "savepoint", "create", service.target, name, "--to", place, "--timeout", 20,
            "--bootstrap-servers", service.servers,
        )  # fmt: skip
        service.commands.append(command)
        return command.wait(), command.err.read_text()

    made: list[tuple[int, str]] = []

    def begun() -> bool:
        """A task that moves is restored first: until then a savepoint is refused."""
        made.append(create("first"))
        return "is restoring" not in made[-1][1]

    service.until(begun, "no task to be restored")
    status, said = made[-1]
    # the command ends before the inputs are released
    service.until(lambda: service.struck, f"the kill; the command said {said!r}")
    assert status == (0 if (place / "first" / FILE).exists() else 1), said
    if status:
        assert "there is no savepoint first, the app goes on: worker" in said and said.count("\n") == 1, said
    else:
        storage = open_storage(str(place))
        assert not list(damages_of(storage, read_savepoint(storage, "first")))
    service.feed(200)
    service.processed()
    service.until(lambda: create("second")[0] == 0, "a savepoint")
    service.feed(100)
    service.processed()
    for command in commands:
        command.process.terminate()
    for command in commands:
        assert command.wait() == 0, command.err.read_text()
    service.check()


@pytest.fixture
def place(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from places(bootstrap_servers, tmp_path, monkeypatch)


MAKING = [["say:after:1", "stored:after:1"], ["say:before:1", "say:after:2", "check:after:1", "say:after:3"]]


@pytest.mark.parametrize("steps", MAKING, ids=["two steps", "the others"])
def test_a_command_killed_while_it_makes_a_savepoint(place: Place, steps: list[str]) -> None:
    """The app goes on by itself, and the next command makes one."""
    place.start_two()
    saved = place.directory / "saved"
    for number, order in enumerate([*steps, "write:after:1"]):
        place.send(50)
        place.killed(
            order, "savepoint", "create", place.target, f"s{number}", "--to", saved, "--timeout", "5"
        )  # fmt: skip
        place.send(50)
        place.all_done()
        assert (saved / f"s{number}" / FILE).exists() is (order == "write:after:1"), order
        until(lambda number=number: place.save(f"t{number}") == 0, "a savepoint")
    name = f"s{len(steps)}"  # written, and nobody was told
    assert place.verify(name) == 0
    since = place.before(name)
    place.go_on()
    assert place.restore(name) == 0
    place.run("one")
    place.repeated(since)
    place.stop()


RESTORING = [
    ["say:after:1", "delete:after:1", "entry:after:9", "offsets:after:1"],
    ["group:after:1", "make:after:1", "entry:after:1", "entries:after:1", "types:after:1"],
]


@pytest.mark.parametrize("steps", RESTORING, ids=["four steps", "the others"])
def test_a_restore_that_was_killed_keeps_the_app_from_starting_until_it_is_run_again(
    place: Place, steps: list[str]
) -> None:
    place.start_two()
    place.send(300)
    assert place.save("it") == 0, place.said
    since = place.before("it")
    place.go_on()
    restore = ("savepoint", "restore", place.target, "it", "--in", place.directory / "saved", "--yes")
    clients = looking(place.settings, "test")
    admin = clients.admin()
    for order in steps:
        place.killed(order, *restore)
        with pytest.raises(ConfigError, match="is being given the state of savepoint it"):  # what a start does first
            refuse_unfinished_restore(clients, admin, place.name)
    admin.close()
    refused = place.run("one")
    assert refused.wait() == 2
    assert "is being given the state of savepoint it" in refused.err.read_text()
    place.running.clear()
    place.killed("say:before:2", *restore)
    assert place.restore("it") == 0
    place.run("one"), place.run("two")
    place.repeated(since)
    place.stop()


def test_a_reset_ends_a_restore_that_was_broken_off(place: Place) -> None:
    place.run("one")
    place.send(60)
    place.all_done()
    assert place.save("it") == 0, place.said
    place.stop()
    restore = ("savepoint", "restore", place.target, "it", "--in", place.directory / "saved", "--yes")
    place.killed("make:after:1", *restore)
    assert place.kstream("reset", place.target, "--yes") == 0
    place.outputs_before = dict(place.words)
    place.run("one")
    place.repeated(dict.fromkeys(place.words, 0))
    place.stop()
