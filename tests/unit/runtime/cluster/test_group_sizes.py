"""Members of the app's consumer groups, as Kafka says."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from kstream.errors import KafkaUnavailable
from kstream.runtime.cluster.group_sizes import GroupSizes
from kstream.testing.clients import MemoryAdmin, MemoryClients
from kstream.testing.cluster import MemoryCluster


class Admin(MemoryAdmin):
    """Its answers come when the test says so."""

    def __init__(self, cluster: MemoryCluster) -> None:
        super().__init__(cluster)
        self.asked: list[tuple[str, Future[frozenset[str]]]] = []

    def members(self, group: str) -> Future[frozenset[str]]:
        self.asked.append((group, Future()))
        return self.asked[-1][1]


@pytest.fixture
def now() -> list[float]:
    return [100.0]


def test_it_is_asked_now_and_then_and_nobody_waits(now: list[float]) -> None:
    admin = Admin(MemoryCluster())
    sizes = GroupSizes(admin, "shop", lambda: now[0])
    assert sizes("default") is None and sizes("cpu") is None
    assert [group for group, _ in admin.asked] == ["shop", "shop-cpu"]
    now[0] += 100
    assert sizes("default") is None and len(admin.asked) == 2, "the question is under way"
    admin.asked[0][1].set_result(frozenset("abc"))
    assert sizes("default") == 3 and sizes("cpu") is None
    assert [group for group, _ in admin.asked] == ["shop", "shop-cpu", "shop"]
    now[0] += 1
    assert sizes("default") == 3 and len(admin.asked) == 3


def test_what_cannot_be_asked_is_known_for_a_while(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    admin = Admin(MemoryCluster())
    sizes = GroupSizes(admin, "shop", lambda: now[0])
    sizes("default")
    admin.asked[-1][1].set_result(frozenset("abc"))
    sizes("default")
    for known in (3, None):
        now[0] += 40
        sizes("default")
        admin.asked[-1][1].set_exception(KafkaUnavailable("down"))
        assert sizes("default") == known
    assert "cannot be checked: down" in caplog.text
    now[0] += 10
    sizes("default")
    admin.asked[-1][1].set_result(frozenset("abcd"))
    assert sizes("default") == 4


def test_of_a_group_without_members(now: list[float]) -> None:
    sizes = GroupSizes(MemoryClients(MemoryCluster()).admin(), "shop", lambda: now[0])
    sizes("default")
    assert sizes("default") == 0
