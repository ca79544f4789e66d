"""Results that no record is behind and that a sink outside Kafka refuses: the policies decide about each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import KStreamError
from kstream.testing import TestDriver
from kstream.types import TopicPartition
from unit.runtime.worker.test_results import (
    ALL,
    BAD,
    GOOD,
    LATER,
    NOW,
    POLICIES,
    SECOND,
    TELLERS,
    commits,
    windows,
)


class Refuses(kstream.BatchingSink):
    """Takes no batch with one of these values."""

    def __init__(self, bad: Sequence[int] = BAD, size: int = 1000) -> None:
        super().__init__(size, 5.0)
        self.bad, self.batches = list(bad), list[list[Any]]()

    def write(self, batch: Any) -> None:
        if refused := [one.value for one in batch if one.value in self.bad]:
            raise OSError(refused)
        self.batches.append([one.value for one in batch])

    @property
    def values(self) -> list[int]:
        return [value for batch in self.batches for value in batch]


class RefusesAsync(Refuses):
    async def write(self, batch: Any) -> None:  # type: ignore[override]
        super().write(batch)


def letters_of(driver: TestDriver) -> list[int]:
    if "failing-dead-letters" not in driver.cluster.topics():
        return []
    return [int(one.value or b"") for one in driver.cluster.records("failing-dead-letters")]


def feed(driver: TestDriver, values: Sequence[int]) -> None:
    for n in values:
        driver.cluster.append("in", b"k%d" % n, b"%d" % n, NOW + n)


def move(driver: TestDriver) -> None:
    for topic in {"in", "other"} & set(driver.cluster.topics()):
        driver.cluster.append(topic, b"later", b"%d" % LATER, NOW + 3_600_000)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("teller", ["windows", "commits", "sessions", "lone records of a join", "timers"])
def test_the_policies_decide_about_the_one_that_is_refused(teller: str, policy: str) -> None:
    app = kstream.App("failing", on_error=POLICIES[policy])
    source, sink = app.topic("in", key=str, value=int), Refuses()
    declare, what = TELLERS[teller]
    declare(app, source).sink(sink)
    driver = TestDriver(app, partitions=1, idle_timeout=1e9)
    try:
        feed(driver, ALL)
        move(driver)
        if policy in ("none", "fail"):
            with pytest.raises(KStreamError, match=f"processing {what} failed: OSError"):
                driver.commit()
            driver.close(commit=False)
            return
        driver.commit()
        for _ in range(4 if policy == "retry" else 0):
            driver.advance(5.0)
            driver.commit()
        assert set(sink.values) - {LATER} == set(GOOD)
        assert driver.cluster.group("failing").offsets[TopicPartition("in", 0)][0] == len(ALL) + 1
        if policy == "skip":
            assert driver.worker.measures.skipped.total() == len(BAD)
            return
        assert sorted(letters_of(driver)) == list(BAD)
        for letter in driver.cluster.records("failing-dead-letters"):
            headers = dict(letter.headers or ())
            assert headers["kstream.result"] == what.encode() and headers["kstream.phase"] == b"process"
            assert headers["__streams.errors.exception"] == b"builtins.OSError"
            assert headers["kstream.attempts"] == (b"2" if policy == "retry" else b"1")
    finally:
        driver.close(commit=False)


def test_what_is_down_for_a_while_is_tried_again() -> None:
    """`open` too. No other result is given up for it."""
    app = kstream.App("failing", on_error=[kstream.Retry(3, base=5.0, multiplier=1.0, jitter=0.0)])
    source, sink = app.topic("in", key=str, value=int), Refuses()
    times = iter([1, 1, 1])

    def down() -> None:
        if next(times, 0):
            raise ConnectionError("down")

    sink.open = down  # type: ignore[method-assign]
    windows(app, source).sink(sink)
    sink.bad = []
    with TestDriver(app, partitions=1, idle_timeout=1e9) as driver:
        feed(driver, ALL)
        move(driver)
        driver.commit()
        assert sink.values == []
        for _ in range(3):
            driver.advance(5.0)
        driver.commit()
        assert sink.values == list(ALL)


@pytest.mark.parametrize("policy", [kstream.Skip(), kstream.DeadLetter()], ids=["skip", "dead letter"])
@given(
    values=st.lists(st.integers(0, 9), max_size=12, unique=True),
    bad=st.sets(st.integers(0, 9)),
    size=st.integers(1, 5),
    cuts=st.lists(st.integers(0, 4), max_size=6),
    crashes=st.integers(0, 2),
    waits=st.booleans(),
    others=st.sampled_from(["none", "commits", "records"]),
)
def test_the_others_are_all_written_and_each_that_is_refused_is_one_letter(
    policy: Any,
    values: list[int],
    bad: set[int],
    size: int,
    cuts: list[int],
    crashes: int,
    waits: bool,
    others: str,
) -> None:
    """However batches are cut, and with results of another step, or records, in the same sink. A record that is refused
    itself is in no window."""
    app = kstream.App("failing", on_error=[policy])
    source = app.topic("in", key=str, value=int)
    sink = (RefusesAsync if waits else Refuses)(sorted(bad), size)
    results = windows(app, source).rekey(str, key=str)
    if others == "commits":
        counted = app.stream(source).group_by_key().aggregate(int, lambda _, n: n, name="c", emit="commit").stream()
        results = results.merge(counted)
    elif others == "records":
        results = app.stream(source).merge(results)
    results.sink(sink)
    driver = TestDriver(app, partitions=1, idle_timeout=1e9)
    try:
        driver.cluster.batch_sizes = iter(cuts)
        feed(driver, values)
        if crashes:
            driver.commit()
        for _ in range(crashes):
            driver.crash()
        move(driver)
        driver.commit()
        assert set(sink.values) - {LATER} == set(values) - bad
        if isinstance(policy, kstream.DeadLetter):
            refused = sorted(bad.intersection(values))
            assert sorted(letters_of(driver)) == sorted(refused * 2 if others == "commits" else refused)
    finally:
        driver.close(commit=False)


def test_many_that_are_refused_cost_some_writes_each() -> None:
    """Not one write for each result, again and again."""
    app = kstream.App("failing", on_error=[kstream.Skip()])
    source, sink = app.topic("in", key=str, value=int), Refuses(range(0, 1000, 100), size=500)
    windows(app, source).sink(sink)
    with TestDriver(app, partitions=1, idle_timeout=1e9) as driver:
        feed(driver, range(1000))
        move(driver)
        driver.commit()
        assert set(sink.values) == {n for n in range(1000) if n % 100}
        assert driver.worker.aborts == 10 and len(sink.batches) < 10 * 15


def test_where_fewer_at_a_time_pass_nothing_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    app = kstream.App("failing")
    source, sink = app.topic("in", key=str, value=int), Refuses([])
    windows(app, source).sink(sink)
    write, times = sink.write, iter([1])

    def once(batch: Any) -> None:
        if next(times, 0):
            raise OSError("too many")
        write(batch)

    sink.write = once  # type: ignore[method-assign]
    with TestDriver(app, partitions=1, idle_timeout=1e9) as driver:
        feed(driver, ALL)
        move(driver)
        driver.commit()
        assert sink.batches == [[0], [1, 2], [3, 4, 5]] and driver.worker.aborts == 0
        assert "took the same records in smaller batches: OSError: too many" in caplog.text


def test_the_outputs_of_a_record_are_not_parted_where_a_result_among_them_is_refused() -> None:
    """A sink that keeps offsets would drop those behind the first."""
    app = kstream.App("failing", on_error=[kstream.Skip()])
    source, sink = app.topic("in", key=str, value=int), Refuses()
    written: list[list[int]] = []
    write = sink.write

    def seen(batch: Any) -> None:
        write(batch)
        written.append([one.offset for one in batch if one.offset is not None])

    sink.write = seen  # type: ignore[method-assign]
    thrice = app.stream(source).flat_map(lambda n: [n + 100] * 3)
    thrice.merge(windows(app, source).rekey(str, key=str)).sink(sink)
    with TestDriver(app, partitions=1, idle_timeout=1e9) as driver:
        feed(driver, ALL)
        move(driver)
        driver.commit()
        assert {n for n in sink.values if n < 100} == set(GOOD)
        assert all(offsets.count(offset) == 3 for offsets in written for offset in offsets)
        assert {offset for offsets in written for offset in offsets} == set(range(len(ALL) + 1))


def test_of_what_commits_tell_into_a_sink() -> None:
    app = kstream.App("failing", on_error=[kstream.DeadLetter()])
    source, sink = app.topic("in", key=str, value=int), Refuses()
    commits(app, source).sink(sink)
    with TestDriver(app, partitions=1) as driver:
        for n in ALL:
            driver.send(source, n, key=f"k{n % 2}", timestamp=NOW + n)
            driver.commit()
        assert sink.values == GOOD and letters_of(driver) == list(BAD)


# ---- what a timer emits, that can be written and not read


class Small(msgspec.Struct):
    n: Annotated[int, msgspec.Meta(le=10)]


class Emits(kstream.Processor[str, int, Small]):
    def process(self, value: int, ctx: kstream.ProcessorContext[str, Small]) -> None:
        ctx.timer(after=SECOND, name=str(value))

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[str, Small]) -> None:
        ctx.emit(Small(int(timer.name)))


def fire(driver: TestDriver, source: Any, values: list[int]) -> None:
    """Each fires the timer of the one before."""
    for number, n in enumerate(values):
        driver.send(source, n, key="k", timestamp=NOW + 5000 * number)
        driver.commit()


@pytest.mark.parametrize("policy", ["none", "skip", "dead letter", "retry"])
def test_a_value_that_a_timer_emits_and_that_cannot_be_read_back(policy: str) -> None:
    """Seen of the first of a class, where it is emitted, and then of a sample: the first of each batch."""
    app = kstream.App("failing", on_error=POLICIES[policy])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=Small)
    app.stream(source).process(Emits, name="t").to(out)
    driver = TestDriver(app, partitions=1, idle_timeout=1e9, check_values="sample")
    try:
        if policy == "none":
            with pytest.raises(KStreamError, match=r"of a timer of processor 't' failed: .*ctx\.emit.*`int` <= 10"):
                fire(driver, source, [1, 20, 2])
            return
        fire(driver, source, [1, 20, 2, 30])
        for _ in range(4):
            driver.advance(5.0)
            driver.commit()
        driver.send(source, 3, key="k", timestamp=NOW + 60_000)
        driver.commit()
        for _ in range(4):
            driver.advance(5.0)
            driver.commit()
        assert [one.value.n for one in driver.records(out)] == [1, 2]
        if policy != "skip":
            letters = driver.cluster.records("failing-dead-letters")
            assert [one.value for one in letters] == [b'{"n":20}', b'{"n":30}']
            assert {dict(one.headers)["kstream.phase"] for one in letters} == {b"encode"}
    finally:
        driver.close(commit=False)
