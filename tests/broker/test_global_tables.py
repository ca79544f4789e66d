"""A global table on a real Kafka: two instances, more partitions of the table's topic than of the app's."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from broker.global_service import make_app
from kstream.config import Settings
from support.kafka import Reader, write
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
