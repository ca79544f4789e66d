"""An app that is made to begin anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.errors import ConfigError, KafkaUnavailable
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.cluster.reset import Place, carry_out, look
from kstream.runtime.task.states import TaskState
from kstream.testing.clients import MemoryAdmin, MemoryClients

from ..harness import Counting, Fleet

KEYS = [f"k{i}" for i in range(20)]
LOGS = ("counting-n-changelog", "counting-seen-changelog")


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def fleet(counting: Counting, tmp_path: Path) -> Iterator[Fleet]:
    """It has counted each key once, and is stopped."""
    fleet = Fleet(counting.app, tmp_path, partitions=2, backend="rocksdb")
    (tmp_path / "app").write_text(counting.app.name)
    (tmp_path / "instances").mkdir()
    fleet.start("a")
    fleet.send(counting.source, KEYS)
    fleet.settle()
    fleet.leave("a")
    yield fleet
    fleet.close()


@pytest.fixture
def admin(fleet: Fleet) -> MemoryAdmin:
    return MemoryClients(fleet.cluster).admin()


def restart(fleet: Fleet) -> None:
    fleet.partitions = prepare_topics(fleet.topology, MemoryClients(fleet.cluster).admin(), fleet.settings)
    fleet.start("a")
    fleet.settle()


def test_what_would_be_deleted_is_listed_first(fleet: Fleet, admin: MemoryAdmin, tmp_path: Path) -> None:
    found = look(fleet.topology, admin, tmp_path)
    assert found.groups == {"counting": ("in",)}
    assert found.topics == LOGS
    assert [each.name for each in found.directories] == ["counting-default-a-0"]
    assert found.directories[0].is_dir()
    assert fleet.committed("in")


@pytest.mark.parametrize(("to", "again"), [(None, 1), ("earliest", 1), ("latest", 0)])
def test_it_counts_from_one_again(
    counting: Counting, fleet: Fleet, admin: MemoryAdmin, tmp_path: Path, to: Place | None, again: int
) -> None:
    carry_out(look(fleet.topology, admin, tmp_path), admin, to)
    assert not set(LOGS) & set(fleet.cluster.topics())
    assert not (tmp_path / "counting-default-a-0").exists()
    restart(fleet)
    fleet.send(counting.source, KEYS)
    fleet.settle()
    assert fleet.outputs(counting.by_dsl) == {key: [1, *range(1, again + 2)] for key in KEYS}
    assert not [task for task in fleet.workers["a"].tasks.values() if task.state is TaskState.FAILED]


def test_one_that_was_broken_off_leaves_no_offsets_without_state_and_can_be_repeated(
    counting: Counting, fleet: Fleet, admin: MemoryAdmin, tmp_path: Path
) -> None:
    fleet.cluster.faults.plan("admin.delete_topics", KafkaUnavailable("gone"))
    with pytest.raises(KafkaUnavailable, match="gone"):
        carry_out(look(fleet.topology, admin, tmp_path), admin, None)
    restart(fleet)
    assert all("state without offsets" in str(task.error) for task in fleet.workers["a"].tasks.values())
    fleet.leave("a")
    carry_out(look(fleet.topology, admin, tmp_path), admin, None)
    restart(fleet)
    assert fleet.outputs(counting.by_dsl) == {key: [1, 1] for key in KEYS}


def test_an_app_that_runs_is_refused(fleet: Fleet, admin: MemoryAdmin, tmp_path: Path) -> None:
    restart(fleet)
    with pytest.raises(ConfigError, match="group counting has 1 member: stop all instances of counting first"):
        look(fleet.topology, admin, tmp_path)


def test_the_state_directory_of_another_app_is_left_alone(fleet: Fleet, admin: MemoryAdmin, tmp_path: Path) -> None:
    (tmp_path / "app").write_text("another")
    assert look(fleet.topology, admin, tmp_path).directories == ()
    assert look(fleet.topology, admin, tmp_path / "none").directories == ()
