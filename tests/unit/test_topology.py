"""What declarations become: sub-topologies, their names, what must be refused and how it is said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
import pytest

import kstream
from kstream.errors import TableError, TopologyError
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.testing import MemoryCluster, TestDriver
from kstream.testing.clients import MemoryClients
from kstream.topology import Topology


class Bid(msgspec.Struct, tag=True):
    auction: int
    price: int


class Other(msgspec.Struct, tag=True):
    x: int


def app_with_bids() -> tuple[kstream.App, kstream.Topic[str, Bid]]:
    app = kstream.App("shop")
    return app, app.topic("bids", key=str, value=Bid)


def parts(app: kstream.App) -> dict[str, list[str]]:
    return {part.name: [node.describe().split("  ")[0] for node in part.nodes] for part in app.topology().parts}


def auction(bid: Bid) -> int:
    return bid.auction


def same(value: Any) -> Any:
    return value


# ---- where it is cut


def test_it_is_cut_at_repartitions() -> None:
    app, bids = app_with_bids()
    app.stream(bids).group_by(auction, name="by-auction").count(name="n").to(app.topic("out", key=int, value=int))
    assert parts(app) == {
        "bids": ["source bids", "rekey bids-rekey", "to shop-by-auction-repartition (internal)"],
        "shop-by-auction-repartition": [
            "source shop-by-auction-repartition (internal)", "aggregate n", "to out",
        ],
    }  # fmt: skip


def test_unconnected_parts_are_tasks_of_their_own_and_one_topic_has_one_source() -> None:
    app, bids = app_with_bids()
    more = app.topic("more", key=str, value=int)
    app.stream(bids).peek(same)
    app.stream(more).peek(same)
    app.stream(bids).filter(same)
    assert parts(app) == {
        "bids": ["source bids", "peek bids-peek", "filter bids-filter"],
        "more": ["source more", "peek more-peek"],
    }


def test_a_shared_table_fuses_two_inputs_into_one_task() -> None:
    app, bids = app_with_bids()
    more = app.topic("more", key=str, value=int)
    table = app.table("t", key=str, value=int)

    @app.agent(bids)
    def one(bid: Bid, ctx: kstream.Context[str]) -> None:
        table[ctx.key] = 1

    @app.agent(more)
    def two(n: int, ctx: kstream.Context[str]) -> None:
        table[ctx.key] = 2

    (part,) = app.topology().parts
    assert part.name == "bids+more"
    assert part.one_at_a_time
    assert [store.name for store in part.stores] == ["t"]


def test_a_chain_is_neither_fused_nor_merged() -> None:
    app, bids = app_with_bids()
    app.stream(bids).map(same).filter(same).group_by_key().count(name="n").to(app.topic("out", key=str, value=int))
    (part,) = app.topology().parts
    assert (part.one_at_a_time, part.merges_outputs) == (False, False)


def test_two_writers_of_one_topic_are_merged_and_a_context_counts_as_one() -> None:
    for declare, expected in [
        (lambda stream, out: (stream.to(out), stream.filter(same).to(out)), True),
        (lambda stream, out: stream.map(lambda v, ctx: v).to(out), True),
        (lambda stream, out: stream.map(lambda v, ctx: v), False),
        (lambda stream, out: (stream.peek(lambda v, ctx: v), stream.peek(lambda v, ctx: v)), True),
    ]:
        app, bids = app_with_bids()
        declare(app.stream(bids), app.topic("out", key=str, value=Bid))
        (part,) = app.topology().parts
        assert part.merges_outputs == expected


def test_group_by_key_moves_records_only_after_rekey() -> None:
    app, bids = app_with_bids()
    app.stream(bids).map(same).group_by_key().count(name="a")
    assert len(app.topology().parts) == 1
    app.stream(bids).rekey(auction).filter(same).group_by_key(name="again").count(name="b")
    assert [part.name for part in app.topology().parts] == ["bids", "shop-again-repartition"]


def test_one_group_used_twice_has_one_repartition() -> None:
    app, bids = app_with_bids()
    group = app.stream(bids).group_by(auction)
    group.count()
    group.sum(lambda bid: bid.price)
    group.stream().peek(same)
    topology = app.topology()
    assert [part.name for part in topology.parts] == ["bids", "shop-bids-by-repartition"]
    assert [topology.changelog(store) for store in topology.parts[1].stores] == [
        "shop-bids-by-repartition-count-changelog", "shop-bids-by-repartition-sum-changelog",
    ]  # fmt: skip


def test_parts_keep_their_names_when_others_come() -> None:
    app, bids = app_with_bids()
    app.stream(bids).group_by(auction, name="a").count(name="n")
    before = [part.name for part in app.topology().parts]
    app.stream(app.topic("x", key=str, value=int)).peek(same)
    assert [part.name for part in app.topology().parts][: len(before)] == before


def test_it_describes_itself() -> None:
    app, bids = app_with_bids()
    table = app.table("spend", key=str, value=int, scope="partition")
    out = app.topic("out", key=str, value=int)

    @app.agent(bids, to=out)
    async def score(stream: kstream.AgentStream[str, Bid]) -> AsyncIterator[int]:
        async for bid in stream:
            table["x"] = bid.price
            yield 1

    app.stream(bids).group_by(auction, name="by", parallelism=8).count(name="n", emit="commit").to(
        app.topic("counts", key=int, value=int)
    )
    text = app.topology().describe()
    for piece in (
        "shop", "source bids  key=str value=Bid", "agent score (async generator)  tables=spend  to out",
        "store spend  partition, key=str value=int, changelog shop-spend-changelog",
        "to shop-by-repartition (internal)", "aggregate n  store=n emit=commit", "to counts  key=int value=int",
    ):  # fmt: skip
        assert piece in text, piece


# ---- what is refused


def refused(match: str, declare: Callable[[kstream.App, Any], object]) -> None:
    app, bids = app_with_bids()
    with pytest.raises((TopologyError, TableError), match=match) as caught:
        declare(app, bids)
        app.topology()
    assert "\n" not in str(caught.value)


def test_nothing_to_run() -> None:
    refused("'shop' has nothing to run: declare a stream or an agent", lambda app, bids: None)


def test_duplicate_names() -> None:
    def two_stores(app: kstream.App, bids: Any) -> None:
        group = app.stream(bids).group_by_key()
        group.count(name="n")
        group.sum(lambda bid: bid.price, name="n")

    def table_and_store(app: kstream.App, bids: Any) -> None:
        app.table("n", key=str, value=int)
        app.stream(bids).group_by_key().count(name="n")

    def store_and_table(app: kstream.App, bids: Any) -> None:
        app.stream(bids).group_by_key().count(name="n")
        app.table("n", key=str, value=int)

    def two_agents(app: kstream.App, bids: Any) -> None:
        app.agent(bids, name="a")(same)
        app.agent(bids, name="a")(same)

    refused("two declarations of the store 'n': give one of them another name=", two_stores)
    refused("two declarations of the store 'n'", table_and_store)
    refused("two declarations of the store 'n'", store_and_table)
    refused(
        "two declarations of the store 'bids-count': give one of them another name=",
        lambda app, bids: [app.stream(bids).group_by_key().count() for _ in range(2)],
    )
    refused("two declarations of the agent 'a'", two_agents)
    refused(
        "two groups are called 'g'",
        lambda app, b: [app.stream(b).group_by(by, name="g").stream() for by in (auction, to_int)],
    )
    refused("topic 'bids' is declared twice", lambda app, bids: app.topic("bids"))
    refused(
        "two declarations of the store 't'",
        lambda app, bids: [app.table("t", key=str, value=int) for _ in range(2)],
    )
    refused(
        "two groups are called 'bids-by': give one of them a name= of its own, or group once and use the group twice",
        lambda app, bids: [app.stream(bids).group_by(auction).count(name=name) for name in "ab"],
    )


def to_int(bid: Bid) -> int:
    return bid.price


def test_types_that_do_not_fit_are_named_both() -> None:
    def out(app: kstream.App, key: Any = str, value: Any = Other) -> Any:
        return app.topic("out", key=key, value=value)

    refused(
        "source bids.* has values of type Bid, but topic 'out' is declared value=Other",
        lambda app, bids: app.stream(bids).to(out(app)),
    )
    refused(
        "map bids-map has values of type int, but topic 'out' is declared value=Other",
        lambda app, bids: app.stream(bids).map(to_int).to(out(app)),
    )
    refused(
        "has keys of type int, but topic 'out' is declared key=str",
        lambda app, bids: app.stream(bids).rekey(auction).to(out(app, value=Bid)),
    )
    refused(
        "aggregate n.* has values of type int, but topic 'out' is declared value=str",
        lambda app, bids: app.stream(bids).group_by_key().count(name="n").to(out(app, value=str)),
    )


class Scaled:
    def __init__(self, scale: int) -> None:
        self.scale = scale

    def encode(self, value: int) -> bytes:
        return b"%d" % (value * self.scale)

    def decode(self, data: bytes) -> int:
        return int(data) // self.scale


class Slotted(Scaled):
    __slots__ = ("unit",)

    def __init__(self, unit: str) -> None:
        super().__init__(1)
        self.unit = unit


def test_types_of_one_name_that_do_not_fit_are_told_apart() -> None:
    """ "of type Scaled, but declared value=Scaled" says nothing."""

    def passed_on(one: Any, other: Any) -> Any:
        return lambda app, _: app.stream(app.topic("in", key=str, value=one)).to(app.topic("out", key=str, value=other))

    def of_another_module(one: Any, name: str = "elsewhere") -> Any:
        return type(one.__name__, (one,), {"__module__": name, "__qualname__": one.__qualname__})

    refused(
        r"has values of type Scaled, but topic 'out' is declared value=another Scaled, whose scale differs: use",
        passed_on(Scaled(10), Scaled(100)),
    )
    refused(r"value=another Slotted, whose unit differs", passed_on(Slotted("m"), Slotted("km")))
    refused(
        r"of type elsewhere\.Other, but .* value=.*test_topology\.Other",
        passed_on(of_another_module(Other), of_another_module(Other, "test_topology")),
    )
    refused(
        r"of type .*test_topology\.Scaled, but .* value=elsewhere\.Scaled",
        passed_on(Scaled(1), of_another_module(Scaled)(1)),
    )
    with pytest.raises(TopologyError, match=r"value=another Scaled"):
        app = kstream.App("codecs")
        app.stream(app.topic("in", key=str, value=Scaled(10))).map(lambda n: n, value=Scaled(10)).to(
            app.topic("out", key=str, value=Scaled(11))
        )
        app.topology()


@pytest.mark.parametrize(
    "declare",
    [
        lambda one, other: one.merge(other),
        lambda one, other: one.join(other.to_table("rows"), lambda left, right: left),
        lambda one, other: one.to_table("a").join(other.to_table("b"), lambda left, right: left),
        lambda one, other: one.to_table("a").join(other.to_table("b"), lambda left, right: left, on=key_of),
        lambda one, other: other.process(Keyed, name="p"),
    ],
    ids=["merge", "join", "tables", "foreign key", "processor"],
)
def test_so_are_those_that_meet(declare: Any) -> None:
    app = kstream.App("codecs")
    first, second = (
        app.stream(app.topic(name, key=Scaled(by), value=int, partitions=1)) for name, by in (("one", 10), ("two", 100))
    )
    with pytest.raises(TopologyError, match="another Scaled, whose scale differs: use one object for both"):
        declare(first, second)


def key_of(n: int) -> Any: ...


key_of.__annotations__["return"] = Scaled(10)


class Keyed(kstream.Processor[Scaled(10), int, int]):  # type: ignore[misc]  # a codec object, as key= takes one
    def process(self, n: int, ctx: Any) -> None: ...


def test_outputs_of_agents_that_do_not_fit_are_named_both() -> None:
    async def yields(stream: kstream.AgentStream[str, Bid]) -> AsyncIterator[Other]:
        async for bid in stream:
            yield Other(bid.price)

    def generates(bid: Bid) -> Iterator[Other]:
        yield Other(1)

    def returns(bid: Bid) -> Other | None:
        return None

    def records(bid: Bid) -> kstream.Record[int, Bid]:
        return kstream.Record(1, bid)

    for function in (yields, generates, returns):
        refused(
            f"agent '{function.__name__}' puts out values of type Other, but topic 'out' is declared value=Bid",
            lambda app, bids, function=function: app.agent(bids, to=app.topic("out", key=str, value=Bid))(function),
        )
    refused(
        "agent 'records' puts out keys of type int, but topic 'out' is declared key=str",
        lambda app, bids: app.agent(bids, to=app.topic("out", key=str, value=Bid))(records),
    )
    refused(
        r"agent 'returns' keeps the keys of its input, of type str, but topic 'out' is declared key=int: "
        r"return kstream.Record\(key, value\)",
        lambda app, bids: app.agent(bids, to=app.topic("out", key=int, value=Other))(returns),
    )


def test_what_fits_or_is_not_known_passes() -> None:
    def maybe(bid: Bid) -> Bid | Other | None:
        return bid

    def anything(bid: Bid):  # type: ignore[no-untyped-def]
        return bid

    app, bids = app_with_bids()
    app.agent(bids, to=app.topic("union", key=str, value=Bid | Other))(maybe)
    app.agent(bids, to=app.topic("unknown", key=str, value=Other), name="b")(anything)
    app.stream(bids).map(lambda bid: bid.price).to(app.topic("lambda", key=str, value=int))
    app.stream(bids).to(app.topic("nullable", key=str, value=Bid | None))
    app.stream(bids).to(app.topic("any", key=str))
    app.topology()


def test_functions_of_the_wrong_form() -> None:
    refused(
        r"takes 0 arguments: it should take 1, or 2 with the context last", lambda app, b: app.stream(b).map(lambda: 1)
    )
    refused("takes 3 arguments", lambda app, b: app.stream(b).filter(lambda a, b, c: 1))
    refused(
        "takes 1 arguments: it should take 2, or 3", lambda app, b: app.stream(b).group_by_key().aggregate(int, same)
    )
    refused("is not a function", lambda app, b: app.stream(b).map(5))
    refused("an agent reads a topic, a stream or a group, not 5", lambda app, b: app.agent(5)(same))
    refused("emit='never'", lambda app, b: app.stream(b).group_by_key().count(emit="never"))
    refused("neither 'keyed' nor 'partition'", lambda app, b: app.table("t", key=str, value=int, scope="x"))


def test_two_lifespans() -> None:
    app, _ = app_with_bids()

    @app.lifespan
    async def one(worker: kstream.Worker) -> Any:
        yield

    with pytest.raises(TopologyError, match="two lifespans"):
        app.lifespan(one)


# ---- partitions


def prepare(topology: Topology, existing: dict[str, int], **settings: Any) -> dict[str, int]:
    from kstream.config import Settings

    cluster = MemoryCluster()
    for name, count in existing.items():
        cluster.create_topic(name, count)
    return prepare_topics(topology, MemoryClients(cluster).admin(), Settings(**settings))


def test_internal_topics_have_as_many_partitions_as_what_feeds_them() -> None:
    app, bids = app_with_bids()
    group = app.stream(bids).group_by(auction, name="one")
    group.count(name="a")
    group.stream().group_by(auction, name="two", parallelism=7).count(name="b")
    assert prepare(app.topology(), {"bids": 3}) == {
        "bids": 3, "shop-one-repartition": 3, "shop-a-changelog": 3, "shop-two-repartition": 7, "shop-b-changelog": 7,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["message.max.bytes", "producer.message.max.bytes"])
def test_internal_topics_take_what_the_producer_may_send(name: str) -> None:
    from kstream.config import Settings

    app, bids = app_with_bids()
    app.stream(bids).group_by(auction, name="one").count(name="a")
    for limit, expected in (("6000000", "6291528"), ("500000", "1048588")):
        cluster = MemoryCluster()
        prepare_topics(app.topology(), MemoryClients(cluster).admin(), Settings(kafka={name: limit}))
        sizes = {name: info.config["max.message.bytes"] for name, info in cluster.topics().items()}
        assert sizes == {"bids": "1048588", "shop-one-repartition": expected, "shop-a-changelog": expected}


def test_inputs_of_one_task_must_have_equal_partitions() -> None:
    app, bids = app_with_bids()
    more = app.topic("more", key=str, value=int)
    table = app.table("t", key=str, value=int)
    for topic in (bids, more):
        app.agent(topic, name=topic.name, tables=[table])(same)
    prepare(app.topology(), {"bids": 3, "more": 3})
    with pytest.raises(TopologyError, match="equal partition counts: bids has 3, more has 4; repartition one"):
        prepare(app.topology(), {"bids": 3, "more": 4})


def test_a_repartition_that_is_fed_by_the_part_that_reads_it_has_the_partitions_of_its_other_input() -> None:
    app, bids = app_with_bids()
    table = app.table("t", key=int, value=int)
    group = app.stream(bids).group_by(auction, name="by")
    app.agent(group, name="behind", tables=[table])(same)
    app.agent(bids, name="before", tables=[table])(same)
    assert prepare(app.topology(), {"bids": 3})["shop-by-repartition"] == 3


def test_of_two_parts_that_feed_each_other_what_else_they_read_says_how_many() -> None:
    app, bids = app_with_bids()
    more = app.topic("more", key=str, value=Bid)
    for name, before, behind in (("one", bids, more), ("two", more, bids)):
        table = app.table(name, key=int, value=int)
        group = app.stream(before).group_by(auction, name=name)
        app.agent(group, name=f"{name}-group", tables=[table])(same)
        app.agent(behind, name=f"{name}-agent", tables=[table])(same)
    made = prepare(app.topology(), {"bids": 3, "more": 4})
    assert (made["shop-one-repartition"], made["shop-two-repartition"]) == (4, 3)


def test_the_test_driver_runs_what_was_declared() -> None:
    app, bids = app_with_bids()
    out = app.topic("out", key=int, value=int)
    app.stream(bids).group_by(auction, name="by").sum(to_int, name="sum").to(out)
    with TestDriver(app) as driver:
        for n in range(6):
            driver.send(bids, Bid(n % 2, n), key=f"k{n}")
        found = {record.key: record.value for record in driver.records(out)}
    assert found == {0: 0 + 2 + 4, 1: 1 + 3 + 5}


# ---- isolation groups


def groups(app: kstream.App) -> dict[str, str]:
    return {part.name: part.group for part in app.topology().parts}


def test_isolation_groups_are_parts_of_their_own_over_one_topic() -> None:
    app, bids = app_with_bids()
    app.agent(bids)(same)
    app.agent(bids, name="heavy", group="cpu-intensive")(same)
    app.agent(app.stream(bids), name="heavier", group="cpu-intensive")(same)
    app.stream(bids, group="default").peek(same)
    assert parts(app) == {
        "bids": ["source bids", "agent same (function)", "peek bids-peek"],
        "bids@cpu-intensive": ["source bids", "agent heavy (function)", "agent heavier (function)"],
    }
    assert groups(app) == {"bids": "default", "bids@cpu-intensive": "cpu-intensive"}
    topology = app.topology()
    assert topology.groups == ["default", "cpu-intensive"]
    assert [part.name for part in topology.of_group("cpu-intensive").parts] == ["bids@cpu-intensive"]
    assert "isolation group cpu-intensive" in topology.describe()


def test_what_is_behind_a_repartition_inherits_the_group_or_has_its_own() -> None:
    app, bids = app_with_bids()
    first = app.stream(bids, group="io").group_by(auction, name="a")
    first.count(name="n")
    first.stream().group_by(same, name="b", group="cpu").count(name="m")
    app.stream(bids).group_by(auction, name="c").count(name="o")
    app.agent(app.stream(bids).group_by(auction, name="d"), group="cpu")(same)
    app.agent(app.stream(bids).group_by_key(name="e", group="last"), name="again")(same)
    assert groups(app) == {
        "bids": "default", "bids@io": "io", "shop-a-repartition@io": "io", "shop-b-repartition@cpu": "cpu",
        "shop-c-repartition": "default", "shop-d-repartition@cpu": "cpu", "shop-e-repartition@last": "last",
    }  # fmt: skip


def test_a_sub_topology_is_in_one_group() -> None:
    app, bids = app_with_bids()
    app.agent(app.stream(bids).peek(same), group="cpu")(same)
    with pytest.raises(
        TopologyError, match=r"two isolation groups \(source bids .* in 'default' and agent same .*'cpu'"
    ):
        app.topology()


def test_a_table_is_in_one_group() -> None:
    app, bids = app_with_bids()
    table = app.table("t", key=str, value=int, default=int)
    app.agent(bids, tables=[table])(same)
    app.agent(bids, tables=[table], name="other", group="cpu")(same)
    with pytest.raises(TopologyError, match="they share a stream or a table"):
        app.topology()


@pytest.mark.parametrize("name", ["CPU", "", "a b", "-a", "a/b", "a@b", 5])
def test_a_group_that_cannot_be_named_so(name: Any) -> None:
    app, bids = app_with_bids()
    with pytest.raises(TopologyError, match="cannot be an isolation group's name"):
        app.stream(bids, group=name)


@pytest.mark.parametrize("what", ["instances", "control", "store-types", "dead-letters-handled"])
def test_a_topic_in_which_the_app_keeps_its_own_data_is_refused(what: str) -> None:
    app, bids = app_with_bids()
    app.stream(bids, on_error=[kstream.DeadLetter(f"shop-{what}")]).map(auction)
    with pytest.raises(TopologyError, match=f"'?shop-{what}'?.*: the app keeps its own data there: take another name"):
        app.topology()
    app, bids = app_with_bids()
    app.stream(bids).to(app.topic(f"shop-{what}", key=str, value=Bid))
    with pytest.raises(TopologyError, match=f"topic 'shop-{what}': the app keeps its own data there"):
        app.topology()


def counted(app: kstream.App, bids: Any) -> None:
    app.stream(bids).group_by(auction, name="by").count(name="n")


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("how", ["read", "written", "sent", "table"])
@pytest.mark.parametrize(("name", "said"), [
    ("shop-n-changelog", "topic 'shop-n-changelog' is the changelog of the app's own 'n': nothing else may write it"),
    ("shop-by-repartition", "topic 'shop-by-repartition': a group of the app keeps its records there"),
])  # fmt: skip
def test_a_topic_that_is_the_apps_own_is_refused(name: str, said: str, how: str, first: bool) -> None:
    """What an agent wrote there was taken for state by the next restore."""
    app, bids = app_with_bids()
    with pytest.raises(TopologyError, match=said):
        if not first:
            counted(app, bids)
        topic = app.topic(name, key=str, value=Bid)
        if how == "read":
            app.stream(topic).map(auction)
        elif how == "written":
            app.stream(bids).to(topic)
        elif how == "table":
            app.global_table(topic, name="all")
        if first:
            counted(app, bids)
        app.topology()
