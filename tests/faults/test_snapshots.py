"""A worker is killed in every step of a snapshot, of the deletions after it, and of a restore from one: all comes
out exactly once, and every snapshot that there is, is whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from kstream.state.snapshots.manifest import Manifest, stored_manifest
from kstream.state.snapshots.storage import DirectoryStorage
from kstream.state.snapshots.transfer import check_files
from support.running import kill
from support.scenario import Scenario, Scenarios

PHASE = 600
SESSION = 60.0


def begin(scenario: Scenarios, order: str = "", **settings: Any) -> Scenario:
    given = {
        "session_timeout": SESSION, "snapshot_interval": 0.5, "snapshot_min_pause": 0.0, "snapshots_retained": 2,
        **settings,
    }  # fmt: skip
    service = scenario(2, **given)
    service.given["snapshots"] = str(service.directory / "kept")
    if order:
        service.order(order)
    return service


def snapshots(service: Scenario) -> list[tuple[str, Manifest]]:
    """Those that there are, with the places they lie in. Each of them is whole."""
    storage, found = DirectoryStorage(service.directory / "kept"), []
    for entry in storage.list(""):
        place, manifests, _ = entry.name.rpartition("/manifests/")
        if manifests:
            found.append((place, stored_manifest(storage, entry.name)))
            assert list(check_files(storage, place, found[-1][1])) == []
    return found


def every_task_has_one(service: Scenario) -> None:
    service.until(lambda: len({place for place, _ in snapshots(service)}) == 4, "a snapshot of each task")


TAKING = [
    "snapshot_link:before:2",
    "snapshot_link:after:2",
    "snapshot_note:after:2",
    "snapshot_upload:before:2",
    "snapshot_file:after:9",
    "storage_rename:before:7",
    "snapshot_upload:after:3",
    "snapshot_manifest:before:2",
    "snapshot_manifest:after:2",
    "snapshot_collect:before:2",
    "snapshot_delete:before:3",
    "snapshot_delete:after:8",
]


@pytest.mark.parametrize(
    "fault", [one if one in TAKING[4::3] else pytest.param(one, marks=pytest.mark.slow) for one in TAKING]
)
def test_killed_while_a_snapshot_is_taken(scenario: Scenarios, fault: str) -> None:
    service = begin(scenario, fault)
    service.feed(PHASE)
    service.start()
    service.processed()
    every_task_has_one(service)
    service.arm()
    service.feed_until(lambda: service.struck, "the fault to strike")
    service.feed(PHASE // 3)
    service.processed()
    service.settled()
    (instance,) = service.instances
    assert instance.restarts == 1
    before = {place: manifest.number for place, manifest in snapshots(service)}
    service.feed(PHASE // 3)
    service.processed()
    service.until(
        lambda: all(
            any(place == at and manifest.number > number for at, manifest in snapshots(service))
            for place, number in before.items()
        ),
        "more snapshots of each task",
    )
    (worker,) = (service.directory / "state-a").glob("*/@snapshots")
    service.stop()
    assert list(worker.iterdir()) == [], "links of the killed worker, or of those that were abandoned, are left"
    snapshots(service)
    service.check()


RESTORING = [
    "snapshot_fetch:before:1",
    "snapshot_fetch:after:2",
    "snapshot_detach:after:1",
    "snapshot_attach:before:1",
    "snapshot_attach:after:2",
]


@pytest.mark.parametrize(
    "fault", [one if one in RESTORING[1::2] else pytest.param(one, marks=pytest.mark.slow) for one in RESTORING]
)
def test_killed_while_state_is_restored_from_a_snapshot(scenario: Scenarios, fault: str) -> None:
    service = begin(scenario, fault)
    service.feed(PHASE)
    instance = service.start()
    service.processed()
    every_task_has_one(service)
    (pid,) = instance.pids
    service.arm()
    lose_state(service, pid)
    service.until(lambda: service.struck, "the fault to strike")
    service.feed(PHASE // 3)
    service.processed()
    service.settled()
    assert instance.restarts == 2
    service.stop()
    service.check()


def lose_state(service: Scenario, pid: int) -> None:
    """The machine is lost: the next worker finds nothing of the tasks' local state."""
    kill(pid)
    for path in Path(service.directory).glob("state-a/faults-*"):
        shutil.rmtree(path, ignore_errors=True)


def test_a_lost_machine_is_restored_from_snapshots(scenario: Scenarios) -> None:
    service = begin(scenario)
    service.feed(10 * PHASE)
    instance = service.start()
    service.processed()
    every_task_has_one(service)
    service.stop()
    service.until(lambda: not instance.supervisor.running, "the stop")
    newest: dict[str, Manifest] = {}
    for place, manifest in snapshots(service):
        if place not in newest or manifest.number > newest[place].number:
            newest[place] = manifest
    held = sum(store.offset for manifest in newest.values() for store in manifest.stores.values())
    shutil.rmtree(service.directory / "state-a")
    service.instances.clear()
    second = service.start()
    service.feed(PHASE // 3)
    service.processed()
    service.settled()
    (report,) = second.reports
    assert report.restored <= service.changelog_records() - held, "more than the tails was replayed"
    assert counted(report, "snapshots_restored_total") == 4
    service.stop()
    service.check()


def counted(report: Any, name: str) -> float:
    return sum(series.value for series in report.metrics if series.name == name)
