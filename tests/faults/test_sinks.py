"""A worker is killed by SIGKILL around its write into PostgreSQL and the commit in Kafka: each row is there once. The
same run finds out sinks that are broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg
import pytest

from kstream.config import Settings
from kstream.errors import AbortRequired
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.types import TopicPartition
from support import kafka
from support.postgres import postgres
from support.postgres_sinks import Wrong, compare
from support.running import Instance, until

RECORDS, CHUNK = 1300, 130
"""Before the kill a chunk comes when the one before is committed: of each partition one full batch, and a rest."""

REPLAYED = {
    "sink_write:after:3",
    "flush_operators:after:3",
    "send_offsets:before:3",
    "send_offsets:after:3",
    "commit_transaction:before:3",
}
"""Between the commit of the database and that of Kafka: records that have their row come again."""

OTHERS = {
    "flush_operators:before:3",  # before the last write of the commit
    "sink_between:after:3",  # rows are sent, and nothing is committed in the database
    "commit_transaction:after:3",
    "apply_to_state:after:3",
}


class Run(NamedTuple):
    """What is wrong in the table `lines`, the rows of `latest`, and how many records came again of which the sink had
    the row already."""

    wrong: Wrong
    latest: list[Any]
    dropped: int


Killed = Callable[[str, str], Run]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as uri:
        yield uri


@pytest.fixture
def killed(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Killed:
    """Runs the service with a sink, has its worker killed at a step, and waits until Kafka has all offsets."""

    def run(sink: str, fault: str) -> Run:
        app = f"sinks-{uuid4().hex[:8]}"
        topic = f"{app}.numbers"
        given = {"APP": app, "POSTGRES": database, "DIR": str(tmp_path), "KILL": fault, "SINK": sink}
        for name, value in given.items():
            monkeypatch.setenv(f"KSTREAM_TEST_{name}", value)
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        (tmp_path / "armed").touch()
        settings = Settings(
            bootstrap_servers=bootstrap_servers,
            state_dir=str(tmp_path / "state"),
            commit_interval=0.1,
            session_timeout=10.0,
        )
        kafka.create(bootstrap_servers, topic, 2)
        partitions = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
        admin = KafkaClients(bootstrap_servers, options_from(settings, "test")).admin()
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS lines, latest")
            connection.execute("CREATE TABLE lines (key text, value int)")
            connection.execute("CREATE TABLE latest (key text PRIMARY KEY, value int)")
            instance = Instance("faults.sink_service:app", app, "a", settings, {topic: 2})
            fed, struck = 0, tmp_path / "struck"

            def committed() -> int:
                try:
                    offsets = admin.committed(app, partitions).result(kafka.SECONDS)
                except AbortRequired:  # a transaction on them is pending
                    return 0
                return sum(found[0] for found in offsets.values() if found is not None)

            def feed() -> None:
                nonlocal fed
                if fed < RECORDS and (struck.exists() or committed() == fed):
                    new = [(f"k{n % 7}", b"%d" % n, n % 2) for n in range(fed, fed + CHUNK)]
                    kafka.write(bootstrap_servers, topic, new)
                    fed += CHUNK
                instance.poll()

            try:
                until(lambda: fed == RECORDS == committed(), "all records to be committed", each=feed)
                told = json.loads(struck.read_text())
                assert f"{told['step']}:{told['when']}:3" == fault
                assert instance.restarts == 1
                instance.stop()
            finally:
                instance.kill()
                admin.close()
            lines = connection.execute("SELECT key, value FROM lines").fetchall()
            latest = connection.execute("SELECT key, value FROM latest").fetchall()
        dropped = tmp_path / "dropped"
        wanted = [(f"k{n % 7}", n) for n in range(RECORDS)]
        return Run(compare(wanted, lines), latest, int(dropped.read_text()) if dropped.exists() else 0)

    return run


@pytest.mark.parametrize("fault", sorted(REPLAYED | OTHERS))
def test_killed_between_write_and_commit(killed: Killed, fault: str) -> None:
    run = killed("Watched", fault)
    assert not run.wrong
    if fault in REPLAYED:
        assert run.dropped, "nothing came again: the kill was not where it was to be"
    assert len(run.latest) == 7
    for key, value in run.latest:  # the last of its key in one of the two partitions
        assert value >= RECORDS - 14 and key == f"k{value % 7}"


@pytest.mark.parametrize(
    ("sink", "fault", "how"),
    [
        ("WritesReplays", "commit_transaction:before:3", "twice"),
        ("WritesReplays", "sink_write:after:3", "twice"),
        ("OneTooMany", "commit_transaction:before:3", "twice"),
        ("ForgetsOffsets", "commit_transaction:before:3", "twice"),
        ("RowsFirst", "sink_between:after:3", "twice"),
        ("OffsetFirst", "sink_between:after:3", "missing"),
    ],
)
def test_a_broken_sink_is_found_out(killed: Killed, sink: str, fault: str, how: str) -> None:
    run = killed(sink, fault)
    assert getattr(run.wrong, how)
