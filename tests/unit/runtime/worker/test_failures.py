"""A record that fails: what is committed, what the error says, what goes on meanwhile."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import kstream
from kstream.errors import (
    AbortRequired,
    CheckpointsFailed,
    KStreamError,
    ProcessingError,
    RestartsExhausted,
    TableError,
    TableUndeclared,
)
from kstream.partitioning import partition_of
from kstream.runtime.task.states import TaskState
from kstream.testing import TestDriver
from kstream.types import TopicPartition
from unit.runtime.harness import Counting, Fleet

Declare = Callable[[kstream.App, "kstream.Topic[str, int]", "kstream.Topic[str, int]", Callable[[int], None]], None]


class Poison(Exception):
    pass


def by_map(app: kstream.App, source: Any, out: Any, call: Callable[[int], None]) -> None:
    app.stream(source).map(lambda n: call(n) or n, value=int).to(out)


def by_fold(app: kstream.App, source: Any, out: Any, call: Callable[[int], None]) -> None:
    app.stream(source).group_by_key().aggregate(int, lambda total, n: call(n) or n, name="last").to(out)


def by_fold_at_commit(app: kstream.App, source: Any, out: Any, call: Callable[[int], None]) -> None:
    last = app.stream(source).group_by_key().aggregate(
        int, lambda total, n: call(n) or n, name="last", emit="commit"
    )  # fmt: skip
    last.to(app.topic("changes", key=str, value=int))
    app.stream(source).to(out)


def by_function(app: kstream.App, source: Any, out: Any, call: Callable[[int], None]) -> None:
    table = app.table("seen", key=str, value=int)

    @app.agent(source, to=out)
    def agent(n: int, ctx: kstream.Context[str]) -> int:
        table[ctx.key] = n
        call(n)
        return n


def by_generator(app: kstream.App, source: Any, out: Any, call: Callable[[int], None]) -> None:
    side = app.topic("side", key=str, value=int)

    @app.agent(source, to=out)
    def agent(n: int, ctx: kstream.Context[str]) -> Any:
        ctx.send(side, n)
        yield n
        call(n)


def by_async(app: kstream.App, source: Any, out: Any, call: Callable[[int], None]) -> None:
    @app.agent(source, to=out)
    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            yield n
            call(n)


def by_async_that_waits(app: kstream.App, source: Any, out: Any, call: Callable[[int], None]) -> None:
    @app.agent(source, to=out)
    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            yield n
            await asyncio.sleep(0)
            call(n)


WAYS: list[Declare] = [by_map, by_fold, by_fold_at_commit, by_function, by_generator, by_async, by_async_that_waits]


def declared(declare: Declare, call: Callable[[int], None]) -> tuple[kstream.App, Any, Any]:
    app = kstream.App("failing")
    source, out = app.topic("in", key=str, value=int, partitions=1), app.topic("out", key=str, value=int)
    declare(app, source, out, call)
    return app, source, out


@pytest.mark.parametrize("at", [0, 1, 5, 9])
@pytest.mark.parametrize("sizes", [[], [1] * 40, [3] * 40], ids=["all at once", "singly", "threes"])
@pytest.mark.parametrize("declare", WAYS)
def test_all_before_a_poison_record_is_committed_and_nothing_of_it_or_after(
    declare: Declare, sizes: list[int], at: int
) -> None:
    def call(n: int) -> None:
        if n == at:
            raise Poison(n)

    app, source, out = declared(declare, call)
    driver = TestDriver(app, partitions=1)
    for n in range(10):
        driver.cluster.append(source.name, b"k%d" % (n % 3), b"%d" % n)
    driver.cluster.batch_sizes = iter(sizes)
    with pytest.raises(ProcessingError) as caught:
        driver.process()
    error = caught.value
    assert (error.task, error.topic, error.partition, error.offset) == ("in/0", "in", 0, at)
    assert isinstance(error.__cause__, Poison)
    assert "in/0" in str(error)
    assert f"in[0] offset {at}: Poison: {at}" in str(error)
    assert [int(record.value or b"") for record in driver.cluster.records(out.name)] == list(range(at))
    if at:
        assert driver.cluster.group("failing").offsets[TopicPartition("in", 0)][0] == at
    driver.close(commit=False)


@pytest.mark.parametrize("declare", WAYS)
def test_a_passing_failure_is_processed_exactly_once(declare: Declare) -> None:
    left = {3: 1, 7: 1}

    def call(n: int) -> None:
        if left.get(n):
            left[n] -= 1
            raise Poison(n)

    app, source, out = declared(declare, call)
    with TestDriver(app, partitions=1) as driver:
        for n in range(10):
            driver.cluster.append(source.name, b"k%d" % (n % 3), b"%d" % n)
        assert driver.values(out) == list(range(10))
        driver.send(source, 10, key="k")
        assert driver.values(out) == list(range(11))


@pytest.mark.parametrize("declare", WAYS)
def test_bytes_that_cannot_be_decoded_fail_at_their_record(declare: Declare) -> None:
    app, source, out = declared(declare, lambda n: None)
    driver = TestDriver(app, partitions=1)
    for n in range(6):
        driver.cluster.append(source.name, b"k", b"%d" % n if n != 4 else b'{"no": "number"}')
    with pytest.raises(ProcessingError, match=r"in\[0\] offset 4: .*int") as caught:
        driver.process()
    assert caught.value.offset == 4
    if declare is not by_fold_at_commit:  # there the sink takes bytes as they are
        assert [record.value for record in driver.cluster.records(out.name)] == [b"0", b"1", b"2", b"3"]
    driver.close(commit=False)


def test_a_key_that_cannot_be_decoded_fails_at_its_record() -> None:
    app = kstream.App("keys")
    source, out = app.topic("in", key=int, value=int), app.topic("out", key=str, value=int)
    app.stream(source).map(lambda n, ctx: ctx.key + n, value=int).rekey(str, key=str).to(out)
    driver = TestDriver(app, partitions=1)
    for key in (b"1", b"x"):
        driver.cluster.append(source.name, key, b"1")
    with pytest.raises(ProcessingError, match="offset 1"):
        driver.process()
    assert [record.value for record in driver.cluster.records(out.name)] == [b"2"]
    driver.close(commit=False)


# ---- the other tasks, and trying again


@pytest.fixture
def broken(tmp_path: Path) -> Any:
    """A fleet whose task of partition 0 fails at every 13 until `mended`."""
    app = kstream.App("broken")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    state = {"mended": False, "calls": 0}

    @app.agent(source, to=out)
    def agent(n: int) -> int:
        if n == 13:
            state["calls"] += 1
            if not state["mended"]:
                raise Poison(n)
        return n

    fleet = Fleet(app, tmp_path, partitions=2)
    key = next(f"k{i}" for i in range(9) if partition_of(b"k%d" % i, 2) == 0)
    other = next(f"k{i}" for i in range(9) if partition_of(b"k%d" % i, 2) == 1)
    fleet.start("a")
    fleet.settle()
    yield fleet, source, out, state, key, other
    fleet.close()


def test_the_other_tasks_go_on_and_the_failed_one_is_tried_again_with_longer_pauses(broken: Any) -> None:
    fleet, source, out, state, key, other = broken
    fleet.send(source, [key], 1)
    fleet.send(source, [key], 13)
    fleet.send(source, [key], 2)
    fleet.step("a", times=6)
    task = fleet.task("a", 0)
    assert task.state is TaskState.FAILED
    assert isinstance(task.error, ProcessingError)
    failed_at, calls = fleet.clock.monotonic(), state["calls"]
    pauses = []
    while len(pauses) < 9:
        fleet.send(source, [other], len(pauses))
        fleet.step("a", seconds=0.05)
        if state["calls"] > calls:
            pauses.append(round(fleet.clock.monotonic() - failed_at))
            fleet.step("a", times=6, seconds=0.0)
            assert task.state is TaskState.FAILED
            failed_at, calls = fleet.clock.monotonic(), state["calls"]
        elif pauses[3:]:
            fleet.step("a", seconds=0.45)
        else:
            assert task.state in (TaskState.FAILED, TaskState.RESTORING, TaskState.RUNNING)
    assert pauses[:6] == [1, 2, 4, 8, 16, 32]
    assert all(60 <= pause <= 61 for pause in pauses[6:])  # looked at every half second
    assert fleet.outputs(out)[key] == [1]
    assert len(fleet.outputs(out)[other]) > 100
    state["mended"] = True
    fleet.step("a", times=140, seconds=0.5)
    assert task.state is TaskState.RUNNING
    assert task.error is None
    assert fleet.outputs(out)[key] == [1, 13, 2]


def test_a_failed_task_reads_nothing_meanwhile(broken: Any) -> None:
    fleet, source, _, _, key, _ = broken
    fleet.send(source, [key], 13)
    fleet.step("a", times=6)
    fleet.send(source, [key] * 50, 1)
    fleet.step("a", times=6)
    assert fleet.task("a", 0).buffered == 0
    positions = fleet.workers["a"]._consumer._positions  # type: ignore[attr-defined]
    assert {at.partition: one.paused for at, one in positions.items()} == {0: True, 1: False}


def test_the_pauses_start_over_after_a_long_time_without_failure(broken: Any) -> None:
    fleet, source, _, state, key, _ = broken
    fleet.send(source, [key], 13)
    fleet.step("a", times=120, seconds=0.5)  # some failures
    state["mended"] = True
    fleet.step("a", times=140, seconds=0.5)
    assert fleet.task("a", 0).state is TaskState.RUNNING
    fleet.clock.advance(fleet.settings.restart_reset_after)
    state["mended"] = False
    fleet.send(source, [key], 13)
    fleet.step("a", times=6, seconds=0.01)
    assert fleet.task("a", 0).state is TaskState.FAILED
    state["mended"] = True
    fleet.step("a", times=8, seconds=0.2)
    assert fleet.task("a", 0).state is TaskState.RUNNING


@pytest.mark.parametrize("declare", [by_map, by_fold_at_commit, by_async])
def test_each_time_the_error_says_that_too_many_records_fail_to_be_left_out(tmp_path: Path, declare: Declare) -> None:
    """Else an operator sees a task stop at a record that its policy says to skip, and not why."""

    def call(n: int) -> None:
        if n == 0:
            raise Poison(n)

    app = kstream.App(
        "failing", on_error=[kstream.Skip()], max_error_rate=0.2, restart=kstream.FixedDelay(2, delay=5.0)
    )
    source, out = app.topic("in", key=str, value=int, partitions=1), app.topic("out", key=str, value=int)
    declare(app, source, out, call)
    fleet = Fleet(app, tmp_path, partitions=1, **app.overrides)
    fleet.start("a")
    for n in (1,) * 20 + (0,) * 15:
        fleet.send(source, ["k"], n)
    told: set[str] = set()
    with pytest.raises(RestartsExhausted) as raised:
        for _ in range(1000):
            fleet.step("a")
            task = fleet.task("a", 0)
            told |= {str(task.error)} if task.error else set()
    for text in (*told, str(raised.value)):
        assert text.count("; not left out: 10 of ") == text.count("more than max_error_rate=0.2") == 1, text
    assert told


@pytest.mark.parametrize("policies", [[], [kstream.Skip(phase="decode")]], ids=["none", "none that is for it"])
def test_the_log_says_that_an_app_has_no_policy(
    tmp_path: Path, policies: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = kstream.App("bad", on_error=policies)
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=float)
    app.stream(source).map(lambda n: 1 / n, value=float).to(out)
    fleet = Fleet(app, tmp_path, partitions=1)
    fleet.start("a")
    fleet.send(source, ["k"], 0)
    fleet.step("a", times=60)
    line = next(one.message for one in caplog.records if "the task is tried again in" in one.message)
    said = line.endswith("; the app has no policy (on_error=) that would leave such a record out")
    assert said is (not policies)


def test_a_task_whose_restarts_are_used_up_ends_its_worker_and_leaves_no_trace(tmp_path: Path) -> None:
    """Each try aborts; nothing of the record that fails is committed by the end either."""
    app = kstream.App("spent", restart=kstream.FixedDelay(2, 5.0))
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=float)
    app.stream(source).map(lambda n: 1 / n, value=float).to(out)
    fleet = Fleet(app, tmp_path, partitions=1, **app.overrides)
    fleet.start("a")
    fleet.send(source, ["k"], 1)
    fleet.settle()
    fleet.send(source, ["k"], 0)
    began = fleet.clock.monotonic()
    with pytest.raises(RestartsExhausted) as raised:
        fleet.step("a", times=1000)
    assert 10.0 <= fleet.clock.monotonic() - began < 12.0
    assert str(raised.value) == (
        "task in/0 stopped at in[0] offset 1: ZeroDivisionError: division by zero; the task is not tried again "
        "(restart strategy fixed-delay: its 2 restarts are used up)"
    )
    assert isinstance(raised.value.__cause__, ProcessingError) and raised.value.exit_status == 1
    fleet.crash("a")
    assert fleet.outputs(out)["k"] == [1] and fleet.committed("in") == {0: 1}


@pytest.mark.parametrize("call", ["commit", "send_offsets"])
def test_more_failed_commits_in_a_row_than_tolerable_end_the_worker(call: str, tmp_path: Path) -> None:
    app = Counting()
    fleet = Fleet(app.app, tmp_path, partitions=1, tolerable_failed_checkpoints=2)
    fleet.start("a")
    for _ in range(3):  # two in a row, then one that succeeds
        fleet.send(app.source, ["k"])
        for _ in range(2):
            fleet.cluster.fail_next(call, AbortRequired("planned"))
        fleet.settle()
    assert fleet.workers["a"].aborts == 6
    fleet.send(app.source, ["k"])
    for _ in range(3):
        fleet.cluster.fail_next(call, AbortRequired("planned"))
    with pytest.raises(
        CheckpointsFailed, match=r"3 commits in a row failed, .*tolerable_failed_checkpoints=2.*planned"
    ):
        fleet.settle()
    fleet.crash("a")
    fleet.start("a")
    fleet.settle()
    app.check(fleet)
    fleet.close()


def test_a_failed_task_that_moves_away_and_back_has_no_error_any_more(broken: Any) -> None:
    fleet, source, out, state, key, _ = broken
    fleet.send(source, [key], 13)
    fleet.step("a", times=6)
    assert fleet.task("a", 0).state is TaskState.FAILED
    state["mended"] = True
    fleet.start("b")
    fleet.settle()
    assert fleet.outputs(out)[key] == [13]
    assert all(task.error is None for worker in fleet.workers.values() for task in worker.tasks.values())


# ---- agents


def agent_app(body: Callable[[Any], Any], **more: Any) -> tuple[kstream.App, Any, Any]:
    app = kstream.App("agents")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.agent(source, to=out, name="agent", **more)(body)
    return app, source, out


def test_an_agent_that_ends_has_failed() -> None:
    async def once(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            yield n
            if n == 2:
                return

    app, source, out = agent_app(once)
    driver = TestDriver(app, partitions=1)
    driver.send(source, 1, key="a")
    with pytest.raises(ProcessingError, match="agent 'agent' returned"):
        driver.send(source, 2, key="a")
    assert [record.value for record in driver.cluster.records(out.name)] == [b"1"]
    driver.close(commit=False)


def test_what_an_agent_was_given_counts_as_processed_only_when_it_asks_for_more() -> None:
    """Faust #606, #312: an offset committed past a record that is still in flight."""
    gate = asyncio.Event()

    async def waits(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            if n == 3:
                await gate.wait()
            yield n

    app, source, out = agent_app(waits)
    driver = TestDriver(app, partitions=1, transaction_timeout=2.0, commit_interval=0.1)
    for n in range(5):
        driver.cluster.append(source.name, b"a", b"%d" % n)
    for _ in range(4):
        driver.worker.step()
    (task,) = driver.worker.tasks.values()
    assert task.busy
    assert task.positions == {TopicPartition("in", 0): 3}
    assert [record.value for record in driver.cluster.records(out.name, committed=False)] == [b"0", b"1", b"2"]
    gate.set()
    assert driver.values(out) == [0, 1, 2, 3, 4]
    driver.close()


def test_an_agent_that_takes_too_long_is_taken_back_and_nothing_is_lost(tmp_path: Path) -> None:
    """The drain before a commit ends in time; the other task's work of the transaction is done again."""
    slow = {"left": 1}
    fleet: Fleet

    async def waits(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            if n == 3 and slow["left"]:
                slow["left"] -= 1
                while slow["left"] == 0:
                    fleet.clock.advance(0.5)  # time passes while it waits
                    await asyncio.sleep(0)
            yield n

    app, source, out = agent_app(waits)
    fleet = Fleet(app, tmp_path, partitions=1)
    fleet.start("a")
    for n in range(6):
        fleet.send(source, ["a"], n)
    fleet.step("a", times=5)
    assert fleet.workers["a"].aborts == 1
    assert fleet.committed("in") == {}
    slow["left"] = -1
    fleet.settle()
    assert fleet.outputs(out) == {"a": [0, 1, 2, 3, 4, 5]}
    fleet.close()


def test_an_agents_cleanup_runs_when_it_is_stopped() -> None:
    ends: list[str] = []

    async def careful(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        try:
            async for n in stream:
                yield n
        finally:
            await asyncio.sleep(0)
            ends.append("closed")

    app, source, _ = agent_app(careful)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a")
        assert ends == []
    assert ends == ["closed"]


def test_short_real_waits_keep_the_order(tmp_path: Path) -> None:
    async def waits(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            async with asyncio.timeout(60):
                await asyncio.sleep(0.002 * (n % 2))
            yield n

    app, source, out = agent_app(waits)
    with TestDriver(app, partitions=1) as driver:
        for n in range(8):
            driver.cluster.append(source.name, b"a", b"%d" % n)
        assert driver.values(out) == list(range(8))


def test_a_coroutine_agent_and_its_context_after_an_await() -> None:
    app = kstream.App("agents")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)
    table = app.table("t", key=str, value=int, default=0)

    @app.agent(source)
    async def agent(stream: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> None:
        async for n in stream:
            await asyncio.sleep(0)
            table[ctx.key] += n
            ctx.send(out, f"{ctx.key}@{ctx.offset} of {ctx.topic}[{ctx.partition}] = {table[ctx.key]}")

    with TestDriver(app, partitions=1) as driver:
        for n, key in enumerate(("a", "b", "a")):
            driver.send(source, n, key=key)
        assert driver.values(out) == ["a@0 of in[0] = 0", "b@1 of in[0] = 1", "a@2 of in[0] = 2"]


def test_an_output_without_a_topic_for_it_fails() -> None:
    app = kstream.App("agents")
    source = app.topic("in", key=str, value=int)

    @app.agent(source)
    def agent(n: int) -> int:
        return n

    driver = TestDriver(app, partitions=1)
    with pytest.raises(ProcessingError, match="has no topic to send it to: declare to="):
        driver.send(source, 1, key="a")
    driver.close(commit=False)


def test_a_tombstone_goes_only_where_none_is_declared() -> None:
    app, source, _ = agent_app(lambda n: kstream.Record("k", None))
    driver = TestDriver(app, partitions=1)
    with pytest.raises(ProcessingError, match=r"tombstone .* not declared `\| None`"):
        driver.send(source, 1, key="a")
    driver.close(commit=False)


# ---- tables


class Box(msgspec.Struct):
    items: list[int] = []


def table_case(use: Callable[[Any, int], object], **declaration: Any) -> tuple[TestDriver, Any]:
    app = kstream.App("tables")
    source = app.topic("in", key=str, value=int)
    declared: dict[str, Any] = {"key": str, "value": Box, "default": Box, **declaration}
    table = app.table("boxes", **declared)

    @app.agent(source)
    def agent(n: int) -> None:
        use(table, n)

    return TestDriver(app, partitions=1), source


def test_a_table_outside_a_task() -> None:
    table = kstream.App("tables").table("boxes", key=str, value=int)
    for use in (
        lambda: table["a"],
        lambda: table.get("a"),
        lambda: "a" in table,
        lambda: table.__setitem__("a", 1),
        lambda: table.__delitem__("a"),
        lambda: list(table),
        lambda: len(table),
    ):
        with pytest.raises(TableError, match="'boxes' was used outside a task"):
            use()


def test_a_table_that_was_not_detected_says_how_to_name_it() -> None:
    app = kstream.App("tables")
    source = app.topic("in", key=str, value=int)
    hidden = {"it": app.table("boxes", key=str, value=int)}

    def agent(n: int) -> None:
        hidden["it"]["a"] = n

    app.agent(source)(agent)
    driver = TestDriver(app, partitions=1)
    with pytest.raises(TableUndeclared, match=r"task in/0 stopped: .*agent\(\) uses table 'boxes', which"):
        driver.send(source, 1, key="a")
    driver.close(commit=False)

    app = kstream.App("tables")
    source = app.topic("in", key=str, value=int)
    hidden["it"] = app.table("boxes", key=str, value=int)
    app.agent(source, tables=[hidden["it"]])(agent)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a")
        assert dict(driver.table(hidden["it"])) == {"a": 1}


@pytest.mark.parametrize("by", ["agent", "map"])
def test_a_key_of_another_partition_is_refused_where_it_is_written(by: str) -> None:
    app = kstream.App("tables")
    source = app.topic("in", key=str, value=int)
    keyed = app.table("keyed", key=str, value=int)
    free = app.table("free", key=str, value=int, scope="partition")
    key = next(f"k{i}" for i in range(9) if partition_of(b"k%d" % i, 2) == 0)
    other = next(f"k{i}" for i in range(9) if partition_of(b"k%d" % i, 2) == 1)

    def put(n: int) -> None:
        free[other] = n
        keyed[key if n else other] = n

    if by == "agent":
        app.agent(source)(put)
    else:
        app.stream(source).peek(put)
    driver = TestDriver(app, partitions=2)
    driver.send(source, 1, key=key)
    with pytest.raises(ProcessingError, match=f"key '{other}' of table 'keyed' belongs to another partition"):
        driver.send(source, 0, key=key)
    assert dict(driver_table(driver, keyed)) == {key: 1}
    driver.close(commit=False)


def driver_table(driver: TestDriver, table: Any) -> dict[str, Any]:
    return {
        key.decode(): int(value)
        for task in driver.worker.tasks.values()
        for key, value in task.backend.scan(table.name)
    }


def test_none_is_no_value_of_a_table() -> None:
    driver, source = table_case(lambda table, n: table.__setitem__("a", None))
    with pytest.raises(ProcessingError, match="use del to remove the key"):
        driver.send(source, 1, key="a")
    driver.close(commit=False)


def test_an_aggregation_cannot_be_written() -> None:
    """Type checkers say so too: an aggregation's table has no way to be written."""

    def assign(table: Any) -> None:
        table["a"] = 1

    def delete(table: Any) -> None:
        del table["a"]

    for write in (assign, delete):
        app = kstream.App("tables")
        source = app.topic("in", key=str, value=int)
        counts = app.stream(source).group_by_key().count(name="n")
        app.agent(source, tables=[counts])(functools.partial(lambda write, counts, n: write(counts), write, counts))
        driver = TestDriver(app, partitions=1)
        with pytest.raises(ProcessingError, match=r"'AggregateTable' object does(n't| not) support item"):
            driver.send(source, 1, key="a")
        driver.close(commit=False)


def test_a_value_that_was_changed_but_not_assigned_is_found() -> None:
    def forgetful(table: Any, n: int) -> None:
        if n == 0:
            table["a"] = Box([0])
        else:
            table["a"].items.append(n)

    driver, source = table_case(forgetful)
    driver.send(source, 0, key="a")
    driver.commit()
    driver.send(source, 1, key="a")
    with pytest.raises(
        ProcessingError,
        match=r"in\[0\] offset \d: MutatedWithoutAssignment: .*'boxes'\['a'\] was changed in place and not assigned",
    ):
        driver.commit()
    driver.close(commit=False)


def test_a_default_that_was_changed_but_not_assigned_is_found() -> None:
    driver, source = table_case(lambda table, n: table["new"].items.append(n))
    driver.send(source, 0, key="a")
    with pytest.raises(ProcessingError, match=r"in\[0\] offset \d: MutatedWithoutAssignment: .*'boxes'\['new'\]"):
        driver.commit()
    driver.close(commit=False)


@pytest.mark.parametrize("default", [Box([]), Box, lambda: Box([])])
def test_a_mutable_default_is_made_anew_for_each_key(default: Any) -> None:
    def add(table: Any, n: int) -> None:
        box = table[f"k{n % 2}"]
        box.items.append(n)
        table[f"k{n % 2}"] = box

    app = kstream.App("tables")
    source = app.topic("in", key=str, value=int)
    table = app.table("boxes", key=str, value=Box, default=default, scope="partition")
    app.agent(source, tables=[table])(functools.partial(add, table))
    with TestDriver(app, partitions=1) as driver:
        for n in range(4):
            driver.send(source, n, key="a")
        assert dict(driver.table(table)) == {"k0": Box([0, 2]), "k1": Box([1, 3])}


def test_a_key_without_value_or_default_is_a_key_error() -> None:
    driver, source = table_case(lambda table, n: table["a"], default=None)
    with pytest.raises(ProcessingError) as caught:
        driver.send(source, 1, key="a")
    assert isinstance(caught.value.__cause__, KeyError)
    driver.close(commit=False)


def test_a_table_reads_like_a_dict() -> None:
    seen: list[Any] = []

    def use(table: Any, n: int) -> None:
        if n == 0:
            for key in ("b", "a", "c"):
                table[key] = Box([ord(key)])
            del table["c"]
            del table["never there"]
        seen.append(
            ("a" in table, "c" in table, list(table), len(table), [box.items for box in table.values()],
             table.get("x"), table.get("x", 5), [key for key, _ in table.items()])
        )  # fmt: skip
        if n == 1:
            seen.append((table.pop("a"), table.pop("a"), table.pop("a", 7), list(table)))

    driver, source = table_case(use, scope="partition")
    with driver:
        driver.send(source, 0, key="a")
        driver.commit()
        driver.send(source, 1, key="a")
    row = (True, False, ["a", "b"], 2, [[97], [98]], None, 5, ["a", "b"])
    assert seen == [row, row, (Box([97]), None, 7, ["b"])]


def test_a_fold_that_returns_nothing_says_so() -> None:
    app = kstream.App("folds")
    source = app.topic("in", key=str, value=int)
    app.stream(source).group_by_key().aggregate(list, lambda items, n: items.append(n), name="items", value=list[int])
    driver = TestDriver(app, partitions=1)
    with pytest.raises(ProcessingError, match="the function of 'items' returned None: a fold returns the accumulator"):
        driver.send(source, 1, key="a")
    driver.close(commit=False)


def test_a_value_that_cannot_be_encoded_is_found() -> None:
    driver, source = table_case(lambda table, n: table.__setitem__("a", object()))
    with pytest.raises(KStreamError, match="a value of type object, where Box was declared"):
        driver.send(source, 1, key="a")
        driver.commit()
    driver.close(commit=False)


@pytest.mark.parametrize("how", ["table", "fold"])
def test_state_of_another_type_than_declared_is_found(how: str) -> None:
    """After a restart it could not be decoded."""
    app = kstream.App("typed")
    source = app.topic("in", key=str, value=int)
    if how == "fold":
        app.stream(source).group_by_key().aggregate(int, lambda total, n: total + n / 2, name="t")
    else:
        table = app.table("t", key=str, value=int)
        app.agent(source)(lambda n, ctx: table.__setitem__(ctx.key, n / 2))
    driver = TestDriver(app, partitions=1)
    with pytest.raises(KStreamError, match="float, where int was declared"):
        driver.send(source, 1, key="a")
        driver.commit()
    driver.close(commit=False)


# ---- at least once


def test_at_least_once_loses_nothing(tmp_path: Path) -> None:
    """KAFKA-19479: offsets committed though the flush had failed."""
    counting = Counting()
    fleet = Fleet(counting.app, tmp_path, backend="rocksdb", processing_guarantee="at_least_once")
    keys = [f"k{i}" for i in range(8)]
    fleet.start("a")
    for round_, fault in enumerate(("produce", "flush", "consumer.commit", None, "crash", "expire")):
        fleet.send(counting.source, keys)
        fleet.step("a", times=2)
        if fault == "crash":
            fleet.crash("a")
            fleet.start("a")
        elif fault == "expire":
            fleet.expire("a")
        elif fault:
            fleet.cluster.fail_next(fault, kstream.errors.AbortRequired("planned"), after=round_ == 1)
        fleet.settle()
        found = fleet.outputs(counting.by_dsl)
        for key in keys:
            assert max(found[key]) >= round_ + 1, (fault, key)
            assert len(found[key]) >= round_ + 1
        assert fleet.stores("n") == fleet.changelog("n")
        ends = {p: fleet.cluster.log(TopicPartition("in", p)).end for p in range(4)}
        assert all(fleet.committed("in").get(p, 0) == end for p, end in ends.items())
    fleet.close()


@pytest.mark.parametrize("topic", ["left", "right"])
def test_a_record_of_several_inputs_whose_event_time_cannot_be_read_fails_in_its_turn(topic: str) -> None:
    class At(msgspec.Struct):
        at: int

    app = kstream.App("merged")
    left, right = (app.topic(name, key=str, value=At, timestamp="at") for name in ("left", "right"))
    out = app.topic("out", key=str, value=int)
    seen = app.table("seen", key=str, value=int, default=0)

    def agent(value: At, ctx: kstream.Context[str]) -> int:
        seen[ctx.key] += 1
        return value.at

    for one in (left, right):
        app.agent(one, to=out, name=f"of-{one.name}", tables=[seen])(agent)
    driver = TestDriver(app, partitions=1)
    for at in range(10):
        driver.cluster.append("left" if at % 2 else "right", b"k", b'{"at":%d}' % (at + 1))
    driver.cluster.append(topic, b"k", b'{"at":"never"}')
    driver.cluster.append("left", b"k", b'{"at":12}')
    driver.cluster.append("right", b"k", b'{"at":12}')
    with pytest.raises(ProcessingError) as caught:
        driver.process()
    assert (caught.value.topic, caught.value.offset) == (topic, 5)
    before = [int(record.value or b"") for record in driver.cluster.records(out.name)]
    assert before == list(range(1, 10 if topic == "right" else 11)) or before == list(range(1, 11))
    driver.close(commit=False)


def test_a_failed_task_is_neither_busy_nor_backpressured_nor_idle(tmp_path: Path) -> None:
    """Its agent waited for something outside when it failed: that was counted on as backpressure."""
    app = kstream.App("stuck")
    source = app.topic("in", key=str, value=int, partitions=1)
    waits = asyncio.Event()

    @app.agent(source)
    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[None]:
        async for _ in stream:
            await waits.wait()
            raise Poison
            yield

    fleet = Fleet(app, tmp_path, partitions=1, restart_initial=60.0, commit_interval=100.0, transaction_timeout=300.0)
    worker = fleet.start("a")
    fleet.step("a", times=30)
    fleet.send(source, ["k"])
    fleet.step("a", times=10)
    (task,) = worker.tasks.values()
    times = worker.measures.times[task.name]

    def spent() -> tuple[float, float, float]:
        return times.busy, times.backpressured_until(worker.now), times.total(worker.now)

    before = spent()
    fleet.step("a", times=5)
    assert task.busy and spent()[1] > before[1], "it waits while it runs"
    waits.set()
    for _ in range(10):
        fleet.step("a")
        if task.state is TaskState.FAILED:
            break
    assert task.state is TaskState.FAILED
    failed = spent()
    fleet.step("a", times=20, seconds=1.0)
    assert task.state is TaskState.FAILED and spent() == failed
    fleet.step("a", times=60, seconds=1.0)
    assert times.total(worker.now) > failed[2], "it was tried again"
    fleet.close()
