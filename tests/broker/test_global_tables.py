"""A global table on a real Kafka: two instances, more partitions of the table's topic than of the app's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

import kstream
from broker.global_service import make_app
from kstream.config import Settings
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.kafka import KafkaClients
from kstream.runtime.process.making import make_worker
from kstream.runtime.worker.loop import StreamWorker
from kstream.types import TopicPartition
from support.kafka import Reader, create, ends, write
from support.observing import QUICK
from support.running import prepare, until
from support.serving import Served


def test_each_worker_has_all_of_it_and_follows_it(
    bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"global-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    app = make_app(name)
    prepare(app, Settings(bootstrap_servers=bootstrap_servers))
    prices = {f"p{n}": f"{n}" for n in range(200)}
    write(bootstrap_servers, f"{name}.prices", [(key, value.encode(), 0) for key, value in prices.items()])
    found, counts = f"{name}.found", f"{name}.counts"
    reader = Reader(bootstrap_servers, [found, counts])
    instances = [
        Served(
            app,
            "broker.global_service:app",
            Settings(bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path / one), instance=one, **QUICK),
        )
        for one in ("a", "b")
    ]

    def all_follow(rows: int) -> bool:
        tables = [table for one in instances for table in one.status().tables]
        return len(tables) == 2 and all(one.there and one.rows == rows and not one.lag for one in tables)

    def results(count: int) -> list[str]:
        def are_there() -> bool:
            reader.poll()
            return len(reader.rows[found]) >= count

        until(are_there, f"{count} results", each=reader.poll)
        return sorted((row.value or b"").decode() for row in reader.rows[found])

    try:
        until(lambda: all_follow(200), "both instances to have the table")
        until(lambda: all(one.probe("ready")[0] for one in instances), "both to be ready")
        orders = [f"{n}|p{n}" for n in range(0, 220, 2)]
        write(bootstrap_servers, f"{name}.orders", [(order, order.encode(), 0) for order in orders])
        wanted = [f"{order}-{prices.get(order.partition('|')[2])}" for order in orders]
        assert results(len(wanted)) == sorted(wanted)
        assert {row.partition for row in reader.rows[found]} == {0, 1}, "both have had some"

        gone = [(f"p{n}", None, 0) for n in range(50)]
        write(bootstrap_servers, f"{name}.prices", [*gone, ("p60", b"new", 0)])
        until(lambda: all_follow(150), "both to have followed")
        more = [f"again|p{n}" for n in (10, 60, 70)]
        write(bootstrap_servers, f"{name}.orders", [(order, order.encode(), 0) for order in more])
        wanted += ["again|p10-None", "again|p60-new", "again|p70-70"]
        assert results(len(wanted)) == sorted(wanted)
        until(lambda: reader.poll() or len(reader.rows[counts]) == len(wanted), "the counts", each=reader.poll)
        assert sorted(int(row.value or b"") for row in reader.rows[counts])[:4] == [150, 150, 150, 200]
        assert instances[0].metrics()("kstream_global_table_rows", table="prices") == 150
    finally:
        reader.close()
        for one in instances:
            one.stop()


@contextmanager
def running(app: kstream.App, settings: Settings, partitions: dict[str, int]) -> Iterator[StreamWorker]:
    """A worker in this process."""
    worker = make_worker(app, Identity(app.name, "one", 0), settings, partitions)
    try:
        worker.start()
        yield worker
    finally:
        worker.abandon()


def test_a_topic_that_is_cut_off_or_made_anew_is_read_anew(bootstrap_servers: str, tmp_path: Path) -> None:
    name = f"global-{uuid.uuid4().hex[:8]}"
    app, topic = make_app(name), f"{name}.prices"
    create(bootstrap_servers, topic, 5, cleanup_policy="compact,delete")  # else nobody may delete what is in it
    settings = Settings(
        bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path), workers=0, announce_interval=0,
        kafka={"topic.metadata.refresh.interval.ms": "500"},
    )  # fmt: skip
    partitions = prepare(app, settings)

    def rows_of(worker: StreamWorker) -> dict[str, str]:
        store = worker.tables.stores["prices"]
        return {key.decode(): str(row) for key, row in store.scan()} if worker.is_member else {}

    def put(rows: dict[str, str]) -> None:
        write(bootstrap_servers, topic, [(key, value.encode(), 0) for key, value in rows.items()])

    first, second, third = (
        {f"p{n}": what for n in numbers}
        for what, numbers in (("first", range(100)), ("second", range(0, 100, 3)), ("third", range(50, 60)))
    )
    put(first)
    with running(app, settings, partitions) as worker:
        until(lambda: rows_of(worker) == first, "the first rows", each=worker.step)
    put(first)  # what the copy would go on with is deleted
    at = {TopicPartition(topic, number): end for number, (_, end) in enumerate(ends(bootstrap_servers, topic))}
    admin = KafkaClients(bootstrap_servers).admin()
    admin.delete_records(at).result(60)
    put(second)
    with running(app, settings, partitions) as worker:
        until(lambda: rows_of(worker) == second, "the rows that are left", each=worker.step)
        admin.delete_topics([topic], 60)
        admin.close()

        def is_made() -> bool:
            with suppress(KafkaException):  # it is being deleted still
                create(bootstrap_servers, topic, 5)
                return True
            return False

        until(is_made, "the topic to be made anew", each=worker.step)
        put(third)
        until(lambda: rows_of(worker) == third, "the rows of the new topic", 120, each=worker.step)
        assert worker.aborts == 0
