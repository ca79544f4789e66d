"""Batching is invisible (docs/exactly-once.md, what must hold, 1 to 3), as a property over a family of topologies.

The reference is a run that takes one record at a time and commits after each. Any other way of cutting the same input
into polls, with commits, aborts, lost producers, lost partitions, crashes and compaction in between, must write the
same committed outputs in the same order in each partition, and leave the same tables; each changelog, read with the
last value of each key counting, is its store.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import AbortRequired, KafkaUnavailable, ProducerLost
from kstream.state.forms import STAMP, stamp_of
from kstream.state.store import Store
from kstream.state.timed import TimedStore
from kstream.testing import TestDriver
from kstream.testing.cluster import MemoryRecord
from kstream.testing.resting import is_idle
from support.strikes import Kind, Planner, Strikes

STRIKES = Strikes()

# ---- the topologies


class Total(msgspec.Struct):
    count: int = 0
    sum: int = 0
    seen: list[int] = []


class Named(msgspec.Struct):
    name: str
    n: int


@dataclass
class Case:
    """An app with what goes in and what is compared.

    `coalesced` outputs are emitted per commit: of these the last value per key counts. `partitions` are those of every
    topic that does not say; more than one only where each output partition has one task that writes it.
    """

    app: kstream.App
    inputs: list[kstream.Topic[Any, Any]]
    outputs: list[kstream.Topic[Any, Any]]
    coalesced: list[kstream.Topic[Any, Any]] = field(default_factory=list)
    partitions: int = 1
    null_keys: bool = False
    null_values: bool = False


CASES: dict[str, Callable[[kstream.App], Case]] = {}


def case(declare: Callable[[kstream.App], Case]) -> Callable[[kstream.App], Case]:
    CASES[declare.__name__] = declare
    return declare


def fold(total: Total, n: int) -> Total:
    total.count += 1
    total.sum += n
    total.seen = [*total.seen[-2:], n]
    return total


def fold_in_place(total: Total, n: int, ctx: kstream.Context[str]) -> Total:
    total.count += ctx.offset + 1
    total.seen.append(n)
    del total.seen[:-3]
    return total


@case
def aggregate_that_mutates(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out, more = app.topic("out", key=str, value=Total), app.topic("more", key=str, value=Total)
    app.stream(source).group_by_key().aggregate(Total, fold, name="totals").to(out)
    app.stream(source).group_by_key().aggregate(Total, fold_in_place, name="tails").to(more)
    return Case(app, [source], [out, more], partitions=3)


@case
def aggregate_emitting_at_commit(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=Total)
    app.stream(source).group_by_key().aggregate(Total, fold, name="totals", emit="commit").to(out)
    return Case(app, [source], [], coalesced=[out], partitions=3, null_keys=True)


@case
def every_aggregation_of_one_group(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    group = app.stream(source).group_by_key()
    outs = [app.topic(f"out-{name}", key=str, value=int) for name in ("count", "sum", "min", "max", "reduce")]
    group.count(name="n").to(outs[0])
    group.sum(triple, name="s").to(outs[1])
    group.min(triple, name="lo").to(outs[2])
    group.max(triple, name="hi").to(outs[3])
    group.reduce(lambda a, b: 2 * a - b, name="r").to(outs[4])
    return Case(app, [source], outs, null_keys=True)


def triple(n: int) -> int:
    return 3 * n


def merge_into_the_new(old: Named, new: Named) -> Named:
    new.n += old.n
    return new


def merge_into_the_old(old: Named, new: Named) -> Named:
    old.n += new.n
    return old if new.n % 3 else new


@case
def reductions_that_mutate_what_others_see(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    named = app.stream(source).map(lambda n: Named("x", n), value=Named).group_by_key()
    outs = [app.topic(f"out{i}", key=str, value=Named) for i in range(3)]
    named.reduce(merge_into_the_old, name="a").to(outs[0])
    named.stream().map(lambda named: Named(named.name, named.n), value=Named).to(outs[1])
    named.reduce(merge_into_the_new, name="b").to(outs[2])
    return Case(app, [source], outs)


@case
def branches_that_meet_again(app: kstream.App) -> Case:
    """What the ways give of a record comes in one order, however many records are taken at once."""
    source = app.topic("in", key=str, value=int)
    out, totals = app.topic("out", key=str, value=int), app.topic("totals", key=str, value=Total)
    few, many = app.topic("few", key=str, value=int), app.topic("many", key=str, value=int)
    ways = app.stream(source).branch(odd=lambda n: n % 2, three=lambda n, ctx: (n + ctx.offset) % 3 == 0)
    odd = ways["odd"].flat_map(lambda n: [n, -n][: n % 3])
    met = odd.merge(ways["three"].map(triple), ways["rest"].sample(0.5))
    met.to(out)
    met.group_by_key().aggregate(Total, fold, name="met").to(totals)
    met.merge(ways["three"]).to(lambda n: few if n % 4 else many)
    return Case(app, [source], [out, totals, few, many], null_keys=True)


@case
def agent_behind_merged_changes_at_commit(app: kstream.App) -> Case:
    """It gets several batches while it is at one."""
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    group = app.stream(source).group_by_key()
    counts, sums = (group.count(name="n", emit="commit"), group.sum(triple, name="s", emit="commit"))

    @app.agent(counts.stream().map(lambda n: n, value=int).merge(sums.stream().map(lambda n: -n, value=int)), to=out)
    async def slow(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            await asyncio.sleep(0)
            yield n

    return Case(app, [source], [], coalesced=[out])


@case
def merge_with_itself(app: kstream.App) -> Case:
    """Values are not shared between the ways: what one aggregation does to them does not show in another."""
    source = app.topic("in", key=str, value=int)
    named = app.stream(source).map(lambda n: Named("x", n), value=Named)
    twice = named.merge(named, named.filter(lambda named: named.n % 3))
    outs = [app.topic(f"out{i}", key=str, value=Named) for i in range(2)]
    twice.group_by_key().reduce(merge_into_the_old, name="a").to(outs[0])
    twice.debug("seen").to(outs[1])
    return Case(app, [source], outs)


@case
def chain_with_a_repartition(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int, partitions=1)
    out, counts = app.topic("out", key=int, value=int), app.topic("counts", key=int, value=int)

    def few(n: int) -> list[int]:
        return [n, -n, n + 1][: abs(n) % 4]

    chain = app.stream(source).filter(lambda n: n % 5).flat_map(few).map(lambda n: n * 10, value=int)
    group = chain.group_by(lambda n: abs(n) % 4, name="by", key=int, parallelism=3)
    group.stream().to(out)
    group.count(name="n").to(counts)
    return Case(app, [source], [out, counts], partitions=3, null_keys=True)


@case
def one_topic_from_two_branches(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int)
    stream = app.stream(source)
    stream.filter(lambda n: n % 2).flat_map(lambda n: [n, n]).to(out)
    stream.map(lambda n: n * 100, value=int).to(out)
    stream.group_by_key().sum(triple, name="s").to(out)

    @app.agent(stream, to=out)
    async def negative(values: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in values:
            if n % 3:
                yield -n

    return Case(app, [source], [out], partitions=3)


@case
def two_agents_that_share_a_table(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out, other = app.topic("out", key=str, value=Total), app.topic("other", key=str, value=int)
    table = app.table("shared", key=str, value=Total, default=Total)

    @app.agent(source, to=out)
    async def adds(values: kstream.AgentStream[str, int]) -> AsyncIterator[Total]:
        async for event in values.events():
            total = table[event.key]
            fold(total, event.value)
            table[event.key] = total
            yield total

    @app.agent(source, to=other)
    def resets(n: int, ctx: kstream.Context[str]) -> int | None:
        if n % 4 == 0 and ctx.key in table:
            count = table[ctx.key].count
            if n % 8:
                del table[ctx.key]
            else:
                table[ctx.key] = Total(-1, -n)
            return count
        return None

    return Case(app, [source], [out, other], partitions=3)


@case
def agents_of_every_kind(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out, side = app.topic("out", key=str, value=int), app.topic("side", key=str, value=int | None)
    latest = app.table("latest", key=str, value=int, scope="partition")

    @app.agent(source, to=out)
    def function(n: int) -> kstream.Record[str, int] | int | None:
        return None if n % 3 == 0 else n if n % 3 == 1 else kstream.Record(f"r{n % 2}", n)

    @app.agent(source, to=out)
    def generator(n: int, ctx: kstream.Context[str]) -> Iterator[int]:
        for i in range(abs(n) % 3):
            ctx.send(side, i, key=f"g{i}")
            yield 1000 * n + i

    @app.agent(source, to=out)
    async def stream(
        values: kstream.AgentStream[str, int], ctx: kstream.Context[str]
    ) -> AsyncIterator[int | kstream.Record[str, int]]:
        async for n in values:
            before = latest.get("n", 0)
            latest["n"] = n
            ctx.send(side, None if n % 2 else before, key=f"s{n % 3}")
            if n % 4 == 0:
                yield before
            if n % 5 == 0:
                ctx.send(out, before)
                yield kstream.Record("k", n, timestamp=n + 5, headers=[("h", b"1")])
            yield n

    return Case(app, [source], [out, side])


@case
def agents_that_wait(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int)
    table = app.table("sums", key=str, value=int, default=0)

    @app.agent(source, to=out)
    async def waits(values: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[int]:
        async for n in values:
            before = table[ctx.key]
            for _ in range(n % 3):
                await asyncio.sleep(0)
            table[ctx.key] = before + n
            yield table[ctx.key]

    @app.agent(source)
    async def sends(values: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> None:
        async for n in values:
            if n % 2:
                await asyncio.sleep(0)
            ctx.send(out, n)

    return Case(app, [source], [out], partitions=2)


@case
def chained_aggregates(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    first, second = app.topic("first", key=str, value=Total), app.topic("second", key=str, value=int)
    totals = app.stream(source).group_by_key().aggregate(Total, fold, name="totals")
    totals.to(first)
    totals.stream().map(lambda total: total.sum - total.count, value=int).group_by_key().sum(triple, name="sums").to(
        second
    )
    return Case(app, [source], [first, second], partitions=3, null_keys=True)


@case
def agent_behind_an_aggregate(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int)
    count = app.stream(source).group_by_key().count(name="n")
    best = app.table("best", key=str, value=int, default=0)

    @app.agent(count.stream(), to=out)
    async def second(values: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[int]:
        async for n in values:
            await asyncio.sleep(0)
            best[ctx.key] += n
            yield best[ctx.key]

    return Case(app, [source], [out], partitions=2)


@case
def agent_behind_changes_at_commit(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int)
    count = app.stream(source).group_by_key().count(name="n", emit="commit")
    last = app.table("last", key=str, value=int)

    @app.agent(count.stream(), to=out)
    async def keep(values: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[int]:
        async for n in values:
            for _ in range(n % 3):
                await asyncio.sleep(0)
            last[ctx.key] = n
            yield n

    return Case(app, [source], [], coalesced=[out], partitions=2)


@case
def two_sources_through_a_shared_table(app: kstream.App) -> Case:
    left, right = app.topic("left", key=str, value=int), app.topic("right", key=str, value=int)
    out = app.topic("out", key=str, value=str)
    table = app.table("seen", key=str, value=str, default="")

    @app.agent(left, to=out)
    def of_left(n: int, ctx: kstream.Context[str]) -> str:
        table[ctx.key] = (table[ctx.key] + f" l{n}")[-12:]
        return table[ctx.key]

    @app.agent(right, to=out)
    async def of_right(values: kstream.AgentStream[str, int]) -> AsyncIterator[str]:
        async for event in values.events():
            table[event.key] = (table[event.key] + f" r{event.value}")[-12:]
            yield table[event.key]

    return Case(app, [left, right], [out], partitions=2)


@case
def two_sources_that_are_only_changed(app: kstream.App) -> Case:
    left, right = app.topic("left", key=str, value=int), app.topic("right", key=str, value=int)
    both, again = app.topic("both", key=str, value=str), app.topic("again", key=str, value=str)
    named = app.stream(left).filter(lambda n: n % 3).map(lambda n: f"left {n}", value=str)
    some = app.stream(right).flat_map(lambda n: [f"right {n}", f"right {n} again"][: abs(n) % 3], value=str)
    named.merge(some).to(both)
    odd = app.stream(right).branch(odd=lambda n: n % 2)
    odd["odd"].map(lambda n: f"odd {n}", value=str).to(both)
    named.rekey(lambda name: name[-1], key=str).group_by_key(name="by-name").count(name="counts").to(
        app.topic("counts", key=str, value=int)
    )
    some.to(again)
    return Case(app, [left, right], [both, again])


@case
def two_sources_into_one_topic_by_a_map(app: kstream.App) -> Case:
    """Two sources that hang together by an aggregation's table, read by an agent over the other."""
    left, right = app.topic("left", key=str, value=int), app.topic("right", key=str, value=int)
    out = app.topic("out", key=str, value=int)
    counts = app.stream(left).group_by_key().count(name="n")
    counts.to(out)

    @app.agent(right, to=out)
    def looks(n: int, ctx: kstream.Context[str]) -> int:
        return -counts.get(ctx.key, 0)

    return Case(app, [left, right], [out], partitions=2)


@case
def tombstones_and_null_keys(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int | None)
    out, copy = app.topic("out", key=str, value=int | None), app.topic("copy", key=str, value=int | None)
    stream = app.stream(source)
    stream.to(copy)
    stream.filter(lambda n: n is None or n % 2).map(lambda n: n and n + 1, value=int | None).to(out)

    @app.agent(source, to=out)
    def tombstone(n: int | None, ctx: kstream.Context[str]) -> kstream.Record[str, None] | None:
        return None if n else kstream.Record(ctx.key, None)

    return Case(app, [source], [out, copy], null_keys=True, null_values=True)


@case
def rekeyed_with_headers_and_event_time(app: kstream.App) -> Case:
    def at(n: int) -> int:
        return 1_000 + 10 * n

    source = app.topic("in", key=str, value=int, timestamp=at)
    out = app.topic("out", key=int, value=int)
    app.stream(source).rekey(lambda n: n % 3, key=int).filter(lambda n, ctx: ctx.timestamp % 20).flat_map(
        lambda n, ctx: [n, ctx.offset, ctx.key]
    ).peek(lambda n: None).to(out)
    return Case(app, [source], [out], null_keys=True)


def of_events(milliseconds: int, **how: Any) -> kstream.TTL:
    return kstream.TTL(timedelta(milliseconds=milliseconds), time="event", **how)


@case
def aggregates_that_expire_in_event_time(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    outs = [app.topic(f"out{i}", key=str, value=Total) for i in range(3)]
    last, sums = app.topic("last", key=str, value=Total), app.topic("sums", key=str, value=int)
    stream = app.stream(source)
    group = stream.group_by_key()
    group.aggregate(Total, fold, name="totals", ttl=of_events(2)).to(outs[0])
    group.aggregate(Total, fold_in_place, name="tails", ttl=of_events(1)).to(outs[1])
    group.aggregate(Total, fold, name="at-commit", emit="commit", ttl=of_events(3)).to(last)
    shown = of_events(2, visibility="return_expired_if_not_cleaned_up", cleanup=())
    group.aggregate(Total, fold, name="shown", ttl=shown).to(outs[2])
    few = stream.filter(lambda n: n % 3).flat_map(lambda n: [n, n + 1][: abs(n) % 3]).group_by_key()
    few.sum(triple, name="few", ttl=of_events(2, cleanup=(kstream.Sweep(1),))).to(sums)
    return Case(app, [source], [*outs, sums], coalesced=[last], partitions=3, null_keys=True)


@case
def tables_that_expire_in_event_time(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int)
    out, other = app.topic("out", key=str, value=int), app.topic("other", key=str, value=str)
    written = app.table("written", key=str, value=int, default=0, ttl=of_events(2))
    read = app.table("read", key=str, value=int, ttl=of_events(2, update="read_and_write"))
    once = of_events(2, visibility="return_expired_if_not_cleaned_up", cleanup=())
    own = app.table("own", key=str, value=int, scope="partition", ttl=once)

    @app.agent(source, to=out)
    async def sums(values: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[int]:
        async for n in values:
            before = written[ctx.key]
            for _ in range(n % 2):
                await asyncio.sleep(0)
            written[ctx.key] = before + n
            yield before + n

    @app.agent(source, to=other)
    def looks(n: int, ctx: kstream.Context[str]) -> str:
        if n % 5 == 0:
            del read[ctx.key]
        elif n % 2:
            read[ctx.key] = n
        if n % 3 == 0:
            own["n"] = n
        return f"{read.get(ctx.key)} {own.get('n')} {own.get('n')}"

    return Case(app, [source], [out, other], partitions=2)


@case
def windows_of_event_time(app: kstream.App) -> Case:
    """Windows that close while batches go by, some of whose records do not come to them; what is emitted then goes to
    one topic with what the records themselves cause."""
    order = timedelta(milliseconds=1)
    source = app.topic("in", key=str, value=int | None, out_of_order=order)
    out, ends = app.topic("out", key=kstream.Windowed[str], value=Total), app.topic("ends", key=str, value=int)
    hops, last = (app.topic(name, key=kstream.Windowed[str], value=Total) for name in ("hops", "last"))
    some = app.stream(source).filter(lambda n: n is None or n % 3)
    group = some.group_by_key()
    two = group.window(kstream.Tumbling(2 * order), grace=timedelta(0))
    closed = two.aggregate(Total, fold, name="closed", emit="close")
    closed.to(out)
    closed.stream().rekey(lambda total, ctx: ctx.key.key, key=str).map(lambda total: total.sum, value=int).to(ends)
    some.map(lambda n: n or 0, value=int).to(ends)
    hopping = group.window(kstream.Hopping(3 * order, every=2 * order, offset=order), grace=order)
    hopping.aggregate(Total, fold_in_place, name="hops").to(hops)
    two.aggregate(Total, fold, name="last", emit="commit").to(last)
    return Case(app, [source], [out, ends, hops], coalesced=[last], null_keys=True, null_values=True)


@case
def sessions(app: kstream.App) -> Case:
    """Sessions that begin, grow, are joined and close while batches go by; results go where the records go, too."""
    order = timedelta(milliseconds=1)
    source = app.topic("in", key=str, value=int | None, out_of_order=order)
    key, total = kstream.WindowedSpan[str], Total | None
    out, ends = app.topic("out", key=key, value=Total), app.topic("ends", key=str, value=int)
    each, last = app.topic("each", key=key, value=total), app.topic("last", key=key, value=total)
    some = app.stream(source).filter(lambda n: n is None or n % 3)
    group = some.group_by_key()
    soon = group.window(kstream.Session(order), grace=timedelta(0))
    closed = soon.aggregate(Total, fold, merge_totals, name="closed", emit="close")
    closed.to(out)
    closed.stream().rekey(lambda total, ctx: ctx.key.key, key=str).map(lambda total: total.sum, value=int).to(ends)
    some.map(lambda n: n or 0, value=int).to(ends)
    later = group.window(kstream.Session(2 * order), grace=order)
    later.aggregate(Total, fold_in_place, merge_totals, name="each").to(each)
    soon.aggregate(Total, fold, merge_totals, name="last", emit="commit").to(last)
    said = group.window(kstream.Session(gap_of=lambda n: (1 + (n or 0) % 4) * order), grace=order)
    said.aggregate(Total, fold, merge_totals, name="said", emit="close").to(out)
    return Case(app, [source], [out, ends, each], coalesced=[last], null_keys=True, null_values=True)


def merge_totals(one: Total, other: Total) -> Total:
    one.seen += other.seen[:2]
    return Total(one.count + other.count, one.sum + other.sum, one.seen)


@case
def windows_that_slide(app: kstream.App) -> Case:
    order = timedelta(milliseconds=1)
    source = app.topic("in", key=str, value=int | None, out_of_order=order)
    out, sums = app.topic("out", key=str, value=Total), app.topic("sums", key=str, value=int)
    late = app.topic("late", key=str, value=int | None)
    some = app.stream(source).filter(lambda n: n is None or n % 3).map(lambda n: n, value=int | None)
    group = some.group_by_key()
    group.window(kstream.Sliding(3 * order), grace=order).aggregate(Total, fold, name="totals").to(out)
    some.map(lambda n: n or 0, value=int).to(sums)
    soon = group.window(kstream.Sliding(2 * order), grace=timedelta(0), late=late)
    soon.sum(lambda n: n or 0, value=int, name="sums").to(sums)
    return Case(app, [source], [out, sums, late], null_keys=True, null_values=True)


@case
def windows_that_slide_as_those_of_kafka_streams(app: kstream.App) -> Case:
    order = timedelta(milliseconds=1)
    source = app.topic("in", key=str, value=int | None, out_of_order=order)
    key = kstream.Windowed[str]
    each, closed, last = (app.topic(name, key=key, value=Total) for name in ("each", "closed", "last"))
    ends, late = app.topic("ends", key=str, value=int), app.topic("late", key=str, value=int | None)
    some = app.stream(source).filter(lambda n: n is None or n % 3)
    group = some.group_by_key()
    group.window(kstream.KafkaSliding(3 * order), grace=order).aggregate(Total, fold, name="totals").to(each)
    soon = group.window(kstream.KafkaSliding(2 * order), grace=timedelta(0), late=late)
    totals = soon.aggregate(Total, fold, name="closed", emit="close")
    totals.to(closed)
    totals.rekey(lambda total, ctx: ctx.key.key, key=str).map(lambda total: total.sum, value=int).to(ends)
    some.map(lambda n: n or 0, value=int).to(ends)
    soon.aggregate(Total, fold, name="last", emit="commit").to(last)
    return Case(app, [source], [each, closed, ends, late], coalesced=[last], null_keys=True, null_values=True)


@case
def windows_of_so_many(app: kstream.App) -> Case:
    source = app.topic("in", key=str, value=int | None)
    out, more = app.topic("out", key=str, value=Total), app.topic("more", key=str, value=Total)
    group = app.stream(source).group_by_key()
    group.window(kstream.Counting(2)).aggregate(Total, fold, name="twos").to(out)
    group.window(kstream.Counting(3)).aggregate(Total, fold_in_place, name="threes").to(more)
    return Case(app, [source], [out, more], partitions=3, null_keys=True, null_values=True)


@case
def agent_behind_windows_that_close(app: kstream.App) -> Case:
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    group = app.stream(source).group_by_key().window(kstream.Tumbling(seconds=0.002), grace=timedelta(milliseconds=1))
    sums = group.sum(triple, name="sums", emit="close")
    seen = app.table("seen", key=str, value=int, default=0)

    @app.agent(sums.stream().rekey(lambda n, ctx: ctx.key.key, key=str), to=out)
    async def slow(values: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[int]:
        async for n in values:
            await asyncio.sleep(0)
            seen[ctx.key] += n
            yield seen[ctx.key]

    return Case(app, [source], [out], partitions=2)


def beside(n: int, named: Named | None) -> Named:
    if named is None:
        return Named("nobody", n)
    named.n += n
    return named


@case
def stream_joined_with_a_table(app: kstream.App) -> Case:
    left, right = app.topic("left", key=str, value=int | None), app.topic("right", key=str, value=int | None)
    outs = [app.topic(f"out{i}", key=str, value=Named) for i in range(2)]
    changes = app.topic("changes", key=str, value=Named | None)
    named = app.stream(right).map(lambda n: None if n is None else Named("x", n), value=Named | None)
    table = named.to_table("table")
    table.to(changes)
    stream = app.stream(left)
    stream.join(table, beside).to(outs[0])
    stream.filter(lambda n: n is None or n % 3).join(table, beside, how="left").to(outs[1])
    return Case(app, [left, right], [*outs, changes], null_keys=True, null_values=True)


@case
def stream_joined_with_its_own_table(app: kstream.App) -> Case:
    """One topic leads to both, by two ways, and to a repartition."""
    source = app.topic("in", key=str, value=int, partitions=1)
    out, moved = app.topic("out", key=str, value=int), app.topic("moved", key=int, value=int)
    stream = app.stream(source)
    table = stream.filter(lambda n: n % 2).to_table("odd")
    stream.join(table, lambda n, last: n - last, value=int).group_by_key().sum(triple, name="sums").to(out)
    homes = stream.rekey(lambda n: abs(n) % 4, key=int).to_table("homes")
    stream.rekey(lambda n: abs(n) % 3).join(homes, lambda n, last: 100 * n + last, name="far", value=int).to(moved)
    return Case(app, [source], [out], coalesced=[], null_keys=False)


def besides(named: Named | None, n: int | None) -> Named:
    return Named("none" if named is None else named.name, (named.n if named else 0) + (n or 0))


@case
def tables_joined_with_tables(app: kstream.App) -> Case:
    """Of several topics, of an aggregation, derived, and the result with one side again."""
    left, right = app.topic("left", key=str, value=int | None), app.topic("right", key=str, value=int | None)
    outs = [app.topic(f"out{i}", key=str, value=Named | None) for i in range(4)]
    named: kstream.Table[str, Named] | Any = (
        app.stream(left).map(lambda n: None if n is None else Named("x", n), value=Named | None).to_table("named")
    )
    numbers = app.stream(right).to_table("numbers")
    outer = named.join(numbers.filter(lambda n: n % 3), besides, how="outer", name="outer")
    outer.to(outs[0])
    named.join(numbers, besides, how="left", name="left").to(outs[1])
    sums = app.stream(right).group_by_key().sum(triple, name="sums")
    named.filter(lambda named: named.n % 2).join(sums.map_values(triple), besides, name="inner").to(outs[2])
    outer.join(numbers, besides, name="again").to(outs[3])
    return Case(app, [left, right], outs, partitions=2, null_keys=True, null_values=True)


# ---- running them


Input = tuple[int, str | None, int | None, int]
"""Which input, key, value, timestamp."""

inputs = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["a", "a", "a", "b", "c", "d", None]),
        st.one_of(st.integers(-4, 24), st.integers(0, 3), st.none()),
        st.integers(0, 6),
    ),
    min_size=1,
    max_size=24,
)

FAULTS = [
    *[Kind("produce", error, after) for error in (AbortRequired, ProducerLost) for after in (False, True)],
    *[Kind("send_offsets", error, after) for error in (AbortRequired, ProducerLost) for after in (False, True)],
    Kind("commit", AbortRequired, False),
    Kind("commit", ProducerLost, False),
    Kind("commit", ProducerLost, True),
    Kind("abort", ProducerLost, False),
    Kind("abort", ProducerLost, True),
    Kind("begin", ProducerLost, False),
    Kind("producer.poll", ProducerLost, False),
    Kind("producer.poll", AbortRequired, False),
    Kind("admin.committed", AbortRequired, False),
    Kind("admin.committed", KafkaUnavailable, False),
    Kind("admin.end_offsets", KafkaUnavailable, False),
]

actions = st.one_of(
    st.tuples(st.just("step")),
    st.tuples(st.just("step")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("crash")),
    st.tuples(st.just("lost")),
    st.tuples(st.just("compact")),
    st.tuples(st.just("fault"), st.sampled_from(FAULTS), st.integers(0, 12)),
    st.tuples(st.just("fault"), st.sampled_from(FAULTS), st.just(0)),
)

OFTEN = ("produce", "producer.poll")
"""Calls of which there are many in each transaction; of the others there is one, or less."""


@dataclass
class Result:
    outputs: dict[str, dict[int, list[Any]]]
    coalesced: dict[str, dict[Any, Any]]
    stores: dict[str, dict[bytes, bytes]]


class Run:
    """One run of a case over an input that is all there from the beginning."""

    def __init__(
        self, made: Case, records: list[Input], backend: str = "memory", strikes: Strikes = STRIKES, **settings: Any
    ) -> None:
        self.case = made
        self.driver = TestDriver(
            made.app, partitions=made.partitions, backend=backend, commit_interval=1.0, **settings
        )  # fmt: skip
        self.faults = Planner(self.driver.cluster, strikes)
        for which, key, value, timestamp in records:
            topic = made.inputs[which % len(made.inputs)]
            if (key is None and not made.null_keys) or (value is None and not made.null_values):
                continue
            self.driver.cluster.append(
                topic.name,
                None if key is None else topic.key.codec.encode(key),
                None if value is None else topic.value.codec.encode(value),
                timestamp=1000 + timestamp,
            )

    def act(self, action: tuple[Any, ...]) -> None:
        driver, cluster = self.driver, self.driver.cluster
        match action:
            case ("step",):
                driver.clock.advance(0.06)
                driver.worker.step()
            case ("commit",):
                driver.clock.advance(1.0)
                driver.worker.step()
            case ("crash",):
                driver.worker.abandon()
                driver._start()
            case ("lost",):
                (member,) = cluster.group(driver.app.name).members or (None,)
                if member:
                    cluster.expire(member)
            case ("compact",):
                for name in cluster.topics():
                    if name.endswith("-changelog"):
                        cluster.compact(name)
            case ("fault", kind, skip):
                self.faults.plan(kind, skip if kind.call in OFTEN else skip % 2)
                if kind.call == "abort":  # something must be wrong before anything is aborted
                    self.faults.plan(Kind("produce", AbortRequired, False), 0)

    def settle(self) -> Result:
        """Until all is processed and committed, what waits for the tasks before to say that they are through too (they
        say so with their commits). Faults that have not struck yet may do so meanwhile."""
        driver = self.driver
        for _ in range(2000):
            driver.clock.advance(0.3)
            before = driver.worker.commits
            driver.worker.step()
            if (
                is_idle([driver.worker], driver.cluster)
                and driver.worker.commits == before
                and not any(task.touched or task.reading.waits_for_commits for task in driver.worker.tasks.values())
            ):
                return self.result()
        raise AssertionError("the worker does not come to rest")

    def result(self) -> Result:
        cluster = self.driver.cluster
        outputs: dict[str, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
        for topic in self.case.outputs:
            for record in cluster.records(topic.name):
                outputs[topic.name][record.partition].append(
                    (record.key, record.value, record.timestamp, tuple(record.headers or ()))
                )
        coalesced = {topic.name: last_values(cluster.records(topic.name)) for topic in self.case.coalesced}
        stores: dict[str, dict[bytes, bytes]] = defaultdict(dict)
        for task in self.driver.worker.tasks.values():
            for name, store in task.stores.items():
                content = dict(task.backend.scan(name))
                seen = {key: store.value_codec.encode(value) for key, value in store.scan()}
                there = shown(store, content)
                assert seen == there, f"store {name} does not show what its backend holds"
                changelog: dict[bytes, bytes] = {}
                for record in cluster.records(f"{self.driver.app.name}-{name}-changelog"):
                    if record.partition != task.partition:
                        continue
                    assert record.key is not None
                    if record.value is None:
                        changelog.pop(record.key, None)
                    else:
                        changelog[record.key] = record.value
                assert changelog == content, f"the changelog of {name} in task {task.name} is not its store"
                stores[name].update({b"%d " % task.partition + key: value for key, value in there.items()})
        return Result(outputs, coalesced, stores)

    def close(self) -> None:
        self.faults.count()
        self.driver.close(commit=False)


def last_values(records: Sequence[MemoryRecord]) -> dict[Any, Any]:
    """By key; a null takes its key away, and may follow what another run never wrote."""
    last = {record.key: (record.value, record.timestamp) for record in records}
    return {key: value for key, value in last.items() if value[0] is not None}


def shown(store: Store[Any], content: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """What of its backend's content is to be seen."""
    if not isinstance(store, TimedStore):
        return content
    hides = store.ttl.visibility == "never_return_expired"
    return {
        key: raw[STAMP:] for key, raw in content.items() if not (hides and store.ttl.expired(stamp_of(raw), store.now))
    }


made: dict[str, Case] = {}


def the(name: str) -> Case:
    if name not in made:
        made[name] = CASES[name](kstream.App(name.replace("_", "-")))
    return made[name]


def one_by_one(case: Case, records: list[Input]) -> Result:
    run = Run(case, records)
    try:
        run.driver.cluster.batch_sizes = iter(lambda: 1, 0)
        for _ in range(4 * len(records) + 20):
            run.act(("commit",))
        return run.settle()
    finally:
        run.close()


def test_what_waits_for_the_tasks_before_is_waited_for() -> None:
    """After a commit that was not to be, these say anew that they are through only with a later one."""
    made, records = the("stream_joined_with_its_own_table"), [(0, "a", 0, 0)]
    run = Run(made, records)
    try:
        run.act(("fault", Kind("send_offsets", ProducerLost, False), 1))
        assert run.settle().stores == one_by_one(made, records).stores
    finally:
        run.close()


@pytest.mark.parametrize("name", list(CASES))
@given(
    records=inputs,
    sizes=st.lists(st.integers(0, 9), max_size=12),
    script=st.lists(actions, max_size=14),
    backend=st.sampled_from(["memory", "memory", "memory", "rocksdb"]),
)
def test_no_way_of_cutting_committing_or_failing_shows(
    name: str, records: list[Input], sizes: list[int], script: list[tuple[Any, ...]], backend: str
) -> None:
    case = the(name)
    expected = one_by_one(case, records)
    run = Run(case, records, backend)
    try:
        run.driver.cluster.batch_sizes = iter(sizes)
        for action in script:
            run.act(action)
        found = run.settle()
    finally:
        run.close()
    assert found.outputs == expected.outputs
    assert found.coalesced == expected.coalesced
    assert found.stores == expected.stores


def test_most_planned_faults_struck() -> None:
    """Of the runs above: else they would say little about failures."""
    STRIKES.check(share=0.5)
