"""What is small in Kafka and large in memory: one task stops, named, and no other; the worker stays, and its memory."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from broker.bombed_service import make_app
from kstream.config import Settings
from support.kafka import SECONDS, Reader, read, write_bomb, write_to
from support.running import prepare, until
from support.serving import Served


class Bombed:
    """An instance with one worker, of 64 MiB. Partition 1 is the one that must go on."""

    def __init__(self, servers: str, directory: Path, name: str) -> None:
        self.servers, self.name, self.sent = servers, name, 0
        self.bombs, self.sizes = f"{name}.bombs", f"{name}.sizes"
        app = make_app(name)
        settings = Settings(
            bootstrap_servers=servers, state_dir=str(directory), instance="a", memory=64 << 20, web_port=0,
            announce_interval=0.0, restart_initial=1.0, restart_max=1.0, restart_jitter=0.0, session_timeout=30.0,
        )  # fmt: skip
        prepare(app, settings)
        self.output = Reader(servers, [self.sizes])
        self.served = Served(app, "broker.bombed_service:app", settings)
        (self.worker,) = self.served.supervisor.workers

    def feed(self, partition: int, *values: bytes) -> None:
        write_to(self.servers, self.bombs, partition, values)

    def put_out(self, partition: int) -> list[int]:
        """What became of an input partition: its records have its number for a key."""
        rows = read(self.servers, [self.sizes])[self.sizes]
        return [int(row.value or b"0") for row in rows if row.key == b"%d" % partition]

    def comes(self, partition: int, count: int, what: str, seconds: float = SECONDS) -> None:
        """Waits for so many records of a partition."""
        rows = self.output.rows[self.sizes]
        until(lambda: sum(row.key == b"%d" % partition for row in rows) >= count, what, seconds, self.output.poll)

    def others_go_on(self) -> None:
        self.sent += 1
        self.feed(1, b'"on"')
        self.comes(1, self.sent, "the other partition")
        assert len(self.put_out(1)) == self.sent

    def end(self) -> None:
        self.served.stop()
        self.output.close()

    def error(self) -> str:
        tasks = {task.name: task for task in self.worker.report.tasks}
        return next((task.error or "" for name, task in tasks.items() if name.endswith("/0")), "")

    def retries(self) -> float:
        return self.served.metrics()("kstream_task_retries_total")

    def peak(self) -> int:
        """The most memory of the worker so far, in MB."""
        status = Path(f"/proc/{self.worker.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1000

    def remove(self, before: int) -> None:
        """As an operator does who has no use for it."""
        admin = AdminClient({"bootstrap.servers": self.servers})
        for future in admin.delete_records([TopicPartition(self.bombs, 0, before)]).values():
            future.result(SECONDS)


@pytest.fixture
def bombed(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bombed]]:
    made: list[Bombed] = []

    def make(kind: str = "bytes") -> Bombed:
        name = f"bombed-{uuid.uuid4().hex[:8]}"
        monkeypatch.setenv("KSTREAM_TEST_APP", name)
        monkeypatch.setenv("KSTREAM_TEST_KIND", kind)
        made.append(Bombed(bootstrap_servers, tmp_path, name))
        return made[0]

    yield make
    for each in made:
        each.end()


@pytest.mark.parametrize(
    ("compression", "size", "why", "most"),
    [
        ("zstd", 400_000_000, "[0] cannot be read at offset 2: the batch there is corrupt, or unpacks to more", 500),
        pytest.param(
            "gzip", 100_000_000, "[0] offset 2: RecordTooLarge: 100,000,001 bytes of key, value and headers, more", 450,
            marks=pytest.mark.more,
        ),
        pytest.param(
            "lz4", 100_000_000, "[0] offset 2: RecordTooLarge: 100,000,001 bytes of key, value and headers, more", 450,
            marks=pytest.mark.more,
        ),
        ("snappy", 19_000_000, "[0] offset 2: RecordTooLarge: 19,000,001 bytes of key, value and headers, more", 250),
    ],
    ids=["zstd", "gzip", "lz4", "snappy"],
)  # fmt: skip
def test_a_decompression_bomb_stops_its_task_and_no_other(
    bombed: Callable[..., Bombed], compression: str, size: int, why: str, most: int
) -> None:
    """Small in the topic, large in memory. librdkafka unpacks all but zstd whatever comes of it (docs/security.md).
    Snappy makes 21 times as much of a batch at most, and a topic takes one of 1 MB."""
    service = bombed()
    service.feed(0, b"a", b"bc")
    write_bomb(service.servers, service.bombs, 0, compression, size)
    service.feed(0, b"def")
    service.others_go_on()
    until(lambda: why in service.error(), f"{why}, not {service.error()}", 120)
    assert service.put_out(0) == [4, 5], "what comes before it"  # str(b"a") is four letters
    until(lambda: not service.served.probe("ready")[0], "readiness to be red")
    assert any(f"{service.bombs}[0]" in reason and "offset 2" in reason for reason in service.served.probe("ready")[1])
    service.others_go_on()
    once = service.peak()
    until(lambda: service.retries() >= 3, "it to be tried again", 120)
    service.others_go_on()
    print(f"peak {once} MB, after some retries {service.peak()} MB")
    assert service.peak() < most
    assert service.worker.restarts == 0
    service.remove(3)
    service.comes(0, 3, "what comes after it", 120)
    assert service.put_out(0) == [4, 5, 6]
    until(lambda: service.served.probe("ready")[0], "readiness")


HOSTILE = {
    "deep lists": ("any", b"[" * 100_000 + b"]" * 100_000, "JSON of 100,000 levels, more than max_json_depth (250)"),
    "deep objects": (
        "json",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "JSON of 100,000 levels, more than max_json_depth (250)",
    ),
    "large integer": (
        "int",
        b"7" * 10_000_000,
        "a number of 10,000,000 characters in JSON, more than max_number_length (4,300)",
    ),
    "large integer inside": (
        "json",
        b'{"n":' + b"7" * 10_000_000 + b"}",
        "a number of 10,000,000 characters in JSON, more than max_number_length (4,300)",
    ),
    "no text": ("text", b"\xff" * 10_000_000, "can't decode byte 0xff"),
}
EACH_TIME = {"deep lists", "large integer"}
"""To a worker a codec that refuses is as good as another: unit/codecs/test_hostile.py has each of them refuse each."""


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in EACH_TIME else pytest.mark.slow) for case in HOSTILE]
)
def test_a_hostile_value_stops_its_task_and_no_other(bombed: Callable[..., Bombed], case: str) -> None:
    """With the codecs of kstream, in one line, and the process stays."""
    kind, value, why = HOSTILE[case]
    service = bombed(kind)
    good = {"json": b"{}", "int": b"7"}.get(kind, b'"on"')
    service.feed(1, good)
    service.comes(1, 1, "the first")
    service.feed(0, good, value, good)
    until(lambda: "offset 1: " in service.error(), "the failure")
    assert why in service.error() and len(service.error()) < 600 and "\n" not in service.error()
    assert len(service.put_out(0)) == 1
    before = service.peak()
    until(lambda: service.retries() >= 3, "it to be tried again", 60)
    assert service.peak() < before + 40
    service.feed(1, good)
    service.comes(1, 2, "the other partition")
    assert (len(service.put_out(0)), len(service.put_out(1))) == (1, 2)
    assert service.worker.restarts == 0
