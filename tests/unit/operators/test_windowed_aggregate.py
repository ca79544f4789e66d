"""Windows, by their definition: which records go into which, when each closes, what is told of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Cumulating, Hopping, Tumbling, Windowed
from kstream.errors import TopologyError
from kstream.specs.windows import Windows
from kstream.testing import TestDriver
from support.cases import cases

MS = timedelta(milliseconds=1)
Input = tuple[str, int, int]
"""Key, value, timestamp."""


def declared(windows: Windows, grace: int, out_of_order: int, emit: Any) -> tuple[kstream.App, Any, Any, Any]:
    app = kstream.App("windows")
    source = app.topic("in", key=str, value=int, out_of_order=out_of_order * MS)
    out = app.topic("out", key=Windowed[str], value=list[int])

    def collect(values: list[int], n: int) -> list[int]:
        return [*values, n]

    group = app.stream(source).group_by_key().window(windows, grace=grace * MS)
    table = group.aggregate(list[int], collect, name="collected", value=list[int], emit=emit)
    table.to(out)
    return app, source, out, table


def by_definition(
    records: list[Input], windows: Windows, wait: int
) -> tuple[list[tuple[Windowed[str], list[int]]], dict[Windowed[str], list[int]], int]:
    """What the windows that closed had in them, in the order in which they closed; what the others have; and how many
    records were too late for all of theirs."""
    open_: defaultdict[Windowed[str], list[int]] = defaultdict(list)
    closed: list[tuple[Windowed[str], list[int]]] = []
    time = late = 0
    for key, value, at in records:
        time = max(time, at)
        over = sorted(
            (one for one in open_ if one.start + windows.size + wait <= time), key=lambda one: (one.start, one.key)
        )
        closed += [(one, open_.pop(one)) for one in over]
        first = windows.offset + (at - windows.offset) // windows.advance * windows.advance
        begins = [first - back * windows.advance for back in range(windows.size // windows.advance + 1)]
        into = [begin for begin in begins if begin <= at < begin + windows.size and begin + windows.size + wait > time]
        late += not into
        for begin in into:
            open_[Windowed(key, begin)].append(value)
    return closed, dict(open_), late


records = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 40).map(lambda at: 1000 + at)),
    min_size=1,
    max_size=30,
)
kinds = st.one_of(
    st.builds(lambda size, offset: Tumbling(size * MS, offset=offset * MS), st.integers(1, 12), st.integers(-9, 9)),
    st.builds(
        lambda size, every, offset: Hopping(size * MS, every=min(every, size) * MS, offset=offset * MS),
        st.integers(1, 12), st.integers(1, 9), st.integers(-9, 9),
    ),
)  # fmt: skip


@cases
@given(records, kinds, st.integers(0, 6), st.integers(0, 6), st.sampled_from(["memory", "rocksdb"]))
def test_windows_are_what_their_definition_says(
    given_: list[Input], windows: Windows, grace: int, out_of_order: int, backend: str
) -> None:
    app, source, out, table = declared(windows, grace, out_of_order, "close")
    closed, open_, late = by_definition(given_, windows, grace + out_of_order)
    with TestDriver(app, partitions=1, backend=backend) as driver:
        for number, (key, value, at) in enumerate(given_):
            driver.send(source, value, key=key, timestamp=at)
            if number % 7 == 6:
                driver.commit()
        assert [(record.key, record.value) for record in driver.records(out)] == closed
        assert all(record.timestamp == record.key.start + windows.size - 1 for record in driver.records(out))
        assert dict(driver.table(table).items()) == open_
        assert sum(int(dropped["late"]) for dropped in dropped_by(driver)) == late


def dropped_by(driver: TestDriver) -> list[Any]:
    return [operator.dropped for task in driver.worker.tasks.values() for operator in task.plan.operators]


@pytest.mark.parametrize("emit", ["update", "commit"])
def test_results_before_the_end(emit: str) -> None:
    app, source, out, _ = declared(Tumbling(10 * MS), 0, 0, emit)
    with TestDriver(app, partitions=1) as driver:
        for at, n in ((1001, 1), (1003, 2), (1012, 3)):
            driver.send(source, n, key="a", timestamp=at)
        first, second = Windowed("a", 1000), Windowed("a", 1010)
        found = [(record.key, record.value, record.timestamp) for record in driver.records(out)]
        both = [(first, [1, 2], 1003), (second, [3], 1012)]
        assert found == ([(first, [1], 1001), *both] if emit == "update" else both)


def test_a_window_that_no_record_comes_to_any_more_is_closed_by_others() -> None:
    """A record that a step before the windows leaves out moves time, too."""
    app = kstream.App("windows")
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=Windowed[str], value=int)
    some = app.stream(source).filter(lambda n: n > 0)
    some.group_by_key().window(Tumbling(10 * MS), grace=0 * MS).count(name="n", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=1000)
        assert driver.values(out) == []
        driver.send(source, -1, key="b", timestamp=1010)
        assert driver.values(out) == [1]


def test_windows_close_behind_what_meets_before_them() -> None:
    """A batch whose records come by two ways is held until it is through both; its windows do not close before."""
    app = kstream.App("windows")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=Windowed[str], value=int)
    numbers = app.stream(source)
    both = numbers.merge(numbers.map(lambda n: n + 1, value=int))
    both.group_by_key().window(Tumbling(10 * MS), grace=0 * MS).count(name="n", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        for at in (1000, 1001, 1030):
            driver.cluster.append("in", b"k", b"1", at, None, 0)
        assert [(one.key.start, one.value) for one in driver.records(out)] == [(1000, 4)]


def test_what_is_left_out_by_a_policy_moves_time_and_closes_at_the_commit() -> None:
    app = kstream.App("windows", on_error=[kstream.Skip()])
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=Windowed[str], value=int)
    some = app.stream(source).map(lambda n: 1 // n, value=int)
    some.group_by_key().window(Tumbling(10 * MS), grace=0 * MS).count(name="n", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=1000)
        driver.send(source, 0, key="a", timestamp=1010)
        assert driver.values(out) == [1]
        driver.crash()
        driver.send(source, 1, key="a", timestamp=1009)  # too late, also after a restart
        driver.send(source, 1, key="a", timestamp=1025)
        assert driver.values(out) == [1]


def test_a_crash_takes_back_what_closed() -> None:
    app, source, out, table = declared(Tumbling(10 * MS), 0, 0, "close")
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=1000)
        driver.commit()
        driver.send(source, 2, key="a", timestamp=1015)
        driver.crash()
        driver.process()
        assert [(record.key.start, record.value) for record in driver.records(out)] == [(1000, [1])]
        assert dict(driver.table(table).items()) == {Windowed("a", 1010): [2]}


def test_values_are_not_shared_between_windows_that_overlap() -> None:
    app = kstream.App("windows")
    source, out = app.topic("in", key=str, value=dict), app.topic("out", key=Windowed[str], value=dict)

    def into(total: dict[str, int], new: dict[str, int]) -> dict[str, int]:
        total["n"] += new["n"]
        return total

    made = app.stream(source).map(lambda value: {"n": value["n"]}, value=dict)
    group = made.group_by_key().window(Hopping(20 * MS, every=10 * MS), grace=0 * MS)
    group.reduce(into, name="r", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        for at in (1000, 1010, 1100):
            driver.send(source, {"n": 1}, key="a", timestamp=at)
        assert [(one.key.start, one.value) for one in driver.records(out)] == [
            (990, {"n": 1}), (1000, {"n": 2}), (1010, {"n": 1}),
        ]  # fmt: skip


def test_a_key_may_be_anything_that_keys_can_be() -> None:
    app = kstream.App("windows")
    source = app.topic("in", key=tuple[str, int], value=int)
    out = app.topic("out", key=Windowed[tuple[str, int]], value=int)
    app.stream(source).group_by_key().window(Tumbling(10 * MS), grace=0 * MS).count(name="n", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key=("a", 1), timestamp=1000)
        driver.send(source, 1, key=("a", 1), timestamp=1010)
        assert [record.key for record in driver.records(out)] == [Windowed(("a", 1), 1000)]


def test_a_batch_that_is_taken_back_has_told_nothing() -> None:
    """With emit="commit" a window that closes is told of at once; where its batch fails that is taken back, too."""
    app = kstream.App("windows", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=Windowed[str], value=int)

    def check(total: int, n: int) -> int:
        if n < 0:
            raise ValueError(n)
        return total + n

    group = app.stream(source).group_by_key().window(Tumbling(10 * MS), grace=0 * MS)
    group.aggregate(int, check, name="n", value=int, emit="commit").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, -1, key="k", timestamp=1000)
        driver.send(source, 5, key="k", timestamp=1001)
        for n, at in ((7, 1012), (-2, 1013), (8, 1014)):
            driver.cluster.append("in", b"k", str(n).encode(), at, None, 0)
        driver.process()
        assert [(one.key.start, one.value) for one in driver.records(out)] == [(1000, 5), (1010, 15)]


def test_a_late_record_counts_once_however_often_its_batch_is_processed() -> None:
    app = kstream.App("windows", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=Windowed[str], value=int)

    def check(total: int, n: int) -> int:
        if n < 0:
            raise ValueError(n)
        return total + n

    group = app.stream(source).group_by_key().window(Tumbling(10 * MS), grace=0 * MS)
    group.aggregate(int, check, name="n", value=int, emit="update").to(out)
    with TestDriver(app, partitions=1) as driver:
        for _ in range(2):  # the second time it takes care
            for n, at in ((1, 1000), (1, 1012), (1, 1001), (-1, 1013), (1, 1002), (-1, 1013), (1, 1014)):
                driver.cluster.append("in", b"k", str(n).encode(), at, None, 0)
            assert driver.values(out)
        assert sum(int(dropped["late"]) for dropped in dropped_by(driver)) == 2 + 3


def with_late(windows: Windows, grace: int, moved: bool = False) -> tuple[kstream.App, Any, Any, Any]:
    app = kstream.App("windows")
    source, late = app.topic("in", key=str, value=int), app.topic("late", key=str, value=int)
    out = app.topic("out", key=Windowed[str], value=int)
    stream: Any = app.stream(source)
    group = stream.group_by(lambda n, ctx: ctx.key, key=str, name="by") if moved else stream.group_by_key()
    group.window(windows, grace=grace * MS, late=late).count(name="n", emit="close").to(out)
    return app, source, out, late


def test_records_that_are_too_late_go_to_a_topic() -> None:
    app, source, out, late = with_late(Tumbling(10 * MS), 5)
    headers = [("trace", b"x"), ("kstream.late.by", b"old")]
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=1009)
        driver.send(source, 2, key="a", timestamp=1014)
        driver.send(source, 3, key="b", timestamp=1009)  # late, and in time
        driver.send(source, 4, key="a", timestamp=1018)
        driver.send(source, 5, key="b", timestamp=1009, headers=headers)
        driver.crash()
        driver.send(source, 6, key="c", timestamp=900)
        assert [(record.key, record.value, record.timestamp, record.headers) for record in driver.records(late)] == [
            ("b", 5, 1009, [("trace", b"x"), ("kstream.late.by", b"3")]),
            ("c", 6, 900, [("kstream.late.by", b"103")]),
        ]
        assert [record.key for record in driver.records(out)] == [Windowed("a", 1000), Windowed("b", 1000)]
        assert sum(dropped["late"] for dropped in dropped_by(driver)) == 2


def test_of_windows_that_overlap_the_last_counts() -> None:
    app, source, _, late = with_late(Hopping(20 * MS, every=10 * MS), 0)
    with TestDriver(app, partitions=1) as driver:
        for n, at in ((1, 1029), (2, 1009), (3, 1010), (4, 1040), (5, 1015)):
            driver.send(source, n, key="a", timestamp=at)
        assert [(one.value, one.headers) for one in driver.records(late)] == [
            (2, [("kstream.late.by", b"9")]), (5, [("kstream.late.by", b"10")]),
        ]  # fmt: skip


@cases
@given(records, kinds, st.integers(0, 6), st.booleans(), st.integers(0, 2**16))
def test_what_is_too_late_is_the_same_however_the_input_is_cut(
    given_: list[Input], windows: Windows, grace: int, moved: bool, seed: int
) -> None:
    choose, found = Random(seed), []
    for cuts in (False, True):
        app, _, _, late = with_late(windows, grace, moved)
        with TestDriver(app, partitions=1) as driver:
            for key, value, at in given_:
                driver.cluster.append("in", key.encode(), str(value).encode(), at, None, 0)
                if cuts and choose.random() < 0.4:
                    driver.process()
                if cuts and choose.random() < 0.1:
                    driver.crash()
            found.append([(one.key, one.value, one.timestamp, one.headers) for one in driver.records(late)])
    assert found[0] == found[1]
    assert moved or len(found[0]) == by_definition(given_, windows, grace)[2]


@pytest.mark.parametrize("windows", [Tumbling(10 * MS), Hopping(20 * MS, every=10 * MS)])
@pytest.mark.parametrize("how", ["group_by_key", "group_by", "repartition"])
def test_none_of_an_undeclared_type_is_no_value_and_is_left_out_once(windows: Windows, how: str) -> None:
    app = kstream.App("windows")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=Windowed[str], value=int)
    some = app.stream(source).map(lambda n: n or None)
    if how == "repartition":
        some = some.repartition(name="moved")
    group = some.group_by(lambda n, ctx: ctx.key, key=str, name="by") if how == "group_by" else some.group_by_key()
    group.window(windows, grace=0 * MS).sum(lambda n: n, value=int, name="n", emit="update").to(out)
    with TestDriver(app, partitions=1) as driver:
        for n, at in ((0, 1000), (3, 1001), (4, 1042), (0, 1001)):
            driver.send(source, n, key="a", timestamp=at)
        assert {record.value for record in driver.records(out)} == {3, 4}
        dropped = dropped_by(driver)
        assert sum(one["no value"] for one in dropped) == 2 and sum(one["late"] for one in dropped) == 0


def test_the_result_of_a_window_that_fails_blames_no_record() -> None:
    app = kstream.App("windows", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=Windowed[str], value=int)

    def fails(n: int) -> int:
        raise ValueError("no")

    counts = app.stream(source).group_by_key().window(Tumbling(10 * MS), grace=0 * MS).count(name="n", emit="close")
    counts.stream().map(fails).to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="k", timestamp=1000)
        driver.send(source, 1, key="k", timestamp=1010)
        driver.commit()
        (letter,) = driver.cluster.records("windows-dead-letters")
        assert (letter.key, letter.value) == (b"k" + (1000).to_bytes(8, "big"), b"1")


def test_a_source_that_is_declared_behind_the_windows_moves_their_time_too() -> None:
    app = kstream.App("windows")
    source, rows = app.topic("in", key=str, value=int), app.topic("rows", key=str, value=str)
    out = app.topic("out", key=str, value=str)
    counts = app.stream(source).group_by_key().window(Tumbling(60_000 * MS), grace=0 * MS).count(name="n", emit="close")
    known = app.table("known", key=str, value=str, scope="partition")
    result = counts.stream().rekey(lambda n, ctx: ctx.key.key, key=str)

    @app.agent(result, to=out)
    def shown(n: int) -> str:
        return f"{n} {known.get('k')}"

    @app.agent(app.stream(rows))
    def keep(value: str) -> None:
        known["k"] = value

    for commits in (True, False):
        with TestDriver(app, partitions=1) as driver:
            driver.send(source, 1, key="k", timestamp=1000)
            driver.send(source, 1, key="k", timestamp=65_000)
            driver.commit()
            driver.send(rows, "B", key="k", timestamp=61_000)
            if commits:
                driver.commit()
            driver.send(rows, "C", key="k", timestamp=62_000)
            assert driver.values(out) == ["1 B"]


def refused(declare: Callable[[kstream.App, Any], object]) -> str:
    app = kstream.App("windows")
    with pytest.raises(TopologyError) as error:
        declare(app, app.stream(app.topic("in", key=str, value=int)))
        app.topology()
    return str(error.value)


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda app, s: s.group_by_key().count(emit="close"), "emit='close': these results are of no windows"),
        (lambda app, s: s.group_by_key().window(5, grace=MS), "not 5"),
        (lambda app, s: s.group_by_key().window(Tumbling(MS), grace=5), "grace=5 is not a timedelta"),
        (lambda app, s: s.group_by_key().window(Tumbling(MS), grace=-MS), "whole number of milliseconds, 0 at least"),
        (lambda app, s: s.group_by_key().window(Tumbling(MS), grace=MS).count(emit="often"), "emit='often'"),
        (
            lambda app, s: s.group_by_key().window(Tumbling(MS), grace=MS).count(ttl=kstream.TTL(hours=1)),
            "ttl= has no meaning for windows",
        ),
        (
            lambda app, s: s.group_by_key().window(Tumbling(MS), grace=MS).count(emit="close").stream()
            .group_by_key().window(Tumbling(2 * MS), grace=MS).count(),
            "come after their times have passed here",
        ),
        (
            lambda app, s: s.group_by_key()
            .window(Tumbling(MS), grace=MS, late=app.topic("l", key=int, value=int)).count(),
            "has keys of type str, but topic 'l' is declared key=int",
        ),
        (lambda app, s: s.group_by_key().window(Tumbling(MS), grace=MS, late="l"), "late= takes a topic, not 'l'"),
        (
            lambda app, s: s.group_by(str, key=str, name="by")
            .window(Tumbling(MS), grace=MS, late=s.node.topic).count(),
            "late='in' is the topic that their records come from",
        ),
        (lambda app, s: Tumbling(), "give it a size"),
        (lambda app, s: Tumbling(MS, seconds=1), "give it a size"),
        (lambda app, s: Tumbling(0 * MS), "1 at least"),
        (lambda app, s: Tumbling(seconds=0.0001), "whole number of milliseconds"),
        (lambda app, s: Tumbling(minutes=float("nan")), "Tumbling: cannot convert float NaN"),
        (lambda app, s: Tumbling(minutes=float("inf")), "Tumbling: cannot convert float infinity"),
        (
            lambda app, s: Tumbling(MS, offset=timedelta(microseconds=-1500)),
            "Tumbling: offset=datetime.timedelta(days=-1, seconds=86399, microseconds=998500): it is a whole number of "
            "milliseconds",
        ),
        (lambda app, s: Hopping(10_001 * MS, every=MS), "Hopping: each record would be in 10001 windows"),
        (lambda app, s: Cumulating(10_001 * MS, step=MS), "Cumulating: each record would be in 10001 windows"),
        (lambda app, s: Hopping(MS, every=2 * MS), "records between them would be in none"),
        (lambda app, s: app.topic("x", out_of_order=3), "topic 'x': out_of_order=3 is not a timedelta"),
        (
            lambda app, s: s.group_by_key().window(Tumbling(MS), grace=MS).count()
            .to(app.topic("out", key=str, value=int)),
            "has keys of type Windowed",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(declare: Callable[[kstream.App, Any], object], said: str) -> None:
    assert said in refused(declare)


def test_the_result_of_a_window_that_fails_at_a_commit_blames_no_record() -> None:
    """Time goes on because an input is idle: the window closes with the commit of a record that has nothing to do with
    it."""
    app = kstream.App("windows", on_error=[kstream.DeadLetter()])
    source, other = app.topic("in", key=str, value=int), app.topic("other", key=str, value=int)
    both = app.stream(source).merge(app.stream(other))
    counts = both.group_by_key().window(Tumbling(10 * MS), grace=0 * MS).count(name="n", emit="close")
    counts.stream().map(lambda n: 1 // (n - 1))
    with TestDriver(app, partitions=1, idle_timeout=5.0, commit_interval=60.0, transaction_timeout=300.0) as driver:
        driver.send(source, 1, key="k", timestamp=1000)
        driver.send(source, 1, key="k", timestamp=1015)
        driver.advance(6)
        driver.advance(6)  # what was committed with it was taken back, and the input has to be idle again
        (letter,) = driver.cluster.records("windows-dead-letters")
        assert (letter.key, letter.value) == (b"k" + (1000).to_bytes(8, "big"), b"1")
