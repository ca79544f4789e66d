"""Three brokers, by the compose file's profile: a service goes on when one of them dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.docker.daemon import Daemon
from deploy.docker.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster(daemon: Daemon, folder: Path) -> Iterator[Stack]:
    made = Stack(daemon, folder, "--env-file", "deploy/compose/cluster.env")
    made.compose("build", timeout=600)
    try:
        made.up(services=("kafka", "kafka-2", "kafka-3", "flights", "airports", "feeder"))
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", 20)


def test_a_service_goes_on_without_one_of_three_brokers(cluster: Stack) -> None:
    topics = cluster.compose("logs", "--no-color", "topics")
    assert "created" in topics
    before = cluster.wait_for(lambda: cluster.counted()["carrier_updates"], "flights that came through")
    (broker,) = cluster.containers("kafka-2")
    cluster.daemon.docker("kill", broker["Id"])
    cluster.wait_for(lambda: cluster.counted()["carrier_updates"] > before + 500, "flights, with two brokers", 120)
    cluster.compose("stop", "feeder")
    for app in ("flights", "airports"):
        cluster.wait_for(lambda app=app: cluster.lag(app) == 0, f"the end of the records of {app}")  # type: ignore[misc]
    found = cluster.counted()
    assert found["carrier_updates"] == found["carrier_sum"] == found["flights"]
    assert found["airport_updates"] == found["airport_sum"] == found["alerts"]
