"""Sessions, by their definition: which records are one session, when each closes, what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import OpenSession, Session, WindowedSpan
from kstream.codecs.shapes import Shape, shape_of
from kstream.errors import KStreamError, TopologyError
from kstream.specs.schema import schema
from kstream.specs.store import StoreSpec
from kstream.state.expiry import ends_of
from kstream.state.sessions import places_of
from kstream.testing import TestDriver
from support.cases import cases
from support.feeding import CUTS, feed_between

MS = timedelta(milliseconds=1)
Input = tuple[str, int, int]
"""Key, value, timestamp."""


def join(one: list[int], other: list[int]) -> list[int]:
    return one + other


def collect(values: list[int], n: int) -> list[int]:
    values.append(n)
    return values


def declared(gap: int, grace: int, out_of_order: int, emit: Any) -> tuple[kstream.App, Any, Any, Any]:
    app = kstream.App("sessions")
    source = app.topic("in", key=str, value=int, out_of_order=out_of_order * MS)
    kind: Any = list[int] if emit == "close" else list[int] | None
    out = app.topic("out", key=WindowedSpan[str], value=kind)
    group = app.stream(source).group_by_key().window(Session(gap * MS), grace=grace * MS)
    table = group.aggregate(list[int], collect, join, name="collected", value=list[int], emit=emit)
    table.to(out)
    return app, source, out, table


class Oracle:
    """Sessions as sets of records, looked at one record at a time."""

    def __init__(self, gap: int, grace: int) -> None:
        self.gap, self.grace = gap, grace
        self.open: list[tuple[str, list[tuple[int, int, int]]]] = []  # key, (timestamp, order, value) of each record
        self.closed: list[tuple[WindowedSpan[str], list[int]]] = []
        self.changes: list[tuple[WindowedSpan[str], list[int] | None]] = []
        self.time = self.late = self.order = 0

    def span(self, key: str, records: list[tuple[int, int, int]]) -> WindowedSpan[str]:
        return WindowedSpan(key, min(records)[0], max(records)[0])

    def record(self, key: str, value: int, at: int, time: int) -> None:
        self.time, self.order = max(self.time, time), self.order + 1
        over = [one for one in self.open if max(one[1])[0] + self.gap + self.grace < self.time]
        self.open = [one for one in self.open if one not in over]
        spans = [(self.span(*one), sorted(value for _, _, value in one[1])) for one in over]
        self.closed += sorted(spans, key=lambda one: (one[0].end, one[0].key))
        near = [one for one in self.open if one[0] == key and any(abs(at - t) <= self.gap for t, _, _ in one[1])]
        if not near and at + self.gap + self.grace < self.time:
            self.late += 1
            return
        merged = [record for one in near for record in one[1]] + [(at, self.order, value)]
        now = self.span(key, merged)
        before = sorted({self.span(*one) for one in near} - {now}, key=lambda one: one.start)
        self.changes += [(one, None) for one in before]
        self.changes.append((now, sorted(value for _, _, value in merged)))
        self.open = [one for one in self.open if one not in near] + [(key, merged)]

    @property
    def left(self) -> dict[str, list[tuple[int, int, list[int]]]]:
        found: dict[str, list[tuple[int, int, list[int]]]] = {}
        for key, records in self.open:
            span = self.span(key, records)
            found.setdefault(key, []).append((span.start, span.end, sorted(value for _, _, value in records)))
        return {key: sorted(one) for key, one in found.items()}


records = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 60).map(lambda at: 1000 + at)),
    min_size=1,
    max_size=40,
)
steps = st.lists(st.sampled_from(["", "", "", *CUTS]), min_size=1, max_size=12)


def ordered(value: list[int] | None) -> list[int] | None:
    return None if value is None else sorted(value)


def check(
    given_: list[Input], gap: int, grace: int, out_of_order: int, backend: str, emit: str, between: list[str],
    at_once: int,
) -> None:  # fmt: skip
    app, source, out, table = declared(gap, grace, out_of_order, emit)
    oracle, latest = Oracle(gap, grace), 0
    for key, value, at in given_:
        latest = max(latest, at)
        oracle.record(key, value, at, latest - out_of_order)
    with TestDriver(app, partitions=1, backend=backend) as driver, pytest.MonkeyPatch.context() as patch:
        patch.setattr("kstream.operators.session_aggregate.AT_ONCE", at_once)
        feed_between(driver, given_, between)
        found = [(record.key, ordered(record.value)) for record in driver.records(out)]
        if emit == "close":
            assert found == oracle.closed
            assert all(record.timestamp == record.key.end for record in driver.records(out))
        elif emit == "update":
            assert found == oracle.changes
        if emit != "close":
            last = {key: value for key, value in found if value is not None}
            gone = {key for key, value in dict(found).items() if value is None}
            want = dict(oracle.closed) | {
                WindowedSpan(key, start, end): values
                for key, sessions in oracle.left.items()
                for start, end, values in sessions
            }
            assert {key: value for key, value in last.items() if key not in gone} == want
        open_ = {
            key: [(one.start, one.end, sorted(one.value)) for one in sessions]
            for key, sessions in driver.table(table).items()
        }
        assert open_ == oracle.left
        assert sum(int(dropped["late"]) for dropped in dropped_by(driver)) == oracle.late or "crash" in between
        driver.send(source, 1, key="z", timestamp=10_000)
        driver.commit()
        assert list(driver.table(table)) == ["z"]
        (task,) = driver.worker.tasks.values()
        assert [place[8:] for place, _ in task.backend.scan(ends_of("collected"))] == [b"z"]


def dropped_by(driver: TestDriver) -> list[Any]:
    return [operator.dropped for task in driver.worker.tasks.values() for operator in task.plan.operators]


any_case = {
    "given_": records,
    "gap": st.integers(1, 12),
    "grace": st.integers(0, 8),
    "out_of_order": st.integers(0, 8),
    "backend": st.sampled_from(["memory", "rocksdb"]),
    "between": steps,
    "at_once": st.sampled_from([1, 2, 10_000]),
}


@pytest.mark.parametrize("emit", ["close", "update", "commit"])
@cases
@given(**any_case)
def test_sessions_are_what_their_definition_says(emit: str, **case: Any) -> None:
    check(emit=emit, **case)


def counted(grace: int = 0, **window: Any) -> tuple[kstream.App, Any, Any, Any]:
    app = kstream.App("sessions")
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=WindowedSpan[str], value=int | None)
    table = app.stream(source).group_by_key().window(Session(10 * MS), grace=grace * MS).count(name="n", **window)
    table.to(out)
    return app, source, out, table


def test_records_that_are_exactly_the_gap_apart_are_one_session() -> None:
    app, source, out, _ = counted(emit="update")
    with TestDriver(app, partitions=1) as driver:
        for at in (1000, 1010, 1021):
            driver.send(source, 1, key="a", timestamp=at)
        assert [(one.key.start, one.key.end, one.value, one.timestamp) for one in driver.records(out)] == [
            (1000, 1000, 1, 1000),
            (1000, 1000, None, 1010),
            (1000, 1010, 2, 1010),
            (1021, 1021, 1, 1021),
        ]


def test_a_session_closes_when_time_is_beyond_its_gap_and_not_at_it() -> None:
    app = kstream.App("sessions")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=WindowedSpan[str], value=int)
    app.stream(source).group_by_key().window(Session(10 * MS), grace=5 * MS).count(name="n", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=1000)
        driver.send(source, 1, key="b", timestamp=1015)
        assert driver.values(out) == []
        driver.send(source, 1, key="b", timestamp=1016)
        assert driver.records(out) == [kstream.Record(WindowedSpan("a", 1000, 1000), 1, timestamp=1000)]


def test_a_late_record_that_touches_an_open_session_is_not_late() -> None:
    app, source, _, table = counted(emit="update")
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=1000)
        driver.send(source, 1, key="b", timestamp=1010)
        driver.send(source, 1, key="a", timestamp=992)  # by itself it would be closed
        driver.send(source, 1, key="c", timestamp=992)
        assert dict(driver.table(table).items()) == {
            "a": [OpenSession(992, 1000, 2)],
            "b": [OpenSession(1010, 1010, 1)],
        }
        assert sum(int(one["late"]) for one in dropped_by(driver)) == 1


def test_records_that_are_too_late_go_to_their_topic() -> None:
    app = kstream.App("sessions")
    source, late = (app.topic(name, key=str, value=int) for name in ("in", "late"))
    app.stream(source).group_by_key().window(Session(10 * MS), grace=5 * MS, late=late).count(name="n")
    with TestDriver(app, partitions=1) as driver:
        for key, at in (("a", 1000), ("b", 1100), ("a", 1084), ("a", 1085), ("c", 1000)):
            driver.send(source, at, key=key, timestamp=at)
        found = [(one.key, one.value, one.timestamp, one.headers) for one in driver.records(late)]
        assert found == [
            ("a", 1084, 1084, [("kstream.late.by", b"0")]),
            ("c", 1000, 1000, [("kstream.late.by", b"84")]),
        ]


def test_a_session_of_a_quiet_topic_closes_by_the_clock() -> None:
    app = kstream.App("sessions")
    source = app.topic("in", key=str, value=int, idle_advance=True)
    out = app.topic("out", key=WindowedSpan[str], value=int)
    group = app.stream(source).group_by_key().window(Session(timedelta(minutes=1)), grace=timedelta(seconds=10))
    group.count(name="n", emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=90_000)
        driver.send(source, 1, key="a", timestamp=100_000)
        driver.commit()
        driver.advance(seconds=70)
        assert driver.values(out) == []
        driver.advance(seconds=1)
        assert driver.values(out) == [2]
        driver.crash()
        driver.advance(seconds=500)
        assert driver.values(out) == [2]


def test_with_commit_what_is_there_at_the_commit_is_told_and_what_grew_is_taken_back() -> None:
    app, source, out, _ = counted(emit="commit", grace=20)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=1000)
        driver.send(source, 1, key="a", timestamp=1004)
        driver.send(source, 1, key="a", timestamp=1018)
        driver.commit()
        driver.send(source, 1, key="a", timestamp=1011)
        driver.send(source, 1, key="a", timestamp=1012)
        driver.send(source, 1, key="b", timestamp=1100)
        driver.commit()
        found = [(one.key.key, one.key.start, one.key.end, one.value) for one in driver.records(out)]
        assert found == [
            ("a", 1000, 1004, 2), ("a", 1018, 1018, 1),
            ("a", 1000, 1004, None), ("a", 1018, 1018, None), ("a", 1000, 1018, 5),
            ("b", 1100, 1100, 1),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("aggregated", "value"),
    [
        (lambda group: group.count(name="x", emit="close"), 4),
        (lambda group: group.collect(name="x", emit="close"), [3, 7, 2, 5]),
        (lambda group: group.sum(lambda n: n, value=int, name="x", emit="close"), 17),
        (lambda group: group.min(lambda n: n, value=int, name="x", emit="close"), 2),
        (lambda group: group.max(lambda n: n, value=int, name="x", emit="close"), 7),
        (lambda group: group.reduce(lambda a, b: 10 * a + b, name="x", emit="close"), 1025),
        (lambda group: group.aggregate(int, lambda a, n: a + n, int.__sub__, value=int, name="x", emit="close"), -1),
    ],
)
def test_each_aggregation_has_a_merger(aggregated: Any, value: Any) -> None:
    app = kstream.App("sessions")
    kind: Any = list[int] if isinstance(value, list) else int
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=WindowedSpan[str], value=kind)
    aggregated(app.stream(source).group_by_key().window(Session(10 * MS), grace=20 * MS)).to(out)
    with TestDriver(app, partitions=1) as driver:
        for n, at in ((3, 1000), (7, 1015), (2, 1016), (5, 1008)):
            driver.send(source, n, key="a", timestamp=at)
        driver.send(source, 0, key="b", timestamp=2000)
        assert driver.records(out) == [kstream.Record(WindowedSpan("a", 1000, 1016), value, timestamp=1016)]


@pytest.mark.parametrize("emit", ["update", "commit", "close"])
def test_a_record_that_fails_is_left_out_and_nothing_is_lost_or_told_twice(emit: Any) -> None:
    app = kstream.App("sessions", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=WindowedSpan[str], value=list[int] | None)

    def check_and_collect(values: list[int], n: int) -> list[int]:
        values.append(n)
        if n < 0:
            raise ValueError(n)
        return values

    def check_and_join(one: list[int], other: list[int]) -> list[int]:
        if 7 in one:
            raise ValueError("no")
        return one + other

    group = app.stream(source).group_by_key().window(Session(10 * MS), grace=20 * MS)
    group.aggregate(list[int], check_and_collect, check_and_join, name="n", value=list[int], emit=emit).to(out)
    given_ = [(-1, 1000), (1, 1001), (-2, 1002), (2, 1003), (-3, 1020), (7, 1050), (8, 1069), (9, 1060), (3, 1110)]
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, -5, key="k", timestamp=990)
        for n, at in given_:
            driver.cluster.append("in", b"k", str(n).encode(), at, None, 0)
        driver.process()
        last = {record.key: record.value for record in driver.records(out)}
        assert {key: value for key, value in last.items() if value is not None} == {
            WindowedSpan("k", 1001, 1003): [1, 2],
            WindowedSpan("k", 1050, 1050): [7],
            WindowedSpan("k", 1069, 1069): [8],
        } | ({} if emit == "close" else {WindowedSpan("k", 1110, 1110): [3]})
        assert len(driver.cluster.records("sessions-dead-letters")) == 5


def test_the_context_is_that_of_the_record_behind_one_that_is_late() -> None:
    app = kstream.App("sessions")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=WindowedSpan[str], value=list[int])

    def offsets(seen: list[int], n: int, ctx: kstream.Context[str]) -> list[int]:
        return [*seen, ctx.offset]

    group = app.stream(source).group_by_key().window(Session(10 * MS), grace=0 * MS)
    group.aggregate(list[int], offsets, join, name="n", value=list[int], emit="close").to(out)
    with TestDriver(app, partitions=1) as driver:
        for at in (1000, 2000, 1000, 2001, 3000):
            driver.cluster.append("in", b"k", b"1", at, None, 0)
        driver.process()
        assert driver.values(out) == [[0], [1, 3]]


def test_a_restore_makes_the_index_anew() -> None:
    app, source, out, table = declared(10, 0, 0, "close")
    with TestDriver(app, partitions=1, backend="memory") as driver:
        for key, at in (("a", 1000), ("a", 1009), ("b", 1003), ("a", 1018), ("a", 900)):
            driver.send(source, 1, key=key, timestamp=at)
            driver.commit()
        driver.crash()  # what was in memory is gone
        driver.send(source, 1, key="c", timestamp=1025)
        assert [record.key for record in driver.records(out)] == [WindowedSpan("b", 1003, 1003)]
        assert dict(driver.table(table).items()) == {
            "a": [OpenSession(1000, 1018, [1, 1, 1])],
            "c": [OpenSession(1025, 1025, [1])],
        }


def test_sessions_behind_a_repartition_and_windows_behind_sessions() -> None:
    """What closes says its time to what comes behind: no result of a session is late there."""
    app = kstream.App("sessions")
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=kstream.Windowed[int], value=int)
    sessions = (
        app.stream(source).group_by(lambda n: n, key=int, name="by-number").window(Session(10 * MS), grace=5 * MS)
    )
    counts = sessions.count(name="n", emit="close").stream()
    again = counts.rekey(lambda n, ctx: ctx.key.key % 2, key=int).repartition(name="again").group_by_key()
    again.window(kstream.Tumbling(10 * MS), grace=0 * MS).sum(lambda n: n, value=int, name="sums", emit="close").to(out)
    with TestDriver(app, partitions=2) as driver:
        for at in range(1000, 1200):
            driver.send(source, at % 7, key=str(at), timestamp=at + 15 * (at // 40))
            if at % 13 == 0:
                driver.commit()
        for n in range(7):
            driver.send(source, n, key=str(n), timestamp=5000)
            driver.send(source, n, key=str(n), timestamp=6000)
        driver.commit()
        assert sum(driver.values(out)) >= 200
        assert sum(int(one["late"]) for one in dropped_by(driver)) == 0


def test_the_store_of_another_kind_of_the_same_name_is_refused_by_name() -> None:
    spec = StoreSpec("n", schema(str, "k", key=True), schema(list[OpenSession[int]], "v"), holds="sessions")
    with pytest.raises(KStreamError, match=r"are no sessions: .*give the sessions another name="):
        places_of(spec, {b"k": b"5"})


class _Codec:
    def encode(self, value: Any) -> bytes:
        return b""

    def decode(self, data: bytes) -> Any:
        return data


def refused(declare: Callable[[Any, Any], object]) -> str:
    app = kstream.App("sessions")
    with pytest.raises(TopologyError) as error:
        declare(app, app.stream(app.topic("in", key=str, value=int)).group_by_key())
        app.topology()
    return str(error.value)


class Hex:
    version = 3

    def encode(self, value: int) -> bytes:
        return b"%x" % value

    def decode(self, data: bytes) -> int:
        return int(data, 16)


def test_values_may_have_a_codec_of_their_own() -> None:
    """What is kept has its bytes, and its version decides with the others whether it can be read."""
    app = kstream.App("sessions")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=WindowedSpan[str], value=Hex())
    group = app.stream(source).group_by_key().window(Session(10 * MS), grace=100 * MS)
    table = group.sum(lambda n: n, name="hex", value=Hex(), emit="close")
    table.to(out)
    [spec] = table.node.stores
    assert shape_of(spec.value.kind) == Shape("OpenSessions", version="1 of Hex 3")
    with TestDriver(app, partitions=1) as driver:
        for n, at in ((200, 1000), (50, 1018), (6, 1009)):
            driver.send(source, n, key="a", timestamp=at)
            driver.commit()
        assert driver.table(table)["a"] == [OpenSession(1000, 1018, 256)]
        driver.crash()
        driver.send(source, 1, key="b", timestamp=2000)
        assert driver.records(out) == [kstream.Record(WindowedSpan("a", 1000, 1018), 256, timestamp=1018)]


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda app, g: Session(), "Session: give it a gap"),
        (lambda app, g: Session(0 * MS), "1 at least"),
        (lambda app, g: g.window(Session(MS), grace=5), "grace=5 is not a timedelta"),
        (lambda app, g: g.window(Session(MS), grace=MS).aggregate(int, lambda a, n: a), "needs merge="),
        (lambda app, g: g.window(Session(MS), grace=MS).count(emit="often"), "emit='often'"),
        (lambda app, g: g.window(Session(MS), grace=MS).count(value=_Codec()), "_Codec takes no None: give the codec"),
        (
            lambda app, g: g.window(Session(MS), grace=MS).count()
            .to(app.topic("out", key=WindowedSpan[str], value=int)),
            "declared value=int",
        ),
        (
            lambda app, g: g.window(Session(MS), grace=MS).count(emit="close")
            .to(app.topic("out", key=kstream.Windowed[str], value=int)),
            "has keys of type",
        ),
        (
            lambda app, g: g.stream().join(g.window(Session(MS), grace=MS).count(name="n"), lambda a, b: a),
            "'n' has a row for each window, which goes when it closes",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(declare: Callable[[Any, Any], object], said: str) -> None:
    assert said in refused(declare)
