"""Agents with timers, in each of their forms: as processors have them (test_process.py), by the same definition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import AbortRequired, AgentTooSlow, KStreamError, TimerFailed, TopologyError
from kstream.state.expiry import index_of
from kstream.testing import TestDriver
from support.cases import cases
from unit.operators.test_process import MS, check_definition, cuts, few_at_once, scripts
from unit.operators.test_process_policies import GOOD, RECORDS, check_failures, failing_scripts, send_all

App = tuple[kstream.App, Any, Any]
Timed = kstream.TimerContext[str]
Stream = kstream.AgentStream[str, Any]

FORMS = ("function", "generator", "async generator", "coroutine")


def in_form(form: str, app: kstream.App, source: Any, out: Any, record: Any, timer: Any, **of_agent: Any) -> None:
    """Declares agent `p`. What is done with a record and with a timer: functions of that and the context, which give a
    list of results."""
    agent: Any
    if form == "function":

        def function(value: Any, ctx: Timed) -> Any:
            (result,) = record(value, ctx) or (None,)
            return result

        def on_timer(due: kstream.Timer, ctx: Timed) -> Any:
            (result,) = timer(due, ctx) or (None,)
            return result

        app.agent(source, to=out, name="p", **of_agent)(function).on_timer(on_timer)
        return

    def all_of(due: kstream.Timer, ctx: Timed) -> Iterator[Any]:
        yield from timer(due, ctx)

    if form == "generator":

        def generator(value: Any, ctx: Timed) -> Iterator[Any]:
            yield from record(value, ctx)

        agent = app.agent(source, to=out, name="p", **of_agent)(generator)
        agent.on_timer(all_of)
    elif form == "async generator":

        async def async_generator(stream: Stream, ctx: Timed) -> AsyncIterator[Any]:
            async for value in stream:
                await asyncio.sleep(0)
                for result in record(value, ctx):
                    yield result
                    await asyncio.sleep(0)

        agent = app.agent(source, to=out, name="p", **of_agent)(async_generator)
        agent.on_timer(all_of)
    else:

        async def coroutine(stream: Stream, ctx: Timed) -> None:
            async for event in stream.events():
                for result in record(event.value, ctx):
                    ctx.send(out, result)

        def sends(due: kstream.Timer, ctx: Timed) -> None:
            for result in timer(due, ctx):
                ctx.send(out, result)

        app.agent(source, name="p", **of_agent)(coroutine).on_timer(sends)


def asked(form: str, *, fails: bool = False, **of_app: Any) -> Callable[..., App]:
    """As `Asked` of test_process.py; or as `AskedOrFailing` of test_process_policies.py."""

    def app_of(out_of_order: int = 0) -> App:
        app = kstream.App("asked", **of_app)
        source = app.topic("in", key=str, value=list[Any], out_of_order=out_of_order * MS)
        out = app.topic("out", key=str, value=str)
        count = app.table("n", key=str, value=int, default=0)

        def record(value: list[Any], ctx: Timed) -> list[str]:
            what, name, after = value
            count[ctx.key] += 1
            said = f"record {count[ctx.key]} {ctx.due(name)}"
            if what == "set":
                ctx.timer(at=ctx.timestamp + after, name=name)
            elif what == "cancel":
                ctx.cancel(name)
            elif what == "fail":
                raise ValueError(value)
            return [said]

        def timer(due: kstream.Timer, ctx: Timed) -> list[str]:
            count[ctx.key] += 100
            if due.name == "b":
                ctx.timer(after=4 * MS, name="c")
            elif due.name == "a":
                ctx.cancel("c")
            if fails and due.at % 5 == 0:
                raise ValueError(due)
            return [f"{due.name} {due.at} {count[ctx.key]}"]

        in_form(form, app, source, out, record, timer, tables=[count])
        return app, source, out

    return app_of


forms = pytest.mark.parametrize("form", FORMS)


@cases
@given(st.sampled_from(FORMS), scripts, st.integers(0, 4), st.sampled_from(["memory", "rocksdb"]))
def test_timers_are_what_their_definition_says(form: str, script: list[Any], out_of_order: int, backend: str) -> None:
    check_definition(script, out_of_order, backend, asked(form))


@given(st.sampled_from(FORMS), scripts, st.integers(0, 4), st.integers(1, 3), st.integers(1, 3))
def test_and_where_time_goes_on_from_timer_to_timer(
    form: str, script: list[Any], out_of_order: int, most: int, piece: int
) -> None:
    with few_at_once(most, piece):
        check_definition(script, out_of_order, "memory", asked(form))


@given(st.sampled_from(FORMS), st.sampled_from(FORMS), cuts, st.integers(0, 4))
def test_how_the_input_is_cut_does_not_show(form: str, other: str, script: list[Any], out_of_order: int) -> None:
    """Where others write to the same topic, too: they are in the order of the records."""

    def outputs(form: str, cuts: list[Any]) -> list[tuple[Any, ...]]:
        app, source, out = asked(form)(out_of_order)
        app.stream(source).map(lambda value: f"copy {value}", value=str).to(out)
        with TestDriver(app, partitions=1) as driver:
            for part in cuts:
                for key, what, name, after, at in part:
                    driver.cluster.append("in", key.encode(), source.value.codec.encode([what, name, after]), at)
                driver.process()
            return [(record.key, record.value, record.timestamp) for record in driver.records(out)]

    assert outputs(form, script) == outputs(other, [[step] for part in script for step in part])


# ---- by the clock, and while nobody runs


def alarm(form: str, clock: Any = "wall", **of_app: Any) -> App:
    """A record sets an alarm in ten minutes, which "off" takes back; its number is kept."""
    app = kstream.App("alarms", **of_app)
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)
    rang = app.table("rang", key=str, value=int, default=0)

    def record(value: str, ctx: Timed) -> list[str]:
        if value == "on":
            ctx.timer(after=timedelta(minutes=10), clock=clock, name="alarm")
        elif value == "off":
            ctx.cancel("alarm")
        return []

    def timer(due: kstream.Timer, ctx: Timed) -> list[str]:
        rang[ctx.key] += 1
        return [f"{ctx.key} {due.clock} {rang[ctx.key]} {due.at == ctx.timestamp}"]

    in_form(form, app, source, out, record, timer, tables=[rang])
    return app, source, out


@forms
def test_the_clock_fires_them_once_without_records(form: str) -> None:
    app, source, out = alarm(form)
    with TestDriver(app, partitions=1) as driver:
        for key in "ab":
            driver.send(source, "on", key=key)
        driver.advance(minutes=5)
        driver.send(source, "on", key="b")  # moves it
        driver.send(source, "on", key="c")
        driver.send(source, "off", key="c")
        driver.advance(minutes=5)
        assert driver.values(out) == ["a wall 1 True"]
        driver.cluster.faults.plan("producer.commit", AbortRequired("planned"), skip=0)
        driver.advance(minutes=4)
        driver.crash()
        assert driver.values(out) == ["a wall 1 True"]
        driver.cluster.faults.plan("producer.commit", AbortRequired("planned"), skip=0)
        driver.advance(minutes=1)
        driver.crash()
        driver.advance(hours=1)
        assert driver.values(out) == ["a wall 1 True", "b wall 1 True"]
        assert not any(one.value for one in driver.cluster.records("alarms-p-timers-changelog")[-2:])


@forms
def test_one_that_sets_itself_again_goes_on_by_its_clock(form: str) -> None:
    app = kstream.App("again")
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)

    def record(value: str, ctx: Timed) -> list[str]:
        ctx.timer(after=timedelta(minutes=1), clock="wall")
        return []

    def timer(due: kstream.Timer, ctx: Timed) -> list[str]:
        ctx.timer(after=timedelta(minutes=1))
        return [due.clock]

    in_form(form, app, source, out, record, timer)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, "x", key="k")
        for _ in range(3):
            driver.advance(minutes=1)
        assert driver.values(out) == ["wall"] * 3


# ---- what fails


def failing(form: str, *policies: Any, clock: Any = "event", **fails: int) -> App:
    """As `Failing` of test_process_policies.py: its timers fail as often as is said of their key."""
    app = kstream.App("failing", on_error=list(policies))
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)
    count = app.table("n", key=str, value=int, default=0)

    def record(value: int, ctx: Timed) -> list[str]:
        count[ctx.key] += 1
        if value:
            ctx.timer(after=10 * MS, name="t", clock=clock)
        return [f"{ctx.key}{value}"]

    def timer(due: kstream.Timer, ctx: Timed) -> list[str]:
        count[ctx.key] += 10
        if fails.get(ctx.key, 0) > 0:
            fails[ctx.key] -= 1
            raise ValueError("no")
        return [f"{ctx.key} timer {count[ctx.key]}"]

    in_form(form, app, source, out, record, timer, tables=[count])
    return app, source, out


@given(st.sampled_from(FORMS), failing_scripts, st.sampled_from(["memory", "rocksdb"]))
def test_records_and_timers_that_fail_are_left_out_and_nothing_else(form: str, script: list[Any], backend: str) -> None:
    check_failures(script, backend, *asked(form, fails=True, on_error=[kstream.Skip()])())


@forms
def test_a_timer_that_fails_stops_its_task_and_says_which(form: str) -> None:
    app, source, _ = failing(form, a=99)
    with TestDriver(app, partitions=1) as driver:
        said = r"task in/0: on_timer of agent 'p' failed for key 'a', timer 't' of 1010 \(ms\): ValueError: no"
        with pytest.raises(KStreamError, match=said) as found:
            send_all(driver, source, *RECORDS)
        assert isinstance(found.value.__cause__, TimerFailed)


@forms
@pytest.mark.parametrize("together", [False, True])
def test_a_timer_is_skipped(form: str, together: bool) -> None:
    app, source, out = failing(form, kstream.DeadLetter(), kstream.Skip(phase="timer"), a=99, c=99)
    with TestDriver(app, partitions=1) as driver:
        for one in [RECORDS] if together else [(record,) for record in RECORDS]:
            send_all(driver, source, *one)
        assert driver.values(out) == [one for one in GOOD if "a t" not in one and "c t" not in one]
        assert driver.cluster.records("failing-dead-letters") == []
        assert driver.worker.measures.errors["timer", "ValueError"] >= 2
        driver.crash()
        assert driver.values(out) == [one for one in GOOD if "a t" not in one and "c t" not in one]


@forms
@pytest.mark.parametrize("together", [False, True])
def test_a_timer_is_tried_again_and_what_comes_behind_it_waits(form: str, together: bool) -> None:
    app, source, out = failing(form, kstream.Retry(5, base=2.0, jitter=0.0), a=2, c=1)
    with TestDriver(app, partitions=1) as driver:
        for one in [RECORDS] if together else [(record,) for record in RECORDS]:
            send_all(driver, source, *one)
        driver.advance(2.1)
        assert not any("timer" in one for one in driver.values(out))
        driver.advance(4.1)
        assert driver.values(out) == GOOD[: GOOD.index("c timer 11")]
        driver.advance(2.1)
        assert driver.values(out) == GOOD


@forms
def test_one_of_the_clock_is_skipped_and_the_others_fire(form: str) -> None:
    app, source, out = failing(form, kstream.Skip(), clock="wall", b=99)
    with TestDriver(app, partitions=1) as driver:
        for key in "abc":
            driver.send(source, 1, key=key)
        driver.advance(1)
        assert sorted(one for one in driver.values(out) if "timer" in one) == ["a timer 11", "c timer 11"]


@forms
def test_what_a_timer_puts_out_is_to_fit(form: str) -> None:
    if form == "coroutine":
        pytest.skip("it puts nothing out")
    app = kstream.App("wrong", on_error=[kstream.Skip()])
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)

    def record(value: str, ctx: Timed) -> list[str]:
        ctx.timer(after=MS)
        return [value]

    in_form(form, app, source, out, record, lambda due, ctx: [7])
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, "x", key="k", timestamp=1000)
        driver.send(source, "y", key="l", timestamp=2000)
        assert driver.values(out) == ["x", "y"]
        assert driver.worker.measures.errors["timer", "CodecError"] == 1


# ---- a record, and what it sets, are one


@pytest.mark.parametrize("form", ["async generator", "coroutine"])
def test_a_timer_that_is_set_between_awaits_is_taken_back_with_its_record(form: str) -> None:
    app = kstream.App("awaits", on_error=[kstream.Skip()])
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)
    lasting = app.table("lasting", key=str, value=int)

    def sets(value: str, ctx: Timed) -> None:
        lasting[ctx.key] = 1
        ctx.timer(after=MS, name=value)

    async def agent(stream: Stream, ctx: Timed) -> AsyncIterator[str]:
        async for value in stream:
            await asyncio.sleep(0)
            sets(value, ctx)
            await asyncio.sleep(0.001)
            if "bad" in value:
                raise ValueError(value)
            yield value

    async def without(stream: Stream, ctx: Timed) -> None:
        async for value in stream:
            await asyncio.sleep(0)
            sets(value, ctx)
            await asyncio.sleep(0.001)
            if "bad" in value:
                raise ValueError(value)
            ctx.send(out, value)

    function: Any = agent if form == "async generator" else without
    made = app.agent(source, to=out if form == "async generator" else None, name="p", tables=[lasting])(function)

    @made.on_timer
    def on_timer(timer: kstream.Timer, ctx: Timed) -> None:
        ctx.send(out, f"{ctx.key} {timer.name} {lasting.get(ctx.key)}")

    with TestDriver(app, partitions=1) as driver:
        send_all_text(driver, ("a", "one", 1000), ("b", "bad", 1001), ("c", "two", 1001), ("d", "bad too", 1010))
        send_all_text(driver, ("e", "end", 2000))
        assert driver.values(out) == ["one", "two", "a one 1", "c two 1", "end"]


def send_all_text(driver: TestDriver, *records: tuple[str, str, int]) -> None:
    for key, value, at in records:
        driver.cluster.append("in", key.encode(), value.encode(), at)
    driver.process()


def test_a_wait_for_a_record_may_be_given_up_while_timers_fire() -> None:
    app = kstream.App("gives-up")
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)

    @app.agent(source, to=out, name="p")
    async def agent(stream: Stream, ctx: Timed) -> AsyncIterator[str | None]:
        while True:
            try:
                value = await asyncio.wait_for(anext(stream), 0.001)
            except TimeoutError:
                for call in (lambda: ctx.timer(after=MS), ctx.cancel, ctx.due):
                    with pytest.raises(KStreamError, match="has no record now, and a timer belongs to the key of one"):
                        call()
                continue
            ctx.timer(after=MS)
            await asyncio.sleep(0.003)
            yield value

    @agent.on_timer
    def on_timer(timer: kstream.Timer, ctx: Timed) -> str:
        return f"{ctx.key} {timer.at}"

    with TestDriver(app, partitions=1) as driver:
        for n in range(4):
            driver.send(source, f"{n}", key="k", timestamp=1000 + 5 * n)
        driver.cluster.append("in", b"k", b"4", 1100)
        driver.cluster.append("in", b"k", b"5", 1200)
        driver.process()
        assert driver.values(out) == [
            "0", "k 1001", "1", "k 1006", "2", "k 1011", "3", "k 1016", "4", "k 1101", "5",
        ]  # fmt: skip


def test_one_that_is_too_slow_has_set_nothing() -> None:
    app = kstream.App("slow", on_error=[kstream.Skip(on=AgentTooSlow)])
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)

    @app.agent(source, to=out, timeout=0.05, name="p")
    async def agent(stream: Stream, ctx: Timed) -> AsyncIterator[str]:
        async for value in stream:
            ctx.timer(after=MS, name=value)
            if value == "slow":
                await asyncio.sleep(1000)
            yield value

    @agent.on_timer
    def on_timer(timer: kstream.Timer, ctx: Timed) -> str:
        return f"fired {timer.name}"

    with TestDriver(app, partitions=1) as driver:
        send_all_text(driver, ("a", "one", 1000), ("b", "slow", 1000), ("c", "two", 1000), ("e", "end", 2000))
        assert driver.values(out) == ["one", "two", "fired one", "fired two", "end"]


@forms
def test_a_record_without_a_key_has_no_timer(form: str) -> None:
    app, _, out = alarm(form, on_error=[kstream.Skip()])
    with TestDriver(app, partitions=1) as driver:
        driver.cluster.append("in", None, b"on", 1000)
        driver.cluster.append("in", None, b"else", 1000)
        driver.cluster.append("in", b"k", b"on", 1000)
        driver.process()
        driver.commit()
        assert driver.worker.measures.skipped["in", "KStreamError"] == 1
        driver.advance(minutes=11)
        assert driver.values(out) == ["k wall 1 True"]


def test_a_timer_has_its_time_and_no_place_in_the_input() -> None:
    app = kstream.App("sees")
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=list[Any])
    other = app.topic("other", key=int, value=str)

    @app.agent(source, name="p")
    def agent(value: str, ctx: Timed) -> None:
        ctx.timer(at=5000, name=value)

    @agent.on_timer
    def on_timer(timer: kstream.Timer, ctx: Timed) -> None:
        ctx.send(out, [ctx.key, ctx.timestamp, ctx.headers, ctx.topic, ctx.offset, ctx.task, timer.time.isoformat()])
        ctx.send(other, timer.name, key=7)

    with TestDriver(app, partitions=1) as driver:
        driver.send(source, "x", key="k", timestamp=1000, headers=[("h", b"x")])
        driver.send(source, "y", key="l", timestamp=9000)
        assert driver.values(out) == [["k", 5000, None, "", -1, "in/0", "1970-01-01T00:00:05+00:00"]]
        assert driver.records(other) == [kstream.Record(7, "x", timestamp=5000)]


@forms
def test_results_may_be_records_of_other_keys(form: str) -> None:
    if form == "coroutine":
        pytest.skip("it puts nothing out")
    app = kstream.App("records")
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=str)

    def record(value: str, ctx: Timed) -> list[Any]:
        ctx.timer(after=MS, name=value)
        return [kstream.Record("other", value) if value == "b" else value]

    def timer(due: kstream.Timer, ctx: Timed) -> list[Any]:
        return [kstream.Record(f"of {ctx.key}", due.name, headers=[("h", b"x")]) if due.name == "b" else due.name]

    in_form(form, app, source, out, record, timer)
    with TestDriver(app, partitions=1) as driver:
        send_all_text(driver, *(("k", value, 1000 + n) for n, value in enumerate("abc")), ("l", "d", 2000))
        found = [(one.key, one.value, one.timestamp) for one in driver.records(out)]
        assert found == [
            ("k", "a", 1000), ("other", "b", 1001), ("k", "a", 1001), ("k", "c", 1002), ("of k", "b", 1002),
            ("k", "c", 1003), ("l", "d", 2000),
        ]  # fmt: skip


# ---- how it is declared


def test_what_cannot_be_is_refused_in_one_line() -> None:
    def agent(value: int, ctx: Timed) -> None: ...
    def blind(value: int) -> None: ...
    def fine(timer: kstream.Timer, ctx: Timed) -> None: ...
    async def waits(timer: kstream.Timer, ctx: Timed) -> None: ...
    def one(timer: kstream.Timer) -> None: ...
    def wrong(value: int, ctx: Timed) -> None: ...
    def number(timer: kstream.Timer, ctx: Timed) -> int:
        return 7

    def declare(function: Any, *on_timer: Any, rekeyed: bool = False, puts_out: bool = False) -> str:
        app = kstream.App("refused")
        source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)
        over = app.stream(source).rekey(str, key=str) if rekeyed else source
        with pytest.raises(TopologyError) as error:
            made: Any = app.agent(over, to=out if puts_out else None, name="p")(function)
            for each in on_timer:
                made.on_timer(each)
            app.topology()
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "agent 'p' is declared with a TimerContext" in declare(agent) and "@agent.on_timer" in declare(agent)
    assert "for blind takes no context: add a parameter" in declare(blind, fine)
    assert "on_timer of agent 'p' is async, and a timer is done at once" in declare(agent, waits)
    assert "one is called with a kstream.Timer and the context" in declare(agent, one)
    assert "wrong is called with a kstream.Timer and the context" in declare(agent, wrong)
    assert "5 is not a function: write @agent.on_timer" in declare(agent, 5)
    assert "puts out values of type int" in declare(agent, number, puts_out=True)
    assert "put repartition(name=...) between them" in declare(agent, fine, rekeyed=True)
    assert "on_timer of agent 'p' is declared twice" in declare(agent, fine, fine)
    app = kstream.App("refused")
    with pytest.raises(TopologyError, match="is declared with a TimerContext, which agents with timers are given"):
        app.stream(app.topic("in", key=str, value=int)).map(agent, value=int)


def test_an_agent_and_a_processor_may_have_one_name() -> None:
    """Of two that are called the same, the one with timers is tried again."""
    app = kstream.App("named", on_error=[kstream.Skip()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)

    class Passes(kstream.Processor[str, int, int]):
        def process(self, value: int, ctx: Any) -> None:
            ctx.emit(value)

    app.stream(source).process(Passes, name="p")

    @app.agent(source, to=out, name="p")
    def agent(value: int, ctx: Timed) -> str:
        ctx.timer(after=MS)
        return f"{value}"

    @agent.on_timer
    def on_timer(timer: kstream.Timer, ctx: Timed) -> str:
        raise ValueError("no")

    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="k", timestamp=1000)
        driver.send(source, 2, key="k", timestamp=2000)
        assert driver.values(out) == ["1", "2"]
        assert driver.worker.measures.errors["timer", "ValueError"] == 1


def test_the_topology_says_which_agents_have_timers() -> None:
    app, _, _ = alarm("function")
    assert "-> agent p (function)  tables=rang  timers  to out" in app.topology().describe()
    (spec,) = (one for one in app.topology().parts[0].stores if one.holds == "timers")
    assert spec.name == "p-timers"


def test_a_table_that_only_on_timer_uses_is_found() -> None:
    app = kstream.App("uses")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    rang = app.table("rang", key=str, value=int, default=0)

    @app.agent(source, to=out, name="p")
    def agent(value: int, ctx: Timed) -> None:
        ctx.timer(after=MS)

    @agent.on_timer
    def on_timer(timer: kstream.Timer, ctx: Timed) -> int:
        rang[ctx.key] += 1
        return rang[ctx.key]

    assert on_timer.__name__ == "on_timer" and agent.name == "p"
    with TestDriver(app, partitions=1) as driver:
        for n in range(3):
            driver.send(source, n, key="k", timestamp=1000 + 10 * n)
        assert driver.values(out) == [1, 2]
        (task,) = driver.worker.tasks.values()
        assert len(list(task.backend.scan(index_of("p-timers")))) <= 1
