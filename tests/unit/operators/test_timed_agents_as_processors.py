"""An agent with timers, in each of its forms, is the processor that does the same: with two inputs that wait for each
other, timers of the clock, records that fail, commits and crashes in between. (An abort would not be at the same commit
of both, and a timer of the clock is set anew when its record is done again: unit/runtime/worker/test_timers.py.)"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.testing import TestDriver
from support.cases import examples
from unit.operators.test_process import MS
from unit.operators.test_timed_agents import FORMS, in_form

Timed = kstream.TimerContext[str]


def done(value: list[Any], ctx: Timed) -> None:
    """What a record asks for."""
    what, name, after = value
    if what == "set":
        ctx.timer(at=ctx.timestamp + after, name=name)
    elif what == "by the clock":
        ctx.timer(after=timedelta(seconds=max(1, after)), name=name, clock="wall")
    elif what == "cancel":
        ctx.cancel(name)
    elif what == "fail":
        raise ValueError(value)


def fired(timer: kstream.Timer, ctx: Timed) -> None:
    if timer.name == "b":
        ctx.timer(after=4 * MS, name="c")
    elif timer.name == "a":
        ctx.cancel("c")


class Asked(kstream.Processor[str, list[Any], str]):
    n = kstream.ValueState(int, default=0)

    def process(self, value: list[Any], ctx: kstream.ProcessorContext[str, str]) -> None:
        self.n.value += 1
        ctx.emit(f"record {self.n.value} {ctx.due(value[1])}")
        done(value, ctx)

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[str, str]) -> None:
        self.n.value += 100
        ctx.emit(f"{timer} {self.n.value}")
        fired(timer, ctx)


def declare(app: kstream.App, form: str, stream: Any, out: Any) -> None:
    if form == "processor":
        stream.process(Asked, name="p").to(out)
        return
    count = app.table("n", key=str, value=int, default=0)

    def record(value: list[Any], ctx: Timed) -> list[str]:
        count[ctx.key] += 1
        said = f"record {count[ctx.key]} {ctx.due(value[1])}"
        done(value, ctx)
        return [said]

    def timer(due: kstream.Timer, ctx: Timed) -> list[str]:
        count[ctx.key] += 100
        said = f"{due} {count[ctx.key]}"
        fired(due, ctx)
        return [said]

    in_form(form, app, stream, out, record, timer, tables=[count])


def outputs(form: str, script: list[Any], *, merged: bool, doubled: bool) -> list[tuple[Any, ...]]:
    app = kstream.App("asked", on_error=[kstream.Skip()])
    a = app.topic("a", key=str, value=list[Any], out_of_order=2 * MS)
    b, out = app.topic("b", key=str, value=list[Any]), app.topic("out", key=str, value=str)
    stream = app.stream(a).merge(app.stream(b)) if merged else app.stream(a)
    if doubled:
        stream = stream.flat_map(lambda value: [value, ["count", value[1], 0]], value=list[Any])
    declare(app, form, stream, out)
    with TestDriver(app, partitions=1, idle_timeout=5.0) as driver:
        for part in script:
            if part == "commit":
                driver.commit()
            elif part == "crash":
                driver.crash()
            elif isinstance(part, int):
                driver.advance(part)
            else:
                for topic, key, what, name, after, at in part:
                    if merged or topic == "a":
                        driver.cluster.append(topic, key.encode(), a.value.codec.encode([what, name, after]), at)
                driver.process()
        driver.advance(20)
        return [(record.key, record.value, record.timestamp) for record in driver.records(out)]


asked = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from("kl"),
    st.sampled_from(["set", "set", "by the clock", "cancel", "count", "fail"]),
    st.sampled_from("abc"),
    st.integers(-6, 12),
    st.integers(1000, 1040),
)
scripts = st.lists(
    st.lists(asked, min_size=1, max_size=6) | st.sampled_from(["commit", "crash"]) | st.integers(1, 8),
    max_size=12,
)


@examples(30)
@given(st.sampled_from(FORMS), scripts, st.booleans(), st.booleans())
def test_an_agent_is_the_processor_that_does_the_same(
    form: str, script: list[Any], merged: bool, doubled: bool
) -> None:
    expected = outputs("processor", script, merged=merged, doubled=doubled)
    assert outputs(form, script, merged=merged, doubled=doubled) == expected
