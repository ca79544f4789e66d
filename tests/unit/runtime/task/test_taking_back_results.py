"""Results that no record is behind and that fail are left out and leave no trace: outputs, tables and dead letters are
those of a run in which a filter took them out before anything was done with them. How the input is cut, and what
aborts, crashes and lost partitions there are in between, does not show."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from support.strikes import Strikes
from unit.runtime.worker.test_failures import Poison
from unit.test_batching import Case, Run, actions

STRIKES = Strikes()
MS = timedelta(milliseconds=1)
CASES: dict[str, Callable[[kstream.App, Any], Case]] = {}

Sound = Callable[[Any], Any]
"""Takes bad results out of a stream, or lets them fail further on."""


def case(declare: Callable[[kstream.App, Any], Case]) -> Callable[[kstream.App, Any], Case]:
    CASES[declare.__name__] = declare
    return declare


def is_bad(seen: list[int]) -> bool:
    return sum(seen) % 3 == 1


def fail(seen: list[int]) -> list[int]:
    if is_bad(seen):
        raise Poison(seen)
    return seen


def appended(seen: list[int], n: int) -> list[int]:
    seen.append(n)
    return seen


def all_of(seen: list[list[int]], one: list[int]) -> list[list[int]]:
    seen.append(one)
    return seen


def behind(app: kstream.App, results: Any, out: Any, key: Any) -> Any:
    """State, outputs and another step that fails, of each result; returns another output."""
    told, sent = app.topic("told", key=key, value=list[list[int]]), app.topic("sent", key=key, value=int)
    results.group_by_key().aggregate(list, all_of, name="seen", value=list[list[int]]).to(told)
    last = app.table("last", key=key, value=list[int], default=list)

    @app.agent(results)
    def sends(seen: list[int], ctx: kstream.Context[Any]) -> None:
        ctx.send(sent, len(seen))
        last[ctx.key] = [*last[ctx.key], *seen]

    results.map(fail, value=list[int]).to(out)
    return [told, sent]


@case
def windows(app: kstream.App, sound: Sound) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=kstream.Windowed[str], value=list[int])
    group = app.stream(source).group_by_key().window(kstream.Tumbling(3 * MS), grace=MS)
    results = sound(group.aggregate(list, appended, name="n", value=list[int], emit="close").stream())
    return Case(app, [source], [out, *behind(app, results, out, kstream.Windowed[str])])


@case
def hopping_windows_and_agents_that_wait(app: kstream.App, sound: Sound) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=kstream.Windowed[str], value=list[int])
    group = app.stream(source).group_by_key().window(kstream.Hopping(6 * MS, every=3 * MS), grace=0 * MS)
    results = sound(group.aggregate(list, appended, name="n", value=list[int], emit="close").stream())
    table = app.table("seen", key=kstream.Windowed[str], value=int, default=0)

    @app.agent(results, to=out)
    async def agent(stream: Any, ctx: kstream.Context[Any]) -> AsyncIterator[list[int]]:
        async for seen in stream:
            table[ctx.key] += len(seen)
            for _ in range(len(seen) % 3):
                await asyncio.sleep(0)
            yield fail(seen)

    return Case(app, [source], [out])


@case
def sessions(app: kstream.App, sound: Sound) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=kstream.WindowedSpan[str], value=list[int])
    group = app.stream(source).group_by_key().window(kstream.Session(gap=2 * MS), grace=0 * MS)
    sessions = group.aggregate(
        list, appended, merge=lambda one, other: one + other, name="n", value=list[int], emit="close"
    )
    results = sound(sessions.stream())
    return Case(app, [source], [out, *behind(app, results, out, kstream.WindowedSpan[str])])


@case
def early_results(app: kstream.App, sound: Sound) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=kstream.Windowed[str], value=list[int])
    group = app.stream(source).group_by_key().window(kstream.Tumbling(9 * MS), grace=0 * MS, early=2 * MS)
    results = sound(group.aggregate(list, appended, name="n", value=list[int], emit="close").stream())
    return Case(app, [source], [out, *behind(app, results, out, kstream.Windowed[str])])


@case
def records_that_find_nothing(app: kstream.App, sound: Sound) -> Case:
    left, right = app.topic("left", key=str, value=int), app.topic("right", key=str, value=int)
    out = app.topic("out", key=str, value=list[int])

    def joined(n: int | None, other: int | None) -> list[int]:
        return [n or 0, 0] if other is None else [0, 0]  # one that found something is good

    results = app.stream(left).join(
        app.stream(right), joined, value=list[int], within=2 * MS, grace=0 * MS, how="outer", name="j"
    )
    return Case(app, [left, right], [out, *behind(app, sound(results), out, str)])


@case
def timers(app: kstream.App, sound: Sound) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=list[int])

    class Timed(kstream.Processor[str, int, list[int]]):
        seen = kstream.ListState(int)

        def process(self, value: int, ctx: Any) -> None:
            self.seen.append(value)
            ctx.timer(after=3 * MS)
            if value % 2:
                ctx.timer(after=MS, name="other")

        def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
            seen = list(self.seen)
            ctx.emit(seen)
            if not timer.name:
                ctx.emit([*seen, 1])
                self.seen.clear()

    results = sound(app.stream(source).process(Timed, name="p"))
    return Case(app, [source], [out, *behind(app, results, out, str)])


@case
def in_a_row(app: kstream.App, sound: Sound) -> Case:
    """Where they are left out at once; what fails in the fold behind has changed its accumulator."""
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=kstream.Windowed[str], value=list[list[int]])
    group = app.stream(source).group_by_key().window(kstream.Tumbling(3 * MS), grace=MS)
    results = sound(group.aggregate(list, appended, name="n", value=list[int], emit="close").stream())

    def fold(seen: list[list[int]], one: list[int]) -> list[list[int]]:
        seen.append(one)
        fail(one)
        return seen

    kept = results.filter(lambda seen: len(seen) != 2 or fail(seen)).group_by_key()
    kept.aggregate(list, fold, name="seen", value=list[list[int]]).to(out)
    return Case(app, [source], [out])


rows = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(["a", "a", "b", "c"]), st.integers(0, 9), st.integers(0, 4)),
    min_size=1,
    max_size=30,
)
made: dict[tuple[str, str], Case] = {}


def the(name: str, how: str) -> Case:
    """`how`: "fails" or "filtered"."""
    if (name, how) not in made:
        app = kstream.App(name.replace("_", "-"), on_error=[kstream.DeadLetter()])

        def sound(results: Any) -> Any:
            if how == "fails":
                return results
            key = str if name in ("timers", "records_that_find_nothing") else kstream.Windowed[str]
            key = kstream.WindowedSpan[str] if name == "sessions" else key
            results.filter(is_bad).to(app.topic("bad", key=key, value=list[int]))
            return results.filter(lambda seen: not is_bad(seen))

        made[name, how] = CASES[name](app, sound)
    return made[name, how]


def letters(run: Run, topic: str) -> Counter[tuple[Any, Any, int]]:
    found = run.driver.cluster.records(topic) if topic in run.driver.cluster.topics() else ()
    return Counter((record.key, record.value, record.timestamp) for record in found)


@pytest.mark.parametrize("name", list(CASES))
@given(
    table=rows,
    sizes=st.lists(st.integers(0, 9), max_size=12),
    script=st.lists(actions, max_size=10),
    backend=st.sampled_from(["memory", "memory", "memory", "rocksdb"]),
)
def test_outputs_and_tables_are_those_without_the_results_that_fail(
    name: str, table: list[Any], sizes: list[int], script: list[Any], backend: str
) -> None:
    records, now = [], 0
    for which, key, n, later in table:
        now += later
        records.append((which, key, n, now))
    run = Run(the(name, "filtered"), records)  # type: ignore[arg-type]
    try:
        run.driver.cluster.batch_sizes = iter(lambda: 1, 0)
        expected, bad = run.settle(), letters(run, "bad")
    finally:
        run.close()
    run = Run(the(name, "fails"), records, backend, STRIKES)  # type: ignore[arg-type]
    try:
        run.driver.cluster.batch_sizes = iter(sizes)
        for action in script:
            run.act(action)
        found, dead = run.settle(), letters(run, f"{name.replace('_', '-')}-dead-letters")
    finally:
        run.close()
    assert found.outputs == expected.outputs
    for store in found.stores.keys() | expected.stores.keys():
        if not store.startswith("j-"):  # when what is over leaves a join's buffers does not show
            assert found.stores[store] == expected.stores[store]
    if name == "records_that_find_nothing":  # the letter has the record
        bad = Counter({(key, value.strip(b"[]").split(b",")[0], at): n for (key, value, at), n in bad.items()})
    assert dead == bad
