"""Timers come along with the state that is moved otherwise than by a changelog: warm copies, snapshots, a rescale."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import kstream
from kstream.cli.operate import Subject
from kstream.cli.savepoint.rescale import Rescale, Wanted
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.state.expiry import index_of
from kstream.testing.clients import MemoryClients
from unit.runtime.harness import Fleet
from unit.runtime.worker.snapshots.support import rest
from unit.runtime.worker.test_timers import KEYS, app_of, check, rung, send, wait
from unit.runtime.worker.test_warm import follow, loses_everything


def ordered(fleet: Fleet) -> int:
    """How many timers are in the order of all tasks."""
    tasks = [task for worker in fleet.workers.values() for task in worker.tasks.values() if "p-timers" in task.stores]
    return sum(1 for task in tasks for _ in task.backend.scan(index_of("p-timers")))


def test_a_warm_copy_has_them(tmp_path: Path) -> None:
    fleet = Fleet(app_of()[0], tmp_path, partitions=1, backend="rocksdb")
    try:
        fleet.start("a")
        send(fleet, *KEYS)
        fleet.settle()
        fleet.start("b")
        fleet.settle()
        holder, other = ("a", "b") if fleet.workers["a"].tasks else ("b", "a")
        follow(fleet, other, "in/0")
        loses_everything(fleet, holder)
        replayed = fleet.workers[other].restorer.replay.records
        fleet.settle(other)
        assert fleet.workers[other].restorer.replay.records - replayed < len(KEYS)
        assert ordered(fleet) == len(KEYS)
        wait(fleet, other)
        assert rung(fleet) == {key: [1] for key in KEYS}
        check(fleet)
    finally:
        fleet.close()


def test_a_snapshot_has_them(tmp_path: Path) -> None:
    app, _, _ = app_of()
    state = tmp_path / "state"
    places: dict[str, Any] = {"snapshots": str(tmp_path / "storage"), "snapshot_interval": 1.0}
    fleet = Fleet(app, state, partitions=1, backend="rocksdb", snapshot_min_pause=0.0, **places)
    try:
        worker = fleet.start("a")
        send(fleet, *KEYS)
        fleet.settle()
        taken = worker.snapshot_counts.taken
        for _ in range(400):
            fleet.step(seconds=0.02)
            rest(worker)
            if worker.snapshot_counts.taken > taken + 1:
                break
        fleet.leave("a")
        shutil.rmtree(state)
        worker = fleet.start("a")
        for _ in range(400):
            fleet.step(seconds=0.02)
            rest(worker)
            if fleet.settled():
                break
        assert worker.restorer.replay.records < len(KEYS)
        assert ordered(fleet) == len(KEYS)
        wait(fleet)
        assert rung(fleet) == {key: [1] for key in KEYS}
        check(fleet)
    finally:
        fleet.close()


def test_a_rescale_takes_them_to_where_their_records_go(tmp_path: Path) -> None:
    app = kstream.App("rings")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    class Rings(kstream.Processor[str, int, int]):
        n = kstream.ValueState(int, default=0)

        def process(self, value: int, ctx: Any) -> None:
            self.n.value += 1
            ctx.timer(at=10**14 if value else 1, name="far")

        def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
            ctx.emit(self.n.value)

    grouped = app.stream(source).rekey(lambda value, ctx: ctx.key, key=str)
    grouped.process(Rings, name="p").to(out)
    fleet = Fleet(app, tmp_path / "state", partitions=2)
    clients = MemoryClients(fleet.cluster)
    try:
        fleet.start("a")
        fleet.send(source, [f"k{n}" for n in range(30)])
        fleet.settle()
        fleet.leave("a")
        wanted = Wanted(6, ("rings-p-repartition",), False, None, str(tmp_path / "saved"), timeout=0.3, dry_run=False,
                        yes=True)  # fmt: skip
        assert Rescale(Subject(app, fleet.settings, {}), fleet.topology, clients, clients.admin(), wanted).run() == 0
        fleet.partitions = prepare_topics(fleet.topology, clients.admin(), fleet.settings)
        fleet.start("a")
        fleet.settle()
        assert fleet.cluster.topic("rings-p-timers-changelog").partitions == 6
        assert ordered(fleet) == 30
        for store in ("p-n", "p-timers"):
            assert fleet.stores(store) == fleet.changelog(store) and len(fleet.stores(store)) == 30
        fleet.send(source, [f"k{n}" for n in range(30)], value=0)  # moves each to a time that has passed
        fleet.settle()
        wait(fleet, seconds=20)  # time goes on, by what is idle at the latest
        fleet.send(source, [f"k{n}" for n in range(30)])
        wait(fleet, seconds=20)
        assert rung(fleet) == {f"k{n}": [2] for n in range(30)}
        assert len(fleet.stores("p-timers")) == ordered(fleet) == 30
    finally:
        fleet.close()
