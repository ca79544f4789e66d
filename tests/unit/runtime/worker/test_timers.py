"""Timers in workers that restart, restore, hand tasks over, abort and crash: each fires once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import AbortRequired, ProducerLost
from kstream.state.expiry import index_of
from kstream.types import TopicPartition
from support.cases import examples
from support.strikes import Kind, Planner, Strikes
from unit.runtime.harness import Fleet

STRIKES = Strikes()
KEYS = [f"k{i}" for i in range(6)]
WAIT = timedelta(seconds=10)


class Rings(kstream.Processor[str, int, int]):
    """Each record sets one more alarm of its key; the alarms number themselves."""

    n = kstream.ValueState(int, default=0)
    rang = kstream.ValueState(int, default=0)
    clock: Any = "wall"

    def process(self, value: int, ctx: Any) -> None:
        self.n.value += 1
        ctx.timer(after=WAIT, name=f"{self.n.value}", clock=self.clock)

    def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
        self.rang.value += 1
        ctx.emit(self.rang.value)


def app_of(clock: Any = "wall", form: str = "processor") -> tuple[kstream.App, Any, Any]:
    """The form of what has the timers: the agents have their state in tables, which are called as its is."""
    kind: Any = type("Made", (Rings,), {"clock": clock})
    app = kstream.App("rings")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    if form == "processor":
        app.stream(source).process(kind, name="p").to(out)
        return app, source, out
    count, rang = (app.table(name, key=str, value=int, default=0) for name in ("p-n", "p-rang"))

    def sets(ctx: kstream.TimerContext[str]) -> None:
        count[ctx.key] += 1
        ctx.timer(after=WAIT, name=f"{count[ctx.key]}", clock=clock)

    def plain(value: int, ctx: kstream.TimerContext[str]) -> None:
        sets(ctx)

    async def waiting(stream: kstream.AgentStream[str, int], ctx: kstream.TimerContext[str]) -> None:
        async for _ in stream:
            await asyncio.sleep(0)
            sets(ctx)
            await asyncio.sleep(0)

    agent = app.agent(source, to=out, name="p", tables=[count, rang])(plain if form == "agent" else waiting)

    @agent.on_timer
    def rings(timer: kstream.Timer, ctx: kstream.TimerContext[str]) -> int:
        rang[ctx.key] += 1
        return rang[ctx.key]

    return app, source, out


@pytest.fixture(params=["memory", "rocksdb", "agent", "async agent"])
def fleet(request: Any, tmp_path: Path) -> Iterator[Fleet]:
    agent, backend = "agent" in request.param, request.param
    app, _, _ = app_of(form=request.param if agent else "processor")
    made = Fleet(app, tmp_path, partitions=2, backend="rocksdb" if agent else backend)
    yield made
    made.close()


def send(fleet: Fleet, *keys: str) -> None:
    fleet.send(fleet.topology.parts[0].sources[0].topic, keys)


def rung(fleet: Fleet) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for record in fleet.cluster.records("out"):
        found.setdefault((record.key or b"").decode(), []).append(int(record.value or b""))
    return found


def wait(fleet: Fleet, *names: str, seconds: float = 12.0) -> None:
    fleet.step(*names, times=int(seconds / 0.6) + 1, seconds=0.6)
    fleet.settle(*names)


def check(fleet: Fleet) -> None:
    """The stores are their changelogs, and the order of the timers is that of the store."""
    for store in ("p-n", "p-rang", "p-timers"):
        assert fleet.stores(store) == fleet.changelog(store), store
    for worker in fleet.workers.values():
        for task in worker.tasks.values():
            index = [entry for entry, _ in task.backend.scan(index_of("p-timers"))]
            assert {entry[9:] for entry in index} >= {key for key, _ in task.backend.scan("p-timers")}


def test_they_fire_without_records_in_the_order_of_time_and_once(fleet: Fleet) -> None:
    fleet.start("a")
    send(fleet, *KEYS, *KEYS)
    fleet.settle()
    assert rung(fleet) == {}
    wait(fleet)
    assert rung(fleet) == {key: [1, 2] for key in KEYS}
    commits = fleet.workers["a"].commits
    wait(fleet, seconds=30)
    assert rung(fleet) == {key: [1, 2] for key in KEYS}
    assert fleet.workers["a"].commits == commits  # nothing is due, so nothing is committed
    assert fleet.changelog("p-timers") == {}
    check(fleet)


@pytest.mark.parametrize("how", ["leave", "crash"])
def test_what_is_due_while_nobody_runs_fires_at_the_start(fleet: Fleet, how: str) -> None:
    fleet.start("a")
    send(fleet, *KEYS)
    fleet.settle()
    fleet.leave("a") if how == "leave" else fleet.crash("a")
    fleet.clock.advance(60)
    fleet.start("a")
    fleet.settle()
    wait(fleet, seconds=3)
    assert rung(fleet) == {key: [1] for key in KEYS}
    check(fleet)


def test_a_task_goes_away_and_back_with_nothing_but_a_timer_fired_in_between(fleet: Fleet) -> None:
    """Its committed offsets are those that it committed itself: they do not say that nobody had it meanwhile."""
    a = fleet.start("a")
    send(fleet, *KEYS)
    fleet.settle()
    before = fleet.committed("in")
    tasks = list(a.tasks.values())
    fleet.expire("a")
    fleet.start("b")
    fleet.settle("b")
    wait(fleet, "b")
    assert rung(fleet) == {key: [1] for key in KEYS}
    assert fleet.committed("in") == before
    fleet.leave("b")
    wait(fleet, "a")
    assert list(a.tasks.values()) == tasks  # they were never closed
    wait(fleet, "a")
    assert rung(fleet) == {key: [1] for key in KEYS}
    send(fleet, *KEYS)
    wait(fleet, "a")
    assert rung(fleet) == {key: [1, 2] for key in KEYS}
    check(fleet)


@pytest.mark.parametrize("how", ["opens", "expires", "crashes"])
def test_what_an_agent_sets_before_it_waits_is_set_with_its_record(tmp_path: Path, how: str) -> None:
    """Nothing fires, and nothing is kept, until it is through; then each fires once, wherever that is."""
    app = kstream.App("rings")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)
    opened: list[bool] = []

    @app.agent(source, to=out, name="p")
    async def waits(stream: kstream.AgentStream[str, int], ctx: kstream.TimerContext[str]) -> None:
        async for _ in stream:
            ctx.timer(after=WAIT, name="before", clock="wall")
            while not opened:
                await asyncio.sleep(0.001)
            ctx.timer(after=WAIT, name="behind", clock="wall")

    @waits.on_timer
    def rings(timer: kstream.Timer, ctx: kstream.TimerContext[str]) -> str:
        return timer.name

    fleet = Fleet(app, tmp_path, partitions=1)
    try:
        fleet.start("a")
        fleet.settle()
        fleet.send(source, ["k"])
        fleet.step("a", times=60, seconds=0.6)
        assert fleet.changelog("p-timers") == {}
        assert fleet.cluster.records("out") == []
        if how != "opens":
            fleet.expire("a") if how == "expires" else fleet.crash("a")
            fleet.start("b" if how == "expires" else "a")
        opened.append(True)
        fleet.settle()
        wait(fleet, seconds=60)
        assert sorted(record.value or b"" for record in fleet.cluster.records("out")) == [b"before", b"behind"]
        assert fleet.changelog("p-timers") == {}
        assert fleet.committed("in") == {0: 1}
    finally:
        fleet.close()


def test_an_abort_takes_back_what_fired(fleet: Fleet) -> None:
    fleet.start("a")
    send(fleet, *KEYS)
    fleet.settle()
    for error in (AbortRequired, ProducerLost, AbortRequired):
        fleet.cluster.fail_next("commit", error("planned"))
    wait(fleet)
    assert rung(fleet) == {key: [1] for key in KEYS}
    check(fleet)


def test_a_commit_whose_outcome_is_unknown_fires_nothing_twice(fleet: Fleet) -> None:
    fleet.start("a")
    send(fleet, *KEYS)
    fleet.settle()
    fleet.cluster.fail_next("commit", ProducerLost("planned"), after=True)
    wait(fleet, seconds=20)
    assert rung(fleet) == {key: [1] for key in KEYS}
    check(fleet)


actions = st.one_of(
    st.tuples(st.just("send"), st.lists(st.sampled_from(KEYS), min_size=1, max_size=5)),
    st.tuples(st.just("step"), st.integers(1, 20)),
    st.tuples(st.sampled_from(["abort", "lost", "unknown"]), st.integers(0, 2)),
    st.tuples(st.sampled_from(["restart", "crash", "other"]), st.just(0)),
)


@examples(40)
@given(
    st.lists(actions, max_size=14),
    st.sampled_from(["wall", "event"]),
    st.sampled_from(["memory", "rocksdb"]),
    st.sampled_from(["processor", "agent", "async agent"]),
)
def test_whatever_happens_each_fires_once(script: list[Any], clock: str, backend: str, form: str) -> None:
    app, _, _ = app_of(clock, form)
    sent: list[str] = []
    with TemporaryDirectory() as directory:
        fleet = Fleet(app, Path(directory), partitions=2, backend=backend, idle_timeout=3.0)
        faults = Planner(fleet.cluster, STRIKES)
        fleet.start("a")
        fleet.step(times=2)
        try:
            for what, how in script:
                if what == "send":
                    send(fleet, *how)
                    sent += how
                elif what == "step":
                    fleet.step(times=how, seconds=0.6)
                elif what in ("abort", "lost"):
                    faults.plan(Kind("commit", AbortRequired if what == "abort" else ProducerLost, False), how)
                elif what == "unknown":
                    faults.plan(Kind("commit", ProducerLost, True), how)
                elif what == "other":
                    fleet.leave("b") if "b" in fleet.workers else fleet.start("b")
                    fleet.step(times=2)
                else:
                    fleet.leave("a") if what == "restart" else fleet.crash("a")
                    fleet.start("a")
                    fleet.step(times=2)
            fleet.settle()
            wait(fleet, seconds=15)
            if clock == "event":  # time goes on with a later record of each partition
                for partition in range(2):
                    fleet.cluster.append("in", f"end{partition}".encode(), b"1", partition=partition)
            wait(fleet, seconds=15)
            expected = {key: list(range(1, sent.count(key) + 1)) for key in sent}
            assert {key: value for key, value in rung(fleet).items() if not key.startswith("end")} == expected
            check(fleet)
        finally:
            faults.count()
            fleet.close()


def test_most_planned_faults_struck() -> None:
    """Of the runs above: else they would say little about failures."""
    STRIKES.check(share=0.5)


def test_a_restore_finds_timers_that_were_moved_many_times(tmp_path: Path) -> None:
    class Idle(kstream.Processor[str, int, int]):
        def process(self, value: int, ctx: Any) -> None:
            ctx.timer(after=WAIT, name="idle", clock="wall")

        def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
            ctx.emit(1)

    app = kstream.App("rings")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(source).process(Idle, name="p").to(out)
    fleet = Fleet(app, tmp_path, partitions=1, backend="memory", poll_batch=3)
    try:
        fleet.start("a")
        for _ in range(12):
            fleet.send(source, KEYS)
            fleet.step(times=4, seconds=0.6)
        fleet.settle()
        assert fleet.cluster.log(TopicPartition("rings-p-timers-changelog", 0)).end > 5 * len(KEYS)
        for _ in range(2):
            fleet.leave("a")
            fleet.start("a")
            fleet.step(times=10, seconds=0.1)
        assert rung(fleet) == {}
        wait(fleet)
        assert rung(fleet) == {key: [1] for key in KEYS}
        (task,) = fleet.workers["a"].tasks.values()
        fleet.send(source, KEYS)
        wait(fleet, seconds=15)
        assert list(task.backend.scan(index_of("p-timers"))) == []  # and what the replay left is gone
    finally:
        fleet.close()
