"""Coordinators that are not there yet: a cluster that nobody has used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from broker.grouped_service import make_app
from kstream.config import Settings
from kstream.devbroker import DevBroker

ASKS = """
import sys, time
from kstream.errors import KafkaUnavailable
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.types import NewTopic, TopicPartition

clients = KafkaClients(sys.argv[1], KafkaOptions())
admin = clients.admin()
deadline = time.monotonic() + 60
for number in range(40):  # their coordinators are loaded one after the other
    while True:
        try:
            found = admin.committed(f"group-{number}", [TopicPartition("t", 0)]).result(30)
            break
        except KafkaUnavailable:
            assert time.monotonic() < deadline
            admin = clients.admin()
    assert found == {TopicPartition("t", 0): None}, found
"""


@pytest.mark.parametrize("again", range(3))
def test_committed_offsets_of_a_cluster_that_nobody_has_used(tmp_path: Path, again: int) -> None:
    """librdkafka #5040: the process ended with a segmentation fault. It does so now and then: 40 groups on three
    clusters."""
    with DevBroker(data_dir=tmp_path / "broker") as broker:
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", ASKS, broker.bootstrap_servers],
            check=False, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_an_app_with_groups_starts_on_a_cluster_that_nobody_has_used(tmp_path: Path) -> None:
    """It asks for the offsets of all of its groups before anything runs."""
    with DevBroker(data_dir=tmp_path / "broker") as broker:
        settings = Settings(
            bootstrap_servers=broker.bootstrap_servers,
            state_dir=str(tmp_path / "state"),
            web=False,
            announce_interval=0,
        )
        with make_app("grouped", 4).supervisor(settings=settings, target="-") as supervisor:
            assert supervisor.groups == ("default", "cpu-intensive")
