"""On quiet topics time goes on with the clock, where a topic says so: windows close without a record."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Tumbling, Windowed
from kstream.errors import TopologyError
from kstream.operators.marks import HEADER
from kstream.state.windows import WindowStore
from kstream.testing import TestDriver

S = timedelta(seconds=1)
START = 1_000_000
"""ms: a time at which a window begins."""
RARELY: dict[str, Any] = {"commit_interval": 600.0, "transaction_timeout": 2000.0}
"""Only the driver commits."""


def app_of(
    *, advance: bool = True, out_of_order: int = 0, moved: bool = False, emit: Any = "close", partitions: int = 1
) -> tuple[kstream.App, Any, Any, Any]:
    app = kstream.App("quiet")
    source = app.topic(
        "in", key=str, value=int, out_of_order=out_of_order * S, idle_advance=advance, partitions=partitions
    )
    out, late = app.topic("out", key=Windowed[str], value=int), app.topic("late", key=str, value=int)
    stream: Any = app.stream(source)
    group = stream.group_by(lambda n, ctx: ctx.key, key=str, name="by") if moved else stream.group_by_key()
    group.window(Tumbling(10 * S), grace=0 * S, late=late).count(name="n", emit=emit).to(out)
    return app, source, out, late


def sent(driver: TestDriver, source: Any, seconds: float, key: str = "a", partition: int = 0) -> None:
    driver.send(source, 1, key=key, timestamp=START + round(seconds * 1000), partition=partition)
    driver.commit()


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_a_window_closes_without_a_record(moved: bool, backend: str) -> None:
    app, source, out, _ = app_of(moved=moved)
    with TestDriver(app, partitions=2, backend=backend) as driver:
        sent(driver, source, 3)
        driver.advance(4)  # not idle yet
        driver.advance(2)  # idle, and time is 9 s
        assert driver.values(out) == []
        driver.advance(1.5)
        driver.advance(5 if moved else 0)  # time is carried as often as a task says that it is idle
        [record] = driver.records(out)
        assert (record.key, record.value, record.timestamp) == (Windowed("a", START), 1, START + 9_999)


def test_without_it_time_stands() -> None:
    app, source, out, _ = app_of(advance=False)
    with TestDriver(app) as driver:
        sent(driver, source, 3)
        driver.advance(hours=5)
        assert driver.values(out) == []


def test_time_goes_on_from_the_last_record_less_what_may_be_out_of_order() -> None:
    app, source, out, _ = app_of(out_of_order=4)
    with TestDriver(app) as driver:
        sent(driver, source, 6)
        driver.advance(7)  # time is 2 + 7 s
        assert driver.values(out) == []
        driver.advance(1)
        assert driver.values(out) == [1]


def commits(driver: TestDriver) -> int:
    return driver.worker.commits


def test_nothing_is_committed_where_nothing_waits() -> None:
    app, source, out, _ = app_of()
    with TestDriver(app) as driver:
        sent(driver, source, 3)
        driver.advance(5.5)
        before = commits(driver)
        for _ in range(20):
            driver.advance(1)
        assert driver.values(out) == [1]
        assert commits(driver) == before + 1


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("seconds", [12, 30, 59])
def test_restarts_that_are_more_frequent_than_the_wait(seconds: int, moved: bool) -> None:
    """Each costs what was not committed of the time since the one before: a quarter of it at most."""
    app = kstream.App("quiet")
    source, out = app.topic("in", key=str, value=int, idle_advance=True), app.topic("out", key=Windowed[str], value=int)
    stream: Any = app.stream(source)
    group = stream.group_by(lambda n, ctx: ctx.key, key=str, name="by") if moved else stream.group_by_key()
    group.window(Tumbling(60 * S), grace=0 * S).count(name="n", emit="close").to(out)
    start = START // 60_000 * 60_000
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=start)
        driver.commit()
        passed = 0
        while not driver.values(out):
            for _ in range(seconds):
                driver.advance(1)
            passed += seconds
            driver.crash()
            assert passed < 60 * 2 + 60
        assert [(one.key, one.value) for one in driver.records(out)] == [(Windowed("a", start), 1)]
        assert passed >= 60


def test_a_long_wait_takes_few_commits() -> None:
    app = kstream.App("quiet")
    source, out = app.topic("in", key=str, value=int, idle_advance=True), app.topic("out", key=Windowed[str], value=int)
    app.stream(source).group_by_key().window(Tumbling(days=1), grace=0 * S).count(name="n", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=0 + 1)
        driver.commit()
        before = commits(driver)
        for _ in range(2881):
            driver.advance(30)
        assert driver.values(out) == [1]
        assert 10 < commits(driver) - before < 60


def test_what_comes_later_is_late_and_that_is_so_after_a_crash() -> None:
    app, source, out, late = app_of()
    with TestDriver(app) as driver:
        sent(driver, source, 3)
        driver.advance(10)
        driver.crash()
        sent(driver, source, 4)
        sent(driver, source, 12)
        driver.advance(20)
        assert [(one.key.start - START, one.value) for one in driver.records(out)] == [(0, 1), (10_000, 1)]
        assert [one.timestamp - START for one in driver.records(late)] == [4_000]


def test_a_record_before_something_closes_is_in_time_however_long_it_was_quiet() -> None:
    app, source, out, late = app_of()
    with TestDriver(app) as driver:
        sent(driver, source, 3)
        driver.advance(6)
        sent(driver, source, 4)
        driver.advance(5.5)  # from 4 s on: 9.5 s
        assert driver.values(out) == []
        driver.advance(1)
        assert driver.values(out) == [2] and driver.values(late) == []


@pytest.mark.parametrize("emit", ["close", "commit", "update"])
def test_a_crash_before_the_commit_takes_the_decision_back(emit: str) -> None:
    app, source, out, late = app_of(emit=emit)
    with TestDriver(app, **RARELY) as driver:
        sent(driver, source, 3)
        driver.clock.advance(8)
        driver.process()
        [mark] = [task.plan.watermark for task in driver.worker.tasks.values() if task.partition == 0]
        assert mark is not None and mark.now >= START + 10_000
        driver.crash()
        [mark] = [task.plan.watermark for task in driver.worker.tasks.values() if task.partition == 0]
        assert mark is not None and mark.now == START + 3_000
        sent(driver, source, 4)
        driver.advance(20)
        assert driver.values(out) == ([1, 2] if emit != "close" else [2])
        assert driver.values(late) == []


def test_of_several_inputs_all_are_to_be_quiet() -> None:
    app, source, out, _ = app_of()
    other = app.topic("other", key=str, value=int)
    app.stream(source).merge(app.stream(other)).to(app.topic("both", key=str, value=int))
    with TestDriver(app, partitions=1) as driver:
        sent(driver, source, 3)
        for _ in range(4):
            driver.advance(4)
            driver.send(other, 1, key="a", timestamp=START)
        assert driver.values(out) == []
        driver.advance(6)
        assert driver.values(out) == [1]


def test_a_quiet_partition_holds_the_others_back_no_more_than_before() -> None:
    """What it says behind a repartition is that it is idle, and what time it is there meanwhile."""
    app, source, out, late = app_of(moved=True, partitions=2)
    with TestDriver(app, partitions=2) as driver:
        sent(driver, source, 3, "a", 0)
        for second in range(4, 40):
            driver.advance(1)
            sent(driver, source, second, "b", 1)
        assert {(one.key.key, one.key.start - START) for one in driver.records(out)} >= {("a", 0), ("b", 0)}
        assert driver.values(late) == []
        for _ in range(10):
            driver.advance(2)
        assert sum(driver.values(out)) == 37
        last = [record.headers for record in driver.cluster.records("quiet-by-repartition") if record.key is None][-1]
        assert last[0][0] == HEADER and b'"time":-1,"meanwhile":' in last[0][1]


def test_windows_of_windows_wait_for_what_a_quiet_partition_has_open() -> None:
    app = kstream.App("quiet")
    source = app.topic("in", key=str, value=int, partitions=2, idle_advance=True)
    out, late = app.topic("out", key=Windowed[str], value=int), app.topic("late", key=str, value=int)
    first = app.stream(source).group_by_key().window(Tumbling(10 * S), grace=0 * S)
    sums = first.sum(lambda n: n, name="first", value=int, emit="close").stream()
    total = sums.group_by(lambda n: "all", name="all", key=str, parallelism=1)
    total.window(Tumbling(20 * S), grace=0 * S, late=late).sum(lambda n: n, name="second", value=int).to(out)
    with TestDriver(app) as driver:
        sent(driver, source, 3, "a", 0)
        driver.advance(5)
        for second in (3, 13, 25):
            sent(driver, source, second, "b", 1)
        driver.advance(6)
        driver.advance(6)
        driver.advance(6)
        sums_of_first = [one.value for one in driver.records(out) if one.key.start == START]
        assert driver.values(late) == [] and sums_of_first[-1] == 3


class Reminding(kstream.Processor[str, int, str]):
    def process(self, value: int, ctx: kstream.ProcessorContext[str, str]) -> None:
        ctx.timer(at=START + 10_000, name="end")

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[str, str]) -> None:
        ctx.emit(timer.name)


def test_timers_of_event_time_fire_too() -> None:
    app = kstream.App("quiet")
    source, out = app.topic("in", key=str, value=int, idle_advance=True), app.topic("out", key=str, value=str)
    app.stream(source).process(Reminding, name="remind").to(out)
    with TestDriver(app, partitions=1) as driver:
        sent(driver, source, 3)
        driver.advance(6)
        assert driver.values(out) == []
        before = commits(driver)
        driver.advance(2)
        assert driver.values(out) == ["end"]
        for _ in range(10):
            driver.advance(2)
        assert commits(driver) == before + 1


actions = st.one_of(
    st.tuples(st.just("send"), st.sampled_from("ab"), st.integers(-12, 2)),
    st.tuples(st.just("send"), st.sampled_from("ab"), st.just(0)),
    st.tuples(st.just("advance"), st.integers(1, 12)),
    st.tuples(st.sampled_from(["crash", "commit", "process"])),
)


@given(st.lists(actions, max_size=30), st.booleans(), st.sampled_from(["close", "update"]), st.booleans())
def test_nothing_is_lost_and_nothing_doubled(script: list[Any], moved: bool, emit: str, rarely: bool) -> None:
    """Each record is in the one result of its window, or told of as late, however quiet it was and wherever it
    crashed."""
    app, source, out, late = app_of(moved=moved, emit=emit)
    given_: Counter[tuple[str, int]] = Counter()
    with TestDriver(app, partitions=1, **(RARELY if rarely else {})) as driver:
        for action, *how in script:
            if action == "send":
                at = START + round(driver.clock.monotonic() + how[1]) * 1000
                driver.send(source, 1, key=how[0], timestamp=at)
                given_[how[0], at // 10_000 * 10_000] += 1
            elif action == "advance":
                driver.clock.advance(how[0])
                driver.process()
            elif action == "crash":
                driver.crash()
            elif action == "commit":
                driver.commit()
        for _ in range(8):
            driver.advance(6)
        found: Counter[tuple[str, int]] = Counter()
        for record in driver.records(out):
            place = record.key.key, record.key.start
            assert emit == "update" or place not in found
            found[place] = record.value
        found.update((record.key, record.timestamp // 10_000 * 10_000) for record in driver.records(late))
        assert found == given_
        for task in driver.worker.tasks.values():
            assert all(not list(store.scan()) for store in task.stores.values())


def test_it_is_yes_or_no() -> None:
    with pytest.raises(TopologyError, match="idle_advance=5 is neither True nor False"):
        kstream.App("quiet").topic("in", idle_advance=5)  # type: ignore[call-overload]


def good_results(bad: bool) -> list[Any]:
    """A record every ten minutes, of one of two inputs; the fifth is the one that may fail. Then one every 20 s."""

    def checked(value: str) -> str:
        if value == "bad":
            raise ValueError(value)
        return value

    app = kstream.App("quiet", on_error=[kstream.Skip()])
    a, b = (app.topic(name, key=str, value=str, idle_advance=True) for name in "ab")
    out = app.topic("out", key=Windowed[str], value=int)
    windows = app.stream(a).merge(app.stream(b)).map(checked).group_by_key().window(Tumbling(60 * S), grace=0 * S)
    windows.count(name="n", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        seconds = 0

        def waits(so_long: int) -> None:
            nonlocal seconds
            for _ in range(so_long // 20):
                driver.advance(20)
            seconds += so_long

        def sends(value: str, key: str) -> None:
            driver.send(a, value, key=key, timestamp=START + seconds * 1000)

        sends("bad" if bad else "x", "other")
        driver.send(b, "x", key="b", timestamp=START)
        for index in range(6):
            waits(600)
            sends("bad" if bad and index == 4 else "x", "other")
        waits(40)
        for _ in range(10):
            waits(20)
            sends("v", "good")
        waits(4000)
        return [(record.key, record.value) for record in driver.records(out) if record.key.key == "good"]


def test_after_a_record_that_fails_idle_time_counts_once() -> None:
    assert sum(count for _, count in good_results(bad=False)) == 10
    assert good_results(bad=True) == good_results(bad=False)


def test_stores_are_not_asked_at_each_look_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    app, source, out, _ = app_of()
    asked = 0
    first = WindowStore.first

    def counting(store: WindowStore[Any]) -> bytes | None:
        nonlocal asked
        asked += 1
        return first(store)

    with TestDriver(app, partitions=1) as driver:
        sent(driver, source, 0.5)
        driver.advance(6)
        monkeypatch.setattr(WindowStore, "first", counting)
        for _ in range(6):
            driver.advance(0.5)
        assert driver.values(out) == []
        near, asked = asked, 0
        driver.advance(2)
        assert driver.values(out) == [1]
        asked = 0
        for _ in range(60):  # nothing is left
            driver.advance(0.5)
        assert asked < 8 and near < 16
