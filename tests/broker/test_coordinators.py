"""Coordinators of groups that are not there yet, or not where they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.cluster import three_brokers

ASKS = """
import sys
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.runtime.regroup import committed
from kstream.types import TopicPartition

def ask():
    for number in range(16):
        assert committed(admin, f"group-{number}", [TopicPartition("t", 0)]) == {}

admin = KafkaClients(sys.argv[1], KafkaOptions()).admin()
ask()
print("asked", flush=True)
for _ in sys.stdin:
    ask()
    print("asked", flush=True)
"""


def test_committed_offsets_while_coordinators_come_and_move(tmp_path: Path) -> None:
    """On a cluster that nobody has used they load one after the other, and refuse until then; when a broker is
    restarted they move. Asked for offsets too early, librdkafka ended the process with a segmentation fault (#5040)."""
    with (
        three_brokers(tmp_path) as brokers,
        (tmp_path / "err").open("w+") as said,
        subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", ASKS, ",".join(each.bootstrap_servers for each in brokers)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, bufsize=1,
        ) as asking,
    ):  # fmt: skip
        assert asking.stdin is not None and asking.stdout is not None
        assert asking.stdout.readline() == "asked\n", (tmp_path / "err").read_text()[-3000:]
        for broker in brokers[1:]:
            broker.restart()
            asking.stdin.write("again\n")
            assert asking.stdout.readline() == "asked\n", (tmp_path / "err").read_text()[-3000:]
        asking.stdin.close()
        assert asking.wait(20) == 0
