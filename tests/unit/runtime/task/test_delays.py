"""`RetryLater`: a record that fails is set aside, those behind it go on, and it comes back when it is due."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kstream
from kstream.config import Settings
from kstream.errors import AbortRequired, ProcessingError, TopicError, TopologyError
from kstream.operators.delayed import HEADER, Note, note_of
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.testing import ManualClock, MemoryCluster, TestDriver
from kstream.testing.clients import MemoryClients
from kstream.types import TopicPartition
from support.cases import examples
from support.failing import app_of, feed, put_out
from support.strikes import Kind, Planner, Strikes
from unit.runtime.worker.test_failures import WAYS, Declare, Poison, by_async_that_waits

STRIKES = Strikes()
LATER = kstream.RetryLater([5, 60])
UNPURGED = 1e6
"""Seconds: what is over stays to be looked at."""
FIRST, SECOND, DEAD = "failing-in-retry-5s", "failing-in-retry-60s", "failing-dead-letters"


class Failing:
    """Fails at a record for so many times."""

    def __init__(self, times: dict[int, int]) -> None:
        self.times = times
        self.calls: Counter[int] = Counter()

    def __call__(self, n: int) -> None:
        self.calls[n] += 1
        if self.times.get(n, 0) > 0:
            raise Poison(n)

    def mend(self, n: int) -> None:
        self.times[n] = 0


@pytest.mark.parametrize("declare", WAYS)
def test_what_is_behind_it_goes_on_and_it_comes_back(declare: Declare) -> None:
    call = Failing({2: 1, 5: 1, 7: 1})
    with TestDriver(app_of(declare, call, LATER, kstream.DeadLetter()), partitions=1) as driver:
        feed(driver, range(9))
        driver.commit()
        assert put_out(driver) == [0, 1, 3, 4, 6, 8]
        assert put_out(driver, FIRST) == [2, 5, 7]
        calls = call.calls.copy()
        driver.advance(4.9)
        assert call.calls == calls
        call.mend(2)
        call.mend(7)
        driver.advance(0.1)
        assert put_out(driver) == [0, 1, 3, 4, 6, 8, 2, 7]
        assert (put_out(driver, FIRST), put_out(driver, SECOND), put_out(driver, DEAD)) == ([2, 5, 7], [5], [])
        driver.advance(60)
        assert put_out(driver, DEAD) == [5]


def test_it_comes_back_as_it_was_and_its_letter_says_where_it_lay() -> None:
    seen: list[Any] = []
    app = kstream.App("failing", on_error=[LATER, kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int, partitions=2)

    @app.agent(source)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        seen.append((ctx.key, n, ctx.timestamp, ctx.headers, ctx.topic, ctx.partition, ctx.offset))
        raise Poison(n)

    headers = [("mine", b"1"), (HEADER, b"an earlier one"), ("mine", None)]
    with TestDriver(app, partitions=2, flush_interval=UNPURGED) as driver:
        for timestamp in (1234, 0):
            driver.cluster.append("in", b"k", b"4", timestamp=timestamp, headers=headers, partition=1)
        began = driver.clock.time()
        driver.commit()
        driver.advance(5)
        driver.advance(60)
        for topic, moved in ((FIRST, 1), (SECOND, 2)):
            record, zero = driver.cluster.records(topic)
            assert (record.key, record.value, record.timestamp, record.partition) == (b"k", b"4", 1234, 1)
            *own, (name, _) = record.headers or ()
            assert (own, name) == (headers, HEADER)
            due = round((began + (5 if moved == 1 else 65)) * 1000)
            note = Note(topic="in", partition=1, offset=0, moved=moved, failed=moved, due=due)
            assert note_of(record.headers) == note
            assert note_of(zero.headers).timestamp == 0
        assert {tuple(map(str, one)) for one in seen} == {
            tuple(map(str, ("k", 4, timestamp, headers, "in", 1, offset))) for offset, timestamp in enumerate((1234, 0))
        }
        letter, zero = driver.cluster.records(DEAD)
        assert (letter.key, letter.value, letter.timestamp) == (b"k", b"4", 1234)
        assert zero.timestamp == 1  # 0 is "now" to Kafka's client
        assert list(letter.headers or ())[:3] == headers
        said = dict(letter.headers or ())
        assert [said[f"__streams.errors.{name}"] for name in ("topic", "partition", "offset")] == [b"in", b"1", b"0"]
        assert (said["kstream.attempts"], said["kstream.task"]) == (b"3", b"in/1")


def test_the_names_of_state_and_tasks_stay() -> None:
    without, later = (app_of(WAYS[3], Failing({}), *some).topology() for some in ((), (LATER,)))
    assert [part.name for part in without.parts] == [part.name for part in later.parts] == ["in"]
    assert "delay topic failing-in-retry-5s  in 5 s later" in later.describe()


@examples(40)
@given(
    st.sampled_from(WAYS),
    st.dictionaries(st.integers(0, 59), st.booleans(), max_size=25),
    st.lists(st.integers(1, 40), max_size=8),
    st.lists(st.sampled_from(["commit fails", "crash", "5 s", "60 s", "feed"]), max_size=14),
)
@example(
    by_async_that_waits, {0: True}, [29, 36, 27, 31, 20], ["commit fails", "feed"]
)  # the end is told amid a record of another
def test_each_record_is_handled_once_whatever_fails_when(
    declare: Declare, bad: dict[int, bool], sizes: list[int], events: list[str]
) -> None:
    """`bad`: the records that fail, and whether that passes in the end."""
    call = Failing(dict.fromkeys(bad, 1))
    with TestDriver(
        app_of(declare, call, LATER, kstream.DeadLetter()), partitions=1, flush_interval=UNPURGED
    ) as driver:
        left = list(range(60))
        faults = Planner(driver.cluster, STRIKES)
        driver.cluster.batch_sizes = iter(sizes)
        for event in events:
            if event == "commit fails":
                faults.plan(Kind("producer.commit", AbortRequired, False), 0)
            elif event == "crash":
                driver.crash()
            elif event == "feed":
                feed(driver, left[:20])
                del left[:20]
                driver.process()
            else:
                driver.advance(float(event[:-2]))
        feed(driver, left)
        for _ in range(events.count("commit fails")):  # all that are left to fail
            driver.commit()
        for seconds in (0, 0, 5, 60, 60):
            driver.advance(seconds)
            if seconds == 5:
                for n in (n for n, passes in bad.items() if passes):
                    call.mend(n)
        faults.count()
        out, dead = put_out(driver), put_out(driver, DEAD)
        assert sorted(out + dead) == list(range(60))
        assert {n for n, passes in bad.items() if not passes} <= set(dead) <= set(bad)
        for topic in (FIRST, SECOND):
            assert len(put_out(driver, topic)) == len(set(put_out(driver, topic)))
            committed, _ = driver.cluster.group("failing").offsets[TopicPartition(topic, 0)]
            assert all(record.offset < committed for record in driver.cluster.records(topic))


def test_most_planned_faults_struck() -> None:
    """Of the runs above: else they would say little about failures."""
    STRIKES.check(share=0.5)


def test_a_fold_counts_it_once() -> None:
    call = Failing({4: 1, 5: 1})
    app = kstream.App("failing", on_error=[LATER])
    source = app.topic("in", key=str, value=int, partitions=1)
    total = app.stream(source).peek(call).group_by_key().sum(int, name="total")
    with TestDriver(app, partitions=1) as driver:
        feed(driver, range(9))
        driver.commit()
        assert sum(dict(driver.table(total)).values()) == 36 - 9
        driver.crash()
        call.mend(4)
        driver.advance(5)
        assert sum(dict(driver.table(total)).values()) == 36 - 5
        call.mend(5)
        driver.advance(60)
        assert dict(driver.table(total)) == {"k0": 9, "k1": 12, "k2": 15}


def test_retries_in_place_come_before_each_move_and_all_failures_count() -> None:
    call = Failing({3: 1})
    policies = [kstream.Retry(2, base=1.0, jitter=0.0), kstream.RetryLater([30]), kstream.DeadLetter()]
    with TestDriver(app_of(WAYS[0], call, *policies), partitions=1) as driver:
        feed(driver, range(5))
        driver.commit()
        assert put_out(driver) == [0, 1, 2]
        driver.advance(1)
        driver.advance(2)
        assert put_out(driver) == [0, 1, 2, 4]
        assert put_out(driver, "failing-in-retry-30s") == [3]
        driver.advance(29.9)
        made_sure = call.calls[3] - 3  # the first failure in a task is made sure of before it counts
        assert made_sure in (1, 2)
        driver.advance(0.1)
        driver.advance(1)
        driver.advance(2)
        (letter,) = driver.cluster.records(DEAD)
        assert dict(letter.headers or ())["kstream.attempts"] == b"6"
        assert call.calls[3] - made_sure == 6


@pytest.mark.parametrize("declare", WAYS)
def test_one_that_fails_again_costs_no_abort_among_others(declare: Declare) -> None:
    call = Failing({3: 1, 4: 1})
    app = app_of(declare, call, LATER, kstream.DeadLetter())
    with TestDriver(app, partitions=1, flush_interval=UNPURGED) as driver:
        feed(driver, range(5))
        driver.commit()
        driver.crash()  # the new worker knows of no failure
        feed(driver, range(5, 50))
        driver.process()
        driver.clock.advance(5)
        feed(driver, range(50, 100))
        driver.commit()
        assert put_out(driver, SECOND) == [3, 4]
        assert sorted(put_out(driver)) == [0, 1, 2, *range(5, 100)]
        assert driver.worker.aborts == 0


def large_letters(sizes: list[int], message: int, **config: str) -> list[list[str]]:
    """What each of the letters about records of these sizes does without."""
    draw = random.Random(4)  # the limits are for compressed batches
    app = kstream.App("failing", on_error=[kstream.DeadLetter("dead")])
    source = app.topic("in", key=str, value=bytes, partitions=1)
    app.topic("dead", key=bytes, value=bytes, config=config)

    @app.agent(source)
    def agent(value: bytes) -> None:
        raise Poison(draw.randbytes(message).decode("latin-1"))

    with TestDriver(app, partitions=1) as driver:
        for size in sizes:
            driver.send(source, draw.randbytes(size), key="k")
        driver.commit()
        letters = list(driver.cluster.records("dead"))
        assert [len(letter.value or b"") for letter in letters] == sizes
        assert driver.cluster.group("failing").offsets[TopicPartition("in", 0)][0] == len(sizes)
        said = [dict(letter.headers or ()) for letter in letters]
        assert all(one["kstream.app"] == b"failing" and "__streams.errors.exception" in one for one in said)
        names = ("stacktrace", "message")
        return [[name for name in names if f"__streams.errors.{name}" not in one] for one in said]


def test_a_letter_that_is_too_large_for_its_topic_does_without_what_is_largest() -> None:
    missing = large_letters([10, 1100, 1450], 300, **{"max.message.bytes": "2000"})
    assert missing == [[], ["stacktrace"], ["stacktrace", "message"]]
    with pytest.raises(ProcessingError, match="MSG_SIZE_TOO_LARGE"):
        large_letters([1900], 300, **{"max.message.bytes": "2000"})


def test_a_letter_that_the_client_does_not_send_does_without_what_is_largest() -> None:
    assert large_letters([880_000, 930_000, 970_000], 40_000) == [[], ["stacktrace"], ["stacktrace", "message"]]


def test_without_another_policy_the_task_stops_in_the_end() -> None:
    with TestDriver(app_of(WAYS[0], Failing({3: 1}), kstream.RetryLater([5])), partitions=1) as driver:
        feed(driver, range(5))
        driver.commit()
        assert put_out(driver) == [0, 1, 2, 4]
        with pytest.raises(ProcessingError, match="Poison"):
            driver.advance(5)
        driver.close(commit=False)


def test_what_others_wrote_to_a_delay_topic_is_processed_at_once() -> None:
    call = Failing({1: 1})
    with TestDriver(app_of(WAYS[0], call, LATER, kstream.DeadLetter()), partitions=1) as driver:
        driver.cluster.append(FIRST, b"k", b"8")
        driver.cluster.append(FIRST, b"k", b"1")
        driver.commit()
        assert (put_out(driver), put_out(driver, FIRST)) == ([8], [8, 1, 1])


def test_a_clock_that_is_set_back_makes_nothing_wait_longer_than_its_delay() -> None:
    call = Failing({1: 1})
    with TestDriver(app_of(WAYS[0], call, LATER), partitions=1) as driver:
        feed(driver, [1])
        driver.commit()
        driver.clock._start -= 1_000_000.0
        driver.crash()
        call.mend(1)
        driver.advance(5)
        assert put_out(driver) == [1]


def test_a_delay_topic_is_read_from_its_start_wherever_inputs_are_read_from() -> None:
    app = app_of(WAYS[0], call := Failing({1: 1}), LATER)
    with TestDriver(app, partitions=1, auto_offset_reset="latest") as driver:
        note = Note(topic="in", partition=0, offset=7, moved=1, failed=1, due=round(driver.clock.time() * 1000))
        driver.cluster.append(FIRST, b"k", b"9", headers=[note.header()])
        driver.crash()
        driver.commit()
        assert put_out(driver) == [9]
        assert call.calls == {9: 1}


def test_what_is_set_aside_counts_for_the_rate_of_errors() -> None:
    call = Failing(dict.fromkeys(range(100), 1))
    driver = TestDriver(app_of(WAYS[0], call, LATER), partitions=1, max_error_rate=0.5)
    feed(driver, range(100))
    with pytest.raises(ProcessingError) as caught:
        driver.commit()
    assert "max_error_rate" in str(caught.value)
    driver.close(commit=False)


def test_topics_are_purged_of_what_is_over_and_have_as_many_partitions_as_their_source() -> None:
    call = Failing({1: 1})
    app = kstream.App("failing", on_error=[LATER])
    app.stream(app.topic("in", key=str, value=int, partitions=3)).peek(call)
    with TestDriver(app, flush_interval=1.0) as driver:
        topics = driver.cluster.topics()
        assert [topics[name].partitions for name in (FIRST, SECOND)] == [3, 3]
        assert topics[FIRST].config["retention.ms"] == "-1"
        driver.cluster.append("in", b"k", b"1", partition=2)
        driver.commit()
        assert len(list(driver.cluster.records(FIRST))) == 1
        call.mend(1)
        driver.advance(5)
        driver.advance(5)
        driver.advance(5)
        assert list(driver.cluster.records(FIRST)) == []


def test_partitions_that_were_added_to_the_source_only_are_told_of() -> None:
    app = kstream.App("failing", on_error=[LATER])
    app.stream(app.topic("in", key=str, value=int)).peek(str)
    cluster = MemoryCluster(ManualClock())
    cluster.create_topic("in", partitions=2)
    cluster.create_topic(FIRST, partitions=1, config={"retention.ms": "-1"})
    said = "has 1 partitions and needs 2, as many as in: kafka-topics.sh --alter --topic failing-in-retry-5s"
    with pytest.raises(TopicError, match=said):
        prepare_topics(app.topology(), MemoryClients(cluster).admin(), Settings())


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ([kstream.RetryLater, kstream.Skip()], "is no policy"),
        ([LATER, kstream.RetryLater([600])], "give one all delays"),
        (
            [kstream.RetryLater([5], on=(OSError,)), kstream.RetryLater([6], on=(ConnectionError,))],
            "give one all delays",
        ),
        ([kstream.Skip(), LATER], "can never decide"),
        ([kstream.Retry(3), kstream.Retry(3)], "is there twice: give one of them more attempts="),
    ],
    ids=["a class", "two of them", "two that overlap", "behind all", "the same twice"],
)
def test_what_can_never_decide_is_refused(policies: Any, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        kstream.App("failing", on_error=policies)


def test_two_for_different_errors_are_no_contradiction() -> None:
    first, second = kstream.RetryLater([5], on=(OSError,)), kstream.RetryLater([5, 60], on=(ValueError,))
    kstream.App("failing", on_error=[kstream.Retry(1), kstream.Retry(3), first, second, LATER])


@pytest.mark.parametrize(
    ("delays", "more", "said"),
    [
        ([], {}, "give a list of seconds"),
        (5, {}, "give a list of seconds"),
        ([5, 0], {}, "a delay of 0: seconds"),
        ([5, "1"], {}, "a delay of '1': seconds"),
        ([True], {}, "a delay of True: seconds"),
        ([0.0005], {}, "a delay of 0.0005: seconds"),
        ([1e9], {}, "a delay of 1000000000.0: seconds"),
        ([5], {"phase": ("process", "restore")}, "cannot be read stays so"),
    ],
    ids=["none", "no list", "zero", "text", "a truth value", "too short", "too long", "restore"],
)
def test_delays_that_cannot_be_are_refused(delays: Any, more: Any, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        kstream.RetryLater(delays, **more)


def test_two_topics_of_one_name_are_refused() -> None:
    app = kstream.App("failing", on_error=[kstream.RetryLater([5, 0.25])])
    app.stream(app.topic("in", key=str, value=int)).peek(str)
    assert [one.topic for one in app.topology().parts[0].delays] == ["failing-in-retry-250ms", FIRST]
    app.topic(FIRST, key=str, value=int)
    with pytest.raises(TopologyError, match="'failing-in-retry-5s', and so is a declared topic: rename one"):
        app.topology()


def test_each_source_has_delays_of_what_is_behind_it() -> None:
    app = kstream.App("shop")
    left = app.stream(app.topic("left", key=str, value=int), on_error=[kstream.RetryLater([5])])
    left.group_by(str, key=str, name="text").count(name="texts")
    app.stream(app.topic("right", key=str, value=int)).peek(str)
    app.stream(app.topic("third", key=str, value=int), group="g", on_error=[kstream.RetryLater([5])]).peek(str)
    delays = [one.topic for part in app.topology().parts for one in part.delays]
    assert delays == ["shop-left-retry-5s", "shop-text-repartition-retry-5s", "shop-third-g-retry-5s"]
