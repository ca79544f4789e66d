"""Joins of streams by time: the rows that Kafka Streams gives, an oracle over any rows, and what is kept how long."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Tumbling, table_nodes
from kstream.codecs.buffered import Place, place_codec
from kstream.operators.base import Operator
from kstream.operators.joins import stream_stream, waiting
from kstream.operators.joins.stream_stream import StreamStreamJoin
from kstream.partitioning import partition_of
from kstream.state import buffers
from kstream.testing import TestDriver
from support.cases import cases

MS = timedelta(milliseconds=1)
LEFT, RIGHT = "left", "right"
KEYED, NO_KEY = "k", None
INPUT: list[tuple[str, str | None, str | None, int]] = [
    (LEFT, KEYED, None, 1), (RIGHT, KEYED, None, 2), (LEFT, KEYED, "A", 3), (RIGHT, KEYED, "a", 4),
    (LEFT, KEYED, "B", 5), (RIGHT, KEYED, "b", 6), (LEFT, KEYED, None, 7), (RIGHT, KEYED, None, 8),
    (LEFT, KEYED, "C", 9), (RIGHT, KEYED, "c", 10), (RIGHT, KEYED, None, 11), (LEFT, KEYED, None, 12),
    (RIGHT, KEYED, None, 13), (RIGHT, KEYED, "d", 14), (LEFT, KEYED, "D", 15), (LEFT, NO_KEY, "E", 16),
    (RIGHT, NO_KEY, "e", 17),
]  # fmt: skip
"""Side, key, value and time of each record: the input of Kafka Streams' StreamStreamJoinIntegrationTest (4.x)."""

INNER: dict[int, tuple[list[str], int]] = {
    3: (["A-a"], 4), 4: (["B-a"], 5), 5: (["A-b", "B-b"], 6), 8: (["C-a", "C-b"], 9),
    9: (["A-c", "B-c", "C-c"], 10), 13: (["A-d", "B-d", "C-d"], 14), 14: (["D-a", "D-b", "D-c", "D-d"], 15),
}  # fmt: skip
EXPECTED: dict[str, dict[int, tuple[list[str], int]]] = {
    "inner": INNER,
    "left": {**INNER, 15: (["E-null"], 16)},
    "outer": {**INNER, 15: (["E-null"], 16), 16: (["null-e"], 17)},
}
"""What comes out at which record of the input, and its time (testInner, testLeft, testOuter)."""

HOWS = list(EXPECTED)


def pair(left: str | None, right: str | None) -> str:
    return f"{left or 'null'}-{right or 'null'}"


class Joined:
    """An app that joins two streams; `travels`: behind repartition topics."""

    def __init__(
        self, how: str, within: Any, grace: int, partitions: int = 1, *, travels: bool = False, out_of_order: int = 0
    ) -> None:
        self.app = kstream.App(f"joins-{how}")
        self.left, self.right = (
            self.app.topic(name, key=str, value=str | None, partitions=partitions, out_of_order=out_of_order * MS)
            for name in (LEFT, RIGHT)
        )
        self.out = self.app.topic("out", key=str, value=str)
        streams = [self.app.stream(topic) for topic in (self.left, self.right)]
        if travels:
            streams = [stream.rekey(lambda value, ctx: ctx.key, key=str) for stream in streams]
        joined: Any = streams[0].join(streams[1], pair, within=within, grace=grace * MS, how=how, name="joined")
        joined.to(self.out)

    def topic(self, side: str) -> kstream.Topic[str, str | None]:
        return self.left if side == LEFT else self.right


def dropped(driver: TestDriver) -> dict[str, int]:
    tasks = driver.worker.tasks.values()
    return dict(sum((one.dropped for task in tasks for one in task.plan.operators), Counter[str]()))


@pytest.mark.parametrize("travels", [False, True], ids=["in place", "travelled"])
@pytest.mark.parametrize("how", HOWS)
def test_the_rows_of_kafka_streams(how: str, travels: bool) -> None:
    joined, found = Joined(how, timedelta(seconds=10), 86_400_000, travels=travels), {}
    with TestDriver(joined.app) as driver:
        for index, (side, key, value, at) in enumerate(INPUT):
            seen = len(driver.records(joined.out))
            driver.send(joined.topic(side), value, key=key, timestamp=1000 + at)
            records = driver.records(joined.out)[seen:]
            if records:
                (stamp,) = {record.timestamp for record in records}
                found[index] = [record.value for record in records], stamp - 1000
                assert {record.key for record in records} == {key}
    assert found == EXPECTED[how]


def test_the_rows_of_kafka_streams_of_a_stream_with_itself() -> None:
    """StreamStreamJoinIntegrationTest.testSelfJoin."""
    app = kstream.App("itself")
    source, out = app.topic("in", key=str, value=str | None), app.topic("out", key=str, value=str)
    stream = app.stream(source)
    stream.join(stream, pair, within=timedelta(seconds=10), grace=timedelta(hours=24), name="joined").to(out)
    expected = [
        [], ["A-A"], ["B-A", "A-B", "B-B"], [], ["C-A", "C-B", "A-C", "B-C", "C-C"], [],
        ["D-A", "D-B", "D-C", "A-D", "B-D", "C-D", "D-D"],
    ]  # fmt: skip
    for at_once in (False, True):
        with TestDriver(app, partitions=1) as driver:
            for at, value in enumerate((None, "A", "B", None, "C", None, "D"), 1001):
                if at_once:
                    driver.cluster.append("in", b"k", None if value is None else value.encode(), at, None, 0)
                    continue
                seen = len(driver.values(out))
                driver.send(source, value, key="k", timestamp=at)
                assert driver.values(out)[seen:] == expected[at - 1001]
            assert driver.values(out) == [one for some in expected for one in some]


def test_the_rows_of_kafka_streams_of_two_joins_one_behind_the_other() -> None:
    """StreamStreamJoinIntegrationTest.testMultiInner."""
    app = kstream.App("multi")
    left, right = (app.topic(side, key=str, value=str | None, partitions=1) for side in (LEFT, RIGHT))
    out = app.topic("out", key=str, value=str)
    near: Any = {"within": timedelta(seconds=10), "grace": timedelta(hours=24)}
    once = app.stream(left).join(app.stream(right), pair, name="once", **near)
    once.join(app.stream(right), pair, name="twice", **near).to(out)
    expected = {
        3: ["A-a-a"], 4: ["B-a-a"], 5: ["A-b-a", "B-b-a", "A-a-b", "B-a-b", "A-b-b", "B-b-b"],
        8: ["C-a-a", "C-a-b", "C-b-a", "C-b-b"],
        9: [
            "A-c-a", "A-c-b", "B-c-a", "B-c-b", "C-c-a", "C-c-b", "A-a-c", "B-a-c", "A-b-c", "B-b-c", "C-a-c", "C-b-c",
            "A-c-c", "B-c-c", "C-c-c",
        ],
    }  # fmt: skip
    found = {}
    with TestDriver(app) as driver:
        for index, (side, key, value, at) in enumerate(INPUT[:13]):
            seen = len(driver.values(out))
            driver.send(left if side == LEFT else right, value, key=key, timestamp=1000 + at)
            if len(driver.values(out)) > seen:
                found[index] = driver.values(out)[seen:]
    assert found == expected


@pytest.mark.parametrize(
    ("partitions", "travels", "made"),
    [((4, 2), (True, True), 4), ((4, 3), (True, False), 3), ((3, 4), (False, True), 3)],
)
def test_records_meet_in_as_many_partitions(partitions: tuple[int, int], travels: tuple[bool, bool], made: int) -> None:
    app = kstream.App("meet")
    topics = [
        app.topic(side, key=str, value=str, partitions=n) for side, n in zip((LEFT, RIGHT), partitions, strict=True)
    ]
    out = app.topic("out", key=str, value=str)
    left, right = (
        app.stream(topic).rekey(lambda value: value, key=str) if moves else app.stream(topic)
        for topic, moves in zip(topics, travels, strict=True)
    )
    left.join(right, pair, within=MS, grace=MS, name="joined").to(out)
    with TestDriver(app) as driver:
        for n in range(20):
            for topic in topics:
                driver.send(topic, str(n), key=str(n), timestamp=1000)
        assert sorted(driver.values(out)) == sorted(f"{n}-{n}" for n in range(20))
        counts = {
            name: one.partitions for name, one in driver.cluster.topics().items() if name.startswith("meet-joined")
        }
        assert set(counts.values()) == {made}
        assert len(counts) == 2 + sum(travels)


# ---- any rows


class Row(NamedTuple):
    side: str
    key: str | None
    value: str | None
    at: int


class Oracle:
    """What the definition says, one record after the other. `inputs`: how many topics give the task its time."""

    def __init__(
        self, how: str, within: tuple[int, int], window: Tumbling | None, grace: int, out_of_order: int, inputs: int
    ) -> None:
        before, after = within
        self.bounds = {LEFT: (-before, after), RIGHT: (-after, before)}
        self.open_for = {LEFT: max(after, 0) + grace, RIGHT: max(before, 0) + grace}
        self.window, self.grace = window, grace
        self.kept = {LEFT: how != "inner", RIGHT: how == "outer"}
        self.inputs, self.out_of_order = inputs, out_of_order
        self.times: dict[str, int] = {}
        self.now = -(10**18)
        self.there: list[list[Any]] = []  # row, whether it found something
        self.results: list[tuple[str | None, str, int]] = []
        self.late = self.no_key = self.no_value = 0

    def until(self, row: Row) -> int:
        if self.window is not None:
            return self.window.last_start(row.at) + self.window.size - 1 + self.grace
        return row.at + self.open_for[row.side]

    def over(self, row: Row) -> bool:
        return self.until(row) < self.now

    def near(self, row: Row, other: Row) -> bool:
        if self.window is not None:
            return self.window.last_start(row.at) == self.window.last_start(other.at)
        low, high = self.bounds[row.side]
        return row.at + low <= other.at <= row.at + high

    def take(self, row: Row) -> None:
        source = row.side if self.inputs == 2 else "both"
        self.times[source] = max(self.times.get(source, -(10**18)), row.at - self.out_of_order)
        if len(self.times) == self.inputs:
            self.now = max(self.now, min(self.times.values()))
        self.let_go()
        kept, others = self.kept[row.side], self.there
        if row.value is None:
            self.no_value += 1
            return
        if row.key is None:
            if kept:
                self.tell(row, None)
            else:
                self.no_key += 1
            return
        found = sorted(
            (one for one in others if one[0].side != row.side and one[0].key == row.key and self.near(row, one[0])),
            key=lambda one: one[0].at,
        )
        if POISON in row.value and found:
            return
        if any(POISON in one[0].value for one in found):
            return
        for one in found:
            one[1] = True
            self.tell(row, one[0])
        if not found and self.over(row):
            if kept:
                self.tell(row, None)
            else:
                self.late += 1
        if not self.over(row):
            others.append([row, bool(found)])

    def let_go(self) -> None:
        over = [one for one in self.there if self.over(one[0])]
        self.there = [one for one in self.there if not self.over(one[0])]
        alone = [row for row, found in over if not found and self.kept[row.side]]
        for row in sorted(alone, key=lambda row: (self.until(row), row.side, row.key)):
            self.tell(row, None)

    def tell(self, row: Row, other: Row | None) -> None:
        sides = {row.side: row.value, other.side if other else "": other.value if other else None}
        stamp = row.at if other is None else max(row.at, other.at)
        self.results.append((row.key, pair(sides.get(LEFT), sides.get(RIGHT)), stamp))


POISON = "!"


def unless_poison(left: str | None, right: str | None) -> str:
    if left and right and POISON in left + right:
        raise ValueError(left + right)
    return pair(left, right)


def in_order(rows: list[Row], step: int) -> list[Row]:
    """As a task takes them from two topics: the one that comes next in the earlier step of time; of one step, left."""
    queues = {side: deque(row for row in rows if row.side == side) for side in (LEFT, RIGHT)}
    found = []
    while any(queues.values()):
        _, side = min((queue[0].at // step, side) for side, queue in queues.items() if queue)
        found.append(queues[side].popleft())
    return found


times = st.one_of(st.integers(1000, 1040), st.integers(1000, 1400))
rows = st.lists(
    st.builds(
        Row,
        st.sampled_from([LEFT, RIGHT]),
        st.sampled_from(["k", "k", "k", "l", "l", "m", None]),
        st.sampled_from(["a", "b", "c", "d", POISON, None]),
        times,
    ),
    min_size=1,
    max_size=60,
)
bounds = st.one_of(
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
    st.integers(0, 30).flatmap(lambda n: st.tuples(st.just(-n), st.integers(n, 40))),
    st.integers(0, 30).flatmap(lambda n: st.tuples(st.integers(n, 40), st.just(-n))),
)


def both_of(topic_of_sides: kstream.App, how: str, within: Any, grace: int, one_topic: bool, ooo: int) -> Any:
    """The app's topics by side, and what comes out."""
    app = topic_of_sides
    out = app.topic("out", key=str, value=str)
    if one_topic:
        source = app.topic("both", key=str, value=list[str | None], out_of_order=ooo * MS)
        ways = app.stream(source).branch(left=lambda value: value[0] == LEFT)
        streams = [
            way.map(lambda value: value[1], value=str | None)  # type: ignore[arg-type]
            for way in (ways["left"], ways["rest"])
        ]
    else:
        streams = [
            app.stream(app.topic(side, key=str, value=str | None, out_of_order=ooo * MS)) for side in (LEFT, RIGHT)
        ]
    joined: Any = streams[0].join(
        streams[1],
        unless_poison,
        within=within,
        grace=grace * MS,
        how=how,
        name="joined",  # type: ignore[call-overload]
    )
    joined.to(out)
    return out


@pytest.mark.parametrize("one_topic", [True, False], ids=["one topic", "two topics"])
@pytest.mark.parametrize("how", HOWS)
@cases
@given(
    rows=rows, within=bounds, grace=st.integers(0, 12), ooo=st.sampled_from([0, 0, 5]),
    cuts=st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["process", "crash", "commit"])), max_size=4),
    partitions=st.sampled_from([1, 2]), backend=st.sampled_from(["memory", "rocksdb"]), small=st.booleans(),
    step=st.sampled_from([1, 7, 1000]),
    window=st.one_of(
        st.none(), st.none(),
        st.builds(lambda size, at: Tumbling(size * MS, offset=at * MS), st.integers(1, 30), st.integers(-9, 9)),
    ),
)  # fmt: skip
def test_what_the_definition_says(
    how: str, one_topic: bool, rows: list[Row], within: tuple[int, int], grace: int, ooo: int,
    cuts: list[tuple[int, str]], partitions: int, backend: str, small: bool, step: int, window: Tumbling | None,
) -> None:  # fmt: skip
    """However the input is cut into batches, with crashes between, records that fail and are skipped, parts of a few
    records, steps of reading, and restarts. Of two topics the order is settled only by what is there at once, so there
    is a commit and a restart at each cut."""
    if sum(within) < 0:
        within = (-within[0], -within[1])
    app = kstream.App("any", on_error=[kstream.Skip()])
    out = both_of(app, how, window or (within[0] * MS, within[1] * MS), grace, one_topic, ooo)
    oracles = [Oracle(how, within, window, grace, ooo, 1 if one_topic else 2) for _ in range(partitions)]
    after = dict(cuts)
    limits = (2, 1) if small else (buffers.ROWS, waiting.LOOKED_AHEAD)
    with (
        patch.object(table_nodes, "STEP", step),
        patch.object(buffers, "ROWS", limits[0]),
        patch.object(waiting, "LOOKED_AHEAD", limits[1]),
        TestDriver(app, partitions=partitions, backend=backend) as driver,
    ):
        segment: list[Row] = []
        counted: Counter[str] = Counter()
        for number, row in enumerate(rows):
            segment.append(row)
            home = partition_of(row.key.encode(), partitions) if row.key else 0
            value = msgspec.json.encode([row.side, row.value]) if one_topic else row.value and row.value.encode()
            topic = "both" if one_topic else row.side
            driver.cluster.append(topic, row.key and row.key.encode(), value, row.at, None, home)
            if number in after or number == len(rows) - 1:
                how_cut = after.get(number, "commit") if number < len(rows) - 1 else "commit"
                if one_topic and how_cut == "process":
                    driver.process()
                    continue
                if how_cut == "crash":
                    driver.process()
                    counted.update(dropped(driver))
                    driver.crash()
                if not one_topic or how_cut == "commit":
                    driver.commit()
                if not one_topic:
                    counted.update(dropped(driver))
                    driver.crash()
                for one in segment if one_topic else in_order(segment, step):
                    oracles[partition_of(one.key.encode(), partitions) if one.key else 0].take(one)
                segment = []
        found = [(record.key, record.value, record.timestamp) for record in driver.records(out)]
        wanted = [result for oracle in oracles for result in oracle.results]
        for key in ("k", "l", "m", None):
            assert [one for one in found if one[0] == key] == [one for one in wanted if one[0] == key]
        if partitions == 1:
            assert found == wanted
        driver.commit()
        counted.update(dropped(driver))
        assert [counted[reason] for reason in ("late", "no key", "no value")] == [
            sum(getattr(oracle, name) for oracle in oracles) for name in ("late", "no_key", "no_value")
        ]


@pytest.mark.parametrize("how", HOWS)
def test_topics_whose_records_alternate_are_read_together(how: str) -> None:
    """Within a second it does not matter which of the two comes first, and each is read as one batch."""
    joined = Joined(how, timedelta(seconds=1), 0)
    with TestDriver(joined.app) as driver:
        for n in range(60):
            for side, topic in enumerate((LEFT, RIGHT)):
                driver.cluster.append(topic, b"%d" % n, b"x", 5000 + 2 * n + side, None, 0)
        with patch.object(StreamStreamJoin, "_join", autospec=True, side_effect=StreamStreamJoin._join) as join:
            assert driver.values(joined.out) == ["x-x"] * 60
        assert join.call_count < 6


# ---- what is kept


def latest(driver: TestDriver, changelog: str) -> dict[bytes | None, bytes]:
    """What a compacted topic has."""
    found = {record.key: record.value for record in driver.cluster.records(changelog)}
    return {key: value for key, value in found.items() if value is not None}


def stores_of(driver: TestDriver) -> list[Any]:
    return [store for task in driver.worker.tasks.values() for store in task.stores.values()]


def stored_in(driver: TestDriver) -> list[int]:
    """How many entries each store has."""
    return [task.backend.entries(name) for task in driver.worker.tasks.values() for name in task.stores]


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("how", HOWS)
def test_what_is_over_is_gone(how: str, backend: str) -> None:
    """From disk, memory and changelog, in pieces: nothing of the first thousand keys is left."""
    joined = Joined(how, (5 * MS, 20 * MS), 5)
    with TestDriver(joined.app, backend=backend) as driver, patch.object(stream_stream, "REMOVED", 100):
        for n in range(1000):
            driver.cluster.append(LEFT, b"%d" % n, b"l", 1000 + n // 100, None, 0)
            if n % 3:
                driver.cluster.append(RIGHT, b"%d" % n, b"r", 1000 + n // 100, None, 0)
        driver.commit()
        assert sum(stored_in(driver)) > 1500
        for at in range(1100, 1140):
            driver.send(joined.left, "l", key="later", timestamp=at)
            driver.send(joined.right, "r", key="later", timestamp=at)
            driver.commit()
        for store in stores_of(driver):
            kept = {key for key, _ in store.backend.scan(store.name)}
            assert {store.key_codec.decode(key).key for key in kept} == {"later"}
            assert not any(key.endswith(b"1") for key in store.live if store.live[key] is not None)
            assert set(latest(driver, f"joins-{how}-{store.name}-changelog")) == kept
            assert all(store.key_codec.decode(key).start > 1139 - 20 - 5 - 2 * 13 for key in kept)
        alone = [record for record in driver.records(joined.out) if "null" in record.value and record.key != "later"]
        assert len(alone) == (0 if how == "inner" else 334)


def test_records_of_one_window_are_joined() -> None:
    joined = Joined("outer", Tumbling(10 * MS), 2)
    with TestDriver(joined.app) as driver:
        for side, value, at in (
            (LEFT, "A", 1000), (RIGHT, "a", 1009), (RIGHT, "b", 1010), (LEFT, "B", 1009), (LEFT, "C", 1021),
            (RIGHT, "c", 1021), (RIGHT, "d", 1009), (LEFT, "D", 1022), (RIGHT, "e", 1022), (LEFT, "E", 1019),
        ):  # fmt: skip
            driver.send(joined.topic(side), value, key="k", timestamp=at)
        # at 1021 the window before 1010 is over, so d is late, and alone; that before 1020 is over at 1022
        assert [(record.value, record.timestamp) for record in driver.records(joined.out)] == [
            ("A-a", 1009), ("B-a", 1009), ("C-c", 1021), ("null-d", 1009), ("D-c", 1022), ("null-b", 1010),
            ("C-e", 1022), ("D-e", 1022), ("E-null", 1019),
        ]  # fmt: skip


def test_a_key_with_many_records_is_not_written_again_and_again() -> None:
    joined = Joined("left", timedelta(seconds=1), 0)
    count, size = 2000, 100
    with TestDriver(joined.app) as driver:
        for n in range(count):
            driver.cluster.append(LEFT, b"k", b"x" * size, 1000 + n // 10, None, 0)
            if n % 10 == 9:
                driver.commit()
        written = [len(record.value or b"") for record in driver.cluster.records("joins-left-joined-left-changelog")]
        assert max(written) < buffers.ROWS * (size + 20)
        assert sum(written) < count * (size + 20) * 4
        driver.send(joined.right, "r", key="k", timestamp=1100)
        driver.crash()
        driver.process()
        assert len(driver.values(joined.out)) == count


def test_a_result_for_want_of_others_that_fails_blames_no_record() -> None:
    app = kstream.App("blame", on_error=[kstream.DeadLetter()])
    left, right = (app.topic(side, key=str, value=str) for side in (LEFT, RIGHT))
    out = app.topic("out", key=str, value=str)

    def joiner(one: str, other: str | None) -> str:
        return one + other  # type: ignore[operator]

    app.stream(left).join(app.stream(right), joiner, within=MS, grace=0 * MS, how="left", name="j").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(left, "a", key="k", timestamp=1000)
        driver.send(right, "b", key="l", timestamp=1002)
        driver.send(left, "c", key="l", timestamp=1002)
        driver.commit()
        (letter,) = driver.cluster.records("blame-dead-letters")
        assert (letter.key, letter.value, letter.timestamp) == (b"k", b"a", 1000)
        assert driver.values(out) == ["cb"]


def test_an_input_that_is_idle_holds_nothing_back() -> None:
    joined = Joined("left", 10 * MS, 0)
    with TestDriver(joined.app) as driver:
        driver.send(joined.left, "a", key="k", timestamp=1000)
        driver.send(joined.left, "b", key="k", timestamp=1050)
        driver.commit()
        assert driver.values(joined.out) == []
        driver.advance(6)
        assert driver.values(joined.out) == ["a-null"]


def test_windows_behind_a_repartition_are_not_late() -> None:
    """What comes of records that found nothing is behind the time of its task, and the repartition topic says so."""
    app = kstream.App("behind")
    left, right = (app.topic(side, key=str, value=str, partitions=2) for side in (LEFT, RIGHT))
    out = app.topic("out", key=kstream.Windowed[str], value=int)
    joined = app.stream(left).join(app.stream(right), pair, within=30 * MS, grace=7 * MS, how="left", name="joined")
    counts = joined.group_by(lambda value: value[0], key=str, name="by").window(kstream.Tumbling(10 * MS), grace=0 * MS)
    counts.count(name="n", emit="close").to(out)
    with TestDriver(app, partitions=2) as driver:
        for n in range(100):
            for side in (left, right):
                driver.send(side, "x", key=f"{side.name}{n}", timestamp=1000 + n)
            if n % 9 == 0:
                driver.commit()
        for side in (left, right):
            for partition in (0, 1):
                driver.cluster.append(side.name, b"last", b"y", 9000, None, partition)
        driver.commit()
        found = {record.key.start: record.value for record in driver.records(out) if record.key.key == "x"}
        assert found == {start: 10 for start in range(1000, 1100, 10)}


def test_a_joiner_has_values_of_its_own_and_may_ask_the_context() -> None:
    app = kstream.App("own")
    left, right = (app.topic(side, key=str, value=list[str]) for side in (LEFT, RIGHT))
    out = app.topic("out", key=str, value=list[str])

    def joiner(one: list[str], other: list[str], ctx: kstream.Context[str]) -> list[str]:
        one.append(ctx.key)
        return one + other

    app.stream(left).join(app.stream(right), joiner, within=MS, grace=0 * MS, name="j").peek(list.clear).to(out)
    app.stream(left).join(app.stream(right), joiner, within=MS, grace=0 * MS, name="j2").to(out)
    with TestDriver(app, partitions=1) as driver:
        for _ in range(2):
            driver.send(right, ["r"], key="k", timestamp=1000)
        driver.send(left, ["l"], key="k", timestamp=1000)
        driver.commit()
        assert driver.values(out) == [[], [], ["l", "k", "r"], ["l", "k", "r"]]


def test_the_type_of_what_is_kept_may_change_as_that_of_a_table() -> None:
    app = kstream.App("types")
    left = app.topic(LEFT, key=str, value=int)
    app.stream(left).filter(bool).join(app.stream(left), lambda a, b: a + b, within=MS, grace=MS, name="j")
    stores = app.topology().parts[0].stores
    assert [(store.name, str(store.key), str(store.value)) for store in stores] == [
        ("j-left", "str", "int"), ("j-right", "str", "int"),
    ]  # fmt: skip
    assert [
        store.home_key(place_codec(store_key.codec).encode(Place("a", 5, 7)))
        for store, store_key in zip(stores, (left.key, left.key), strict=True)
    ] == [b"a", b"a"]


# ---- what is refused


def refused(declare: Callable[[kstream.App, Any, Any], object]) -> str:
    app = kstream.App("refused")
    left, right = (app.stream(app.topic(side, key=str, value=str)) for side in (LEFT, RIGHT))
    with pytest.raises(kstream.errors.TopologyError) as error:
        declare(app, left, right)
        app.topology()
    return str(error.value)


def of_another_app(app: kstream.App, left: Any, right: Any) -> None:
    other = kstream.App("other")
    left.join(other.stream(other.topic("x", key=str, value=str)), pair, within=MS, grace=MS)


def of_other_keys(app: kstream.App, left: Any, right: Any) -> None:
    left.join(app.stream(app.topic("x", key=int, value=str)), pair, within=MS, grace=MS)


def of_windows(app: kstream.App, left: Any, right: Any) -> None:
    one, two = (
        side.group_by_key().window(kstream.Tumbling(MS), grace=MS).count(name=name).stream()
        for name, side in (("a", left), ("b", right))
    )
    one.join(two, lambda a, b: a + b, within=MS, grace=MS)


def before_windows(app: kstream.App, left: Any, right: Any) -> None:
    joined = left.join(right, pair, within=MS, grace=MS, how="left", name="j")
    joined.group_by_key().window(kstream.Tumbling(MS), grace=MS).count(name="n")


def behind_commits(app: kstream.App, left: Any, right: Any) -> None:
    left.group_by_key().count(name="n", emit="commit").stream().join(right, pair, within=MS, grace=MS, name="j")


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda app, left, right: left.join(right, pair, grace=MS), "two streams are joined by time: say how far"),
        (lambda app, left, right: left.join(right, pair, within=MS), "say how late records may come"),
        (lambda app, left, right: left.join(right, pair, within=5, grace=MS), "within=5 is neither"),
        (lambda app, left, right: left.join(right, pair, within=(MS,), grace=MS), "is neither a timedelta, nor a pair"),
        (
            lambda app, left, right: left.join(right, pair, within=kstream.Hopping(2 * MS, every=MS), grace=MS),
            "Tumbling",
        ),
        (lambda app, left, right: left.join(right, pair, within=(-2 * MS, MS), grace=MS), "ends before it begins"),
        (lambda app, left, right: left.join(right, pair, within=MS / 2, grace=MS), "whole numbers of milliseconds"),
        (lambda app, left, right: left.join(right, pair, within=MS, grace=-MS), "grace="),
        (lambda app, left, right: left.join(right, pair, within=MS, grace=MS, how="full"), "neither 'inner', 'left'"),
        (lambda app, left, right: left.join(right, len, within=MS, grace=MS), "takes 1 arguments"),
        (lambda app, left, right: left.join(right.to_table("t"), pair, within=MS), "are for two streams"),
        (lambda app, left, right: left.join(5, pair), "join"),
        (of_another_app, "is of another app (other)"),
        (of_other_keys, "has keys of type int, and source left"),
        (of_windows, "give both sides keys of another type first"),
        (before_windows, "windows of 'n': the results of 'j' come after their times have passed here (how='left')"),
        (behind_commits, "join 'j': the results of 'n' come after their times have passed here (emit='commit')"),
    ],
)
def test_what_cannot_be_joined(declare: Callable[[kstream.App, Any, Any], object], said: str) -> None:
    assert said in refused(declare)


def test_the_last_records_of_quiet_topics_have_their_results() -> None:
    """`idle_advance`: time goes on with the clock to the end of what found nothing; no commits follow for nothing."""
    app = kstream.App("quiet")
    left, right = (app.topic(side, key=str, value=str, idle_advance=True) for side in (LEFT, RIGHT))
    out = app.topic("out", key=str, value=str)
    app.stream(left).join(app.stream(right), pair, within=timedelta(minutes=1), grace=0 * MS, how="left", name="j").to(
        out
    )
    with TestDriver(app, partitions=1) as driver:
        driver.send(right, "b", key="l")
        driver.send(left, "a", key="k")
        driver.send(left, "b", key="l")
        driver.commit()
        for _ in range(30):
            driver.advance(10)
        assert driver.values(out) == ["b-b", "a-null"]
        commits = driver.worker.commits
        for _ in range(30):
            driver.advance(10)
        assert driver.worker.commits == commits
        assert stored_in(driver) == [0, 0]


def test_records_of_one_key_that_find_nothing_leave_one_by_one() -> None:
    """Thousands of a key in one bucket, each over at a time of its own: the parts that are left are not gone through
    for each."""
    joined = Joined("left", (timedelta(seconds=30), timedelta(seconds=1)), 0)
    count = 4_000
    with TestDriver(joined.app) as driver:
        for n in range(count):
            driver.cluster.append(LEFT, b"k", b"x", 100_000 + n, None, 0)
        driver.send(joined.right, "r", key="l", timestamp=100_000)
        driver.commit()
        began = time.process_time()
        for n in range(count // 2):
            driver.cluster.append(RIGHT, b"r", b"r", 101_001 + n, None, 0)
            driver.cluster.append(LEFT, b"%d" % n, b"l", 101_001 + n, None, 0)
        driver.commit()
        assert time.process_time() - began < 30
        assert [record.timestamp for record in driver.records(joined.out) if record.value == "x-null"] == list(
            range(100_000, 100_000 + count // 2)
        )


@pytest.mark.parametrize("how", ["left", "outer"])
def test_a_record_whose_lone_result_could_not_be_written_fails_itself(how: str) -> None:
    """Its time is 1970-01-01T00:00:00Z. Behind it, when it is over, no policy could help."""
    app = kstream.App("epoch", on_error=[kstream.DeadLetter()])
    left, right = (app.topic(side, key=str, value=str, partitions=1) for side in (LEFT, RIGHT))
    out = app.topic("out", key=str, value=str)
    joined: Any = app.stream(left)
    joined.join(app.stream(right), pair, within=MS, grace=0 * MS, how=how, name="j").to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(left, "alone", key="alone", timestamp=0)
        driver.send(left, "a", key="k", timestamp=1000)
        driver.send(right, "b", key="k", timestamp=1000)
        assert driver.values(out) == ["a-b"]
        (dead,) = driver.cluster.records("epoch-dead-letters")
        assert dead.value == b"alone"


def test_results_of_a_key_with_many_records_go_on_in_pieces() -> None:
    joined, sizes = Joined("inner", timedelta(seconds=1), 0), []

    def emit(self: StreamStreamJoin, batch: Any) -> None:
        sizes.append(batch.size)
        Operator.emit(self, batch)

    with (
        TestDriver(joined.app) as driver,
        patch.object(stream_stream, "AT_ONCE", 100),
        patch.object(StreamStreamJoin, "emit", emit),
    ):
        for side in (LEFT, RIGHT):
            for n in range(70):
                driver.cluster.append(side, b"k", b"%d" % n, 1000 + n, None, 0)
        assert driver.values(joined.out) == [f"{left}-{right}" for right in range(70) for left in range(70)]
    assert max(sizes) <= 100
    assert sum(sizes) == 4900


@pytest.mark.parametrize("within", [timedelta(minutes=1), Tumbling(minutes=1)], ids=["apart", "windows"])
def test_thousands_that_are_over_at_once_are_known_in_pieces(within: Any) -> None:
    """Of one ms, and of one window: no more than twice what may be known is, and each is told once."""
    joined, known = Joined("left", within, 0), []
    look = waiting.Waiting._look

    def looked(self: waiting.Waiting, now: int) -> None:
        look(self, now)
        known.append(len(self._known))

    with (
        TestDriver(joined.app) as driver,
        patch.object(waiting, "LOOKED_AHEAD", 50),
        patch.object(waiting.Waiting, "_look", looked),
    ):
        for n in range(1000):
            driver.cluster.append(LEFT, b"%04d" % n, b"l", 60_000, None, 0)
        driver.send(joined.right, "r", key="r", timestamp=60_000)
        for topic in (joined.left, joined.right):
            driver.send(topic, "x", key="later", timestamp=300_000)
        assert [record.key for record in driver.records(joined.out)][:1000] == [f"{n:04}" for n in range(1000)]
        assert len(driver.records(joined.out)) == 1001
    assert max(known) < 100
    assert sum(known) >= 1000


def test_a_record_that_fails_does_not_have_the_store_read_again() -> None:
    app = kstream.App("again", on_error=[kstream.Skip()])
    left, right = (app.topic(side, key=str, value=str, partitions=1) for side in (LEFT, RIGHT))
    out = app.topic("out", key=str, value=str)
    app.stream(left).join(
        app.stream(right), unless_poison, within=timedelta(minutes=1), grace=0 * MS, how="left", name="j"
    ).to(out)
    with TestDriver(app) as driver:
        driver.send(right, "r", key="k", timestamp=1000)
        driver.commit()
        driver.send(left, POISON, key="k", timestamp=1000)  # from now on care is taken
        driver.send(left, "first", key="a", timestamp=1001)
        with patch.object(waiting.Waiting, "_look", autospec=True, side_effect=waiting.Waiting._look) as look:
            for n in range(10):
                driver.send(left, f"l{n}", key=f"{n}", timestamp=1002)
                driver.send(left, POISON, key="k", timestamp=1002)
            assert look.call_count <= 2
        for topic in (left, right):
            driver.send(topic, "x", key="later", timestamp=200_000)
        assert sorted(driver.values(out)) == sorted(["first-null", *(f"l{n}-null" for n in range(10)), "x-x"])
