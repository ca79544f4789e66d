"""The types of the public API, end to end. Checked by mypy in test_api.py; never run.

Each `reveal_type` has the expected type behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, reveal_type

import msgspec

import kstream


class Bid(msgspec.Struct):
    auction: int
    bidder: str
    price: int
    at: datetime


class Alert(msgspec.Struct):
    bidder: str


class Total(msgspec.Struct):
    count: int = 0
    sum: int = 0


app = kstream.App("auctions")
bids = app.topic("bids", key=str, value=Bid, timestamp="at")
reveal_type(bids)  # T: kstream.specs.topic.Topic[str, api.Bid]
alerts = app.topic("alerts", key=str, value=Alert)
totals = app.topic("totals", key=int, value=Total)
counts = app.topic("counts", key=int, value=int)
untyped = app.topic("untyped", key=str)
reveal_type(untyped)  # T: kstream.specs.topic.Topic[str, Any]
reveal_type(app.topic("bare"))  # T: kstream.specs.topic.Topic[Any, Any]

spend = app.table("spend", key=str, value=int, default=int)
reveal_type(spend)  # T: kstream.dsl.table.Table[str, int]


def dearest(bid: Bid) -> Bid | None:
    return bid if bid.price > 100 else None


def auction(bid: Bid) -> int:
    return bid.auction


def add(total: Total, bid: Bid) -> Total:
    total.count += 1
    total.sum += bid.price
    return total


def join_totals(one: Total, other: Total) -> Total:
    return Total(one.count + other.count, one.sum + other.sum)


def add_with_context(total: Total, bid: Bid, ctx: kstream.Context[int]) -> Total:
    reveal_type(ctx.key)  # T: int
    return total


stream = app.stream(bids)
reveal_type(stream)  # T: kstream.dsl.stream.Stream[str, api.Bid]
reveal_type(stream.map(lambda bid: bid.price))  # T: kstream.dsl.stream.Stream[str, int]
reveal_type(stream.map(lambda bid, ctx: (ctx.key, bid.price)))  # T: kstream.dsl.stream.Stream[str, tuple[str, int]]
reveal_type(stream.filter(lambda bid: bid.price > 1))  # T: kstream.dsl.stream.Stream[str, api.Bid]
once = stream.deduplicate(lambda bid: bid.at, within=timedelta(hours=1))
reveal_type(once)  # T: kstream.dsl.stream.Stream[str, api.Bid]
reveal_type(stream.flat_map(lambda bid: [bid.price]))  # T: kstream.dsl.stream.Stream[str, int]
reveal_type(stream.peek(print))  # T: kstream.dsl.stream.Stream[str, api.Bid]
ways = stream.branch(dear=lambda bid: bid.price > 9, other=lambda bid, ctx: bid.price > ctx.offset)
reveal_type(ways["dear"])  # T: kstream.dsl.stream.Stream[str, api.Bid]
reveal_type(stream.merge(stream, stream.sample(0.1)).debug("seen"))  # T: kstream.dsl.stream.Stream[str, api.Bid]
reveal_type(stream.through(bids).repartition(parallelism=3))  # T: kstream.dsl.stream.Stream[str, api.Bid]
reveal_type(stream.to(lambda bid: bids))  # T: None
reveal_type(stream.to(lambda bid, ctx: [bids][ctx.offset]))  # T: None
reveal_type(stream.rekey(auction))  # T: kstream.dsl.stream.Stream[int, api.Bid]

grouped = stream.group_by(auction, name="by-auction")
reveal_type(grouped)  # T: kstream.dsl.stream.Grouped[int, api.Bid]
reveal_type(stream.group_by_key())  # T: kstream.dsl.stream.Grouped[str, api.Bid]
rates = app.topic("rates", key=str, value=int | None)
rate = app.stream(rates).to_table("rates")
reveal_type(rate)  # T: kstream.dsl.tabular.StreamTable[str, int]
reveal_type(app.stream(bids).to_table("last"))  # T: kstream.dsl.tabular.StreamTable[str, api.Bid]
reveal_type(rate.stream())  # T: kstream.dsl.stream.Stream[str, int | None]
reveal_type(stream.join(rate, lambda bid, rate: bid.price * rate))  # T: kstream.dsl.stream.Stream[str, int]
reveal_type(stream.join(spend, lambda bid, n, ctx: (n, ctx.key)))  # T: kstream.dsl.stream.Stream[str, tuple[int, str]]
reveal_type(stream.join(rate, lambda bid, rate: rate, how="left"))  # T: kstream.dsl.stream.Stream[str, int | None]
near = timedelta(minutes=1)
known = app.global_table(app.topic("known", key=int, value=float | None))
reveal_type(known)  # T: kstream.dsl.global_table.GlobalTable[int, float]
found = stream.join(known, lambda bid, row: row, on=lambda bid: bid.price)
reveal_type(found)  # T: kstream.dsl.stream.Stream[str, float]
by_context = stream.join(known, lambda bid, row, ctx: (ctx.key, row), on=lambda bid, ctx: len(ctx.key), how="left")
reveal_type(by_context)  # T: kstream.dsl.stream.Stream[str, tuple[str, float | None]]

near_by = stream.join(stream, lambda one, other: one.price - other.price, within=near, grace=near)
reveal_type(near_by)  # T: kstream.dsl.stream.Stream[str, int]
asked = stream.join(near_by, lambda bid, n, ctx: (n, ctx.key), within=(near, near), grace=near, how="left")
reveal_type(asked)  # T: kstream.dsl.stream.Stream[str, tuple[int | None, str]]
near_or_not = near_by.join(stream, lambda n, bid: n or bid, within=near, grace=near, how="outer")
reveal_type(near_or_not)  # T: kstream.dsl.stream.Stream[str, int | api.Bid | None]
reveal_type(grouped.count())  # T: kstream.dsl.stream.AggregateTable[int, int]
reveal_type(grouped.sum(lambda bid: bid.price))  # T: kstream.dsl.stream.AggregateTable[int, int]
reveal_type(grouped.sum(lambda bid: bid.price / 2))  # T: kstream.dsl.stream.AggregateTable[int, float]
reveal_type(grouped.min(lambda bid: bid.bidder))  # T: kstream.dsl.stream.AggregateTable[int, str]
reveal_type(grouped.max(lambda bid: bid.at))  # T: kstream.dsl.stream.AggregateTable[int, datetime.datetime]
reveal_type(grouped.reduce(lambda a, b: a))  # T: kstream.dsl.stream.AggregateTable[int, api.Bid]
reveal_type(grouped.first())  # T: kstream.dsl.stream.AggregateTable[int, api.Bid]
reveal_type(grouped.top_n(3, by=lambda bid: bid.price))  # T: kstream.dsl.stream.AggregateTable[int, list[api.Bid]]
reveal_type(grouped.collect().stream())  # T: kstream.dsl.stream.Stream[int, list[api.Bid]]
reveal_type(grouped.mean(lambda bid: bid.price))  # T: kstream.dsl.resulting.ResultTable[int, float]
reveal_type(grouped.quantiles(lambda bid: bid.price, [0.5]).stream())  # T: kstream.dsl.stream.Stream[int, list[float]]
reveal_type(grouped.count_distinct(lambda bid: bid.bidder).stream())  # T: kstream.dsl.stream.Stream[int, int]
aggregated = grouped.aggregate(Total, add, name="per-auction")
reveal_type(aggregated)  # T: kstream.dsl.stream.AggregateTable[int, api.Total]
folded = grouped.aggregate(Total, lambda total, bid: Total(1, bid.price))
reveal_type(folded)  # T: kstream.dsl.stream.AggregateTable[int, api.Total]
reveal_type(grouped.aggregate(Total, add_with_context))  # T: kstream.dsl.stream.AggregateTable[int, api.Total]
reveal_type(aggregated.stream())  # T: kstream.dsl.stream.Stream[int, api.Total]
reveal_type(grouped.stream())  # T: kstream.dsl.stream.Stream[int, api.Bid]


class Cents:
    """A codec of one's own."""

    def encode(self, value: Decimal) -> bytes:
        return str(value).encode()

    def decode(self, data: bytes) -> Decimal:
        return Decimal(data.decode())


class Number:
    def encode(self, value: int) -> bytes:
        return b"%d" % value

    def decode(self, data: bytes) -> int:
        return int(data)


def price(bid: Bid) -> Decimal:
    return Decimal(bid.price)


# sums of whatever can be added
reveal_type(grouped.sum(price))  # T: kstream.dsl.stream.AggregateTable[int, decimal.Decimal]
reveal_type(grouped.sum(lambda bid: Decimal(bid.price)))  # T: kstream.dsl.stream.AggregateTable[int, decimal.Decimal]
reveal_type(grouped.sum(lambda bid: bid.at - bid.at))  # T: kstream.dsl.stream.AggregateTable[int, datetime.timedelta]
grouped.sum(lambda bid: bid)  # E: Value of type variable "N" of "sum" of "Grouped" cannot be "Bid"

# codecs wherever a type may stand
reveal_type(app.topic("c", key=Number(), value=Cents()))  # T: kstream.specs.topic.Topic[int, decimal.Decimal]
reveal_type(stream.map(price, value=Cents()))  # T: kstream.dsl.stream.Stream[str, decimal.Decimal]
reveal_type(stream.flat_map(lambda bid: [bid.price], value=Number()))  # T: kstream.dsl.stream.Stream[str, int]
reveal_type(stream.rekey(auction, key=Number()))  # T: kstream.dsl.stream.Stream[int, api.Bid]
reveal_type(stream.group_by(auction, key=Number()))  # T: kstream.dsl.stream.Grouped[int, api.Bid]
reveal_type(grouped.count(value=Number()))  # T: kstream.dsl.stream.AggregateTable[int, int]
reveal_type(grouped.sum(price, value=Cents()))  # T: kstream.dsl.stream.AggregateTable[int, decimal.Decimal]
reveal_type(grouped.min(price, value=Cents()))  # T: kstream.dsl.stream.AggregateTable[int, decimal.Decimal]
reveal_type(grouped.max(auction, value=Number()))  # T: kstream.dsl.stream.AggregateTable[int, int]
reveal_type(app.table("cents", key=Number(), value=Cents()))  # T: kstream.dsl.table.Table[int, decimal.Decimal]
stream.map(price, value=Number())  # E: Argument 1 to "map" of "Stream" has incompatible type "Callable[[Bid], Decimal]"

# what is no class, as `T | None`
maybe = app.topic("maybe", key=str, value=Bid | None)
reveal_type(maybe)  # T: kstream.specs.topic.Topic[str, api.Bid | None]
reveal_type(app.stream(maybe))  # T: kstream.dsl.stream.Stream[str, api.Bid | None]
either = app.topic("either", key=str, value=Bid | Alert)
reveal_type(either)  # T: kstream.specs.topic.Topic[str, api.Bid | api.Alert]
many = app.topic("many", key=str, value=list[Bid] | None)
reveal_type(many)  # T: kstream.specs.topic.Topic[str, list[api.Bid] | None]
one_of = app.topic("one-of", key=str, value=Literal["a", "b"])
reveal_type(one_of)  # T: kstream.specs.topic.Topic[str, Literal['a'] | Literal['b']]
reveal_type(app.table("last", key=str, value=Bid | None))  # T: kstream.dsl.table.Table[str, api.Bid | None]
reveal_type(stream.map(dearest))  # T: kstream.dsl.stream.Stream[str, api.Bid | None]
app.table("no-type", key=str, value=3)  # E: No overload variant of "table" of "App" matches

aggregated.to(totals)
aggregated.to(counts)  # E: Argument 1 to "to" of "AggregateTable" has incompatible type "Topic[int, int]"
stream.to(alerts)  # E: Argument 1 to "to" of "Ways" has incompatible type "Topic[str, Alert]"
stream.map(lambda bid: Alert(bid.bidder)).to(alerts)
stream.map(lambda bid: bid.nothing)  # E: "Bid" has no attribute "nothing"
grouped.aggregate(int, add)  # E: Cannot infer value of type parameter "A" of "aggregate"


@app.agent(stream.group_by(lambda bid: bid.bidder, name="by-bidder"), to=alerts)
async def score(stream: kstream.AgentStream[str, Bid]) -> AsyncIterator[Alert]:
    async for bid in stream:
        reveal_type(bid)  # T: api.Bid
        spend[bid.bidder] += bid.price
        if spend[bid.bidder] > 10_000:
            yield Alert(bid.bidder)
    async for event in stream.events():
        reveal_type(event.key)  # T: str
        reveal_type(event.value)  # T: api.Bid


@app.agent(bids, to=totals)
def total(bid: Bid, ctx: kstream.Context[str]) -> kstream.Record[int, Total] | None:
    reveal_type(ctx.key)  # T: str
    return kstream.Record(bid.auction, Total(1, bid.price))


@app.agent(bids)  # E: Argument 1 to "__call__" of "AgentDecorator" has incompatible type "Callable[[Alert], None]"
def takes_another(alert: Alert) -> None: ...


@app.agent(bids)  # E: Argument 1 to "__call__" of "AgentDecorator" has incompatible type "Callable[[AgentStream[str,
async def iterates_over_another(stream: kstream.AgentStream[str, Alert]) -> None: ...


@app.agent(bids)  # E: Argument 1 to "__call__" of "AgentDecorator" has incompatible type "Callable[[Bid, Context[int]]
def has_another_key(bid: Bid, ctx: kstream.Context[int]) -> None: ...


@app.agent(stream.group_by(auction))
def takes_less(thing: object, ctx: kstream.Context[int]) -> None: ...


@app.agent(grouped)
async def iterates(stream: AsyncIterable[Bid]) -> None: ...


@app.agent(bids, to=alerts)
def reminded(bid: Bid, ctx: kstream.TimerContext[str]) -> Alert | None:
    ctx.timer(at=bid.at, name="unpaid")
    reveal_type(ctx.due("unpaid"))  # T: int | None
    ctx.emit(Alert("x"))  # E: "TimerContext[str]" has no attribute "emit"
    return None


@reminded.on_timer
def remind(timer: kstream.Timer, ctx: kstream.TimerContext[str]) -> Alert:
    return Alert(ctx.key)


@reminded.on_timer  # E: Value of type variable "H" of "on_timer" of "Agent" cannot be "Callable[[Bid, TimerContext
def reminds_of_a_bid(bid: Bid, ctx: kstream.TimerContext[str]) -> None: ...


@app.agent(bids, to=alerts)
async def reminded_later(stream: kstream.AgentStream[str, Bid], ctx: kstream.TimerContext[str]) -> AsyncIterator[Alert]:
    async for bid in stream:
        ctx.timer(at=bid.at)
        yield Alert(bid.bidder)


reminded_later.on_timer(remind)
reveal_type(remind)  # T: def (timer: kstream.specs.timers.Timer, ctx: kstream.runtime.task.processing.TimerContext


@app.agent(bids)  # E: Argument 1 to "__call__" of "AgentDecorator" has incompatible type "Callable[[Bid, TimerContext[
def reminded_of_another_key(bid: Bid, ctx: kstream.TimerContext[int]) -> None: ...


@app.agent(bids)
def has_no_timers(bid: Bid, ctx: kstream.Context[str]) -> None:
    ctx.timer(at=bid.at)  # E: "Context[str]" has no attribute "timer"


app.agent(bids, name="lambda")(lambda bid: bid.price)


@app.agent(bids)
def sends(bid: Bid, ctx: kstream.Context[str]) -> None:
    ctx.send(alerts, Alert(bid.bidder))
    ctx.send(alerts, Alert(bid.bidder), key="x", timestamp=5)
    ctx.send(counts, 1, key=5)
    ctx.send(counts, 1, key=None)
    ctx.send(untyped, {"any": "thing"})
    ctx.send(maybe, None)
    ctx.send(alerts, bid)  # E: Cannot infer value of type parameter "V" of "send" of "Context"
    ctx.send(alerts, Alert("x"), key=5)  # E: Cannot infer value of type parameter "G" of "send" of "Context"
    ctx.send(counts, 1)  # E: Argument 1 to "send" of "Context" has incompatible type "Topic[int, int]"


reveal_type(kstream.Record(1, Total()))  # T: kstream.specs.record.Record[int, api.Total]


def use_table() -> None:
    reveal_type(spend["a"])  # T: int
    reveal_type(spend.get("a"))  # T: int | None
    reveal_type(spend.get("a", 0))  # T: int
    reveal_type(list(spend.items()))  # T: builtins.list[tuple[str, int]]
    reveal_type(spend.range("a", None))  # T: typing.Iterator[tuple[str, int]]
    reveal_type(spend.prefix("a"))  # T: typing.Iterator[tuple[str, int]]
    spend.range(1)  # E: Argument 1 to "range" of "ReadableTable" has incompatible type "int"; expected "str | None"
    spend["a"] = "b"  # E: Incompatible types in assignment (expression has type "str", target has type "int")
    reveal_type(aggregated[1])  # T: api.Total
    aggregated[1] = Total()  # E: Unsupported target for indexed assignment ("AggregateTable[int, Total]")
    del aggregated[1]  # E: "AggregateTable[int, Total]" has no attribute "__delitem__"
    spend.stream()  # E: "Table[str, int]" has no attribute "stream"
    stream.count()  # E: "Stream[str, Bid]" has no attribute "count"
    spend[1] = 1  # E: Invalid index type "int" for "Table[str, int]"; expected type "str"


sessions = grouped.window(kstream.Session(minutes=5), grace=timedelta(0))
reveal_type(sessions.count(name="s1"))  # T: kstream.dsl.sessions.SessionTable[int, int, int | None]
reveal_type(sessions.count(name="s2", emit="close"))  # T: kstream.dsl.sessions.SessionTable[int, int, int]
visits = sessions.aggregate(Total, add, join_totals, name="s3", emit="close")
reveal_type(visits.stream())  # T: kstream.dsl.stream.Stream[kstream.codecs.spans.WindowedSpan[int], api.Total]
reveal_type(sessions.sum(lambda bid: bid.price))  # T: kstream.dsl.sessions.SessionTable[int, int, int | None]
reveal_type(sessions.collect(emit="close"))  # T: kstream.dsl.sessions.SessionTable[int, list[api.Bid], list[api.Bid]]
reveal_type(sessions.max(lambda bid: bid.bidder))  # T: kstream.dsl.sessions.SessionTable[int, str, str | None]
visits.to(app.topic("visits", key=kstream.WindowedSpan[int], value=Total))
visits.to(totals)  # E: Argument 1 to "to" of "SessionTable"

sliding = grouped.window(kstream.Sliding(minutes=5), grace=timedelta(0))
reveal_type(sliding.sum(lambda bid: bid.price))  # T: kstream.dsl.stream.Stream[int, int]
reveal_type(sliding.aggregate(Total, add, name="s5"))  # T: kstream.dsl.stream.Stream[int, api.Total]
reveal_type(sliding.quantiles(lambda bid: bid.price, [0.5]))  # T: kstream.dsl.stream.Stream[int, list[float]]
bursts = grouped.window(kstream.KafkaSliding(minutes=5), grace=timedelta(0))
reveal_type(bursts.count(emit="close"))  # T: kstream.dsl.stream.Stream[kstream.codecs.windowed.Windowed[int], int]
reveal_type(grouped.window(kstream.Counting(9)).mean(lambda bid: bid.price))  # T: kstream.dsl.stream.Stream[int, float]
reveal_type(grouped.window(kstream.Counting(9)).reduce(lambda a, b: a))  # T: kstream.dsl.stream.Stream[int, api.Bid]
cumulating = grouped.window(kstream.Cumulating(days=1, step=timedelta(hours=1)), grace=timedelta(0))
reveal_type(cumulating.count())  # T: kstream.dsl.stream.AggregateTable[kstream.codecs.spans.WindowedSpan[int], int]
days = grouped.window(kstream.LocalDays("Europe/Berlin"), grace=timedelta(0))
reveal_type(days.count())  # T: kstream.dsl.stream.AggregateTable[kstream.codecs.spans.WindowedSpan[int], int]
grouped.window(kstream.Session(minutes=1), grace=timedelta(0), early=timedelta(0))  # E: No overload variant of "window"
tumbling = grouped.window(kstream.Tumbling(seconds=1), grace=timedelta(0))
reveal_type(tumbling.count())  # T: kstream.dsl.stream.AggregateTable[kstream.codecs.windowed.Windowed[int], int]


@app.lifespan
async def resources(worker: kstream.Worker) -> AsyncIterator[None]:
    yield


with kstream.TestDriver(app) as driver:
    reveal_type(driver)  # T: kstream.testing.driver.TestDriver
    driver.send(bids, Bid(1, "x", 1, datetime.now()), key="a")
    driver.send(bids, Alert("x"), key="a")  # E: Cannot infer value of type parameter "V" of "send"
    reveal_type(driver.values(alerts))  # T: builtins.list[api.Alert]
    reveal_type(driver.records(totals))  # T: builtins.list[kstream.specs.record.Record[int, api.Total]]
    reveal_type(driver.table(spend)["x"])  # T: int


def mean(total: Total) -> float:
    return total.sum / total.count


class Sessions(kstream.Processor[str, Bid, Total]):
    total = kstream.ValueState(Total, default=Total)
    last = kstream.ValueState(int)
    some = kstream.ListState(Bid)
    by_auction = kstream.MapState(int, Bid)
    dearest = kstream.ReducingState(int, max)
    sums = kstream.AggregatingState(Total, add)
    means = kstream.AggregatingState(Total, add, result=mean)

    def process(self, value: Bid, ctx: kstream.ProcessorContext[str, Total]) -> None:
        reveal_type(self.total.value)  # T: api.Total
        reveal_type(self.last.value)  # T: int | None
        reveal_type(list(self.some))  # T: list[api.Bid]
        reveal_type(self.by_auction.get(1))  # T: api.Bid | None
        reveal_type(self.by_auction[1])  # T: api.Bid
        reveal_type(self.dearest.value)  # T: int | None
        reveal_type(self.sums.value)  # T: api.Total | None
        reveal_type(self.means.value)  # T: float | None
        reveal_type(ctx.key)  # T: str
        self.last.value = None
        ctx.timer(at=value.at, name="idle")
        ctx.emit(self.total.value)

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[str, Total]) -> None:
        reveal_type(timer.clock)  # T: Literal['event'] | Literal['wall']
        reveal_type(ctx.due())  # T: int | None


processed = stream.process(Sessions, name="sessions")
with kstream.TestDriver(app) as driver:
    reveal_type(driver.table(Sessions.total)["x"])  # T: api.Total
    reveal_type(driver.table(Sessions.last)["x"])  # T: int | None
    reveal_type(driver.table(Sessions.some)["x"])  # T: builtins.list[api.Bid]
    reveal_type(driver.table(Sessions.by_auction)["x"])  # T: builtins.dict[int, api.Bid]
    reveal_type(driver.table(Sessions.dearest)["x"])  # T: int
    reveal_type(driver.table(Sessions.means)["x"])  # T: float
    reveal_type(driver.table("sessions-total"))  # T: kstream.testing.tables.TableView[Any, Any]
    driver.table(3)  # E: No overload variant of "table" of "TestDriver" matches argument type "int"
reveal_type(processed)  # T: kstream.dsl.processed.Processed[str, api.Total]
reveal_type(processed.side("late", value=Bid))  # T: kstream.dsl.stream.Stream[str, api.Bid]
