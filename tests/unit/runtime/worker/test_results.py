"""Results that no record is behind, of every step that puts such out, that fail in every form and phase behind it,
under every policy. How the input is cut is in unit/runtime/task/test_taking_back_results.py."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

import kstream
from kstream.errors import AbortRequired, KStreamError
from kstream.operators.told import ToldFailed
from kstream.testing import TestDriver
from kstream.types import TopicPartition

NOW = 1_700_000_000_000
SECOND = timedelta(seconds=1)
BAD, ALL = (2, 3), range(6)
GOOD = [n for n in ALL if n not in BAD]
LATER = 99
"""The value of the record that moves time."""

# ---- what puts them out


def last(_: int, n: int) -> int:
    return n


def windows(app: kstream.App, source: Any, windows: Any = None, **how: Any) -> Any:
    emit = how.pop("emit", "close")
    group = app.stream(source).group_by_key().window(windows or kstream.Tumbling(SECOND * 10), grace=0 * SECOND, **how)
    made = group.aggregate(int, last, name="t", emit=emit)
    return made if isinstance(made, kstream.Stream) else made.stream()


def early(app: kstream.App, source: Any) -> Any:
    return windows(app, source, kstream.Tumbling(SECOND * 60), early=SECOND * 20)


def sessions(app: kstream.App, source: Any) -> Any:
    group = app.stream(source).group_by_key().window(kstream.Session(gap=SECOND), grace=0 * SECOND)
    return group.aggregate(int, last, merge=lambda one, other: other, name="t", emit="close").stream()


def commits(app: kstream.App, source: Any) -> Any:
    return app.stream(source).group_by_key().aggregate(int, last, name="t", emit="commit").stream()


def expiring(app: kstream.App, source: Any) -> Any:
    ttl = kstream.TTL(SECOND * 1000, time="event")
    return app.stream(source).group_by_key().aggregate(int, last, name="t", emit="commit", ttl=ttl).stream()


def lone(app: kstream.App, source: Any) -> Any:
    other = app.stream(app.topic("other", key=str, value=int, partitions=1))
    return app.stream(source).join(
        other, lambda n, _: n, value=int, within=SECOND, grace=0 * SECOND, how="left", name="t"
    )


def timers(app: kstream.App, source: Any) -> Any:
    class Timed(kstream.Processor[str, int, int]):
        kept = kstream.ValueState(int, default=0)

        def process(self, value: int, ctx: Any) -> None:
            self.kept.value = value
            ctx.timer(after=SECOND)

        def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
            ctx.emit(self.kept.value)

    return app.stream(source).process(Timed, name="t")


def suppressed(app: kstream.App, source: Any) -> Any:
    table = app.stream(source).group_by_key().aggregate(int, last, name="u")
    return table.suppress(SECOND, name="t").stream()


TELLERS: dict[str, tuple[Callable[..., Any], str]] = {
    "windows": (windows, "the result of a window of 't'"),
    "hopping": (
        lambda app, source: windows(app, source, kstream.Hopping(SECOND * 20, every=SECOND * 20)),
        "the result of a window of 't'",
    ),
    "windows at commits": (
        lambda app, source: windows(app, source, kstream.Tumbling(SECOND * 9000), emit="commit"),
        "the result of a window of 't'",
    ),
    "early": (early, "the result of a window of 't'"),
    "sliding as Kafka Streams": (
        lambda app, source: windows(app, source, kstream.KafkaSliding(SECOND * 10)),
        "the result of a window of 't'",
    ),
    "sessions": (sessions, "the result of a session of 't'"),
    "commits": (commits, "the result of 't'"),
    "expiring": (expiring, "the result of 't'"),
    "lone records of a join": (lone, "a record that found nothing, of join 't'"),
    "timers": (timers, "the result of a timer of processor 't'"),
    "suppressed": (suppressed, "the result of a timer of processor 't-held'"),
}

# ---- what is done with them


def failing(phase: str, n: int) -> Any:
    if n in BAD and phase == "process":
        raise ValueError(n)
    return "no number" if n in BAD and phase == "encode" else n


def by_map(results: Any, out: Any, phase: str, app: kstream.App) -> None:
    results.map(lambda n: failing(phase, n), value=int).rekey(str, key=str).to(out)


def by_context(results: Any, out: Any, phase: str, app: kstream.App) -> None:
    def mapped(n: int, ctx: kstream.Context[Any]) -> int:
        assert (ctx.topic, ctx.offset, ctx.headers) == ("", -1, None) and ctx.timestamp > 0
        return failing(phase, n)  # type: ignore[no-any-return]

    results.map(mapped, value=int).rekey(lambda n, ctx: str(n), key=str).to(out)


def record(phase: str, n: int) -> Any:
    return kstream.Record(None if n in BAD and phase == "produce" else str(n), failing(phase, n))


def by_function(results: Any, out: Any, phase: str, app: kstream.App) -> None:
    @app.agent(results, to=out)
    def agent(n: int) -> Any:
        return record(phase, n)


def by_generator(results: Any, out: Any, phase: str, app: kstream.App) -> None:
    @app.agent(results, to=out)
    def agent(n: int, ctx: kstream.Context[Any]) -> Iterator[Any]:
        yield record(phase, n)


def by_sending(results: Any, out: Any, phase: str, app: kstream.App) -> None:
    @app.agent(results)
    def agent(n: int, ctx: kstream.Context[Any]) -> None:
        one = record(phase, n)
        ctx.send(out, one.value, key=one.key)


def by_async(results: Any, out: Any, phase: str, app: kstream.App) -> None:
    @app.agent(results, to=out)
    async def agent(stream: kstream.AgentStream[Any, int]) -> AsyncIterator[Any]:
        async for n in stream:
            yield record(phase, n)


def by_waiting(results: Any, out: Any, phase: str, app: kstream.App) -> None:
    @app.agent(results, to=out)
    async def agent(stream: kstream.AgentStream[Any, int]) -> AsyncIterator[Any]:
        async for n in stream:
            for _ in range(5):
                await asyncio.sleep(0)
            yield record(phase, n)


FORMS = [by_map, by_context, by_function, by_generator, by_sending, by_async, by_waiting]
WAYS = [(form, phase) for form in FORMS for phase in ("process", "encode")]
WAYS += [(form, "produce") for form in FORMS if form not in (by_map, by_context)]  # these give no record without a key
POLICIES: dict[str, list[Any]] = {
    "none": [],
    "fail": [kstream.Fail()],
    "skip": [kstream.Skip()],
    "dead letter": [kstream.DeadLetter()],
    "retry": [kstream.Retry(1, base=5.0, jitter=0.0, on=(Exception,)), kstream.DeadLetter()],
    "set aside": [kstream.RetryLater([5]), kstream.DeadLetter()],
}


def put_out(driver: TestDriver) -> list[int]:
    return [n for one in driver.cluster.records("out") if (n := int(one.value or b"")) != LATER]


def check(teller: str, form: Callable[..., None], phase: str, policy: str) -> None:
    declare, what = TELLERS[teller]
    app = kstream.App("failing", on_error=POLICIES[policy])
    source = app.topic("in", key=str, value=int, partitions=1)
    out = app.topic("out", key=str, value=int, config={"cleanup.policy": "compact"})
    form(declare(app, source), out, phase, app)
    driver = TestDriver(app, partitions=1, idle_timeout=1e9)
    cluster = driver.cluster
    try:
        for n in ALL:
            cluster.append("in", b"k%d" % n, b"%d" % n, NOW + n)
        for topic in {"in", "other"} & set(cluster.topics()):
            cluster.append(topic, b"later", b"%d" % LATER, NOW + (25_000 if teller == "early" else 3_600_000))
        if policy in ("none", "fail"):
            with pytest.raises(KStreamError, match=rf"^task in(\+other)?/0: processing {what} failed: ") as caught:
                driver.commit()
            assert isinstance(caught.value.__cause__, ToldFailed)
            assert set(put_out(driver)) <= {0, 1}
            driver.close(commit=False)
            return
        driver.commit()
        if policy == "retry":
            for _ in range(4):
                driver.advance(5.0)
                driver.commit()
        assert sorted(put_out(driver)) == GOOD
        assert cluster.group("failing").offsets[TopicPartition("in", 0)][0] == len(ALL) + 1
        driver.crash()
        driver.commit()
        assert sorted(put_out(driver)) == GOOD, "told once"
        if policy == "skip":
            if driver.worker.measures.skipped:
                assert driver.worker.measures.skipped.total() == len(BAD)
            return
        letters = cluster.records("failing-dead-letters")
        assert sorted(int(one.value or b"") for one in letters) == list(BAD)
        for n, letter in zip(BAD, sorted(letters, key=lambda one: one.value or b""), strict=True):
            headers = dict(letter.headers or ())
            assert headers["kstream.result"] == what.encode()
            assert headers["kstream.phase"] == phase.encode()
            assert headers["kstream.attempts"] == (b"2" if policy == "retry" else b"1")
            assert f"k{n}".encode() in (headers["kstream.result.key"] or b"")
            assert (letter.key or b"").startswith(b"k%d" % n)
            assert "__streams.errors.topic" not in headers
    finally:
        driver.close(commit=False)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("teller", TELLERS)
def test_every_step_that_puts_out_results(teller: str, policy: str) -> None:
    check(teller, by_map, "process", policy)


@pytest.mark.parametrize("policy", ["fail", "skip", "dead letter", pytest.param("retry", marks=pytest.mark.more)])
@pytest.mark.parametrize(("form", "phase"), WAYS)
@pytest.mark.parametrize("teller", ["windows", "commits", pytest.param("timers", marks=pytest.mark.more)])
def test_every_form_behind_them(teller: str, form: Callable[..., None], phase: str, policy: str) -> None:
    check(teller, form, phase, policy)


@pytest.mark.parametrize("policy", [kstream.Skip(), kstream.DeadLetter()], ids=["skip", "dead letter"])
@pytest.mark.parametrize("teller", ["windows", "commits", "sessions", "sliding as Kafka Streams"])
def test_where_nothing_was_done_with_them_many_that_fail_cost_no_more_than_one_call_each(
    teller: str, policy: Any
) -> None:
    app = kstream.App("failing", on_error=[policy])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    called = []

    def mapped(n: int) -> int:
        called.append(n)
        if n % 3 == 1:
            raise ValueError(n)
        return n

    declare, _ = TELLERS[teller]
    declare(app, source).map(mapped, value=int).rekey(str, key=str).to(out)
    with TestDriver(app, partitions=1) as driver:
        for n in range(90):
            driver.cluster.append("in", b"k%d" % n, b"%d" % n, NOW)
        driver.cluster.append("in", b"later", b"%d" % LATER, NOW + 3_600_000)
        driver.commit()
        assert sorted(put_out(driver)) == [n for n in range(90) if n % 3 != 1]
        assert sorted(set(called) - {LATER}) == list(range(90)) and len(called) <= 91
        assert driver.worker.aborts == 0
        if isinstance(policy, kstream.DeadLetter):
            letters = driver.cluster.records("failing-dead-letters")
            assert sorted(int(one.value or b"") for one in letters) == [n for n in range(90) if n % 3 == 1]
        else:
            assert driver.worker.measures.skipped.total() == 30


@pytest.mark.parametrize("policy", [name for name in POLICIES if name not in ("none", "fail")])
@pytest.mark.parametrize("teller", ["lone records of a join", "timers"])
def test_results_that_are_equal_fail_each_for_itself(teller: str, policy: str) -> None:
    """Key, time and value are the same: a record that was sent twice, a timer that emits twice."""
    app = kstream.App("failing", on_error=POLICIES[policy])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    class Twice(kstream.Processor[str, int, int]):
        def process(self, value: int, ctx: Any) -> None:
            ctx.timer(after=SECOND, name=str(value))

        def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
            ctx.emit(int(timer.name))
            ctx.emit(int(timer.name))

    results = lone(app, source) if teller != "timers" else app.stream(source).process(Twice, name="t")
    by_map(results, out, "process", app)
    with TestDriver(app, partitions=1, idle_timeout=1e9) as driver:
        for n in (0, 2, 2, 2, 1):
            driver.cluster.append("in", b"k", b"%d" % n, NOW)
        for topic in {"in", "other"} & set(driver.cluster.topics()):
            driver.cluster.append(topic, b"later", b"%d" % LATER, NOW + 3_600_000)
        driver.commit()
        for _ in range(8 if policy == "retry" else 0):
            driver.advance(5.0)
            driver.commit()
        assert sorted(put_out(driver)) == ([0, 1] if teller != "timers" else [0, 0, 1, 1])
        if policy != "skip":
            letters = driver.cluster.records("failing-dead-letters")
            assert [one.value for one in letters] == [b"2"] * (3 if teller != "timers" else 2)


@pytest.mark.parametrize("teller", ["windows", "commits", "sessions", "lone records of a join", "timers"])
def test_each_of_many_results_that_are_tried_again_takes_one_pause(teller: str) -> None:
    """What was decided about those before it holds while the task rests, though commits come meanwhile."""
    app = kstream.App("failing", on_error=POLICIES["retry"])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    declare, _ = TELLERS[teller]

    def mapped(n: int) -> int:
        if n >= 1000:
            raise ValueError(n)
        return n

    declare(app, source).map(mapped, value=int).rekey(str, key=str).to(out)
    with TestDriver(app, partitions=1, idle_timeout=1e9) as driver:
        for n in range(1000, 1006):
            driver.cluster.append("in", b"k%d" % n, b"%d" % n, NOW)
        for topic in {"in", "other"} & set(driver.cluster.topics()):
            driver.cluster.append(topic, b"later", b"%d" % LATER, NOW + 3_600_000)
        driver.commit()
        for _ in range(6):
            assert driver.cluster.records("failing-dead-letters") == []
            driver.advance(5.0)
            driver.commit()
        assert len(driver.cluster.records("failing-dead-letters")) == 6
        assert driver.worker.measures.retried.total() == 6


@pytest.mark.parametrize("policy", [name for name in POLICIES if name not in ("none", "fail")])
@pytest.mark.parametrize("clock", ["event", "wall"])
def test_a_result_with_another_value_each_time_it_is_put_out(clock: Any, policy: str) -> None:
    """A timer that emits a random number, or what time it is."""
    app = kstream.App("failing", on_error=POLICIES[policy])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    tries = count(1000)

    class Varying(kstream.Processor[str, int, int]):
        def process(self, value: int, ctx: Any) -> None:
            if value != LATER:
                ctx.timer(after=SECOND, clock=clock)

        def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
            for n in (next(tries), 0, next(tries), 1):
                ctx.emit(n)

    def mapped(n: int) -> int:
        if n >= 1000:
            raise ValueError(n)
        return n

    app.stream(source).process(Varying, name="t").map(mapped, value=int).rekey(str, key=str).to(out)
    with TestDriver(app, partitions=1, idle_timeout=1e9) as driver:
        driver.send(source, 1, key="k", timestamp=NOW)
        driver.send(source, LATER, key="k", timestamp=NOW + 60_000)
        for _ in range(40 if policy == "retry" else 1):
            driver.advance(5.0)
            driver.commit()
        assert put_out(driver) == [0, 1]
        if policy != "skip":
            assert len(driver.cluster.records("failing-dead-letters")) == 2


def test_a_value_that_was_not_tried_is_not_left_out() -> None:
    """The transaction is taken back for other reasons, and each time the commit tells another value of the key."""
    app = kstream.App("failing", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    def mapped(n: int) -> int:
        if n < 5:
            raise ValueError(n)
        return n

    counts = app.stream(source).group_by_key().count(name="c", emit="commit").stream()
    counts.map(mapped, value=int).rekey(str, key=str).to(out)
    with TestDriver(app, partitions=1) as driver:
        for n in range(4):
            driver.cluster.fail_next("commit", AbortRequired("try again"))
            driver.send(source, n, key="k", timestamp=NOW)
            driver.worker.commit_now()
        driver.send(source, 4, key="k", timestamp=NOW)
        driver.commit()
        assert driver.worker.aborts == 4 and put_out(driver) == [5]
        assert driver.cluster.records("failing-dead-letters") == []


def test_at_least_once_a_window_does_not_close_without_its_result() -> None:
    """Kafka refuses one of them, when the changes of state have been sent, too."""
    app = kstream.App("failing", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int, config={"cleanup.policy": "compact"})
    by_function(windows(app, source), out, "produce", app)
    with TestDriver(app, partitions=1, idle_timeout=1e9, processing_guarantee="at_least_once") as driver:
        for n in ALL:
            driver.cluster.append("in", b"k%d" % n, b"%d" % n, NOW)
        for later in (60_000, 120_000):
            driver.cluster.append("in", b"later", b"%d" % LATER, NOW + later)
        driver.commit()
        assert set(put_out(driver)) == set(GOOD)
        assert {one.value for one in driver.cluster.records("failing-dead-letters")} == {b"%d" % n for n in BAD}


def test_a_letter_of_a_window_that_the_client_refuses_as_too_large_is_made_smaller() -> None:
    """It does not say of which time the record was. The record that moved time is not at fault."""
    app = kstream.App("failing", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=str)
    out = app.topic("out", key=kstream.Windowed[str], value=str)

    def mapped(text: str) -> str:
        if text.startswith("bad"):
            raise ValueError(text)
        return text

    group = app.stream(source).group_by_key().window(kstream.Tumbling(SECOND * 10), grace=0 * SECOND)
    group.aggregate(str, lambda _, text: text, name="t", emit="close").stream().map(mapped, value=str).to(out)
    with TestDriver(app, partitions=1, idle_timeout=1e9) as driver:
        driver.cluster.append("in", b"k", b"bad" + b"x" * 990_000, NOW)
        for n in range(2):
            driver.cluster.append("in", b"later", b"good", NOW + 60_000 * (n + 1))
        driver.commit()
        assert [one.value for one in driver.cluster.records("out")] == [b"good"]
        (letter,) = driver.cluster.records("failing-dead-letters")
        headers = dict(letter.headers or ())
        assert len(letter.value or b"") == 990_003 and headers["kstream.result.step"] == b"aggregate t"
        assert "__streams.errors.stacktrace" not in headers


def test_what_time_alone_puts_out_and_kafka_refuses() -> None:
    """An input is idle, so a window closes with a commit of no record."""
    app = kstream.App("refused", on_error=[kstream.DeadLetter()])
    source, other = (app.topic(name, key=str, value=int) for name in ("in", "other"))
    out = app.topic("out", key=str, value=int, config={"cleanup.policy": "compact"})
    group = (
        app.stream(source).merge(app.stream(other)).group_by_key().window(kstream.Tumbling(SECOND), grace=0 * SECOND)
    )
    results = group.aggregate(int, last, name="t", emit="close").stream()
    by_function(results, out, "produce", app)
    with TestDriver(app, partitions=1, idle_timeout=5.0) as driver:
        for n in ALL:
            driver.send(source, n, key=f"k{n}", timestamp=NOW + n)
        driver.send(source, LATER, key="later", timestamp=NOW + 60_000)
        driver.commit()
        assert put_out(driver) == []
        for _ in range(4):  # it is found out what is refused; each time the input has to be idle again
            driver.advance(6)
        assert sorted(put_out(driver)) == GOOD
        assert [one.value for one in driver.cluster.records("refused-dead-letters")] == [b"2", b"3"]


@pytest.mark.parametrize("behind", range(4))
@pytest.mark.parametrize("before", [0, 1, 2, 5])
def test_what_is_too_large_is_the_results_failure_whatever_records_came_with_it(before: int, behind: int) -> None:
    """It is in doubt which of several outputs Kafka refuses, so it is looked for among the records, by halves: none of
    them is left out."""
    app = kstream.App("refused", on_error=[kstream.DeadLetter()])
    source, seen = app.topic("in", key=str, value=int), app.topic("seen", key=str, value=int)
    out = app.topic("out", key=str, value=bytes, config={"max.message.bytes": "10000"})
    app.stream(source).to(seen)
    results = windows(app, source)

    @app.agent(results, to=out)
    def sized(n: int, ctx: kstream.Context[Any]) -> kstream.Record[str, bytes]:
        return kstream.Record(ctx.key.key, random.Random(n).randbytes(20_000 if n in BAD else 1_000))

    with TestDriver(app, partitions=1) as driver:
        for n in ALL:
            driver.cluster.append("in", b"k%d" % n, b"%d" % n, NOW)
        driver.commit()
        for n in range(before):
            driver.cluster.append("in", b"before", b"%d" % (100 + n), NOW)
        for n in range(1 + behind):
            driver.cluster.append("in", b"later", b"%d" % (200 + n), NOW + 60_000)
        driver.commit()
        sent = [*ALL, *(100 + n for n in range(before)), *(200 + n for n in range(1 + behind))]
        assert [int(one.value or b"") for one in driver.cluster.records("seen")] == sent
        letters = driver.cluster.records("refused-dead-letters")
        assert [dict(one.headers).get("kstream.result.key") for one in letters] == [
            repr(kstream.Windowed(f"k{n}", NOW)).encode() for n in BAD
        ]
        assert {one.key for one in driver.cluster.records("out")} == {
            *(b"k%d" % n for n in GOOD),
            *([b"before"] if before else []),
        }


@pytest.mark.parametrize("knows", [False, True])
def test_what_a_timer_sends_and_kafka_refuses_is_the_timers_failure(knows: bool) -> None:
    app = kstream.App("refused", on_error=[kstream.DeadLetter(), kstream.Skip(phase="timer")])
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int, config={"cleanup.policy": "compact"})

    class Sends(kstream.Processor[str, int, int]):
        kept = kstream.ValueState(int, default=0)

        def process(self, value: int, ctx: Any) -> None:
            self.kept.value = value
            ctx.timer(after=SECOND)

        def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
            ctx.send(out, self.kept.value, key=None if self.kept.value in BAD else ctx.key)

    app.stream(source).process(Sends, name="p")
    with TestDriver(app, partitions=1) as driver:
        for n in ALL if knows else ALL[:3]:
            driver.send(source, n, key=f"k{n}", timestamp=NOW + n)
        driver.send(source, LATER, key="later", timestamp=NOW + 60_000)
        driver.commit()
        assert sorted(put_out(driver)) == [n for n in GOOD if knows or n < 3]
        assert driver.cluster.records("refused-dead-letters") == []


@pytest.mark.parametrize("form", ["function", "async"])
def test_what_a_timer_of_an_agent_puts_out_and_kafka_refuses_is_the_timers_failure(form: str) -> None:
    app = kstream.App("refused", on_error=[kstream.DeadLetter(), kstream.Skip(phase="timer")])
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int, config={"cleanup.policy": "compact"})
    agent: Any
    if form == "function":

        @app.agent(source, to=out)
        def function(n: int, ctx: kstream.TimerContext[str]) -> None:
            ctx.timer(after=SECOND, name=str(n))

        agent = function
    else:

        @app.agent(source, to=out)
        async def waits(stream: kstream.AgentStream[str, int], ctx: kstream.TimerContext[str]) -> AsyncIterator[int]:
            async for n in stream:
                ctx.timer(after=SECOND, name=str(n))
                await asyncio.sleep(0)
                if n < 0:
                    yield n

        agent = waits

    @agent.on_timer
    def due(timer: kstream.Timer, ctx: kstream.TimerContext[str]) -> Any:
        n = int(timer.name)
        return kstream.Record(None if n in BAD else ctx.key, n)

    with TestDriver(app, partitions=1) as driver:
        for n in ALL:
            driver.send(source, n, key=f"k{n}", timestamp=NOW + n)
        driver.send(source, LATER, key="later", timestamp=NOW + 60_000)
        driver.commit()
        assert sorted(put_out(driver)) == GOOD
        assert driver.cluster.records("refused-dead-letters") == []
