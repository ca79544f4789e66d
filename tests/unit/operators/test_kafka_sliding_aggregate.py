"""Kafka Streams' sliding windows, by their definition (KIP-450), and by the rows of its own tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import KafkaSliding, Record, Windowed
from kstream.errors import EntryUnreadable, KStreamError, TopologyError
from kstream.specs.schema import schema
from kstream.specs.store import StoreSpec
from kstream.state.expiry import ends_of
from kstream.state.sliding import places_of_records
from kstream.testing import TestDriver
from support.cases import cases, examples
from support.feeding import CUTS, feed_between

MS = timedelta(milliseconds=1)
Input = tuple[str, int, int]
"""Key, value, timestamp."""


def collect(values: list[int], n: int) -> list[int]:
    values.append(n)
    return values


class Oracle:
    """Windows as the records that are in them, looked at one record at a time."""

    def __init__(self, apart: int, grace: int) -> None:
        self.apart, self.grace = apart, grace
        self.records: list[tuple[int, int, str, int]] = []  # timestamp, order, key, value
        self.ends: defaultdict[str, set[int]] = defaultdict(set)  # of windows that are open, some of them empty
        self.changes: list[tuple[Windowed[str], list[int], int]] = []
        self.closed: list[tuple[Windowed[str], list[int], int]] = []
        self.late = self.order = 0

    def values(self, key: str, end: int) -> list[int]:
        return [value for at, _, one, value in sorted(self.records) if one == key and end - self.apart <= at <= end]

    def close(self, open_from: int) -> None:
        due = sorted((end, key) for key, ends in self.ends.items() for end in ends if end < open_from)
        for end, key in due:
            self.ends[key].remove(end)
            if values := self.values(key, end):
                self.closed.append((Windowed(key, end - self.apart), values, end))

    def record(self, key: str, value: int, at: int, time: int) -> None:
        self.order += 1
        open_from, ends = time - self.grace, self.ends[key]
        self.close(open_from)
        if at < open_from and not any(end - self.apart <= at <= end for end in ends):
            self.late += 1
            return
        self.records.append((at, self.order, key, value))
        if at >= open_from:
            ends.add(at)
        behind, changed = at + self.apart + 1, {end for end in ends if end - self.apart <= at <= end}
        if behind not in ends:
            ends.add(behind)
            changed |= {behind} if self.values(key, behind) else set()
        self.changes += [(Windowed(key, end - self.apart), self.values(key, end), at) for end in sorted(changed)]

    @property
    def last(self) -> dict[Windowed[str], list[int]]:
        """The last result of each window that there was."""
        found = {window: values for window, values, _ in self.closed}
        for key, ends in self.ends.items():
            found |= {Windowed(key, end - self.apart): values for end in ends if (values := self.values(key, end))}
        return found


def declared(apart: int, grace: int, out_of_order: int, emit: Any) -> tuple[kstream.App, Any, Any]:
    app = kstream.App("windows")
    source = app.topic("in", key=str, value=int, out_of_order=out_of_order * MS)
    out = app.topic("out", key=Windowed[str], value=list[int])
    group = app.stream(source).group_by_key().window(KafkaSliding(apart * MS), grace=grace * MS)
    group.aggregate(list[int], collect, name="collected", value=list[int], emit=emit).to(out)
    return app, source, out


@pytest.mark.parametrize("emit", ["close", "update", "commit"])
@cases
@given(
    records=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 60).map(lambda at: 1000 + at)),
        min_size=1, max_size=40,
    ),
    apart=st.integers(1, 20), grace=st.integers(0, 8), out_of_order=st.integers(0, 8),
    backend=st.sampled_from(["memory", "rocksdb"]),
    between=st.lists(st.sampled_from(["", "", "", *CUTS]), min_size=1, max_size=12),
    at_once=st.sampled_from([1, 2, 10_000]),
)  # fmt: skip
def test_windows_are_what_their_definition_says(
    emit: str, records: list[Input], apart: int, grace: int, out_of_order: int, backend: str, between: list[str],
    at_once: int,
) -> None:  # fmt: skip
    app, source, out = declared(apart, grace, out_of_order, emit)
    oracle, latest = Oracle(apart, grace), 0
    for key, value, at in records:
        latest = max(latest, at)
        oracle.record(key, value, at, latest - out_of_order)
    with TestDriver(app, partitions=1, backend=backend) as driver, pytest.MonkeyPatch.context() as patch:
        patch.setattr("kstream.operators.kafka_sliding_aggregate.AT_ONCE", at_once)
        feed_between(driver, records, between)
        found = [(record.key, record.value, record.timestamp) for record in driver.records(out)]
        if emit == "close":
            assert found == oracle.closed
        elif emit == "update":
            assert found == oracle.changes
        else:
            assert {key: value for key, value, _ in found} == oracle.last
        assert sum(int(dropped["late"]) for dropped in dropped_by(driver)) == oracle.late or "crash" in between
        driver.send(source, 1, key="z", timestamp=10_000)
        driver.commit()
        (task,) = driver.worker.tasks.values()
        assert [key for key, _ in task.backend.scan("collected")] == [b"z"]  # what no window may have is gone
        assert [place[8:] for place, _ in task.backend.scan(ends_of("collected"))] == [b"z"]


def dropped_by(driver: TestDriver) -> list[Any]:
    return [operator.dropped for task in driver.worker.tasks.values() for operator in task.plan.operators]


# ---- the rows of Kafka Streams

ERA = 1_000_000
"""Times are so much later than those of the rows: here no record has the time 0, and no window begins before it."""


class Case(NamedTuple):
    """Of KStreamSlidingWindowAggregateTest (4.x): records as key, value, time, and by key and start what results have.

    Values of a result are in the order of time here, there in that of arrival: they are compared in their own order.
    What one record changes is told in the order of the windows' ends. Times of results are not compared: there a result
    has the largest of its records. The rows of early records are not here: before time has come to the
    difference Kafka Streams has one window from 0 on, here windows begin before 1970 as they do behind it.
    """

    apart: int
    grace: int
    records: list[tuple[str, str, int]]
    updates: Mapping[str, Mapping[int, list[str]]]
    closed: Mapping[str, Mapping[int, str]]
    late: int = 0
    closed_grace: int | None = None


def of(key: str, *records: tuple[str, int]) -> list[tuple[str, str, int]]:
    return [(key, value, at) for value, at in records]


LARGE = [
    *of("A", ("1", 10), ("2", 20), ("3", 22), ("4", 15)),
    *of("B", ("1", 12), ("2", 13), ("3", 18), ("4", 19), ("5", 25), ("6", 14)),
    *of("C", ("1", 11), ("2", 15), ("3", 16), ("4", 21), ("5", 23)),
    *of("D", ("4", 11), ("2", 12), ("3", 29), ("5", 16)),
]
CASES = {
    "testAggregateSmallInput": Case(
        10, 5,
        of("A", ("1", 10), ("2", 10), ("3", 14), ("4", 15), ("5", 20), ("6", 22), ("7", 30)),
        {"A": {
            0: ["1", "12"], 4: ["123"], 5: ["1234"], 10: ["12345"], 11: ["3", "34", "345"], 12: ["3456"],
            15: ["4", "45", "456"], 16: ["5", "56"], 20: ["567"], 21: ["6", "67"], 23: ["7"],
        }},
        {"A": {0: "12", 4: "123", 5: "1234", 10: "12345", 11: "345", 12: "3456"}},
    ),
    "testReduceSmallInput": Case(
        10, 5,
        of("A", ("1", 10), ("2", 14), ("3", 15), ("4", 22), ("5", 26), ("6", 30)),
        {"A": {
            0: ["1"], 4: ["12"], 5: ["123"], 11: ["2", "23"], 12: ["234"], 15: ["3", "34"], 16: ["4", "45"],
            20: ["456"], 23: ["5", "56"], 27: ["6"],
        }},
        {"A": {0: "1", 4: "12", 5: "123", 11: "23", 12: "234"}},
    ),
    "testAggregateLargeInput": Case(
        10, 50, LARGE,
        {
            "A": {
                0: ["1"], 5: ["14"], 10: ["12", "124"], 11: ["2", "24"], 12: ["23", "234"], 16: ["23"], 21: ["3"],
            },
            "B": {
                2: ["1"], 3: ["12"], 4: ["126"], 8: ["123", "1236"], 9: ["1234", "12346"],
                13: ["2", "23", "234", "2346"], 14: ["3", "34", "346"], 15: ["345"], 19: ["4", "45"], 20: ["5"],
            },
            "C": {
                1: ["1"], 5: ["12"], 6: ["123"], 11: ["1234"], 12: ["2", "23", "234"], 13: ["2345"],
                16: ["3", "34", "345"], 17: ["4", "45"], 22: ["5"],
            },
            "D": {1: ["4"], 2: ["24"], 6: ["245"], 12: ["2", "25"], 13: ["5"], 19: ["3"]},
        },
        {"A": {0: "1", 5: "14"}, "B": {2: "1", 3: "12", 8: "1236"}, "C": {5: "2", 6: "23"}},
        late=4, closed_grace=10,
    ),
    "testNoGracePeriodSmallInput": Case(
        50, 0,
        of("A", ("1", 100), ("2", 105), ("3", 106), ("4", 103), ("5", 113), ("6", 110)),
        {"A": {
            50: ["1"], 55: ["12"], 56: ["123", "1234"], 63: ["12345", "123456"],
            101: ["2", "23", "234", "2345", "23456"], 104: ["23", "235", "2356"], 106: ["3", "35", "356"],
            107: ["5", "56"], 111: ["5"],
        }},
        {"A": {50: "1", 55: "12", 56: "1234"}},
    ),
    "testNoGracePeriodLargeInput": Case(
        10, 0,
        of(
            "E", ("1", 100), ("3", 105), ("4", 106), ("2", 103), ("6", 113), ("5", 110), ("7", 104), ("8", 102),
            ("9", 115),
        ),
        {"E": {
            90: ["1"], 95: ["13"], 96: ["134", "1234"], 101: ["3", "34", "234"], 103: ["2346", "23456", "234567"],
            104: ["34", "346", "3456", "34567"], 105: ["3456", "34569"], 106: ["4", "46", "456", "4569"],
            107: ["6", "56", "569"], 111: ["6", "69"], 114: ["9"],
        }},
        {"E": {90: "1", 95: "13", 96: "1234", 101: "234", 103: "234567", 104: "34567"}},
        late=1,
    ),
    "shouldLogAndMeterWhenSkippingExpiredWindowByGrace": Case(
        10, 90,
        of(
            "k", ("a", 200), ("0", 100), ("1", 101), ("2", 102), ("3", 103), ("4", 104), ("5", 105), ("6", 15),
            ("b", 300), ("c", 400),
        ),
        {"k": {190: ["a"], 290: ["b"], 390: ["c"]}},
        {"k": {190: "a", 290: "b"}},
        late=7,
    ),
}  # fmt: skip


def results_of(
    apart: int, grace: int, emit: str, records: list[tuple[str, str, int]]
) -> tuple[dict[str, dict[int, list[str]]], int]:
    """By key and start, and how many records were too late."""
    app = kstream.App("windows")
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=Windowed[str], value=str)
    step: Any = app.stream(source).group_by_key().window(KafkaSliding(apart * MS), grace=grace * MS)
    step.reduce(lambda one, other: one + other, name="texts", value=str, emit=emit).to(out)
    found: defaultdict[str, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    with TestDriver(app, partitions=1) as driver:
        for key, value, at in records:
            driver.cluster.append("in", key.encode(), value.encode(), ERA + at, None, 0)
        driver.commit()
        for record in driver.records(out):
            found[record.key.key][record.key.start - ERA].append("".join(sorted(record.value)))
        return {key: dict(rows) for key, rows in found.items()}, sum(int(one["late"]) for one in dropped_by(driver))


@pytest.mark.parametrize("name", CASES)
def test_the_rows_of_kafka_streams(name: str) -> None:
    case = CASES[name]
    late = 0 if case.closed_grace is not None else case.late
    assert results_of(case.apart, case.grace, "update", case.records) == (case.updates, late)
    grace = case.grace if case.closed_grace is None else case.closed_grace
    closed = {key: {start: [values] for start, values in rows.items()} for key, rows in case.closed.items()}
    assert results_of(case.apart, grace, "close", case.records) == (closed, case.late)


SHUFFLED = dict(zip("ABCDEFGHIJKLMNOPQRSTU", (
    10, 15, 16, 18, 30, 40, 55, 56, 58, 58, 62, 63, 63, 63, 76, 77, 80, 2, 3, 5, 8,
), strict=True))  # fmt: skip
OF_SHUFFLED = {
    0: "ARSTU", 3: "ASTU", 4: "ATU", 5: "ABTU", 6: "ABCU", 8: "ABCDU", 9: "ABCD", 11: "BCD", 16: "CD", 17: "D",
    20: "E", 30: "EF", 31: "F", 45: "G", 46: "GH", 48: "GHIJ", 52: "GHIJK", 53: "GHIJKLMN", 56: "HIJKLMN",
    57: "IJKLMN", 59: "KLMN", 63: "LMN", 66: "O", 67: "OP", 70: "OPQ",
}  # fmt: skip


@examples(10)
@given(st.permutations(list(SHUFFLED.items())))
def test_the_order_in_which_records_come_does_not_matter_within_the_grace(given_: list[tuple[str, int]]) -> None:
    """testAggregateRandomInput. Windows that begin before 0 are one there."""
    found, late = results_of(10, 100, "close", of("A", *given_, ("V", 181)))
    assert {start: values for start, (values,) in found["A"].items() if start >= 0} == OF_SHUFFLED
    assert not late


# ---- single promises


def test_a_window_ends_with_each_record_and_one_begins_behind_it() -> None:
    app, source, out = declared(10, 0, 0, "update")
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=1000)
        driver.send(source, 2, key="a", timestamp=1010)
        driver.send(source, 3, key="a", timestamp=1011)
        assert driver.records(out) == [
            Record(Windowed("a", 990), [1], timestamp=1000),
            Record(Windowed("a", 1000), [1, 2], timestamp=1010),
            Record(Windowed("a", 1001), [2], timestamp=1010),
            Record(Windowed("a", 1001), [2, 3], timestamp=1011),  # it ends with this one, and begins behind the first
            Record(Windowed("a", 1011), [3], timestamp=1011),
        ]


@pytest.mark.parametrize("emit", ["close", "update", "commit"])
def test_windows_that_end_before_1970_are_windows_like_others(emit: str) -> None:
    """Kafka's own times may be so early."""
    app, source, out = declared(10, 0, 0, emit)
    with TestDriver(app, partitions=1) as driver:
        for n, at in ((1, -1000), (2, -992), (3, -1)):
            driver.cluster.append("in", b"a", str(n).encode(), at, None, 0)
        driver.commit()
        driver.send(source, 4, key="b", timestamp=1000)
        driver.commit()
        last = {(record.key.key, record.key.start): record.value for record in driver.records(out)}
        last.pop(("b", 990), None)
        assert last == {("a", -1010): [1], ("a", -1002): [1, 2], ("a", -999): [2], ("a", -11): [3]}


def test_each_window_that_changed_is_told_once_a_commit() -> None:
    app, _, out = declared(10, 5, 0, "commit")
    with TestDriver(app, partitions=1) as driver:
        for n, at in ((1, 1000), (2, 1004), (3, 1004)):
            driver.cluster.append("in", b"a", str(n).encode(), at, None, 0)
        driver.commit()
        driver.cluster.append("in", b"b", b"9", 1020, None, 0)  # closes all of these, which were told
        driver.cluster.append("in", b"b", b"8", 1040, None, 0)  # closes that of the one before, which was not
        driver.commit()
        assert driver.records(out) == [
            Record(Windowed("a", 990), [1], timestamp=1000),
            Record(Windowed("a", 994), [1, 2, 3], timestamp=1004),
            Record(Windowed("a", 1001), [2, 3], timestamp=1004),
            Record(Windowed("b", 1010), [9], timestamp=1020),
            Record(Windowed("b", 1030), [8], timestamp=1040),
        ]


def test_so_much_more_grace_and_a_millisecond_would_have_kept_it() -> None:
    for more, kept in ((0, False), (1, True)):
        app = kstream.App("windows")
        source, late = app.topic("in", key=str, value=int), app.topic("late", key=str, value=int)
        out = app.topic("out", key=Windowed[str], value=int)
        grace = timedelta(milliseconds=10 + 57 * more + more)
        group = app.stream(source).group_by_key().window(KafkaSliding(20 * MS), grace=grace, late=late)
        group.count(name="counts").to(out)
        with TestDriver(app, partitions=1) as driver:
            driver.send(source, 1, key="a", timestamp=1000)
            driver.send(source, 1, key="a", timestamp=1000 - 10 - 58)
            assert len(driver.values(out)) == 1 + kept
            assert [one.headers for one in driver.records(late)] == [[("kstream.late.by", b"57")]] * (not kept)


@pytest.mark.parametrize("emit", ["close", "update", "commit"])
def test_a_record_that_fails_is_in_no_window(emit: str) -> None:
    app = kstream.App("windows", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=Windowed[str], value=int)

    def added(total: int, n: int) -> int:
        if n < 0:
            raise ValueError(n)
        return total + n

    group: Any = app.stream(source).group_by_key().window(KafkaSliding(10 * MS), grace=0 * MS)
    group.aggregate(int, added, value=int, name="folded", emit=emit).to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, -5, key="a", timestamp=999)
        for n, at in ((1, 1000), (-1, 1001), (2, 1002), (-3, 1003), (4, 1004), (0, 2000)):
            driver.cluster.append("in", b"a", str(n).encode(), at, None, 0)
        driver.commit()
        last = {record.key.start: record.value for record in driver.records(out)}
        assert {start: last[start] for start in last if start < 1500} == {990: 1, 992: 3, 994: 7, 1001: 6, 1003: 4}
        assert len(driver.cluster.records("windows-dead-letters")) == 3


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_a_longer_grace_tells_no_window_of_fewer_records_than_it_had(backend: str) -> None:
    """Some of them are gone: what is told again is what was told, and what came since then."""
    app, source, out = declared(10, 0, 0, "close")
    driver: Any
    with TestDriver(app, partitions=1, backend=backend) as driver:
        for at in (1000, 1008, 1015, 1016):
            driver.send(source, at, key="a", timestamp=at)
        driver.commit()
        told = driver.records(out)
        assert [(one.key.start, one.value) for one in told] == [
            (990, [1000]), (998, [1000, 1008]), (1001, [1008]), (1005, [1008, 1015]),
        ]  # fmt: skip
        driver._topology = declared(10, 8, 0, "close")[0].topology()
        driver.crash()
        driver.send(source, 1, key="a", timestamp=1009)
        driver.send(source, 2, key="a", timestamp=2000)
        again = [(one.key.start, one.value) for one in driver.records(out)[len(told) :]]
        assert (1005, [1008, 1, 1015]) in again
        assert not any(1000 not in values for start, values in again if start <= 1000)


FOLDS: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "count": (lambda group: group.count(emit="close", name="a"), int, 4),
    "sum": (lambda group: group.sum(lambda n: n, value=int, emit="close", name="a"), int, 9),
    "min": (lambda group: group.min(lambda n: n, value=int, emit="close", name="a"), int, 1),
    "max": (lambda group: group.max(lambda n: n, value=int, emit="close", name="a"), int, 4),
    "mean": (lambda group: group.mean(lambda n: n, emit="close", name="a"), float, 2.25),
    "count_distinct": (lambda group: group.count_distinct(lambda n: n, of=int, emit="close", name="a"), int, 3),
    "quantiles": (lambda group: group.quantiles(lambda n: n, [0, 1], emit="close", name="a"), list[float], [1.0, 4.0]),
    "first": (lambda group: group.first(emit="close", name="a"), int, 1),
    "last": (lambda group: group.last(emit="close", name="a"), int, 3),
    "collect": (lambda group: group.collect(emit="close", name="a"), list[int], [1, 4, 1, 3]),
    "top_n": (lambda group: group.top_n(2, by=lambda n: n, emit="close", name="a"), list[int], [4, 3]),
    "least": (lambda group: group.top_n(2, by=lambda n: n, least=True, emit="close", name="a"), list[int], [1, 1]),
    "reduce": (lambda group: group.reduce(lambda a, b: 10 * a + b, emit="close", name="a"), int, 1413),
    "aggregate": (lambda group: group.aggregate(int, lambda a, n: 2 * a + n, emit="close", name="a"), int, 29),
}


@pytest.mark.parametrize("name", FOLDS)
def test_each_aggregation(name: str) -> None:
    declare, kind, result = FOLDS[name]
    app = kstream.App("windows")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=Windowed[str], value=kind)
    declare(app.stream(source).group_by_key().window(KafkaSliding(seconds=1), grace=timedelta(seconds=1))).to(out)
    with TestDriver(app, partitions=1) as driver:
        for n, at in ((3, 5400), (1, 5000), (4, 5200), (1, 5300), (0, 9000)):
            driver.cluster.append("in", b"a", str(n).encode(), at, None, 0)
        driver.commit()
        assert {one.key.start: one.value for one in driver.records(out)}[4400] == result


def test_values_that_a_function_changes_are_its_own() -> None:
    app = kstream.App("windows")
    source, out = app.topic("in", key=str, value=dict), app.topic("out", key=Windowed[str], value=dict)

    def into(total: dict[str, int], new: dict[str, int]) -> dict[str, int]:
        total["n"] += new["n"]
        new["n"] = 99
        return total

    group = app.stream(source).group_by_key().window(KafkaSliding(10 * MS), grace=0 * MS)
    group.reduce(into, name="r").to(out)
    with TestDriver(app, partitions=1) as driver:
        for at in (1000, 1005, 1009):
            driver.cluster.append("in", b"a", b'{"n":1}', at, None, 0)
        driver.commit()
        driver.crash()
        driver.send(source, {"n": 1}, key="a", timestamp=1010)
        assert {one.key.start: one.value for one in driver.records(out)}[1000] == {"n": 4}


class _Codec:
    def encode(self, value: Any) -> bytes:
        return b""

    def decode(self, data: bytes) -> Any:
        return data


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda g: KafkaSliding(), "KafkaSliding: give it a difference"),
        (lambda g: KafkaSliding(0 * MS), "KafkaSliding: difference="),
        (lambda g: g.window(KafkaSliding(MS), grace=5), "grace=5 is not a timedelta"),
        (lambda g: g.window(KafkaSliding(MS), grace=MS, early=MS), "early= is for Tumbling"),
        (lambda g: g.window(KafkaSliding(MS), grace=MS).count(emit="often"), "emit='often'"),
        (lambda g: g.window(KafkaSliding(MS), grace=MS).top_n(0, by=lambda n: n), "top_n: n=0"),
        (lambda g: g.window(KafkaSliding(MS), grace=MS).sum(lambda n: n, value=_Codec()), "records are kept as JSON"),
        (lambda g: g.window(KafkaSliding(MS), grace=MS).aggregate(int, lambda a, n, ctx: a), "takes 3"),
    ],
)
def test_what_cannot_be_is_refused(declare: Callable[[Any], object], said: str) -> None:
    app = kstream.App("windows")
    with pytest.raises(TopologyError) as error:
        declare(app.stream(app.topic("in", key=str, value=int)).group_by_key())
    assert said in str(error.value)


def test_what_has_no_method_says_what_to_do() -> None:
    app = kstream.App("windows")
    group: Any = app.stream(app.topic("in", key=str, value=int)).group_by_key().window(KafkaSliding(MS), grace=MS)
    with pytest.raises(AttributeError, match="aggregate it first"):
        group.map(print)


def test_entries_of_another_store_are_named() -> None:
    spec = StoreSpec("windows", schema(str, "key"), schema(Any, "value"), holds="recent")
    for raw in (b"7", b'{"times":[]}', b"[]"):
        with pytest.raises(EntryUnreadable, match="'windows': what it has of b'k' are no records of sliding windows"):
            places_of_records(spec, {b"k": raw})


def test_a_function_that_returns_nothing() -> None:
    app = kstream.App("windows")
    source: Any = app.topic("in", key=str, value=int)
    group: Any = app.stream(source).group_by_key().window(KafkaSliding(MS), grace=MS)
    group.aggregate(int, lambda total, n: None, value=int, name="a", emit="close")
    with TestDriver(app, partitions=1) as driver:
        with pytest.raises(KStreamError, match="a function of 'a' returned None"):
            driver.send(source, 1, key="k", timestamp=1000)
        driver.close(commit=False)
