"""Results that come without a record, and meet other ways of the same topic."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import kstream
from kstream.testing import TestDriver

NOW = 1_700_000_000_000
STEP = timedelta(milliseconds=100)
COUNT = 5


class Timers(kstream.Processor[str, int, int]):
    def process(self, value: int, ctx: kstream.ProcessorContext[str, int]) -> None:
        ctx.timer(after=STEP, name=str(value))

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[str, int]) -> None:
        ctx.emit(int(timer.name) + 100)


def last(_: int, value: int) -> int:
    return value + 100


def windows(stream: Any) -> Any:
    window = stream.group_by_key().window(kstream.Tumbling(STEP), grace=timedelta(0))
    return window.aggregate(int, last, name="told", emit="close").stream().rekey(str, key=str)


def sessions(stream: Any) -> Any:
    window = stream.group_by_key().window(kstream.Session(gap=STEP / 2), grace=timedelta(0))
    told = window.aggregate(int, last, merge=lambda one, other: other, name="told", emit="close")
    return told.stream().rekey(str, key=str)


def timers(stream: Any) -> Any:
    return stream.process(Timers, name="told")


def lone(stream: Any) -> Any:
    never = stream.filter(lambda value: False)
    return stream.join(
        never, lambda value, _: value + 100, within=STEP / 2, grace=timedelta(0), how="left", name="told"
    )


TOLD: dict[str, Callable[[Any], Any]] = {
    "windows": windows, "sessions": sessions, "timers": timers, "lone records": lone
}  # fmt: skip


def run(told: str, size: int, *, first: bool, crash: bool = False, bad: int = -1) -> tuple[list[int], list[int]]:
    """What is written, and the dead letters."""

    def checked(value: int) -> int:
        if value == bad:
            raise ValueError(value)
        return value

    app = kstream.App("meeting", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    records = app.stream(source).filter(lambda value: value < COUNT)  # the last one does nothing but move time
    results, others = TOLD[told](records), records.rekey(str, key=str)
    (results.merge(others) if first else others.merge(results)).map(checked).to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.cluster.batch_sizes = iter([size] * 1000)
        for number in range(COUNT):
            driver.cluster.append("in", b"k%d" % number, b"%d" % number, NOW + 200 * number)
        driver.cluster.append("in", b"later", b"%d" % COUNT, NOW + 3_600_000)
        driver.commit()
        if crash:
            driver.crash()
        letters = driver.cluster.records("meeting-dead-letters") if bad >= 0 else []
        return driver.values(out), [int(one.value or b"") for one in letters]


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("first", [True, False])
def test_they_are_committed_with_what_moved_time_to_them(told: str, first: bool) -> None:
    """And they are in the order that they would have if each record came alone."""
    written, _ = run(told, 1, first=first, crash=True)
    assert sorted(written) == [*range(COUNT), *range(100, 100 + COUNT)]
    assert [run(told, size, first=first)[0] for size in (2, 100)] == [written] * 2


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("bad", [2, 102], ids=["record", "result"])
def test_what_fails_behind_is_the_failure_of_the_record_or_of_the_result(told: str, bad: int) -> None:
    for size in (1, 100):
        written, letters = run(told, size, first=True, bad=bad)
        good = [one for one in (*range(COUNT), *range(100, 100 + COUNT)) if one != bad]
        if bad == 2:  # nothing was done with it
            good.remove(102)
        assert (sorted(written), len(letters)) == (good, 1)
        assert letters[0] == (2 if told == "lone records" else bad)  # its letter is the record that found nothing


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("first", [True, False])
def test_a_record_of_another_topic_that_moves_time_to_them_comes_behind_them(told: str, first: bool) -> None:
    def run(size: int) -> list[int]:
        app = kstream.App("meeting")
        one, other, out = (app.topic(name, key=str, value=int) for name in ("one", "other", "out"))
        results, others = TOLD[told](app.stream(one)), app.stream(other)
        (results.merge(others) if first else others.merge(results)).to(out)
        with TestDriver(app, partitions=1) as driver:
            driver.cluster.batch_sizes = iter([size] * 1000)
            for topic, number, at in (("one", 1, 0), ("one", 2, 590), *(("other", n, 592 + n) for n in range(3, 9))):
                driver.cluster.append(topic, b"k%d" % number, b"%d" % number, NOW + at)
            driver.commit()
            return driver.values(out)

    written = run(1)
    assert 101 in written and written[-1] == 8
    assert [run(size) for size in (2, 100)] == [written] * 2


def test_results_of_a_join_keep_their_times_in_company() -> None:
    """That of the later one of both, not of the record that found the other."""
    for size in (1, 100):
        app = kstream.App("meeting")
        source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
        records = app.stream(source)
        odd = records.filter(lambda value: value % 2 == 1)
        joined = records.join(odd, lambda one, other: 10 * one + other, within=STEP, grace=STEP, name="pairs")
        records.merge(joined).to(out)
        with TestDriver(app, partitions=1) as driver:
            driver.cluster.batch_sizes = iter([size] * 1000)
            for value, at in ((1, NOW + 50), (2, NOW)):
                driver.cluster.append("in", b"k", b"%d" % value, at)
            driver.commit()
            found = [(one.value, one.timestamp - NOW) for one in driver.records(out)]
        assert found == [(1, 50), (11, 50), (2, 0), (21, 50)]
