"""Aggregations that have a name, against what their names say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from statistics import mean
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Counting, Session, Tumbling, Windowed, WindowedSpan
from kstream.errors import TopologyError
from kstream.testing import TestDriver


class Bid(msgspec.Struct):
    bidder: str
    price: int


Declare = Callable[[Any, Any], Any]

SUMMARIES: dict[str, tuple[Any, Declare, Callable[[list[Bid]], Any]]] = {
    "first": (Bid, lambda group, emit: group.first(name="t", emit=emit), lambda bids: bids[0]),
    "last": (Bid, lambda group, emit: group.last(name="t", emit=emit), lambda bids: bids[-1]),
    "collect": (list[Bid], lambda group, emit: group.collect(name="t", emit=emit), list),
    "top_n": (
        list[Bid],
        lambda group, emit: group.top_n(3, by=lambda bid: bid.price, name="t", emit=emit),
        lambda bids: sorted(bids, key=lambda bid: -bid.price)[:3],
    ),
    "least": (
        list[Bid],
        lambda group, emit: group.top_n(2, by=lambda bid: (bid.price, bid.bidder), least=True, name="t", emit=emit),
        lambda bids: sorted(bids, key=lambda bid: (bid.price, bid.bidder))[:2],
    ),
    "mean": (
        float,
        lambda group, emit: group.mean(lambda bid: bid.price, name="t", emit=emit),
        lambda bids: mean(bid.price for bid in bids),
    ),
    "count_distinct": (
        int,
        lambda group, emit: group.count_distinct(lambda bid: bid.bidder, of=str, name="t", emit=emit),
        lambda bids: len({bid.bidder for bid in bids}),
    ),
    "quantiles": (  # the least and the greatest are exact: the others are in test_quantiles.py
        list[float],
        lambda group, emit: group.quantiles(lambda bid: bid.price, [1, 0], name="t", emit=emit),
        lambda bids: [float(max(bid.price for bid in bids)), float(min(bid.price for bid in bids))],
    ),
}
if find_spec("datasketches"):
    SUMMARIES["about distinct"] = (
        int,
        lambda group, emit: group.count_distinct(lambda bid: bid.bidder, of=str, error=0.02, name="t", emit=emit),
        lambda bids: len({bid.bidder for bid in bids}),  # so few are counted exactly
    )

bids = st.builds(Bid, st.sampled_from(["ann", "bob", "\u00e9\U0001f600"]), st.integers(0, 5))
inputs = st.lists(st.tuples(st.sampled_from("ab"), bids, st.integers(0, 3)), max_size=25)


@given(inputs, st.sampled_from(["update", "commit"]), st.sampled_from(sorted(SUMMARIES)), st.integers(1, 9))
def test_of_each_key(given_: list[tuple[str, Bid, int]], emit: str, which: str, often: int) -> None:
    kind, declare, oracle = SUMMARIES[which]
    app = kstream.App("summaries")
    source, out = app.topic("in", key=str, value=Bid), app.topic("out", key=str, value=kind)
    table = declare(app.stream(source).group_by_key(), emit)
    table.to(out)
    seen: defaultdict[str, list[Bid]] = defaultdict(list)
    every = []
    with TestDriver(app, partitions=1) as driver:
        for number, (key, bid, _) in enumerate(given_):
            driver.send(source, bid, key=key)
            seen[key].append(bid)
            every.append((key, oracle(seen[key])))
            if number % often == 0:
                driver.crash()
            if number % often == often // 2:
                driver.commit()
        wanted = {key: oracle(values) for key, values in seen.items()}
        assert dict(driver.table(table)) == wanted
        found = [(record.key, record.value) for record in driver.records(out)]
        assert found == every if emit == "update" else dict(found) == wanted


@given(inputs, st.sampled_from(["update", "commit", "close"]), st.sampled_from(sorted(SUMMARIES)))
def test_of_each_window(given_: list[tuple[str, Bid, int]], emit: str, which: str) -> None:
    kind, declare, oracle = SUMMARIES[which]
    app = kstream.App("summaries")
    source, out = app.topic("in", key=str, value=Bid), app.topic("out", key=Windowed[str], value=kind)
    windows = app.stream(source).group_by_key().window(Tumbling(seconds=2), grace=timedelta(0))
    table = declare(windows, emit)
    table.to(out)
    seen: defaultdict[Windowed[str], list[Bid]] = defaultdict(list)
    at = 1_000_000
    with TestDriver(app, partitions=1) as driver:
        for key, bid, later in given_:
            at += later * 500
            driver.send(source, bid, key=key, timestamp=at)
            seen[Windowed(key, at // 2000 * 2000)].append(bid)
        wanted = {key: oracle(values) for key, values in seen.items()}
        if emit == "close":
            wanted = {key: value for key, value in wanted.items() if key.start + 2000 <= at}
        assert {record.key: record.value for record in driver.records(out)} == wanted


SESSIONS = {
    name: SUMMARIES[name] for name in ("mean", "count_distinct", "quantiles", "about distinct") if name in SUMMARIES
}


@given(inputs, st.sampled_from(["update", "commit", "close"]), st.sampled_from(sorted(SESSIONS)), st.integers(1, 9))
def test_of_each_session(given_: list[tuple[str, Bid, int]], emit: str, which: str, often: int) -> None:
    """Records come in any order, so sessions are merged."""
    kind, declare, oracle = SESSIONS[which]
    app = kstream.App("summaries")
    source, out = app.topic("in", key=str, value=Bid), app.topic("out", key=WindowedSpan[str], value=kind | None)
    sessions = app.stream(source).group_by_key().window(Session(seconds=1), grace=timedelta(hours=1))
    table = declare(sessions, emit)
    table.stream().map(lambda value: value, value=kind | None).to(out)
    seen: defaultdict[str, list[tuple[int, Bid]]] = defaultdict(list)
    with TestDriver(app, partitions=1) as driver:
        for number, (key, bid, place) in enumerate(given_):
            at = 1_000_000 + place * 400 + number * 700 % 9_000
            driver.send(source, bid, key=key, timestamp=at)
            seen[key].append((at, bid))
            if number % often == 0:
                driver.crash()
            if number % often == often // 2:
                driver.commit()
        wanted = {}
        for key, found in seen.items():
            found.sort(key=lambda one: one[0])
            runs = [[found[0]]]
            for one in found[1:]:
                if one[0] - runs[-1][-1][0] <= 1000:
                    runs[-1].append(one)
                else:
                    runs.append([one])
            for run in runs:
                wanted[WindowedSpan(key, run[0][0], run[-1][0])] = oracle([bid for _, bid in run])
        opened = {
            WindowedSpan(key, one.start, one.end): one.value
            for key, sessions in driver.table(table).items()
            for one in sessions
        }
        assert opened == wanted
        driver.send(source, Bid("zoe", 1), key="z", timestamp=9_000_000)
        told = {record.key: record.value for record in driver.records(out) if record.key.key != "z"}
        assert {key: value for key, value in told.items() if value is not None} == wanted


def test_streams_agents_and_filters_see_results() -> None:
    app = kstream.App("summaries")
    source, asked = app.topic("in", key=str, value=int), app.topic("asked", key=str, value=int)
    out, joined = app.topic("out", key=str, value=str), app.topic("joined", key=str, value=float)
    means = app.stream(source).group_by_key().mean(lambda n: n, name="means")
    high = means.filter(lambda value: value > 2)
    app.stream(asked).join(high, lambda n, value: n + value, value=float).to(joined)

    @app.agent(asked, to=out)
    def tell(_: int, ctx: kstream.Context[str]) -> str:
        return f"{means[ctx.key]} {means.get('none')} {list(means.items())} {list(means.values())} {ctx.key in means}"

    with TestDriver(app, partitions=1) as driver:
        for n in (1, 2):
            driver.send(source, n, key="a")
        driver.send(asked, 10, key="a")
        driver.send(source, 6, key="a")
        driver.send(asked, 10, key="a")
        assert driver.values(out)[0] == "1.5 None [('a', 1.5)] [1.5] True"
        assert driver.values(joined) == [13.0]


def test_what_is_kept_shares_nothing_with_what_came() -> None:
    app = kstream.App("summaries")
    source, out = app.topic("in", key=str, value=dict), app.topic("out", key=str, value=list[dict[str, int]])

    def change(value: dict[str, int]) -> None:
        value["n"] += 100

    stream = app.stream(source).map(lambda value: value, value=dict[str, int])
    stream.group_by_key().collect(name="all").to(out)
    stream.peek(change)
    with TestDriver(app, partitions=1) as driver:
        for n in (1, 2):
            driver.send(source, {"n": n}, key="a")
        assert driver.values(out) == [[{"n": 1}], [{"n": 1}, {"n": 2}]]


def test_distinct_results_are_those_of_sql() -> None:
    """None is none of them, and zero is one, whatever its sign."""
    app = kstream.App("summaries")
    source, out = app.topic("in", key=str, value=dict), app.topic("out", key=str, value=int)

    def price(row: dict[str, Any]) -> float | None:
        return row.get("price")

    app.stream(source).group_by_key().count_distinct(price, name="n", of=float).to(out)
    with TestDriver(app, partitions=1) as driver:
        for row in ({}, {"price": 0.0}, {"price": -0.0}, {}, {"price": 1.5}):
            driver.send(source, row, key="a")
        assert driver.values(out) == [0, 1, 1, 1, 2]


def test_of_undeclared_types() -> None:
    app = kstream.App("summaries")
    source = app.topic("in", key=str)
    group = app.stream(source).group_by_key()
    tables = [group.collect(name="a"), group.top_n(1, by=lambda v: v["n"], name="b"), group.first(name="c")]
    distinct = group.count_distinct(lambda v: v, name="d")
    with TestDriver(app, partitions=1) as driver:
        for value in ({"n": 1, "m": 2}, {"m": 2, "n": 1}, {"n": 2, "m": 2}):
            driver.send(source, value, key="a")
        assert [len(driver.table(table)["a"]) for table in tables[:2]] == [3, 1]
        assert driver.table(tables[2])["a"] == {"n": 1, "m": 2}
        assert driver.table(distinct)["a"] == 2


async def later(value: int) -> int:
    return value


class Hex:
    def encode(self, value: int) -> bytes:
        return b"%x" % value

    def decode(self, data: bytes) -> int:
        return int(data, 16)


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda group: group.top_n(0, by=len), "n=0 is no whole number"),
        (lambda group: group.top_n(True, by=len), "n=True is no whole number"),
        (lambda group: group.top_n(2, by=lambda a, b: a), "takes 2 arguments"),
        (lambda group: group.collect(), "collect: the values are kept as JSON, which Hex is not"),
        (lambda group: group.mean(5), "5 is not a function"),
        (lambda group: group.count_distinct(len, error=0.001), "error=0.001: give it the share .*, from 0.002 to 0.2"),
        (lambda group: group.count_distinct(len, error=True), "error=True: give it the share"),
        (lambda group: group.quantiles(len, [0.5], error=1), "error=1: give it the share"),
        (lambda group: group.quantiles(len, [50]), r"at=\[50\]: give it a list of numbers from 0 to 1"),
        (lambda group: group.quantiles(len, 0.5), "at=0.5: give it a list of numbers from 0 to 1"),
        (lambda group: group.quantiles(len, {0.5, 0.9}), "give it a list of numbers from 0 to 1"),
        (lambda group: group.quantiles(len, {0.5: 1}), "give it a list of numbers from 0 to 1"),
        (lambda group: group.window(Counting(2)).count_distinct(later), r"count_distinct\(later\) is given an async"),
        (lambda group: group.quantiles(len, []), "give it a list of numbers from 0 to 1"),
        (lambda group: group.first(emit="close"), "these results are of no windows"),
    ],
)
def test_what_cannot_be_is_refused(declare: Callable[[Any], object], said: str) -> None:
    app = kstream.App("summaries")
    with pytest.raises(TopologyError, match=said):
        declare(app.stream(app.topic("in", key=str, value=Hex())).group_by_key())
