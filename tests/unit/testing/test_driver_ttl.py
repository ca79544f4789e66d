"""State that expires, with the driver's clock and with the times of records."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kstream
from kstream.errors import KStreamError
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


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_entries_of_a_value_expire_each_by_itself(backend: str) -> None:
    app = kstream.App("carts")
    orders, out = app.topic("orders", key=str, value=str), app.topic("out", key=str, value=list[str])
    ttl = kstream.TTL(hours=1, per="entry")
    carts = app.table("carts", key=str, value=dict[str, int], default=dict, ttl=ttl)
    last = app.table("last", key=str, value=list[str], default=list, ttl=ttl)

    @app.agent(orders, to=out)
    def fill(item: str, ctx: kstream.Context[str]) -> list[str]:
        cart, items = carts[ctx.key], last[ctx.key]
        cart[item] = cart.get(item, 0) + 1
        items.append(item)
        carts[ctx.key], last[ctx.key] = cart, items
        return [f"{name} {count}" for name, count in cart.items()]

    with TestDriver(app, backend=backend) as d:
        d.send(orders, "tea", key="ann")
        d.advance(minutes=30)
        d.send(orders, "milk", key="ann")
        d.send(orders, "milk", key="ann")
        d.crash()
        d.advance(minutes=29)
        assert d.table(carts)["ann"] == {"tea": 1, "milk": 2}
        d.advance(minutes=1)
        assert d.table(carts)["ann"] == {"milk": 2} and d.table(last)["ann"] == ["milk", "milk"]
        d.send(orders, "tea", key="ann")
        d.advance(minutes=30)
        assert d.table(carts)["ann"] == {"tea": 1} and d.table(last)["ann"] == ["tea"]
        d.advance(hours=2)
        assert "ann" not in d.table(carts)
        assert all(d.cluster.records(f"carts-{name}-changelog")[-1].value is None for name in ("carts", "last"))
        assert d.values(out) == [["tea 1"], ["tea 1", "milk 1"], ["tea 1", "milk 2"], ["milk 2", "tea 1"]]


def test_a_change_of_a_value_that_is_not_assigned_is_found_where_entries_expire() -> None:
    app = kstream.App("carts")
    orders = app.topic("orders", key=str, value=str)
    carts = app.table("carts", key=str, value=dict[str, int], ttl=kstream.TTL(hours=1, per="entry"))

    @app.agent(orders)
    def fill(item: str, ctx: kstream.Context[str]) -> None:
        cart = carts.get(ctx.key, {})
        cart[item] = 1
        if item != "tea":
            carts[ctx.key] = cart

    with TestDriver(app) as d:
        d.send(orders, "milk", key="ann")
        d.send(orders, "tea", key="ann")
        with pytest.raises(KStreamError, match="was changed in place and not assigned"):
            d.commit()


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


# ---- event times that cannot be

HOUR = 3_600_000
START = 1_700_000_000_000
"""Where the driver's clock starts."""


class Timed:
    """Counts in event time, which is the value or that of the record."""

    def __init__(
        self, by_value: bool = True, *, time: Any = "event", policies: tuple[Any, ...] = (kstream.Skip(),)
    ) -> None:
        self.app = kstream.App("timed", on_error=list(policies))
        timestamp = (lambda value: value) if by_value else None
        config = {"message.timestamp.after.max.ms": str(2**63 - 1)}  # as it is in brokers before 3.6
        self.source = self.app.topic("in", key=str, value=int, timestamp=timestamp, config=config)
        self.out = self.app.topic("out", key=str, value=int)
        counts = self.app.stream(self.source).group_by_key().count(name="n", ttl=kstream.TTL(hours=1, time=time))
        counts.to(self.out)

    def run(self, times: list[int], *, batch: int, by_value: bool = True, **settings: Any) -> list[tuple[Any, Any]]:
        """Of keys "a", "b", ...: one for each of these times, in turns."""
        with TestDriver(self.app, partitions=1, **settings) as d:
            d.cluster.batch_sizes = iter(lambda: batch, 0)
            for place, at in enumerate(times):
                value = b"%d" % at if by_value else b"0"
                d.cluster.append("in", b"ab"[place % 2 : place % 2 + 1], value, timestamp=None if by_value else at)
            return [(record.key, record.value) for record in d.records(self.out)]


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("by_value", [True, False], ids=["value", "record"])
def test_an_event_time_far_ahead_of_the_clock_does_not_move_time(by_value: bool, batch: int) -> None:
    """Microseconds, say: all state would expire by it, and none that is written later."""
    times = [START, START, START + 1, (START + 1) * 1000, START + 2, START + 3]
    expected = [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2)]
    assert Timed(by_value).run(times, batch=batch, by_value=by_value) == expected


@pytest.mark.parametrize("at", [START + 24 * HOUR, START + 24 * HOUR + 1], ids=["at the bound", "beyond"])
def test_the_bound_of_event_times(at: int) -> None:
    assert len(Timed().run([START, at], batch=1)) == 1 + (at == START + 24 * HOUR)
    assert len(Timed().run([START, at], batch=1, max_event_time_ahead="2d")) == 2
    assert len(Timed(time="wall").run([START, at], batch=1)) == 2  # nothing expires by it


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("at", [-1, 2**63 - 1, 2**63, 2**64 + 5])
@pytest.mark.parametrize("time", ["event", "wall"])
def test_an_event_time_that_is_none_fails_at_its_record(at: int, time: Any, batch: int) -> None:
    times = [START, START, at, START + 1]
    found = Timed(time=time).run(times, batch=batch, max_event_time_ahead="36500d")
    assert found == [("a", 1), ("b", 1), ("b", 2)]


@pytest.mark.parametrize("at", [-1, START * 1000], ids=["none", "far ahead"])
def test_a_record_with_such_a_time_stops_its_task_by_name_in_the_phase_decode(at: int) -> None:
    what = f"timestamp= of topic 'in' is {at}" if at < 0 else f"its event time {at} .* max_event_time_ahead"
    with pytest.raises(kstream.KStreamError, match=rf"in\[0\] offset 2: CodecError: {what}"):
        Timed(policies=()).run([START, START, at, START], batch=8)
    decode = Timed(policies=(kstream.Skip(phase="decode"),))
    assert decode.run([START, START, at, START], batch=8) == [("a", 1), ("b", 1), ("b", 2)]


@pytest.mark.parametrize("how", ["returned", "in a record", "sent"])
def test_a_value_of_a_table_whose_entries_expire_is_sent_and_kept_elsewhere_as_a_plain_one(how: str) -> None:
    app = kstream.App("carts")
    orders, out = app.topic("orders", key=str, value=str), app.topic("out", key=str, value=list[str])
    carts = app.table("carts", key=str, value=list[str], default=list, ttl=kstream.TTL(hours=1, per="entry"))
    kept = app.table("kept", key=str, value=list[str])

    @app.agent(orders, to=None if how == "sent" else out)
    def fill(item: str, ctx: kstream.Context[str]) -> Any:
        cart = carts[ctx.key]
        cart.append(item)
        carts[ctx.key] = cart
        kept[ctx.key] = cart
        if how == "sent":
            ctx.send(out, cart, key=ctx.key)
            return None
        return cart if how == "returned" else kstream.Record(ctx.key, cart)

    with TestDriver(app) as d:
        d.send(orders, "tea", key="ann")
        d.advance(minutes=59)
        d.send(orders, "milk", key="ann")
        d.send(orders, "salt", key="bob")
        d.advance(minutes=2)
        assert d.table(carts)["ann"] == ["milk"]
        assert d.table(kept) == {"ann": ["tea", "milk"], "bob": ["salt"]}
        assert d.values(out) == [["tea"], ["tea", "milk"], ["salt"]]
        d.send(orders, "rice", key="ann")
        assert d.values(out)[-1] == ["milk", "rice"]
