"""Records above the usual limit of a megabyte, with the producer's limit raised: through a repartition, into tables."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import replace
from pathlib import Path

import kstream
from kstream.config import Settings
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.making import make_worker
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.loop import StreamWorker
from support.kafka import read, write
from support.running import prepare, until

LARGE = 3_000_000


def test_internal_topics_take_what_the_producer_may_send(bootstrap_servers: str, tmp_path: Path) -> None:
    app = kstream.App(f"large-{uuid.uuid4().hex[:8]}")
    sizes = app.topic(f"{app.name}.sizes", key=str, value=int)
    done = app.topic(f"{app.name}.done", key=int, value=int)
    kept = app.table("kept", key=int, value=bytes, changelog={"max.message.bytes": "4000000"})
    grown = app.stream(sizes).map(lambda size: random.Random(size).randbytes(size), value=bytes)
    latest = grown.group_by(len, key=int, name="large").reduce(lambda _, new: new, name="latest", value=bytes)

    @app.agent(latest.stream(), to=done)
    def keep(value: bytes, context: kstream.Context[int]) -> int:
        kept[context.key] = value
        return len(value)

    def start(directory: Path) -> StreamWorker:
        given = replace(settings, state_dir=str(directory))
        made = make_worker(app, Identity(app.name, "one", 0), given, prepare(app, given))
        made.start()
        return made

    settings = Settings(
        bootstrap_servers=bootstrap_servers, workers=0, announce_interval=0, kafka={"message.max.bytes": "5000000"}
    )  # fmt: skip
    worker = start(tmp_path / "first")
    try:
        write(bootstrap_servers, sizes.name, [("k", str(LARGE).encode(), round(time.time() * 1000))])
        until(
            lambda: [int(row.value or b"0") for row in read(bootstrap_servers, [done.name])[done.name]] == [LARGE],
            "the record that was put in a table",
            each=lambda: [worker.step() for _ in range(20)] and None,
        )
        assert {task.error for task in worker.tasks.values()} == {None}
        worker.abandon()
        worker = start(tmp_path / "second")
        until(
            lambda: {task.state for task in worker.tasks.values()} == {TaskState.RUNNING},
            "the restore",
            each=lambda: [worker.step() for _ in range(20)] and None,
        )
        assert worker.restorer.replay.bytes >= 2 * LARGE, "of both tables"
    finally:
        worker.abandon()
