"""Records that fail and are left out leave no trace: outputs and tables are those of a run without them.

The first property compares with a run that never had the records; the second, where whether a record fails depends on
what those before it did, with a run of one record at a time. As in test_batching.py the input is cut in any way, with
aborts, lost producers, lost partitions and crashes in between.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import AbortRequired, ProducerLost
from support.strikes import Kind, Strikes
from unit.runtime.worker.test_failures import Poison
from unit.test_batching import Case, Input, Run, actions, of_events

STRIKES = Strikes()
BAD: dict[str, set[int]] = {}
"""The values that fail, by the step at which they do."""
STEPS = ("first", "second")
CASES: dict[str, Callable[[kstream.App], Case]] = {}


PASSING: dict[tuple[str, int], int] = {}
"""How often a value fails at a step before it passes."""


def call(step: str, n: int) -> None:
    if n in BAD.get(step, ()):
        raise Poison(n)
    if PASSING.get((step, n), 0):
        PASSING[step, n] -= 1
        raise Poison(n)


def case(declare: Callable[[kstream.App], Case]) -> Callable[[kstream.App], Case]:
    CASES[declare.__name__] = declare
    return declare


def appended(seen: list[int], n: int) -> list[int]:
    seen.append(n)
    return seen


@case
def second_agent_fails_after_the_first_wrote(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out, other = app.topic("out", key=str, value=list[int]), app.topic("other", key=str, value=int)
    seen = app.table("seen", key=str, value=list[int], default=list)
    last = app.table("last", key=str, value=int, default=0, scope="partition")

    @app.agent(source, to=out)
    def first(n: int, ctx: kstream.Context[str]) -> list[int]:
        if n % 5 == 4:
            del seen[ctx.key]
        else:
            seen[ctx.key] = appended(seen[ctx.key], n)
        call("first", n)
        return [*seen[ctx.key], n]

    @app.agent(source, to=other)
    def second(n: int, ctx: kstream.Context[str]) -> int:
        before = last.pop("n") if n % 4 == 3 else last["n"]
        last["n"] = n
        last[f"of {n % 3}"] += before or 0
        call("second", n)
        return last[f"of {(n + 1) % 3}"]

    return Case(app, [source], [out, other], partitions=2)


@case
def agents_share_a_table_and_walk_over_it(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int)
    seen = app.table("seen", key=str, value=list[int], default=list, scope="partition")

    @app.agent(source, to=out)
    def first(n: int, ctx: kstream.Context[str]) -> int:
        for key, value in list(seen.items()):
            value.append(n)
            del value[:-4]
            seen[key] = value
        call("first", n)
        seen[ctx.key] = appended(seen[ctx.key], n)
        return sum(map(sum, seen.values()))

    @app.agent(source, to=out)
    def second(n: int, ctx: kstream.Context[str]) -> Iterator[int]:
        yield len(seen)
        if n % 7 == 3:
            del seen[ctx.key]
        call("second", n)
        yield -n

    return Case(app, [source], [out], partitions=2)


@case
def aggregates_at_commit_and_branches(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out, sums = app.topic("out", key=str, value=int), app.topic("sums", key=str, value=int)
    tails, lists = app.topic("tails", key=str, value=list[int]), app.topic("lists", key=str, value=list[int])
    stream = app.stream(source)
    stream.group_by_key().aggregate(list, appended, name="all", value=list[int], emit="commit").to(tails)
    stream.map(lambda n: call("first", n) or n * 10, value=int).to(out)
    total = stream.group_by_key().sum(lambda n: n, name="sum")
    total.to(sums)
    total.stream().filter(lambda n: n % 3).group_by_key().aggregate(
        list, appended, name="sums", value=list[int]
    ).stream().map(lambda seen: seen[-3:], value=list[int]).to(lists)
    stream.filter(lambda n: call("second", n) or n % 2).map(lambda n: -n, value=int).to(out)
    return Case(app, [source], [out, sums, lists], coalesced=[tails], partitions=2, null_keys=False)


@case
def agents_that_wait(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out, side = app.topic("out", key=str, value=int), app.topic("side", key=str, value=int)
    table = app.table("sums", key=str, value=int, default=0)
    seen = app.table("seen", key=str, value=list[int], default=list)

    @app.agent(source, to=out)
    async def first(values: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[int]:
        async for n in values:
            before = table[ctx.key]
            for _ in range(n % 3):
                await asyncio.sleep(0)
            table[ctx.key] = before + n
            call("first", n)
            yield table[ctx.key]

    @app.agent(source)
    async def second(values: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> None:
        async for n in values:
            ctx.send(side, n)
            mine = seen[ctx.key]
            mine.append(n)
            if n % 2:
                await asyncio.sleep(0)
            call("second", n)
            seen[ctx.key] = mine
            ctx.send(side, -n)

    return Case(app, [source], [out, side], partitions=2)


@case
def agents_that_clear_up(app: kstream.App) -> Case:
    """What an agent does when it is stopped is no trace either."""
    source = app.topic("in", key=str, value=int)
    out, side = app.topic("out", key=str, value=int), app.topic("side", key=str, value=int)
    table = app.table("sums", key=str, value=int, default=0)

    @app.agent(source, to=out)
    async def first(values: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[int]:
        async for n in values:
            try:
                table[ctx.key] += n
                await asyncio.sleep(0)
                yield table[ctx.key]
            except BaseException:
                ctx.send(side, 1000 + n)
                table[ctx.key] += 1000
                raise

    @app.agent(source)
    def second(n: int) -> None:
        call("first", n)
        call("second", n)

    return Case(app, [source], [out, side], partitions=2)


@case
def inputs_through_a_shared_table(app: kstream.App) -> Case:
    left, right = app.topic("left", key=str, value=int), app.topic("right", key=str, value=int)
    out = app.topic("out", key=str, value=str)
    table = app.table("seen", key=str, value=str, default="")

    @app.agent(left, to=out)
    def of_left(n: int, ctx: kstream.Context[str]) -> str:
        table[ctx.key] = (table[ctx.key] + f" l{n}")[-12:]
        call("first", n)
        call("second", n)
        return table[ctx.key]

    @app.agent(right, to=out)
    async def of_right(values: kstream.AgentStream[str, int]) -> AsyncIterator[str]:
        async for event in values.events():
            table[event.key] = (table[event.key] + f" r{event.value}")[-12:]
            call("first", event.value)
            yield table[event.key]
            call("second", event.value)

    return Case(app, [left, right], [out], partitions=2)


@case
def behind_a_repartition(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int, partitions=1)
    out = app.topic("out", key=int, value=int)
    group = app.stream(source).map(lambda n: call("first", n) or n, value=int)
    counted = group.group_by(lambda n: n % 4, name="by", key=int, parallelism=3)
    counted.aggregate(int, lambda total, n: call("second", n) or total + n, name="n").to(out)
    return Case(app, [source], [out], partitions=3)


class Other(kstream.BatchingSink):
    def write(self, records: Any) -> None:
        pass


@case
def with_a_sink_outside(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int)
    stream = app.stream(source)
    stream.sink(Other(size=3, timeout=1.0))
    stream.group_by_key().sum(lambda n: call("first", n) or n, name="sum").to(out)
    stream.map(lambda n: call("second", n) or n, value=int).to(out)
    return Case(app, [source], [out], partitions=2)


@case
def results_that_cannot_be_written(app: kstream.App) -> Case:
    """They fail late: when they are encoded for their topic, or at the commit."""
    source = app.topic("in", key=str, value=int)
    out, copy = app.topic("out", key=str, value=int), app.topic("copy", key=str, value=int)
    table = app.table("seen", key=str, value=list[int], default=list)
    app.stream(source).map(lambda n: "no" if n in BAD["first"] else n, value=int).to(copy)

    @app.agent(source, to=out)
    def agent(n: int, ctx: kstream.Context[str]) -> int | kstream.Record[str, int]:
        seen = table[ctx.key]
        table[ctx.key] = appended(seen, n)
        if n in BAD["second"]:
            seen.append("no")  # type: ignore[arg-type]
        return kstream.Record(ctx.key, n, headers=[("h", b"1")]) if n % 3 else n

    return Case(app, [source], [out, copy], partitions=2)


@case
def results_that_kafka_refuses(app: kstream.App) -> Case:
    """No key for a compacted topic, or larger than the client takes: found by the transaction's failure at first."""
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int, config={"cleanup.policy": "compact"})
    copy = app.topic("copy", key=str, value=int, config={"cleanup.policy": "compact"})
    app.stream(source).group_by_key().count(name="n", emit="commit")
    app.stream(source).map(lambda n: n * 10, value=int).to(out)
    seen = app.table("seen", key=str, value=list[int], default=list)

    @app.agent(source, to=out)
    def agent(n: int, ctx: kstream.Context[str]) -> kstream.Record[str, int]:
        seen[ctx.key] = appended(seen[ctx.key], n)
        return kstream.Record(None if n in BAD["first"] else ctx.key, len(seen[ctx.key]))  # type: ignore[arg-type]

    @app.agent(source)
    async def waits(values: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> None:
        async for n in values:
            if n % 2:
                await asyncio.sleep(0)
            ctx.send(copy, n, key=None if n in BAD["second"] else ctx.key)

    return Case(app, [source], [out, copy], partitions=2, null_keys=False)


@case
def results_without_state_that_kafka_refuses(app: kstream.App) -> Case:
    """What came of the record before goes with it, whichever step wrote it; its batch goes on."""
    source = app.topic("in", key=str, value=int)
    out, copy = (app.topic(name, key=str, value=int, config={"cleanup.policy": "compact"}) for name in ("out", "copy"))
    twice = app.stream(source).flat_map(lambda n: [n, n + 1000], value=int)
    ways = twice.branch(even=lambda n: n % 2 == 0, odd=lambda n: n % 2 == 1)
    ways["even"].to(copy)
    ways["odd"].filter(lambda n: n % 3 > 0).to(out)

    @app.agent(source, to=out)
    def agent(n: int, ctx: kstream.Context[str]) -> Iterator[Any]:
        yield n
        yield kstream.Record(None if n in BAD["first"] else ctx.key, n)

    @app.agent(source)
    def sends(n: int, ctx: kstream.Context[str]) -> None:
        ctx.send(copy, n, key=None if n in BAD["second"] else ctx.key, headers=[("h", b"1")])

    return Case(app, [source], [out, copy], partitions=2, null_keys=False)


@case
def results_that_may_be_too_large_for_a_topic(app: kstream.App) -> Case:
    """What counts is their size when they are compressed: some that are as large as one that was refused are taken."""
    limited = {"max.message.bytes": "10000"}
    source = app.topic("in", key=str, value=int)
    out, copy = (app.topic(name, key=str, value=bytes, config=limited) for name in ("out", "copy"))
    app.stream(source).map(lambda n: b"%d" % n, value=bytes).to(out)
    seen = app.table("seen", key=str, value=list[int], default=list)

    @app.agent(source, to=out)
    def agent(n: int, ctx: kstream.Context[str]) -> bytes:
        seen[ctx.key] = appended(seen[ctx.key], n)
        if n in BAD["first"]:
            return random.Random(n).randbytes(20_000 + n)
        return b"%d" % len(seen[ctx.key]) + bytes(20_000 if n % 4 == 1 else 0)

    @app.agent(source)
    async def waits(values: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> None:
        async for n in values:
            if n % 2:
                await asyncio.sleep(0)
            ctx.send(copy, random.Random(n).randbytes(20_000) if n in BAD["second"] else b"%d" % n)

    return Case(app, [source], [out, copy], partitions=2)


@case
def in_a_row(app: kstream.App) -> Case:
    """Where a batch can go on without what fails."""
    source, second = app.topic("in", key=str, value=int), app.topic("in2", key=str, value=int)
    out, tails = app.topic("out", key=str, value=list[int]), app.topic("tails", key=str, value=list[int])

    def fold(seen: list[int], n: int) -> list[int]:
        seen.append(n)
        call("second", n)
        return seen

    numbers = app.stream(source).map(lambda n: call("first", n) or n, value=int)
    numbers.group_by_key().aggregate(list, fold, name="all", value=list[int]).to(out)
    other = app.stream(second).flat_map(lambda n: [n, call("first", n) or -n], value=int)
    other.group_by_key().aggregate(list, fold, name="tails", value=list[int], emit="commit").to(tails)
    return Case(app, [source, second], [out], coalesced=[tails], partitions=2)


@case
def tombstones(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int | None)
    out = app.topic("out", key=str, value=int | None)
    table = app.table("last", key=str, value=int)
    app.stream(source).group_by_key().count(name="n", emit="commit")

    @app.agent(source, to=out)
    def agent(n: int | None, ctx: kstream.Context[str]) -> kstream.Record[str, int | None]:
        before = table.pop(ctx.key)
        if n is not None:
            table[ctx.key] = n
            call("first", n)
        call("second", -1 if n is None else n)
        return kstream.Record(ctx.key, before)

    return Case(app, [source], [out], partitions=2, null_values=True)


# ---- running them

rows = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["a", "a", "b", "c", "d"]),
        st.sampled_from(["good", "good", "good", "first", "second"]),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=30,
)
sizes = st.lists(st.integers(0, 9), max_size=12)
scripts = st.lists(actions, max_size=10)
backends = st.sampled_from(["memory", "memory", "memory", "rocksdb"])


def input_of(table: list[tuple[int, str, str, int]]) -> tuple[list[Input], list[Input]]:
    """All records, and those that are good."""
    records, good, now = [], [], 0
    BAD.clear()
    BAD.update({step: {n for n, row in enumerate(table) if row[2] == step} for step in STEPS})
    for n, (which, key, step, later) in enumerate(table):
        now += later
        records.append((which, key, n, now))
        if step == "good":
            good.append(records[-1])
    return records, good


made: dict[str, Case] = {}


def the(name: str, cases: dict[str, Callable[[kstream.App], Case]], *policies: Any) -> Case:
    known = f"{name} {policies}"
    if known not in made:
        made[known] = cases[name](
            kstream.App(name.replace("_", "-"), on_error=list(policies) or [kstream.DeadLetter()])
        )  # fmt: skip
    return made[known]


def letters(run: Run) -> Counter[tuple[Any, Any]]:
    topic = f"{run.driver.app.name}-dead-letters"
    found = run.driver.cluster.records(topic) if topic in run.driver.cluster.topics() else ()
    return Counter((record.key, record.value) for record in found)


def singly(case: Case, records: list[Input]) -> tuple[Any, Counter[tuple[Any, Any]]]:
    run = Run(case, records)
    try:
        run.driver.cluster.batch_sizes = iter(lambda: 1, 0)
        return run.settle(), letters(run)
    finally:
        run.close()


def outcome(run: Run, sizes: list[int], script: list[Any]) -> Any:
    """What a run comes to with the input cut so, and these things happening; and its dead letters."""
    try:
        run.driver.cluster.batch_sizes = iter(sizes)
        for action in script:
            run.act(action)
        return run.settle(), letters(run)
    finally:
        run.close()


@pytest.mark.parametrize("name", list(CASES))
@given(table=rows, sizes=sizes, script=scripts, backend=backends, small=st.booleans())
def test_outputs_and_tables_are_those_without_the_records_that_fail(
    name: str, table: list[Any], sizes: list[int], script: list[Any], backend: str, small: bool
) -> None:
    case = the(name, CASES)
    records, good = input_of(table)
    expected, none = singly(case, good)
    assert not none
    tiny = {"memory_state_fraction": 0.000002} if small else {}
    found, bad = outcome(Run(case, records, backend, STRIKES, **tiny), sizes, script)
    assert found.outputs == expected.outputs
    assert found.coalesced == expected.coalesced
    assert found.stores == expected.stores
    assert sorted(int(value) for _, value in bad.elements()) == [n for n, row in enumerate(table) if row[2] != "good"]


def test_a_search_that_begins_within_a_transaction_finds_its_record() -> None:
    """Kafka may refuse the last one, so it is to be alone. The one before it is alone in a transaction then that nobody
    watched, and is refused."""
    table = [(0, "a", kind, 0) for kind in ("first", "good", "second", "first")]
    check = test_outputs_and_tables_are_those_without_the_records_that_fail.hypothesis.inner_test  # type: ignore[attr-defined]
    check("results_that_may_be_too_large_for_a_topic", table, [], [], "memory", small=False)


@pytest.mark.parametrize(
    "name",
    [
        "second_agent_fails_after_the_first_wrote", "aggregates_at_commit_and_branches", "agents_that_wait",
        "inputs_through_a_shared_table",
    ],
)  # fmt: skip
@given(table=rows, times=st.lists(st.integers(1, 3), min_size=30, max_size=30), sizes=sizes, script=scripts)
def test_what_passes_in_the_end_is_all_there_and_in_order(
    name: str, table: list[Any], times: list[int], sizes: list[int], script: list[Any]
) -> None:
    case = the(name, CASES, kstream.Retry(1000, base=0.1, max=0.1))
    records, _ = input_of(table)
    BAD.clear()
    PASSING.clear()
    expected, _ = singly(case, records)
    PASSING.update({(row[2], n): times[n] for n, row in enumerate(table) if row[2] != "good"})
    try:
        found, _ = outcome(Run(case, records, strikes=STRIKES), sizes, script)
    finally:
        PASSING.clear()
    assert found.outputs == expected.outputs
    assert found.coalesced == expected.coalesced
    assert found.stores == expected.stores


# ---- where it depends on what came before whether a record fails

DEPENDING: dict[str, Callable[[kstream.App], Case]] = {}
LIMIT = 20


def depending(declare: Callable[[kstream.App], Case]) -> Callable[[kstream.App], Case]:
    DEPENDING[declare.__name__] = declare
    return declare


@depending
def a_later_step_leaves_out_what_was_counted(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int)
    stream = app.stream(source)

    def add(total: int, n: int) -> int:
        if total + n > LIMIT:
            raise Poison(n)
        return total + n

    stream.group_by_key().aggregate(int, add, name="sum").to(out)
    stream.map(lambda n: call("first", n) or n, value=int).to(out)
    return Case(app, [source], [out], partitions=2)


@depending
def what_was_counted_cannot_be_written(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int)
    table = app.table("sum", key=str, value=int, default=0)
    kept = app.table("kept", key=str, value=list[int], default=list)

    @app.agent(source, to=out)
    def agent(n: int, ctx: kstream.Context[str]) -> int:
        if table[ctx.key] + n > LIMIT:
            raise Poison(n)
        table[ctx.key] += n
        mine = kept[ctx.key]
        kept[ctx.key] = appended(mine, n)
        if n in BAD["first"]:
            mine.append("no")  # type: ignore[arg-type]
        return table[ctx.key]

    return Case(app, [source], [out], partitions=2)


def _limited(seen: list[int], n: int) -> list[int]:
    seen.append(n)  # what fails has changed its accumulator
    if sum(seen) > LIMIT or n in BAD["first"]:
        raise Poison(n)
    return seen


@depending
def windows_of_time(app: kstream.App) -> Case:
    """Also where a batch is cut, since windows close within it."""
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=kstream.Windowed[str], value=list[int])
    numbers = app.stream(source).group_by_key()
    windows = numbers.window(kstream.Tumbling(seconds=0.003), grace=timedelta(milliseconds=1))
    windows.aggregate(list, _limited, name="closed", value=list[int], emit="close").to(out)
    return Case(app, [source], [out], partitions=1, null_keys=False)


@depending
def windows_of_time_with_every_update(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=kstream.Windowed[str], value=list[int])
    numbers = app.stream(source).group_by_key()
    windows = numbers.window(kstream.Tumbling(seconds=0.003), grace=timedelta(0))
    windows.aggregate(list, _limited, name="open", value=list[int], emit="update").to(out)
    return Case(app, [source], [out], partitions=1, null_keys=False)


@depending
def windows_of_so_many(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=list[int])
    app.stream(source).group_by_key().window(kstream.Counting(3)).aggregate(
        list, _limited, name="counted", value=list[int]
    ).to(out)
    return Case(app, [source], [out], partitions=2, null_keys=False)


@depending
def accumulators_that_expire(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=list[int])
    group = app.stream(source).group_by_key()
    group.aggregate(list, _limited, name="expiring", value=list[int], ttl=of_events(4)).to(out)
    return Case(app, [source], [out], partitions=2, null_keys=False)


@pytest.mark.parametrize("name", list(DEPENDING))
@given(table=rows, sizes=sizes, script=scripts)
def test_a_record_fails_only_on_account_of_what_is_there(
    name: str, table: list[Any], sizes: list[int], script: list[Any]
) -> None:
    case = the(name, DEPENDING)
    records, _ = input_of(table)
    expected, fail = singly(case, records)
    found, bad = outcome(Run(case, records, strikes=STRIKES), sizes, script)
    assert found.outputs == expected.outputs
    assert found.stores == expected.stores
    assert bad == fail


def test_most_planned_faults_struck() -> None:
    """Of the runs above: else they would say little about failures."""
    STRIKES.check(share=0.5)


def test_a_dead_letter_that_a_transaction_takes_not_is_no_record_s_fault() -> None:
    app = kstream.App("letters", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int)
    app.stream(source).map(lambda n: call("first", n) or n, value=int).to(app.topic("out", key=str, value=int))
    for error in (AbortRequired, ProducerLost):
        BAD.update({"first": {0}})
        run = Run(Case(app, [source], [], partitions=1), [(0, "k", 0, 0)])
        try:
            run.faults.plan(Kind("produce", error, False), 0)
            run.settle()
            assert letters(run) == {(b"k", b"0"): 1}
        finally:
            run.close()


def test_what_an_agent_does_until_it_is_stopped_is_not_there_after_an_abort() -> None:
    app = kstream.App("stopped")
    source = app.topic("in", key=str, value=int, partitions=1)
    table = app.table("seen", key=str, value=int, default=0)

    @app.agent(source)
    async def fails_once(values: kstream.AgentStream[str, int]) -> None:
        async for n in values:
            for _ in range(3):
                await asyncio.sleep(0)
            if BAD["first"]:
                BAD["first"].clear()
                raise Poison(n)

    @app.agent(source)
    async def goes_on(values: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> None:
        async for n in values:
            try:
                for _ in range(5):
                    await asyncio.sleep(0)
            finally:
                table[ctx.key] += n

    BAD.update({"first": {1}})
    run = Run(Case(app, [source], [], partitions=1), [(0, "k", 1, 0)])
    try:
        assert run.settle().stores["seen"] == {b"0 k": b"1"}
    finally:
        run.close()


def test_what_a_later_step_leaves_out_does_not_make_the_next_record_fail() -> None:
    case = DEPENDING["a_later_step_leaves_out_what_was_counted"](kstream.App("adding", on_error=[kstream.Skip()]))
    BAD.update({"first": {0, 15}})
    run = Run(case, [(0, "k", 0, 0), *((0, "k", n, n) for n in (1, 15, 16))])
    try:
        found = run.settle()
        assert {key: int(value) for key, value in found.stores["sum"].items()} in ({b"0 k": 17}, {b"1 k": 17})
    finally:
        run.close()
