"""Tasks of one worker tell the time together: with several workers, those behind them hear of all of them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import kstream
from support.cases import examples
from unit.runtime.harness import Fleet

ROW = st.tuples(st.sampled_from(["orders", "prices"]), st.sampled_from("abcd"))


def app_of() -> kstream.App:
    app = kstream.App("behind")
    topics = [app.topic(name, key=str, value=str) for name in ("orders", "prices", "out")]
    orders, prices, out = topics
    table: Any = app.stream(prices).rekey(lambda value, ctx: ctx.key, key=str).to_table("prices")
    app.stream(orders).join(table, lambda order, price: f"{order}@{price}", how="left", name="j").to(out)
    return app


@examples(8)
@given(
    rows=st.lists(ROW, min_size=1, max_size=40), poll=st.sampled_from([1, 3, 500]), idle=st.booleans(),
    crashes=st.lists(st.tuples(st.integers(1, 60), st.sampled_from("ab")), max_size=3),
)  # fmt: skip
def test_a_backlog_of_two_workers_is_joined_in_the_order_of_its_times(
    rows: list[tuple[str, str]], poll: int, idle: bool, crashes: list[tuple[int, str]]
) -> None:
    """They were idle, and said so, before they were away; and one of them dies now and then."""
    wanted, prices = defaultdict[str, list[str]](list), dict[str, str]()
    with TemporaryDirectory() as directory:
        fleet = Fleet(app_of(), Path(directory), partitions=4, poll_batch=poll)
        for name in "ab" if idle else "":
            fleet.start(name)
        if idle:
            fleet.step(times=20, seconds=0.3)
            for name in "ab":
                fleet.crash(name)
        for number, (topic, key) in enumerate(rows):
            value = f"{topic[0]}{number}"
            fleet.cluster.append(topic, key.encode(), value.encode(), 1000 + 20 * number, None, None)
            if topic == "prices":
                prices[key] = value
            else:
                wanted[key].append(f"{value}@{prices.get(key)}")
        for name in "ab":
            fleet.start(name)
        for turn in range(600):
            fleet.step(seconds=0.3)
            if turn > 60 and len(fleet.cluster.records("out")) >= sum(map(len, wanted.values())):
                break
            for name in [name for when, name in crashes if when == turn]:
                fleet.crash(name)
                fleet.start(name)
        found = defaultdict[str, list[str]](list)
        for record in fleet.cluster.records("out"):
            found[(record.key or b"").decode()].append((record.value or b"").decode())
        assert found == wanted
        fleet.close()
