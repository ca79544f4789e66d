"""A table that no look at the code finds is the app's fault: the task stops and says so, whatever policies say."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.errors import TableUndeclared
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.task.states import TaskState
from kstream.testing import TestDriver
from kstream.testing.clients import MemoryClients
from unit.runtime.harness import Fleet

Tables = dict[str, Any]
Says = Callable[[Any], Any]
"""`kstream.uses`, or nothing."""


def by_map(app: kstream.App, source: Any, out: Any, tables: Tables, says: Says) -> None:
    app.stream(source).map(says(lambda n: n + tables["rates"].get("k", 0)), value=int).to(out)


def by_map_with_context(app: kstream.App, source: Any, out: Any, tables: Tables, says: Says) -> None:
    @says
    def priced(n: int, ctx: kstream.Context[str]) -> int:
        return n + tables["rates"].get(ctx.key, 0)  # type: ignore[no-any-return]

    app.stream(source).map(priced).to(out)


def by_swallowing(app: kstream.App, source: Any, out: Any, tables: Tables, says: Says) -> None:
    @says
    def priced(n: int) -> int:
        with suppress(Exception):
            n += tables["rates"].get("k", 0)
        return n

    app.stream(source).map(priced).to(out)


def by_filter(app: kstream.App, source: Any, out: Any, tables: Tables, says: Says) -> None:
    app.stream(source).filter(says(lambda n: tables["rates"].get("k", 1))).to(out)


def by_fold(app: kstream.App, source: Any, out: Any, tables: Tables, says: Says) -> None:
    fold = says(lambda last, n: n + tables["rates"].get("k", 0))
    app.stream(source).group_by_key().aggregate(int, fold, name="last").to(out)


def behind_a_commit(app: kstream.App, source: Any, out: Any, tables: Tables, says: Says) -> None:
    last = app.stream(source).group_by_key().aggregate(int, lambda last, n: n, name="last", emit="commit")
    last.stream().map(says(lambda n: n + tables["rates"].get("k", 0)), value=int).to(out)


def by_branch(app: kstream.App, source: Any, out: Any, tables: Tables, says: Says) -> None:
    app.stream(source).branch(rated=says(lambda n: tables["rates"].get("k", 1)))["rated"].to(out)


def by_agent(app: kstream.App, source: Any, out: Any, tables: Tables, says: Says) -> None:
    @app.agent(source, to=out)
    @says
    def agent(n: int, ctx: kstream.Context[str]) -> Iterator[int]:
        tables["rates"][ctx.key] = 0
        yield n


def by_async(app: kstream.App, source: Any, out: Any, tables: Tables, says: Says) -> None:
    @app.agent(source, to=out)
    @says
    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            with suppress(KeyError):
                tables["rates"]["k"]
            yield n


def by_processor(app: kstream.App, source: Any, out: Any, tables: Tables, says: Says) -> None:
    class Base(kstream.Processor[str, int, int]):
        def process(self, value: int, ctx: Any) -> None:
            ctx.emit(value + tables["rates"].get(ctx.key, 0))

    @says
    class Made(Base):
        def process(self, value: int, ctx: Any) -> None:
            super().process(value, ctx)

    app.stream(source).process(Made, name="made").to(out)


def by_timer(app: kstream.App, source: Any, out: Any, tables: Tables, says: Says) -> None:
    @says
    class Made(kstream.Processor[str, int, int]):
        last = kstream.ValueState(int, default=0)

        def process(self, value: int, ctx: Any) -> None:
            self.last.value = value
            ctx.timer(after=timedelta(milliseconds=1), clock="wall", name=f"{value:02}")

        def on_timer(self, timer: Any, ctx: Any) -> None:
            ctx.emit(int(timer.name) + tables["rates"].get(ctx.key, 0))

    def factory() -> Made:
        return Made()

    app.stream(source).process(factory, name="made").to(out)


FORMS = [
    by_map, by_map_with_context, by_swallowing, by_filter, by_fold, behind_a_commit, by_branch, by_agent, by_async,
    by_processor, by_timer,
]  # fmt: skip
POLICIES: list[Any] = [
    kstream.Skip(), kstream.DeadLetter(), kstream.Retry(2, base=0.1), kstream.RetryLater([1]),
    kstream.Skip(on=(TableUndeclared,)),
]  # fmt: skip


def made(form: Callable[..., None], policy: Any, *, says: bool) -> tuple[kstream.App, Any, Any]:
    app = kstream.App("svc", on_error=[policy])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    tables = {"rates": app.table("rates", key=str, value=int)}
    form(app, source, out, tables, kstream.uses(*tables.values()) if says else lambda function: function)
    return app, source, out


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_the_task_stops_and_nothing_is_lost(
    form: Callable[..., None], policy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, source, _ = made(form, policy, says=False)
    fleet = Fleet(app, tmp_path, partitions=1)
    worker = fleet.start("a")
    for n in range(20):
        fleet.send(source, ["k"], n)
    fleet.step(times=100, seconds=0.1)
    (task,) = worker.tasks.values()
    errors = [one for one in caplog.records if one.levelno >= logging.ERROR]
    said = {one.getMessage().partition(";")[0] for one in errors}
    assert len(said) == 1, said
    line = said.pop()
    assert line.startswith("task in/0 stopped: ") and form.__name__ in line, line
    assert "uses table 'rates'" in line and "tables=[the table]" in line and "\n" not in line, line
    assert task.measures.retries >= 2  # as its restart strategy says
    for name, info in fleet.cluster.topics().items():
        if info and name.endswith(("-dead-letters", "-retry-1s", "out")):
            assert not fleet.cluster.records(name), name
    assert not worker.measures.skipped and not worker.measures.retried
    fleet.leave("a")

    fleet.app, *_ = made(form, policy, says=True)  # the same app, mended
    fleet.topology = fleet.app.topology()
    fleet.partitions = prepare_topics(fleet.topology, MemoryClients(fleet.cluster).admin(), fleet.settings)
    worker = fleet.start("a")
    fleet.step(times=100, seconds=0.1)
    assert all(one.state is TaskState.RUNNING for one in worker.tasks.values())
    values = [int(record.value or b"") for record in fleet.cluster.records("out")]
    assert values == ([19] if form is behind_a_commit else list(range(20)))
    fleet.close()


@pytest.mark.parametrize("form", FORMS)
def test_the_test_driver_says_so(form: Callable[..., None]) -> None:
    app, source, _ = made(form, kstream.DeadLetter(), says=False)
    driver = TestDriver(app, partitions=1)
    with pytest.raises(TableUndeclared, match=r"uses table 'rates', which cannot be seen in its code"):
        driver.send(source, 1, key="k")
        driver.advance(1.0)
        driver.commit()
    driver.close(commit=False)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("says", [False, True])
@pytest.mark.parametrize("form", [by_map, by_map_with_context, by_filter, by_agent, by_async, by_processor])
def test_a_table_that_only_another_function_of_the_task_shows(form: Callable[..., None], says: bool, cut: bool) -> None:
    """It would be as a whole batch has left it."""
    app = kstream.App("svc")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    rates = app.table("rates", key=str, value=int)

    @app.agent(source, name="first")
    def first(n: int, ctx: kstream.Context[str]) -> None:
        rates[ctx.key] = 100 * n

    tables = {"rates": rates}
    form(app, source, out, tables, kstream.uses(rates) if says else lambda function: function)
    driver = TestDriver(app, partitions=1)
    for n in range(1, 6):
        driver.cluster.append("in", b"k", b"%d" % n, 1000 + n)
        if cut and says:
            driver.process()
    if says:
        adds = form in (by_map, by_map_with_context, by_processor)
        assert driver.values(out) == [n + 100 * n * adds for n in range(1, 6)]
        driver.close()
        return
    with pytest.raises(TableUndeclared, match="uses table 'rates', which cannot be seen in its code"):
        driver.process()
    driver.close(commit=False)


@pytest.mark.parametrize("form", [by_map, by_agent, by_async, by_processor])
def test_a_global_table_is_shown_in_the_same_ways(form: Callable[..., None]) -> None:
    app = kstream.App("svc", on_error=[kstream.Skip()])
    source, out, rows = (app.topic(name, key=str, value=int) for name in ("in", "out", "rows"))
    tables = {"rates": app.global_table(rows, name="rates")}
    own = app.table("rated", key=str, value=int)
    app.stream(source).filter(lambda n: "k" not in own).to(app.topic("others", key=str, value=int))
    if form is by_agent:  # it writes
        app.agent(source, to=out, tables=tables.values())(lambda n: n + tables["rates"].get("k", 0))
    else:
        form(app, source, out, tables, kstream.uses(*tables.values()))
    with TestDriver(app, partitions=1) as d:
        d.send(rows, 5, key="k")
        d.send(source, 1, key="k")
        assert d.values(out) == [1 if form is by_async else 6]


def test_the_line_names_the_function_that_is_to_be_marked_and_the_one_that_uses_the_table() -> None:
    app = kstream.App("svc")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    held = {"rates": app.table("rates", key=str, value=int)}

    class Rates:
        def of(self, key: str) -> int:
            return held["rates"].get(key, 0)

    class Better(Rates):
        def of(self, key: str) -> int:
            return super().of(key)

    better = Better()

    def priced(n: int) -> int:
        return n + better.of("k")

    app.stream(source).map(priced).to(out)
    driver = TestDriver(app, partitions=1)
    where = r"[\w.<>]*priced\(\), by [\w.<>]*Rates\.of\(\), uses table 'rates'.* over [\w.<>]*priced\(\)"
    with pytest.raises(TableUndeclared, match=where):
        driver.send(source, 1, key="k")
    driver.close(commit=False)
