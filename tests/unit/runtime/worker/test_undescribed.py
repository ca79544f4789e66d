"""Topics that the brokers do not describe when a task is restored, and those that are made anew in the middle of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from kstream.runtime.cluster.metadata import decode
from kstream.runtime.task.states import TaskState
from kstream.testing.clients import MemoryAdmin
from kstream.types import DescribedTopic

from .test_lost_offsets import KEYS, Make, Service, entries_in, make

__all__ = ["make"]

CHANGELOG = "merged-n-changelog"
LOST = "changelog merged-n-changelog was delet"


class Lagging:
    """Brokers that do not describe some topics yet, or give no ids."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.hidden: set[str] = set()
        self.no_ids = False
        self.before: Callable[[str], None] = lambda call: None
        patch.setattr(MemoryAdmin, "describe", self._describe(MemoryAdmin.describe))
        patch.setattr(MemoryAdmin, "end_offsets", self._ends(MemoryAdmin.end_offsets))

    def _describe(self, inner: Callable[..., Any]) -> Callable[..., Future[dict[str, DescribedTopic]]]:
        def describe(admin: MemoryAdmin, names: Sequence[str]) -> Future[dict[str, DescribedTopic]]:
            answer = inner(admin, [name for name in names if name not in self.hidden])
            if self.no_ids:
                found, answer = answer.result(), Future()
                answer.set_result({name: one._replace(id=None) for name, one in found.items()})
            self.before("described")
            return answer

        return describe

    def _ends(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def end_offsets(admin: MemoryAdmin, partitions: Sequence[Any]) -> Any:
            self.before("ends")
            return inner(admin, partitions)

        return end_offsets


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Lagging:
    return Lagging(monkeypatch)


def notes(service: Service) -> set[tuple[bool, bool]]:
    """Whether the committed offsets name their topic, and their changelog."""
    offsets = service.fleet.cluster.group("merged").offsets
    said = [decode(text, at) for at, (_, text) in offsets.items()]
    return {(one.topic_id is not None, bool(one.changelogs)) for one in said}


def turns(service: Service, count: int = 80) -> None:
    for _ in range(count):
        service.fleet.step(seconds=0.3)


def restart(service: Service) -> set[str]:
    for name in list(service.fleet.workers):
        service.fleet.leave(name)
    return service.start(60)


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("how", ["expired", "moved", "failed"])
def test_a_changelog_deleted_and_made_anew_around_a_restore_stops_the_task(make: Make, how: str, backend: str) -> None:
    """The restore went by without it, and the next commit no longer named it: at the restart the local state, the only
    copy, was emptied."""
    service = make("one")
    service.fleet.backend = backend
    service.fleet.start("a")
    service.send("one")
    service.fleet.settle()
    config = dict(service.fleet.cluster.topic(CHANGELOG).config)
    service.fleet.cluster.delete_topic(CHANGELOG)
    if how == "expired":
        service.fleet.expire("a")
        turns(service, 8)
    elif how == "moved":
        turns(service, 2)
        service.fleet.start("b")
        turns(service, 8)
    else:
        service.send("one")
        turns(service, 8)
    service.fleet.cluster.create_topic(CHANGELOG, 2, config)
    service.fleet.send(service.merged.inputs["one"], ["k0", "k3"])
    turns(service)
    tasks = [task for worker in service.fleet.workers.values() for task in worker.tasks.values()]
    assert {task.state for task in tasks} == {TaskState.FAILED}
    assert notes(service) == {(True, True)}
    assert {text[:38] for text in restart(service)} == {LOST}
    assert service.counted == {1: 20}


def test_a_changelog_that_stays_away_is_named(make: Make) -> None:
    service = make("one")
    service.fleet.backend = "rocksdb"
    service.run("one")
    service.fleet.cluster.delete_topic(CHANGELOG)
    said = service.start()
    assert len(said) == 2 and all(f"changelog {CHANGELOG} does not exist any more" in text for text in said), said
    service.fleet.leave("a")
    assert entries_in(service.directory) == len(KEYS)


@pytest.mark.parametrize("hidden", ["one", CHANGELOG])
@pytest.mark.parametrize("started", [False, True])
def test_a_task_waits_for_the_description_of_its_topics(
    make: Make, brokers: Lagging, hidden: str, started: bool
) -> None:
    """Metadata may lag behind: what was committed meanwhile had no ids, and no loss was seen any more."""
    service = make("one")
    service.fleet.backend = "rocksdb"
    if started:
        service.run("one")
    brokers.hidden = {hidden}
    service.fleet.start("a")
    service.send("one")
    turns(service, 8)
    assert {task.state for task in service.fleet.workers["a"].tasks.values()} == {TaskState.RESTORING}
    brokers.hidden = set()
    service.fleet.settle()
    assert service.counted == {1 + started: 20}
    assert notes(service) == {(True, True)}


@pytest.mark.parametrize("since", ["always", "later"])
def test_brokers_without_ids_are_not_brokers_that_do_not_know(make: Make, brokers: Lagging, since: str) -> None:
    """And what was known before is not forgotten for an answer without."""
    service = make("one")
    brokers.no_ids = since == "always"
    service.run("one")
    brokers.no_ids = True
    service.run("one")
    assert service.counted == {2: 20}
    assert notes(service) == {(since == "later", since == "later")}
    brokers.no_ids = False
    service.make_anew(CHANGELOG)
    assert bool(service.start()) == (since == "later")


@pytest.mark.parametrize("at", ["before", "described", "ends"])
def test_local_state_is_kept_whenever_the_changelog_is_made_anew(make: Make, brokers: Lagging, at: str) -> None:
    """The description that a restore went by was up to a second old: its changelog was said to be as it had been, and
    the state to be ahead of it."""
    service = make("one")
    service.fleet.backend = "rocksdb"
    service.run("one")
    service.run("one")

    def make_anew(call: str) -> None:
        if call == at:
            brokers.before = lambda call: None
            service.make_anew(CHANGELOG)

    worker = service.fleet.start("a")
    worker.inputs.check([])  # there is an answer from just before
    if at == "before":
        make_anew(at)
    brokers.before = make_anew
    turns(service)
    assert {text[:38] for text in service.errors()} == {LOST}
    service.fleet.leave("a")
    assert entries_in(service.directory) == len(KEYS)
