"""State that expires, on a real broker: forms and tombstones in the changelog, times over restarts without local state,
TTL put on state that is there and taken off."""

from __future__ import annotations

import shutil
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import kstream
from kstream.config import Settings
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.making import make_worker
from kstream.runtime.worker.loop import StreamWorker
from support.kafka import read, write
from support.running import prepare, until

KEYS = [f"k{number}" for number in range(10)]
SECONDS = 8.0


class Service:
    """Counts, with this TTL, in a worker that starts without local state."""

    def __init__(self, name: str, servers: str, directory: Path, ttl: kstream.TTL | None) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        self.app, self.servers = kstream.App(name), servers
        self.source = self.app.topic(f"{name}.in", key=str, value=int, partitions=2)
        self.out = self.app.topic(f"{name}.out", key=str, value=int, partitions=2)
        self.app.stream(self.source).group_by_key().count(name="n", ttl=ttl).to(self.out)
        settings = Settings(
            bootstrap_servers=servers, state_dir=str(directory), workers=0, announce_interval=0, commit_interval=0.2,
            session_timeout=6.0,
        )  # fmt: skip
        identity = Identity(name, "one", 0)
        self.worker: StreamWorker = make_worker(self.app, identity, settings, prepare(self.app, settings))
        self.worker.start()

    def count(self, keys: list[str], wanted: list[int]) -> None:
        before = Counter(self.outputs())
        write(self.servers, self.source.name, [(key, b"1", round(time.time() * 1000)) for key in keys])
        until(lambda: len(self.outputs()) >= before.total() + len(keys), "the counts", each=self.worker.step)
        expected = Counter((key.encode(), b"%d" % n) for key, n in zip(keys, wanted, strict=True))
        assert Counter(self.outputs()) - before == expected

    def outputs(self) -> list[tuple[Any, Any]]:
        return [(row.key, row.value) for row in read(self.servers, [self.out.name])[self.out.name]]

    def changelog(self) -> list[Any]:
        topic = f"{self.app.name}-n-changelog"
        return read(self.servers, [topic])[topic]

    def seen(self) -> dict[bytes, int]:
        return {
            key: value for task in self.worker.tasks.values() for key, value in task.stores["n"].scan()
        }  # fmt: skip


def test_state_expires_on_a_real_broker(bootstrap_servers: str, tmp_path: Path) -> None:
    name, ttl = f"ttl-{uuid.uuid4().hex[:8]}", kstream.TTL(seconds=SECONDS)
    service = Service(name, bootstrap_servers, tmp_path, None)
    service.count(KEYS, [1] * len(KEYS))
    service.worker.close()

    service = Service(name, bootstrap_servers, tmp_path, ttl)  # put on state that is there
    service.count(KEYS[:5], [2] * 5)
    rows = [row for row in service.changelog() if row.headers]
    assert all(dict(row.headers) == {"kstream.form": b"wall"} and row.value[8:] == b"2" for row in rows)
    assert len(rows) == 5

    def swept() -> bool:
        return {row.key for row in service.changelog() if row.value is None} == {key.encode() for key in KEYS[:5]}

    until(swept, "the tombstones", each=service.worker.step)  # without a record
    assert service.seen() == {key.encode(): 1 for key in KEYS[5:]}
    service.count(KEYS[:5], [1] * 5)
    service.worker.close()

    service = Service(name, bootstrap_servers, tmp_path, kstream.TTL(hours=1))  # restored, with times; changed
    service.count(KEYS[:1], [2])
    service.worker.close()

    service = Service(name, bootstrap_servers, tmp_path, None)  # taken off
    service.count([KEYS[0], *KEYS[5:7]], [3, 2, 2])
    assert {row.value for row in service.changelog() if not row.headers} >= {b"3", b"2"}
    service.worker.close()
