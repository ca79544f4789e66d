"""A worker is killed by SIGKILL between its write into PostgreSQL and the commit in Kafka: each row is there once."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from kstream.config import Settings
from support import kafka
from support.postgres import postgres
from support.running import Instance, until

RECORDS = 2000


@pytest.mark.parametrize(
    "fault", ["flush_operators:after:3", "commit_transaction:before:3", "commit_transaction:after:3"]
)
def test_killed_between_write_and_commit(
    bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    app = f"sinks-{uuid4().hex[:8]}"
    topic = f"{app}.numbers"
    with postgres() as uri:
        for name, value in {"APP": app, "POSTGRES": uri, "DIR": str(tmp_path), "KILL": fault}.items():
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
        with psycopg.connect(uri, autocommit=True) as database:
            database.execute("CREATE TABLE lines (key text, value int)")
            database.execute("CREATE TABLE latest (key text PRIMARY KEY, value int)")
            instance = Instance("faults.sink_service:app", app, "a", settings, {topic: 2})
            fed = 0

            def feed() -> None:
                nonlocal fed
                if fed < RECORDS:
                    kafka.write(
                        bootstrap_servers, topic, [(f"k{n % 7}", b"%d" % n, n % 2) for n in range(fed, fed + 20)]
                    )
                    fed += 20
                instance.poll()

            def count() -> int:
                found = database.execute("SELECT count(DISTINCT value) FROM lines").fetchone()
                assert found is not None
                return int(found[0])

            try:
                until(lambda: fed >= RECORDS and count() == RECORDS, "all rows", each=feed)
                struck = json.loads((tmp_path / "struck").read_text())
                assert f"{struck['step']}:{struck['when']}:3" == fault
                assert instance.restarts == 1
                instance.stop()
            finally:
                instance.supervisor.stop()
            lines = database.execute("SELECT key, value FROM lines ORDER BY value").fetchall()
            assert lines == [(f"k{n % 7}", n) for n in range(RECORDS)], "each row once"
            latest = database.execute("SELECT key, value FROM latest").fetchall()
            assert len(latest) == 7
            for key, value in latest:  # the last of its key in one of the two partitions
                assert value >= RECORDS - 14 and key == f"k{value % 7}"
