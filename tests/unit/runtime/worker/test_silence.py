"""An input is idle when the brokers say that it is at its end, and not when nothing is heard of them: what producers
could not write meanwhile would be late."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, cast

import pytest

import kstream
from kstream import Tumbling, Windowed
from kstream.errors import KafkaUnavailable
from kstream.runtime.worker.silence import PROMPT, TELL, Quiet, Silence
from kstream.testing import TestDriver
from kstream.testing.clock import ManualClock
from kstream.types import AdminClient, TopicPartition

A, B = TopicPartition("a", 0), TopicPartition("b", 3)
SECONDS = 5.0


class Brokers:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[TopicPartition], Future[dict[TopicPartition, int]]]] = []

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        self.asked.append((list(partitions), Future()))
        return self.asked[-1][1]

    def answer(self, **ends: int) -> None:
        at, future = self.asked[-1]
        future.set_result({one: ends[one.topic] for one in at})


class Asking:
    def __init__(self) -> None:
        self.clock, self.brokers = ManualClock(), Brokers()
        self.silence = Silence(cast(AdminClient, self.brokers), self.clock, SECONDS)
        self.quiet = {A: Quiet(self.clock.monotonic() - SECONDS, 7), B: Quiet(self.clock.monotonic() - SECONDS, 9)}

    def confirmed(self) -> set[TopicPartition]:
        return self.silence.confirmed(self.quiet)


def test_a_prompt_answer_confirms_those_that_are_at_their_ends_and_is_asked_for_once() -> None:
    one = Asking()
    assert one.confirmed() == set()
    assert not one.silence.has_news
    one.brokers.answer(a=7, b=10)
    assert one.silence.has_news
    assert one.confirmed() == {A}
    assert [at for at, _ in one.brokers.asked] == [[A, B], [B]]
    one.brokers.answer(b=9)
    assert one.confirmed() == {A, B}
    assert one.confirmed() == {A, B}
    assert len(one.brokers.asked) == 2
    one.quiet[A] = Quiet(one.clock.monotonic(), 8)  # it had a record, and is quiet anew
    assert one.confirmed() == {B}


def test_after_a_late_answer_inputs_are_quiet_from_then_on() -> None:
    """The broker stood still: a producer that waited for it writes a moment after this answer."""
    one = Asking()
    one.confirmed()
    one.clock.advance(PROMPT + 0.1)
    one.brokers.answer(a=7, b=9)
    one.clock.advance(SECONDS - 0.1)  # the worker gets round to it late: what counts is when it came
    assert one.confirmed() == set()
    assert len(one.brokers.asked) == 1
    one.clock.advance(0.2)
    one.confirmed()
    one.clock.advance(PROMPT)
    one.brokers.answer(a=7, b=9)
    one.clock.advance(60.0)
    assert one.confirmed() == {A, B}


def test_so_it_is_after_an_error() -> None:
    one = Asking()
    one.confirmed()
    one.brokers.asked[-1][1].set_exception(KafkaUnavailable("no leader"))
    assert one.confirmed() == set()
    one.clock.advance(SECONDS - 0.1)
    one.confirmed()
    assert len(one.brokers.asked) == 1
    one.clock.advance(0.2)
    one.confirmed()
    one.brokers.answer(a=7, b=9)
    assert one.confirmed() == {A, B}


def test_who_waits_in_vain_again_and_again_is_told_why(caplog: pytest.LogCaptureFixture) -> None:
    one = Asking()
    for _ in range(TELL):
        assert not caplog.messages
        one.confirmed()
        one.clock.advance(PROMPT + 0.1)
        one.brokers.answer(a=7, b=9)
        assert one.confirmed() == set()
        one.clock.advance(SECONDS + 0.1)
    (line,) = caplog.messages
    assert "3 times in a row: the brokers answered after 0.6 s (more than 0.5 s)" in line
    one.confirmed()
    one.brokers.answer(a=7, b=9)
    assert one.confirmed() == {A, B}


@pytest.mark.parametrize("repartition", [False, True])
def test_brokers_that_do_not_answer_close_no_windows(repartition: bool) -> None:
    app = kstream.App("still")
    source = app.topic("in", key=str, value=int, partitions=2)
    other = app.topic("other", key=str, value=int, partitions=2)
    late = app.topic("late", key=str, value=int)
    stream = app.stream(source).merge(app.stream(other))

    def same(n: int, ctx: kstream.Context[str]) -> str:
        return ctx.key

    group = stream.group_by(same, name="by", key=str, parallelism=1) if repartition else stream.group_by_key()
    out = app.topic("out", key=Windowed[str], value=int)
    windows = group.window(Tumbling(timedelta(seconds=1)), grace=timedelta(0), late=late)
    windows.count(name="n", emit="close").to(out)
    with TestDriver(app) as driver:
        for topic in (source, other):
            for partition in range(2):
                driver.send(topic, 1, key="k", timestamp=1_000, partition=partition)
        driver.commit()
        driver.advance(4)
        driver.cluster.fail_next("end_offsets", KafkaUnavailable("stands still"))
        driver.advance(2)
        driver.send(source, 1, key="k", timestamp=9_000, partition=0)  # the first of those that had to wait
        driver.commit()
        driver.send(other, 1, key="k", timestamp=1_500, partition=0)
        driver.commit()
        assert driver.values(late) == []
        driver.advance(6)
        driver.advance(6)
        found: list[Any] = [record.value for record in driver.records(out)]
        assert sum(found) >= 3
