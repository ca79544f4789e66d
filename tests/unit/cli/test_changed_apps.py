"""Changes of an app that docs/upgrading.md says need a savepoint: without it they are what it says, with it each record
counts once."""

from __future__ import annotations

from pathlib import Path

import pytest

import kstream
from kstream.clock import SystemClock
from kstream.runtime.cluster.gathering import Gathering
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.cluster.replacing import carry_out
from kstream.runtime.cluster.restoring import look
from kstream.runtime.task.states import TaskState
from kstream.state.savepoint import read_savepoint
from kstream.state.snapshots.storage import open_storage
from kstream.testing import MemoryCluster
from kstream.testing.clients import MemoryClients
from unit.runtime.harness import Fleet

KEYS = [f"k{n % 7}" for n in range(20)]


def key_of(_: int, ctx: kstream.Context[str]) -> str:
    return ctx.key


class App:
    """It numbers the records of each key, behind a `group_by`."""

    def __init__(self, *, store: str = "n", group: str = "by", name: str = "shop") -> None:
        self.app = kstream.App(name)
        self.source = self.app.topic("in", key=str, value=int)
        self.out = self.app.topic("out", key=str, value=int)
        self.app.stream(self.source).group_by(key_of, name=group).count(name=store).to(self.out)

    def fleet(self, directory: Path, cluster: MemoryCluster | None = None) -> Fleet:
        fleet = Fleet(self.app, directory, partitions=2)
        if cluster is not None:
            fleet.cluster = cluster
            fleet.clock = cluster.clock  # type: ignore[assignment]
            fleet.partitions = prepare_topics(fleet.topology, MemoryClients(cluster).admin(), fleet.settings)
        return fleet

    def run(self, directory: Path, cluster: MemoryCluster | None = None) -> tuple[Fleet, set[TaskState]]:
        """Twenty records more."""
        fleet = self.fleet(directory, cluster)
        fleet.start("a")
        fleet.send(self.source, KEYS)
        fleet.settle()
        states = {task.state for task in fleet.workers["a"].tasks.values()}
        fleet.leave("a")
        return fleet, states


CHANGES = [
    pytest.param(App(store="readers"), {"n": "readers"}, None, id="a store"),
    pytest.param(App(group="by-key"), {}, None, id="a group"),
    pytest.param(App(name="store"), {}, "store", id="the app"),
]


@pytest.mark.parametrize(("after", "rename", "as_app"), CHANGES)
def test_with_a_savepoint_it_goes_on(tmp_path: Path, after: App, rename: dict[str, str], as_app: str | None) -> None:
    before = App()
    fleet, _ = before.run(tmp_path / "one")
    clients, storage = MemoryClients(fleet.cluster), open_storage(str(tmp_path / "saved"))
    admin = clients.admin()
    Gathering(
        fleet.topology, clients, admin, storage, "first", SystemClock(), settings=fleet.settings
    ).make()  # fmt: skip
    topology = after.app.topology()
    plan = look(
        topology, admin, fleet.settings, read_savepoint(storage, "first"),
        rename=rename, as_app=as_app, allow_dropped=False,
    )  # fmt: skip
    carry_out(plan, topology, clients, admin, fleet.settings, storage)
    ran, states = after.run(tmp_path / "two", fleet.cluster)
    assert states == {TaskState.RUNNING}
    assert ran.outputs(after.out) == {key: list(range(1, 2 * KEYS.count(key) + 1)) for key in KEYS}


def test_without_one_a_renamed_store_begins_empty(tmp_path: Path) -> None:
    fleet, _ = App().run(tmp_path / "one")
    after = App(store="readers")
    ran, states = after.run(tmp_path / "two", fleet.cluster)
    assert states == {TaskState.RUNNING}
    assert ran.outputs(after.out) == {key: 2 * list(range(1, KEYS.count(key) + 1)) for key in KEYS}


def test_without_one_tasks_with_state_behind_a_renamed_group_stop(tmp_path: Path) -> None:
    fleet, _ = App().run(tmp_path / "one")
    after = App(group="by-key")
    ran, states = after.run(tmp_path / "two", fleet.cluster)
    assert TaskState.FAILED in states
    assert ran.outputs(after.out) == {key: list(range(1, KEYS.count(key) + 1)) for key in KEYS}
