"""Windows that tell what they have while they are open, against their definition: cut, committed, crashed at random."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Counting, Cumulating, Hopping, LocalDays, Session, Sliding, Tumbling, Windowed, WindowedSpan
from kstream.errors import KStreamError, ProducerLost, TopologyError
from kstream.specs.windows import Windows
from kstream.testing import TestDriver
from support.cases import cases

MS = timedelta(milliseconds=1)
MINUTE = timedelta(minutes=1)
Told = tuple[Windowed[str], list[int], int]
"""A window, what it had, the time of the result."""


def by_definition(
    records: list[tuple[str, int, int]], windows: Windows, every: int, grace: int, behind: int
) -> list[Told]:
    open_: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    told: list[Told] = []
    time = before = 0
    for key, value, at in records:
        time = max(time, at - behind)
        for start, one in sorted(open_):
            if start + windows.size + grace <= time:
                told.append((Windowed(one, start), open_.pop((start, one)), start + windows.size - 1))
        passed = time // every * every
        if passed > before:
            before = passed
            for (start, one), values in sorted(open_.items()):
                if start < passed:
                    told.append((Windowed(one, start), list(values), min(passed, start + windows.size) - 1))
        for start in windows.starts(at) if value >= 0 else ():
            if start + windows.size + grace > time:
                open_[start, key].append(value)
    return told


def noted(values: list[int], value: int) -> list[int]:
    values.append(value)
    if value < 0:
        raise ValueError("bad")
    return values


@cases
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 60).map(lambda at: 1000 + at)),
        min_size=1, max_size=30,
    ),
    st.sampled_from([Tumbling(10 * MS), Tumbling(7 * MS, offset=3 * MS), Hopping(12 * MS, every=5 * MS)]),
    st.integers(1, 6), st.integers(0, 8), st.integers(0, 6),
    st.lists(st.sampled_from(["", "", "process", "commit", "crash", "abort"]), min_size=1, max_size=8),
    st.sampled_from(["memory", "memory", "rocksdb"]),
)  # fmt: skip
def test_open_windows_are_told_as_time_passes(
    given_: list[tuple[str, int, int]], windows: Any, every: int, grace: int, behind: int, between: list[str],
    backend: str,
) -> None:  # fmt: skip
    app = kstream.App("early")
    source = app.topic("in", key=str, value=int, out_of_order=behind * MS)
    out = app.topic("out", key=Windowed[str], value=list[int])
    group = app.stream(source).group_by_key().window(windows, grace=grace * MS, early=every * MS)
    group.collect(name="collected", emit="close").to(out)
    with TestDriver(app, partitions=1, backend=backend) as driver:
        for number, (key, value, at) in enumerate(given_):
            driver.cluster.append("in", key.encode(), str(value).encode(), at, None, 0)
            what = between[number % len(between)]
            if what == "abort":
                driver.process()
                driver.cluster.fail_next("commit", ProducerLost("planned"))
                driver.worker.commit_now()
            elif what:
                getattr(driver, what)()
        found = [(record.key, record.value, record.timestamp) for record in driver.records(out)]
        assert found == by_definition(given_, windows, every, grace, behind)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from([-1, -1, 1, 2, 3]), st.sampled_from([0, 1, 4, 9, 30, -5])),
        min_size=3, max_size=30,
    ),
    st.sampled_from([Tumbling(10 * MS), Hopping(12 * MS, every=5 * MS)]),
    st.integers(1, 6), st.integers(0, 8), st.integers(0, 3),
    st.sampled_from([kstream.Skip(), kstream.DeadLetter(), kstream.Retry(1, base=0.0, jitter=0.0)]),
    st.booleans(),
    st.lists(st.sampled_from(["", "", "", "process", "commit", "crash", "abort"]), min_size=1, max_size=8),
)  # fmt: skip
def test_records_that_a_policy_leaves_out_move_time_however_they_are_cut(
    steps: list[tuple[str, int, int]], windows: Any, every: int, grace: int, behind: int, policy: Any, mapped: bool,
    between: list[str],
) -> None:  # fmt: skip
    times = accumulate((step for _, _, step in steps), initial=1000)
    given_ = [(key, value, at) for (key, value, _), at in zip(steps, times, strict=False)]
    app = kstream.App("early", on_error=[policy, kstream.Skip()] if isinstance(policy, kstream.Retry) else [policy])
    source = app.topic("in", key=str, value=int, out_of_order=behind * MS)
    out = app.topic("out", key=Windowed[str], value=list[int])
    stream = app.stream(source)
    if mapped:
        stream = stream.map(lambda value: noted([], value)[0], value=int)
    group = stream.group_by_key().window(windows, grace=grace * MS, early=every * MS)
    group.aggregate(list, noted, name="noted", value=list[int], emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        for number, (key, value, at) in enumerate(given_):
            driver.cluster.append("in", key.encode(), str(value).encode(), at, None, 0)
            what = between[number % len(between)]
            if what == "abort":
                driver.process()
                driver.cluster.fail_next("commit", ProducerLost("planned"))
                driver.worker.commit_now()
            elif what:
                getattr(driver, what)()
        for _ in given_:  # a commit that was to fail may have had nothing to commit: the next one fails
            driver.commit()
        found = [(record.key, record.value, record.timestamp) for record in driver.records(out)]
        assert found == by_definition(given_, windows, every, grace, behind)


def test_a_day_is_told_each_hour() -> None:
    app = kstream.App("early")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=WindowedSpan[str], value=int)
    days = app.stream(source).group_by_key().window(LocalDays("Europe/Berlin"), grace=0 * MS, early=60 * MINUTE)
    days.count(name="n", emit="close").to(out)
    midnight, hour = 1_648_335_600_000, 3_600_000  # of a day of 23 hours
    with TestDriver(app, partitions=1) as driver:
        for at in (0.5, 0.7, 1.2, 5.1, 5.2, 23.5):
            driver.send(source, 1, key="a", timestamp=midnight + round(at * hour))
        found = [((one.timestamp + 1 - midnight) // hour, one.value) for one in driver.records(out)]
        assert found == [(1, 2), (5, 3), (23, 5)]


@pytest.mark.parametrize("step", ["fold", "map", "filter"])
@pytest.mark.parametrize("between", ["", "process", "commit", "crash"])
def test_what_is_told_does_not_hang_on_where_a_batch_ends_before_what_is_left_out(step: str, between: str) -> None:
    """A record that is skipped or filtered moves time too."""

    def checked(value: int) -> int:
        if value < 0:
            raise ValueError("bad")
        return value

    app = kstream.App("early", on_error=[kstream.Skip()])
    source = app.topic("in", key=str, value=int, partitions=1)
    out = app.topic("out", key=Windowed[str], value=int)
    stream = app.stream(source)
    if step != "fold":
        stream = stream.filter(lambda value: value >= 0) if step == "filter" else stream.map(checked)
    group = stream.group_by_key().window(Tumbling(10 * MINUTE), grace=MINUTE, early=2 * MINUTE)
    group.aggregate(int, lambda n, value: n + checked(value), name="c", value=int, emit="close").to(out)
    start = 1_700_000_000_000 // 600_000 * 600_000
    with TestDriver(app, partitions=1) as driver:
        for key, value, minute in [("b", 7, 37), ("a", -1, 38), ("b", 2, 114)]:
            driver.send(source, value, key=key, timestamp=start + minute * 60_000)
            if between:
                getattr(driver, between)()
        driver.commit()
        told = [(one.value, one.timestamp - start + 1) for one in driver.records(out)]
    assert told == [(7, 38 * 60_000), (7, 40 * 60_000)]


def test_on_a_quiet_topic_it_is_told_by_the_clock() -> None:
    app = kstream.App("early")
    source, out = app.topic("in", key=str, value=int, idle_advance=True), app.topic("out", key=Windowed[str], value=int)
    group = app.stream(source).group_by_key().window(Tumbling(MINUTE), grace=0 * MS, early=MINUTE / 3)
    group.count(name="n", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=600_000)
        driver.commit()
        for _ in range(100):
            driver.advance(1)
        assert [one.timestamp - 600_000 for one in driver.records(out)] == [19_999, 39_999, 59_999]


def test_what_is_done_with_it_and_fails_blames_no_record_and_is_told_again() -> None:
    app = kstream.App("early", on_error=[kstream.DeadLetter(on=(KeyError,))])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=Windowed[str], value=int)
    group = app.stream(source).group_by_key().window(Tumbling(MINUTE), grace=0 * MS, early=MINUTE / 3)
    broken = [True]

    def checked(n: int) -> int:
        if broken[0]:
            raise ValueError("broken")
        return n

    group.count(name="n", emit="close").stream().map(checked).to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=600_000)
        driver.commit()
        with pytest.raises(KStreamError, match="the result of a window of 'n' failed: ValueError"):
            driver.send(source, 1, key="a", timestamp=625_000)
        broken[0] = False
        driver.crash()
        assert driver.values(out) == [1]
        assert driver.cluster.records("early-dead-letters") == []


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda group: group.window(Session(MINUTE), grace=0 * MS, early=MS), "early= is for Tumbling, Hopping"),
        (lambda group: group.window(Sliding(MINUTE), grace=0 * MS, early=MS), "early= is for Tumbling, Hopping"),
        (lambda group: group.window(Counting(3), early=MS), "early= is for Tumbling, Hopping"),
        (
            lambda group: group.window(Cumulating(MINUTE, step=MINUTE / 2), grace=0 * MS, early=MS),
            "early= is for Tumbling, Hopping",
        ),
        (lambda group: group.window(Tumbling(MINUTE), grace=0 * MS, early=MINUTE), "is no shorter than the windows"),
        (lambda group: group.window(Tumbling(MINUTE), grace=0 * MS, early=0 * MS), "1 at least"),
        (lambda group: group.window(Tumbling(MINUTE), grace=0 * MS, early=5), "window: early=5 is not a timedelta"),
        (
            lambda group: group.window(Tumbling(MINUTE), grace=0 * MS, early=MS).count(),
            "emit='update' does so by itself: leave early= out",
        ),
    ],
)
def test_what_cannot_be_is_refused(declare: Any, said: str) -> None:
    app = kstream.App("early")
    with pytest.raises(TopologyError) as error:
        declare(app.stream(app.topic("in", key=str, value=int)).group_by_key())
    assert said in str(error.value)
