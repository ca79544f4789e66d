"""Coordinators that are not there yet: a cluster that nobody has used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kstream.devbroker import DevBroker

ASKS = """
import sys
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.runtime.regroup import committed
from kstream.types import TopicPartition

admin = KafkaClients(sys.argv[1], KafkaOptions()).admin()
for number in range(40):  # their coordinators are loaded one after the other
    assert committed(admin, f"group-{number}", [TopicPartition("t", 0)]) == {}
"""


@pytest.mark.parametrize("again", range(3))
def test_committed_offsets_of_a_cluster_that_nobody_has_used(tmp_path: Path, again: int) -> None:
    """An app with isolation groups asks for those of all of them before anything runs. Asked too early, librdkafka
    ended the process with a segmentation fault (#5040), now and then: 40 groups on three clusters."""
    with DevBroker(data_dir=tmp_path / "broker") as broker:
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", ASKS, broker.bootstrap_servers],
            check=False, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
