"""The sink into PostgreSQL, on a real one: what it writes, and that replays change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

import kstream
from kstream.errors import TopologyError
from kstream.sinks.postgres import PostgresSink
from kstream.testing import TestDriver
from support.postgres import postgres
from support.postgres_sinks import BROKEN, SINKS, Watched, compare


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as uri:
        yield uri


@pytest.fixture
def uri(server: str) -> str:
    with psycopg.connect(server) as connection:
        connection.execute("DROP TABLE IF EXISTS kstream_offsets, lines, latest")
        connection.execute("CREATE TABLE lines (key text, value int)")
        connection.execute("CREATE TABLE latest (key text PRIMARY KEY, value int)")
    return server


def rows(uri: str, table: str) -> list[Any]:
    with psycopg.connect(uri) as connection:
        return connection.execute(f"SELECT key, value FROM {table} ORDER BY key, value").fetchall()  # type: ignore[arg-type, call-overload, no-any-return, unused-ignore]


def row(record: kstream.SinkRecord[str, int]) -> dict[str, Any]:
    return {"key": record.key, "value": record.value}


def app_with(sink: PostgresSink, name: str = "pg") -> tuple[kstream.App, kstream.Topic[str, int]]:
    app = kstream.App(name)
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).flat_map(lambda n: [n, n + 100], value=int).sink(sink, name="rows")
    return app, topic


def feed(driver: TestDriver, topic: kstream.Topic[str, int], *values: int) -> None:
    for value in values:
        driver.send(topic, value, key=f"k{value}", partition=value % 2)


EXACT = [("k1", 1), ("k1", 101), ("k2", 2), ("k2", 102), ("k3", 3), ("k3", 103), ("k4", 4), ("k4", 104)]


def test_exactly_once_drops_what_it_has(uri: str) -> None:
    """Written, not committed in Kafka, and processed again in batches that are cut elsewhere."""
    sink = PostgresSink(uri, "lines", row, mode="exactly_once", size=2)
    app, topic = app_with(sink)
    with TestDriver(app, partitions=2) as driver:
        feed(driver, topic, 1, 2, 3)
        assert rows(uri, "lines") == EXACT[:6]
        sink.size = 3
        driver.crash()
        feed(driver, topic, 4)
        driver.commit()
    assert rows(uri, "lines") == EXACT


@pytest.mark.parametrize("how", ["merge", "join"])
def test_of_two_topics_in_one_batch_each_has_its_own_offset(uri: str, how: str) -> None:
    """One is far behind the other: its next records are not taken for ones that are written."""
    app = kstream.App("two")
    a, b = (app.topic(name, key=str, value=int) for name in "ab")
    sink = PostgresSink(uri, "lines", row, mode="exactly_once")
    if how == "merge":
        app.stream(a).merge(app.stream(b)).sink(sink, name="rows")
    else:
        left, right = (app.stream(topic).to_table(topic.name) for topic in (a, b))
        left.join(right, lambda one, other: (one or 0) + (other or 0), how="outer").stream().sink(sink, name="rows")
    with TestDriver(app, partitions=1) as driver:
        for value in range(9):
            driver.send(b, value, key=f"b{value}")
        driver.commit()
        driver.send(a, 100, key="a0")
        driver.send(b, 9, key="b9")
        driver.commit()  # both in one batch
        for value in range(1, 4):
            driver.send(a, 100 + value, key=f"a{value}")
        driver.commit()
        driver.send(b, 10, key="b10")
        driver.send(a, 104, key="a4")
        driver.process()
        for task in driver.worker.tasks.values():  # written, and Kafka's commit does not come
            for operator in task.plan.operators:
                operator.flush()
        driver.crash()
        driver.commit()
    every = {(f"b{value}", value) for value in range(11)} | {(f"a{value}", 100 + value) for value in range(5)}
    assert rows(uri, "lines") == sorted(every)
    with psycopg.connect(uri) as connection:
        stored = connection.execute('SELECT topic, "offset" FROM kstream_offsets ORDER BY topic').fetchall()
    assert stored == [("a", 4), ("b", 10)]


def test_rows_and_offset_are_one_transaction(uri: str) -> None:
    """The database refuses a row: neither it nor the offset is there, and the record stops its task."""
    with psycopg.connect(uri) as connection:
        connection.execute("ALTER TABLE lines ADD CONSTRAINT small CHECK (value < 103)")
    app, topic = app_with(PostgresSink(uri, "lines", row, mode="exactly_once"))
    driver = TestDriver(app, partitions=1)
    for value in (1, 2, 3):
        driver.cluster.append(topic.name, b"k%d" % value, b"%d" % value)
    with pytest.raises(kstream.ProcessingError, match=r"in\[0\] offset 2: .*violates check constraint"):
        driver.commit()
    driver.close(commit=False)
    assert rows(uri, "lines") == EXACT[:4]
    with psycopg.connect(uri) as connection:
        assert connection.execute("SELECT * FROM kstream_offsets").fetchall() == [("pg", "rows", "in", 0, 1)]


def test_two_apps_with_a_sink_of_one_name_do_not_meet(uri: str) -> None:
    for name in ("one", "two"):
        app, topic = app_with(PostgresSink(uri, "lines", row, mode="exactly_once"), name)
        with TestDriver(app, partitions=2) as driver:
            feed(driver, topic, 1)
    assert rows(uri, "lines") == [("k1", 1), ("k1", 1), ("k1", 101), ("k1", 101)]


def test_upsert_leaves_the_last_value_of_each_key(uri: str) -> None:
    app, topic = app_with(PostgresSink(uri, ("public", "latest"), row, mode="upsert", key=["key"], size=1))
    with TestDriver(app, partitions=2) as driver:
        feed(driver, topic, 1, 2)
        driver.crash()
        driver.commit()
        assert rows(uri, "latest") == [("k1", 101), ("k2", 102)]
        driver.send(topic, 7, key="k1", partition=1)
        driver.commit()
    assert rows(uri, "latest") == [("k1", 107), ("k2", 102)]


def test_a_lost_connection_is_made_again(uri: str) -> None:
    app, topic = app_with(PostgresSink(uri, "lines", row, mode="exactly_once"))
    with TestDriver(app, partitions=2) as driver:
        feed(driver, topic, 1)
        driver.commit()
        with psycopg.connect(uri, autocommit=True) as other:
            ended = other.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchall()
        assert ended == [(True,)]
        feed(driver, topic, 2)
        driver.commit()
    assert rows(uri, "lines") == EXACT[:4]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        pytest.param({"mode": "upsert"}, "mode='upsert' needs key=", id="no key"),
        pytest.param({"mode": "append"}, "neither 'upsert' nor 'exactly_once'", id="mode"),
        pytest.param({"mode": "upsert", "key": "id"}, "key='id' is a string", id="string"),
    ],
)
def test_what_is_refused(options: Any, match: str) -> None:
    with pytest.raises(TopologyError, match=match):
        PostgresSink("", "t", row, **options)


class Lost(Exception):
    """The connection went, or the worker was killed."""


@pytest.mark.parametrize("sink", SINKS.values(), ids=SINKS)
def test_the_audit_tells_broken_sinks_from_the_right_one(uri: str, sink: type[Watched]) -> None:
    """It fails between rows and offset, then between the commit of the database and that of Kafka. tests/faults does
    it with SIGKILL."""
    writes = 0

    def fail_once() -> None:
        nonlocal writes
        writes += 1
        if writes == 2:
            raise Lost

    lines = sink(uri, "lines", row, size=4)
    lines.between = fail_once
    app = kstream.App("pg")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).sink(lines, name="rows")
    with TestDriver(app, partitions=2) as driver:
        for value in range(24):
            driver.cluster.append(topic.name, b"k%d" % value, b"%d" % value, partition=value % 2)
        for _ in range(3):
            with suppress(kstream.ProcessingError):  # Lost is of no record: it is tried again
                driver.commit()
        for value in range(24, 32):
            driver.send(topic, value, key=f"k{value}", partition=value % 2)
        lines.size = 3  # the replay is cut elsewhere
        driver.crash()
        driver.commit()
    wrong = compare([(f"k{value}", value) for value in range(32)], rows(uri, "lines"))
    assert bool(wrong) is (sink in BROKEN), wrong
    assert writes > 2
