"""State that expires, with the driver's clock and with the times of records."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kstream
from kstream.testing import TestDriver


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_the_drivers_clock_is_that_of_the_state(backend: str) -> None:
    app = kstream.App("carts")
    orders, out = app.topic("orders", key=str, value=str), app.topic("out", key=str, value=list[str])
    carts = app.table("carts", key=str, value=list[str], default=list, ttl=kstream.TTL(hours=1))

    @app.agent(orders, to=out)
    def fill(item: str, ctx: kstream.Context[str]) -> list[str]:
        cart = carts[ctx.key]
        cart.append(item)
        carts[ctx.key] = cart
        return cart

    with TestDriver(app, backend=backend) as d:
        d.send(orders, "tea", key="ann")
        d.advance(minutes=59)
        d.send(orders, "milk", key="ann")
        assert d.table(carts)["ann"] == ["tea", "milk"]
        d.advance(minutes=59)
        assert "ann" in d.table(carts)
        d.advance(minutes=1)
        assert "ann" not in d.table(carts)
        d.send(orders, "salt", key="ann")
        d.crash()
        assert d.values(out) == [["tea"], ["tea", "milk"], ["salt"]]
        d.advance(hours=2)
        assert d.cluster.records("carts-carts-changelog")[-1].value is None


def test_reading_keeps_an_entry_where_that_is_wanted() -> None:
    app = kstream.App("sessions")
    pings, out = app.topic("pings", key=str, value=bool), app.topic("out", key=str, value=bool)
    known = app.table("known", key=str, value=int, ttl=kstream.TTL(minutes=10, update="read_and_write"))

    @app.agent(pings, to=out)
    def look(first: bool, ctx: kstream.Context[str]) -> bool:
        if first:
            known[ctx.key] = 1
        return ctx.key in known

    with TestDriver(app) as d:
        d.send(pings, True, key="ann")
        for _ in range(5):
            d.advance(minutes=9)
            d.send(pings, False, key="ann")
        d.advance(minutes=10)
        d.send(pings, False, key="ann")
        assert d.values(out) == [True] * 6 + [False]


def test_a_change_that_has_expired_before_the_commit_is_not_emitted() -> None:
    app = kstream.App("short")
    source, other = app.topic("in", key=str, value=int), app.topic("other", key=str, value=int)
    out, seen = app.topic("out", key=str, value=int), app.topic("seen", key=str, value=int)
    counts = app.stream(source).group_by_key().count(name="n", emit="commit", ttl=kstream.TTL(seconds=1))
    counts.to(out)

    @app.agent(other, to=seen)
    def look(_: int, ctx: kstream.Context[str]) -> int:
        return counts.get(ctx.key, 0)

    with TestDriver(app, commit_interval=100.0, transaction_timeout=300.0) as d:
        d.send(source, 1, key="a")
        d.send(source, 1, key="b")
        d.clock.advance(2)
        d.send(other, 1, key="a")
        assert d.values(seen) == [0]
        assert [record.key for record in d.records(out)] == ["b"]


class Skipping:
    """Folds in event time that fail for some records, which are left out."""

    def __init__(self) -> None:
        self.app = kstream.App("skipping", on_error=[kstream.Skip()])
        self.source = self.app.topic("in", key=str, value=tuple[int, bool], timestamp=lambda value: 1000 + value[0])
        self.out = self.app.topic("out", key=str, value=int)
        ttl = kstream.TTL(seconds=0.002, time="event")
        self.app.stream(self.source).group_by_key().aggregate(int, self.fold, name="n", ttl=ttl).to(self.out)

    @staticmethod
    def fold(count: int, value: tuple[int, bool]) -> int:
        if value[1]:
            raise ValueError("planned")
        return count + 1

    def run(self, records: list[tuple[str, int, bool]], sizes: Any) -> list[tuple[Any, Any]]:
        with TestDriver(self.app, partitions=1) as d:
            d.cluster.batch_sizes = sizes
            for key, at, bad in records:
                value = self.source.value.codec.encode((at, bad))
                d.cluster.append("in", self.source.key.codec.encode(key), value)
            return [(record.key, record.value) for record in d.records(self.out)]


SKIPPING = Skipping()

LATER_PARTS = [
    *(("b", at, bad) for at, bad in ((0, True), (1, False), (1, False), (1, False), (3, False))),
    *(("a", at, bad) for at, bad in ((4, False), (5, True), (5, False))),
]
"""The record that fails comes in a later part of its batch than one of its key."""


@given(
    st.lists(st.tuples(st.sampled_from("aab"), st.integers(0, 9), st.sampled_from([False, False, True])), max_size=14),
    st.lists(st.integers(1, 6), max_size=8),
)
@example(
    LATER_PARTS,
    [8],
)
@example(
    LATER_PARTS,
    [1, 1, 1, 1, 4],
)
def test_records_that_are_left_out_move_time_on_however_the_input_is_cut(
    records: list[tuple[str, int, bool]], sizes: list[int]
) -> None:
    state: dict[str, tuple[int, int]] = {}
    now, expected = 0, []
    for key, at, bad in records:
        now = max(now, 1000 + at)
        count, written = state.get(key, (0, now))
        if written + 2 <= now:
            count = 0
        if not bad:
            state[key] = count + 1, now
            expected.append((key, count + 1))
    assert SKIPPING.run(records, iter(lambda: 1, 0)) == expected
    assert SKIPPING.run(records, itertools.chain(sizes)) == expected
