"""A store as Parquet, and a stopped app's store filled from it: times and what has expired."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import kstream
from kstream.runtime.cluster.filling import Filling, export
from kstream.state.forms import headers_of, stamp_of
from kstream.testing.clients import MemoryClients
from unit.runtime.harness import Fleet

HOUR = 3600.0
OLD, NEW = [f"old{n}" for n in range(8)], [f"new{n}" for n in range(8)]


class Bench:
    """An app with a table whose entries live for an hour, OLD ones written 40 minutes before NEW ones."""

    def __init__(self, directory: Path, time: str) -> None:
        self.app = kstream.App("shop")
        self.source = self.app.topic("in", key=str, value=int)
        ttl = kstream.TTL(hours=1, time=time)  # type: ignore[arg-type]
        self.table = table = self.app.table("seen", key=str, value=int, default=0, ttl=ttl)

        @self.app.agent(self.source)
        def count(value: int, ctx: kstream.Context[str]) -> None:
            table[ctx.key] += value

        self.fleet = Fleet(self.app, directory / "state", partitions=2)
        self.out = directory / "out"
        self.fleet.start("a")
        self.fleet.settle()
        for keys in (OLD, NEW):
            self.fleet.send(self.source, keys)
            self.fleet.settle()
            if keys is OLD:
                self.fleet.clock.advance(2 * HOUR / 3)
        self.before = self.fleet.stores("seen")

    def export(self, later: float) -> int:
        clients = MemoryClients(self.fleet.cluster)
        now = self.fleet.clock.time() + later
        return sum(dict(export(self.fleet.topology, self.table.spec, clients, clients.admin(), self.out, now)).values())

    def fill(self) -> int:
        clients, files = MemoryClients(self.fleet.cluster), sorted(self.out.iterdir())
        return Filling(
            self.fleet.topology, self.table.spec, clients, clients.admin(), self.fleet.settings, files,
            replace=True, inputs="latest",
        ).fill()  # fmt: skip


@pytest.fixture(params=["wall", "event"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, request.param)
    yield made
    made.fleet.close()


def test_entries_of_a_store_with_a_ttl_come_back_with_their_times(bench: Bench) -> None:
    assert len({stamp_of(raw) for raw in bench.before.values()}) > 1
    assert bench.export(0.0) == len(OLD + NEW)
    bench.fleet.leave("a")
    assert bench.fill() == len(OLD + NEW)
    records = bench.fleet.cluster.records("shop-seen-changelog")
    assert {str(record.headers) for record in records} == {str(headers_of(bench.table.spec.form))}
    bench.fleet.start("b")
    bench.fleet.settle()
    assert bench.fleet.stores("seen") == bench.before


def test_what_has_expired_is_left_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "wall")
    assert bench.export(HOUR / 2) == len(NEW)
    bench.fleet.close()


def test_event_time_stands_still_where_no_records_come(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "event")
    assert bench.export(100 * HOUR) == len(OLD + NEW)
    bench.fleet.clock.advance(HOUR / 2)
    bench.fleet.send(bench.source, [f"more{n}" for n in range(20)])
    bench.fleet.settle()
    assert bench.export(0.0) == len(NEW) + 20
    bench.fleet.close()
