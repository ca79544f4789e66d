"""Declarations that change under the same name: what old entries would be read wrongly by is refused at the start, and
what they mean the same under is free."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

import kstream
from kstream import Counting, Cumulating, Hopping, KafkaSliding, LocalDays, Session, Sliding, Tumbling
from kstream.clock import SystemClock
from kstream.config import Settings
from kstream.errors import StoredTypeChanged
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.cluster.stored_types import check_types, misfits_of, read_types, topic_of
from kstream.testing import ManualClock, MemoryCluster, TestDriver
from kstream.testing.clients import MemoryClients

SECOND, HOUR, NONE = timedelta(seconds=1), timedelta(hours=1), timedelta(0)
Declared = Callable[[Any, Any, Any], Any]
"""Of a stream, another one, and a topic for late records."""


def windowed(windows: Any, grace: timedelta = NONE, emit: Any = "close", late: bool = False) -> Declared:
    def declare(one: Any, _: Any, topic: Any) -> None:
        group = one.group_by_key().window(windows, grace=grace, late=topic if late else None)
        group.count(name="n", emit=emit)

    return declare


def sliding(windows: Any, grace: timedelta = NONE) -> Declared:
    return lambda one, _1, _2: one.group_by_key().window(windows, grace=grace).count(name="n")


def joined(within: Any, how: Any = "inner", grace: timedelta = NONE) -> Declared:
    return lambda one, other, _: one.join(
        other, lambda a, b: str((a, b)), within=within, grace=grace, how=how, name="j", value=str
    )


def with_itself(one: Any, _1: Any, _2: Any) -> None:
    one.join(one, lambda a, b: str((a, b)), within=HOUR, grace=NONE, name="j", value=str)


def ranked(n: int, *, least: bool = False, windows: Any = None) -> Declared:
    def declare(one: Any, _1: Any, _2: Any) -> None:
        group = one.group_by_key()
        if windows is not None:
            group = group.window(windows, grace=NONE)
        group.top_n(n, by=len, least=least, name="best")

    return declare


def quantiles(error: float, at: float = 0.5, windows: Any = None) -> Declared:
    def declare(one: Any, _1: Any, _2: Any) -> None:
        group = one.group_by_key() if windows is None else one.group_by_key().window(windows, grace=NONE)
        group.quantiles(len, [at], error=error, name="q")

    return declare


def about(error: float | None, windows: Any = None) -> Declared:
    def declare(one: Any, _1: Any, _2: Any) -> None:
        group = one.group_by_key() if windows is None else one.group_by_key().window(windows, grace=NONE)
        group.count_distinct(len, error=error, name="d")

    return declare


def collected(one: Any, _1: Any, _2: Any) -> None:
    one.group_by_key().collect(name="best")


def distinct(within: timedelta, by: Any = None) -> Declared:
    return lambda one, _1, _2: one.deduplicate(by, within=within, of=None if by is None else str, name="once")


def counted(n: int) -> Declared:
    return lambda one, _1, _2: one.group_by_key().window(Counting(n)).sum(len, name="n")


class Kafka:
    def __init__(self) -> None:
        self.clients = MemoryClients(MemoryCluster(ManualClock()))

    def app(self, declare: Declared) -> kstream.App:
        app = kstream.App("shop")
        one, other, late = (app.topic(name, key=str, value=str, partitions=1) for name in ("one", "other", "late"))
        declare(app.stream(one), app.stream(other), late)
        return app

    def start(self, declare: Declared, *, go_on: bool = False) -> None:
        """A start; from then on each changelog has an entry."""
        topology, admin = self.app(declare).topology(), self.clients.admin()
        prepare_topics(topology, admin, Settings(default_partitions=1))
        check_types(topology, self.clients, admin, SystemClock(), replication=1, go_on=go_on)
        producer = self.clients.producer(None)
        for part in topology.parts:
            for store in part.stores:
                producer.produce(topology.changelog(store), b"1", b"k", 0)
        producer.flush(1.0)

    def misfits(self, declare: Declared) -> list[str]:
        return misfits_of(self.app(declare).topology(), self.clients, self.clients.admin())


REFUSED = [
    (windowed(Tumbling(HOUR)), windowed(Tumbling(minutes=10)), "windows of 1:00:00, and", "windows of 0:10:00 now"),
    (windowed(Tumbling(HOUR)), windowed(Tumbling(HOUR, offset=SECOND)), "of 1:00:00, and", "1:00:00 from 0:00:01 now"),
    (windowed(Tumbling(HOUR)), windowed(Hopping(HOUR, every=SECOND)), "of 1:00:00, and", "1:00:00 every 0:00:01 now"),
    (
        windowed(Hopping(HOUR, every=SECOND)), windowed(Hopping(HOUR, every=SECOND * 2)),
        "every 0:00:01, and", "every 0:00:02 now",
    ),
    (
        windowed(Cumulating(days=1, step=HOUR)), windowed(Cumulating(days=2, step=HOUR)),
        "cumulating 1 day, 0:00:00 by 1:00:00, and", "cumulating 2 days, 0:00:00 by 1:00:00 now",
    ),
    (
        windowed(LocalDays("Europe/Berlin")), windowed(LocalDays("Europe/Lisbon")),
        "1 days of Europe/Berlin, and", "1 days of Europe/Lisbon now",
    ),
    (
        windowed(LocalDays("Europe/Kiev")), windowed(LocalDays("Europe/Kyiv", offset=HOUR)),
        "1 days of Europe/Kiev, and", "1 days of Europe/Kyiv from 1:00:00 now",
    ),
    (windowed(LocalDays("Europe/Berlin")), windowed(Cumulating(days=1, step=HOUR)), "Berlin", "cumulating"),
    (sliding(Sliding(HOUR)), sliding(Sliding(HOUR * 2)), "sliding 1:00:00, and", "sliding 2:00:00 now"),
    (
        windowed(KafkaSliding(HOUR)), windowed(KafkaSliding(HOUR * 2)),
        "kafka-sliding 1:00:00, and", "kafka-sliding 2:00:00 now",
    ),
    (sliding(Sliding(HOUR)), windowed(KafkaSliding(HOUR)), "'n'", "now"),
    (windowed(Session(HOUR)), windowed(Session(gap_of=lambda _: HOUR)), "'n'", "now"),
    (joined(HOUR), joined(HOUR * 2), "1:00:00 before to 1:00:00 after, and", "2:00:00 before to 2:00:00 after now"),
    (joined((NONE, HOUR)), joined((HOUR, NONE)), "0:00:00 before to 1:00:00 after", "1:00:00 before to 0:00:00 after"),
    (joined(HOUR), joined(Tumbling(HOUR)), "a join within", "a join in windows of 1:00:00 now"),
    (joined(Tumbling(HOUR)), joined(Tumbling(HOUR, offset=SECOND)), "of 1:00:00, and", "from 0:00:01 now"),
    (joined(HOUR), joined(HOUR, "left"), "store 'j-left'", "after, noting which records have found one now"),
    (joined(HOUR, "left"), joined(HOUR, "outer"), "store 'j-right'", "noting which records have found one now"),
    (joined(HOUR), with_itself, "after, and", "after, of a stream with itself now"),
    (with_itself, joined(HOUR), "after, of a stream with itself, and", "after now"),
    (distinct(HOUR), distinct(HOUR * 2), "deduplicate within 1:00:00, and", "deduplicate within 2:00:00 now"),
    (ranked(3), ranked(5), "the 3 greatest, and", "the 5 greatest now"),
    (ranked(5), ranked(3), "the 5 greatest, and", "the 3 greatest now"),
    (ranked(3), ranked(3, least=True), "the 3 greatest, and", "the 3 least now"),
    (ranked(3), collected, "the 3 greatest, and", "none of that now"),
    (
        ranked(3, windows=Tumbling(HOUR)), ranked(3, windows=Tumbling(SECOND)),
        "the 3 greatest in windows of 1:00:00, and", "the 3 greatest in windows of 0:00:01 now",
    ),
    (quantiles(0.01), quantiles(0.02), "quantiles to 0.01, and", "quantiles to 0.02 now"),
    (quantiles(0.01, windows=Session(HOUR)), quantiles(0.02, windows=Session(HOUR)), "to 0.01, and", "to 0.02 now"),
    (about(None), about(0.02), "values of the type set[str]", "HyperLogLogCodec, version 1 now"),
    (about(0.02), about(0.01), "HyperLogLog with 2^12 registers, and", "HyperLogLog with 2^14 registers now"),
    (about(0.02, Session(HOUR)), about(0.01, Session(HOUR)), "with 2^12 registers, and", "with 2^14 registers now"),
    (about(0.02, Session(HOUR)), about(None, Session(HOUR)), "version 1 of HyperLogLogCodec 1, and", "now"),
]  # fmt: skip

FREE = [
    (windowed(Tumbling(HOUR)), windowed(Tumbling(minutes=60), HOUR, "update", late=True)),
    (windowed(Tumbling(HOUR)), windowed(Tumbling(HOUR, offset=HOUR * 2))),
    (windowed(Tumbling(HOUR)), windowed(Hopping(HOUR, every=HOUR))),
    (windowed(Session(HOUR)), windowed(Session(HOUR * 2), HOUR, "commit", late=True)),
    (windowed(Session(gap_of=lambda _: HOUR)), windowed(Session(HOUR))),
    (windowed(LocalDays("Europe/Kiev")), windowed(LocalDays("Europe/Kyiv"))),  # names of one zone
    (
        ranked(3, windows=LocalDays("Asia/Kolkata", offset=HOUR)),
        ranked(3, windows=LocalDays("Asia/Calcutta", offset=HOUR)),
    ),
    (sliding(Sliding(HOUR)), sliding(Sliding(HOUR), HOUR)),
    (windowed(KafkaSliding(HOUR)), windowed(KafkaSliding(HOUR), HOUR, "commit", late=True)),
    (joined(HOUR), joined((HOUR, HOUR), grace=HOUR)),
    (joined(HOUR, "outer"), joined(HOUR, "left")),
    (joined(HOUR, "left"), joined(HOUR)),
    (distinct(HOUR), distinct(timedelta(minutes=60))),
    (quantiles(0.01), quantiles(0.01, at=0.99)),
    (about(0.02), about(0.0201)),
    (counted(3), counted(5)),
    (counted(5), counted(3)),
    (collected, ranked(3)),  # before, nothing was kept of it: it may be from a version that did not
]


@pytest.mark.parametrize(("before", "after", "old", "new"), REFUSED)
def test_what_would_read_old_entries_wrongly_is_refused_at_the_start(
    before: Declared, after: Declared, old: str, new: str
) -> None:
    kafka = Kafka()
    kafka.start(before)
    kafka.start(before)
    with pytest.raises(StoredTypeChanged) as refused:
        kafka.start(after)
    said = str(refused.value)
    assert old in said and new in said and "another name" in said and "kstream reset" in said and "\n" not in said
    assert "; ".join(kafka.misfits(after)) == said, "kstream doctor says the same"
    kafka.start(before)  # a change that is taken back


@pytest.mark.parametrize(("before", "after"), FREE)
def test_what_may_change_freely(before: Declared, after: Declared) -> None:
    kafka = Kafka()
    kafka.start(before)
    assert kafka.misfits(after) == []
    kafka.start(after)


def test_each_layout_that_a_store_ever_had_counts() -> None:
    """What was kept under inner does not say whether it found one, whatever came in between."""
    kafka = Kafka()
    kafka.start(joined(HOUR, "left"))
    kafka.start(joined(HOUR))
    with pytest.raises(StoredTypeChanged, match="store 'j-left'"):
        kafka.start(joined(HOUR, "left"))


def test_continue_starts_over_from_the_layout_of_today(caplog: pytest.LogCaptureFixture) -> None:
    kafka = Kafka()
    kafka.start(windowed(Tumbling(HOUR)))
    kafka.start(windowed(Tumbling(SECOND)), go_on=True)
    assert "windows of 0:00:01 now" in caplog.text
    kafka.start(windowed(Tumbling(SECOND)))
    assert len(kafka.misfits(windowed(Tumbling(HOUR)))) == 1


def test_notes_without_a_layout_are_accepted_and_kept() -> None:
    kafka = Kafka()
    kafka.start(windowed(Tumbling(HOUR)))
    (one,) = read_types(kafka.clients, kafka.clients.admin(), topic_of("shop")).values()
    producer = kafka.clients.producer(None)
    old = msgspec.structs.replace(one, layout="")
    producer.produce(topic_of("shop"), None, one.name, 0)
    producer.produce(topic_of("shop"), msgspec.json.encode(old), old.name, 0)
    producer.flush(1.0)
    assert b"layout" not in msgspec.json.encode(old)
    kafka.start(windowed(Tumbling(SECOND)))
    kept = read_types(kafka.clients, kafka.clients.admin(), topic_of("shop"))
    assert sorted(one.layout for one in kept.values()) == ["", "windows of 0:00:01"]


def test_a_window_that_has_more_than_a_smaller_n_is_full_with_its_next_record() -> None:
    def app(n: int) -> tuple[kstream.App, Any, Any]:
        app = kstream.App("shop")
        one, out = app.topic("one", key=str, value=str, partitions=1), app.topic("out", key=str, value=int)
        app.stream(one).group_by_key().window(Counting(n)).sum(len, name="n").to(out)
        return app, one, out

    before, one, out = app(5)
    driver = TestDriver(before, partitions=1)
    for _ in range(4):
        driver.send(one, "x", key="k")
    driver.commit()
    driver._end(commit=True)  # another version of the app is deployed
    driver.app, one, out = app(2)
    driver._topology = driver.app.topology()
    driver._start()
    for _ in range(3):
        driver.send(one, "x", key="k")
    assert driver.values(out) == [5, 2]
    driver.close()
