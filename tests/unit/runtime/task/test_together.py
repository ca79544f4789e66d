"""Records of two topics that alternate go by input, and nobody sees it but by the time that it takes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
import kstream.plan
from kstream.operators.source import Source
from kstream.testing import TestDriver

START = 1_700_000_000_000


def make(on_error: list[Any]) -> tuple[kstream.App, kstream.Topic[str, int], kstream.Topic[str, int], Any]:
    app = kstream.App("alternating", on_error=on_error)
    left, right = (app.topic(name, key=str, value=int, partitions=1) for name in ("left", "right"))
    out = app.topic("out", key=str, value=float, partitions=1)
    halves = app.stream(left).map(lambda n: 1 / n, value=float)
    halves.merge(app.stream(right).filter(lambda n: n != 2).map(lambda n: 2 / n, value=float)).to(out)
    return app, left, right, out


Sent = list[tuple[bool, int, int]]
"""Whether to the left, how many ms after the one before, and the value, of which 0 fails."""


def run(sent: Sent, sizes: list[int], on_error: list[Any], *, crash: bool = False) -> list[tuple[int, float | None]]:
    app, left, right, out = make(on_error)
    with TestDriver(app) as driver:
        choose = iter(sizes * 100)
        driver.cluster.batch_sizes = choose
        at = START
        for number, (to_left, later, value) in enumerate(sent):
            at += later
            topic = left if to_left else right
            driver.cluster.append(topic.name, b"%d" % number, b"%d" % value, timestamp=at)
        driver.process()  # all lies there: what comes later is read in the order that it is fetched in
        if crash:
            driver.crash()
        return [(record.timestamp, record.value) for record in driver.records(out)]


@given(
    sent=st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.integers(0, 3)), max_size=60),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    crash=st.booleans(),
)
def test_records_that_fail_are_left_out_and_the_others_keep_their_order(
    sent: Sent, sizes: list[int], crash: bool
) -> None:
    found = run(sent, sizes, [kstream.Skip()], crash=crash)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kstream.plan, "by_input", lambda part: False)
        assert found == run(sent, sizes, [kstream.Skip()], crash=crash)


def test_they_are_pushed_by_input(monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = list[int]()
    push = Source.push_fetch

    def counted(self: Source, fetch: Any) -> None:
        pushed.append(len(fetch))
        push(self, fetch)

    monkeypatch.setattr(Source, "push_fetch", counted)
    results = run([(number % 2 == 0, 1, 1) for number in range(2_000)], [1_000], [])
    assert [at for at, _ in results] == list(range(START + 1, START + 2_001))
    assert [value for _, value in results] == [1.0, 2.0] * 1_000
    assert sum(pushed) == 2_000
    assert len(pushed) < 100


def test_a_record_that_fails_without_a_policy_stops_the_task_there() -> None:
    app, left, right, _ = make([])
    with TestDriver(app) as driver:
        for number in range(20):
            topic = left if number % 2 else right
            driver.cluster.append(topic.name, b"k", b"0" if number == 13 else b"1", timestamp=START + number)
        with pytest.raises(kstream.errors.KStreamError, match=r"left\[0\] offset 6: ZeroDivisionError"):
            driver.process()


def test_a_peek_sees_them_in_their_order() -> None:
    app = kstream.App("peeking")
    left, right = (app.topic(name, key=str, value=int, partitions=1) for name in ("left", "right"))
    seen = list[int]()
    app.stream(left).merge(app.stream(right)).peek(seen.append).to(app.topic("out", key=str, value=int))
    with TestDriver(app) as driver:
        for number in range(20):
            topic = left if number % 2 else right
            driver.cluster.append(topic.name, b"k", b"%d" % number, timestamp=START + number)
        driver.process()
    assert seen == list(range(20))


def test_an_idle_input_that_wakes_holds_time_back_again() -> None:
    """What comes of the other input behind it does not move time on before it."""
    app = kstream.App("waking")
    left, right = (app.topic(name, key=str, value=int, partitions=1) for name in ("left", "right"))
    out = app.topic("out", key=kstream.Windowed[str], value=int, partitions=1)
    both = app.stream(left).merge(app.stream(right)).group_by(lambda n: "k", key=str, name="by")
    both.window(kstream.Tumbling(timedelta(milliseconds=5)), grace=timedelta(0)).count(name="n", emit="close").to(out)
    with TestDriver(app) as driver:

        def come(topic: kstream.Topic[str, int], *after: int) -> None:
            for later in after:
                driver.cluster.append(topic.name, b"k", b"1", timestamp=START + later)

        come(left, 0)
        come(right, 0)
        driver.process()
        driver.advance(60)
        driver.process()
        come(left, *range(1, 21))
        come(right, 6)
        driver.process()
        assert [record.value for record in driver.records(out)] == [6]
        come(right, 7)  # not late
        come(left, 100)
        come(right, 100)
        driver.process()
        assert [record.value for record in driver.records(out)] == [6, 7, 5, 5, 1]
