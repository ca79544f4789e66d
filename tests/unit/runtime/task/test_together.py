"""Records of two topics that alternate go by input, and nobody sees it but by the time that it takes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
import kstream.plan
from kstream.errors import AbortRequired, KStreamError
from kstream.operators.source import Source
from kstream.runtime.task.mixed import Mixed
from kstream.testing import TestDriver
from kstream.types import TopicPartition
from support.cases import examples

START = 1_700_000_000_000


Sent = list[tuple[bool, int, int, bool]]
"""Whether to the left, how many ms after the one before, the value (0 fails at once, 3 behind where the inputs meet),
and whether it has a key: Kafka refuses to write one without."""

Letter = tuple[bytes | None, bytes | None, dict[str, bytes | None]]
POLICIES: dict[str, list[Any]] = {
    "skip": [kstream.Skip()],
    "dead letter": [kstream.DeadLetter()],
    "retry": [kstream.Retry(1, base=1.0, jitter=0.0), kstream.Skip()],
    "stop": [],
}
WHY = ("topic", "partition", "offset", "exception", "message")


class Outcome(NamedTuple):
    """`out` and `copies`: keys, values and timestamps as they were committed."""

    out: list[tuple[bytes | None, bytes | None, int]]
    copies: list[tuple[bytes | None, bytes | None, int]]
    letters: list[Letter]
    error: str


def doubled(n: float) -> float:
    if n in (1 / 3, 2 / 3):
        raise ValueError("three")
    return 2 * n


def make(on_error: list[Any]) -> kstream.App:
    app = kstream.App("alternating", on_error=on_error)
    left, right = (app.topic(name, key=str, value=int, partitions=1) for name in ("left", "right"))
    out = app.topic("out", key=str, value=float, partitions=1, config={"cleanup.policy": "compact"})
    halves = app.stream(left).map(lambda n: 1 / n, value=float)
    halves.to(app.topic("copies", key=str, value=float, partitions=1))
    halves.merge(app.stream(right).filter(lambda n: n != 2).map(lambda n: 2 / n, value=float)).map(doubled).to(out)
    return app


def run(sent: Sent, sizes: list[int], policies: str, *, crash: bool = False, abort: int | None = None) -> Outcome:
    error = ""
    with TestDriver(make(POLICIES[policies])) as driver:
        driver.cluster.batch_sizes = iter(sizes * 100)
        at = START
        for number, (to_left, later, value, keyed) in enumerate(sent):
            at += later
            key = b"%d" % number if keyed else None
            driver.cluster.append("left" if to_left else "right", key, b"%d" % value, timestamp=at)
        if abort is not None:
            driver.cluster.fail_next("commit", AbortRequired("no reason"), skip=abort)
        try:
            driver.process()  # all lies there: what comes later is read in the order that it is fetched in
            if crash:
                driver.crash()
            for _ in sent if policies == "retry" else ():
                driver.advance(60)
            for _ in range(2):  # a commit that fails takes back what was done
                driver.process()
                driver.commit()
        except KStreamError as raised:
            error = str(raised)

        def written(topic: str) -> list[tuple[bytes | None, bytes | None, int]]:
            return [(one.key, one.value, one.timestamp) for one in driver.cluster.records(topic)]

        topic = "alternating-dead-letters"
        letters = [
            (one.key, one.value, {why: dict(one.headers or ())[f"__streams.errors.{why}"] for why in WHY})
            for one in (driver.cluster.records(topic) if policies == "dead letter" else ())
        ]
        outcome = Outcome(written("out"), written("copies"), letters, error)
        if error:
            driver.close(commit=False)
    return outcome


def values_of(written: list[tuple[bytes | None, bytes | None, int]]) -> list[float]:
    return [float(value or b"") for _, value, _ in written]


records = st.tuples(st.booleans(), st.integers(-3, 3), st.integers(0, 3), st.sampled_from([True] * 9 + [False]))


@pytest.mark.parametrize("policies", POLICIES)
@examples(10)
@given(
    sent=st.lists(records, max_size=30),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    crash=st.booleans(),
    abort=st.none() | st.integers(0, 3),
)
def test_nobody_sees_that_they_go_together(
    policies: str, sent: Sent, sizes: list[int], crash: bool, abort: int | None
) -> None:
    found = run(sent, sizes, policies, crash=crash, abort=abort)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kstream.plan, "by_input", lambda part: False)
        assert found == run(sent, sizes, policies, crash=crash, abort=abort)
    if policies == "stop":
        return
    good = [(left, value) for left, _, value, keyed in sent if value in (1, 2) and keyed]
    expected = [2 * (1 if left else 2) / value for left, value in good if left or value != 2]
    assert sorted(values_of(found.out)) == sorted(expected)
    if policies == "dead letter":
        bad = [value for left, _, value, keyed in sent if value in (0, 3) or (not keyed and (left or value != 2))]
        assert sorted(int(value or b"") for _, value, _ in found.letters) == sorted(bad)


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many records each push had."""
    pushed = list[int]()
    push = Source.push_fetch

    def counted(self: Source, fetch: Any, places: Any = None) -> None:
        pushed.append(len(fetch))
        push(self, fetch, places)

    monkeypatch.setattr(Source, "push_fetch", counted)
    return pushed


def test_they_are_pushed_by_input(pushed: list[int]) -> None:
    found = run([(number % 2 == 0, 1, 1, True) for number in range(2_000)], [1_000], "stop")
    assert [at for *_, at in found.out] == list(range(START + 1, START + 2_001))
    assert values_of(found.out) == [2.0, 4.0] * 1_000
    assert sum(pushed) == 2_000
    assert len(pushed) < 100


@pytest.mark.parametrize("policies", ["skip", "dead letter"])
@pytest.mark.parametrize("value", [0, 3], ids=["at once", "behind where they meet"])
def test_so_they_are_where_some_fail(pushed: list[int], policies: str, value: int) -> None:
    sent = [(number % 2 == 0, 1, value if number % 100 == 50 else 1, True) for number in range(1_000)]
    found = run(sent, [1_000], policies)
    assert len(found.out) == 990
    assert sum(pushed) == 1_000 if value == 0 else sum(pushed) < 3_000  # those before one that failed come again
    assert len(pushed) < (20 if value == 0 else 200)


def test_a_record_that_fails_without_a_policy_stops_the_task_there(caplog: pytest.LogCaptureFixture) -> None:
    sent = [(number % 2 == 1, 1, 0 if number == 12 else 1, True) for number in range(20)]
    found = run(sent, [100], "stop")
    assert "right[0] offset 6: ZeroDivisionError" in found.error
    assert len(found.out) == 12
    assert "in a batch of right[0], offsets 0 to 9; looking for the record that failed" in caplog.text


def test_what_fails_on_its_way_out_may_be_of_each_of_them(caplog: pytest.LogCaptureFixture) -> None:
    """A time of 0 is "now" to Kafka's client. The line about the batch names both topics."""
    found = run([(False, -START, 1, True), *((number % 2 == 1, 1, 1, True) for number in range(20))], [100], "stop")
    assert "right[0] offset 0: CodecError" in found.error
    assert "in a batch of right[0], offsets 0 to 10 and left[0], offsets 0 to 9; looking for the record" in caplog.text


class Column:
    """A fetch, as far as it is cut."""

    def __init__(self, topic: str, offsets: list[int]) -> None:
        self.at, self._offsets = TopicPartition(topic, 0), offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def offsets(self) -> list[int]:
        return list(self._offsets)

    def cut(self, start: int, stop: int) -> Column:
        return Column(self.at.topic, self._offsets[start:stop])


@given(sizes=st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), min_size=1, max_size=6), data=st.data())
def test_a_mixed_batch_is_cut_in_the_order_of_its_records(sizes: list[tuple[str, int]], data: st.DataObject) -> None:
    pieces: list[Any] = []
    for topic, size in sizes:
        first = sum(map(len, pieces))
        pieces.append(Column(topic, list(range(first, first + size))))
    mixed = Mixed(pieces)
    start = data.draw(st.integers(0, len(mixed)))
    stop = data.draw(st.integers(start, len(mixed)))
    assert mixed.cut(start, stop).offsets() == list(range(start, stop))
    assert {part.fetch.at.topic for part in mixed.parts} == {topic for topic, _ in sizes}
    for part in mixed.parts:
        assert part.fetch.offsets() == part.places


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
