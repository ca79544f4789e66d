"""Resident memory of a worker with a backlog follows the `memory` setting, however many partitions there are.

What was read ahead took 945 MiB at 64 partitions, whatever the setting: brokers count compressed bytes, and a small
record takes hundreds of bytes in the client's queue.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer

from broker.many_service import make_app
from kstream.config import Settings
from support.kafka import SECONDS
from support.running import prepare, until
from support.serving import Served

MIB = 1 << 20
RECORDS = 1_000_000
INTERPRETER, A_TASK = 70 * MIB, 350 << 10
"""What comes on top of `memory`, as docs/state.md says: the interpreter with the libraries, and each task's RocksDB."""


def peak_of(pid: int) -> int:
    """Bytes of resident memory at most, so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


@pytest.mark.more
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says it there")
@pytest.mark.parametrize(("partitions", "memory"), [(256, 512 * MIB), (256, 192 * MIB), (4, 192 * MIB)])
def test_a_backlog_is_read_within_the_setting(
    bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitions: int, memory: int
) -> None:
    name = f"many-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    monkeypatch.setenv("KSTREAM_TEST_PARTITIONS", str(partitions))
    app = make_app(name, partitions)
    settings = Settings(
        bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path), instance="a", memory=memory,
        announce_interval=0.0, session_timeout=30.0,
    )  # fmt: skip
    prepare(app, settings)
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "compression.type": "lz4", "linger.ms": 100,
         "queue.buffering.max.messages": RECORDS + 1, "queue.buffering.max.kbytes": 1_000_000}
    )  # fmt: skip
    for n in range(RECORDS):
        producer.produce(f"{name}.in", b'{"number":%d,"place":"somewhere in the north"}' % n, b"k%d" % (n % 20_000))
        if n % 1000 == 0:
            producer.poll(0)
    assert producer.flush(SECONDS) == 0
    served = Served(app, "broker.many_service:app", settings)
    peaks: list[int] = []
    try:

        def done() -> bool:
            peaks.extend(map(peak_of, served.pids))
            return served.metrics()("kstream_records_committed_total") >= RECORDS

        until(done, "all records", 240)
    finally:
        served.stop()
    assert max(peaks) <= memory + INTERPRETER + partitions * A_TASK, f"{max(peaks) / MIB:.0f} MiB"
