"""Users' metrics: naming, misuse, bounds on label sets, gauges of several tasks, threads; and through an app."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import kstream
from kstream.errors import KStreamError, MetricsError
from kstream.observe.catalogue import Series
from kstream.observe.metrics import MAX_LABEL_SETS, Metrics
from kstream.testing import TestDriver
from unit.runtime.harness import Fleet


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Series by name and label values."""
    return {(one.name, *one.labels): one.value for one in metrics.collect()[1]}


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What kstream said: what the garbage collector ends of other tests may be logged at any time."""
    return [one.getMessage() for one in caplog.records if one.name.startswith("kstream")]


# ---- counting


def test_a_counter_counts_by_its_labels_and_is_exposed_with_total() -> None:
    metrics = Metrics()
    orders = metrics.counter("orders", "Orders taken.", labels=("country", "kind"))
    orders.labels("de", "new").inc()
    orders.labels(kind="new", country="de").inc(2)
    orders.labels("fr", 3).inc(0.5)
    metrics.counter("plain_total").inc()
    definitions, _ = metrics.collect()
    assert [(one.name, one.kind, one.doc, one.labels) for one in definitions] == [
        ("orders_total", "counter", "Orders taken.", ("country", "kind")),
        ("plain_total", "counter", "", ()),
    ]
    assert values(metrics) == {
        ("orders_total", "de", "new"): 3.0,
        ("orders_total", "fr", "3"): 0.5,
        ("plain_total",): 1.0,
    }


def test_a_metric_without_labels_is_reported_before_it_counts() -> None:
    metrics = Metrics()
    metrics.counter("orders")
    metrics.histogram("sizes", buckets=(1, 2))
    metrics.gauge("depth")  # a level that nobody knows is not zero
    assert metrics.collect()[1] == [Series("orders_total", (), 0.0), Series("sizes", (), 0.0, (0, 0, 0))]


def test_the_same_call_gives_the_same_metric_from_every_task_and_with_or_without_its_ending() -> None:
    metrics = Metrics()
    one, other = metrics.of_task("part/0"), metrics.of_task("part/1")
    assert one.counter("orders") is other.counter("orders") is metrics.meter("orders_total")
    assert one.histogram("sizes", buckets=[1, 2]) is other.histogram("sizes") is metrics.histogram("sizes")
    assert one.counter("a", labels=["b"]) is one.counter("a", labels=("b",))


def test_a_histogram_has_its_bounds_and_counts_what_lies_on_one_below_it() -> None:
    metrics = Metrics()
    sizes = metrics.histogram("sizes", "Sizes.", labels=("kind",), buckets=(1, 10))
    for size in (0.5, 1, 1.5, 11):
        sizes.labels("a").observe(size)
    assert metrics.collect()[1] == [Series("sizes", ("a",), 14.0, (2, 1, 1))]
    assert metrics.collect()[0][0].bounds == (1.0, 10.0)


def test_groups_are_prefixes() -> None:
    metrics = Metrics()
    business = metrics.group("business")
    business.counter("orders").inc()
    business.group("europe").gauge("open").set(3)
    assert metrics.group("business") is business
    assert values(metrics) == {("business_orders_total",): 1.0, ("business_europe_open",): 3.0}


def test_counting_from_many_threads_loses_nothing() -> None:
    metrics = Metrics()
    go = threading.Barrier(8)

    def count() -> None:
        go.wait()
        for number in range(5_000):
            metrics.counter("orders", labels=("n",)).labels(number % 10).inc()
            metrics.histogram("sizes", buckets=(1,)).observe(number % 2)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(metrics) == {**{("orders_total", str(n)): 4000.0 for n in range(10)}, ("sizes",): 20_000.0}
    assert metrics.collect()[1][-1].buckets == (40_000, 0)


# ---- gauges


def test_gauges_of_several_tasks_are_added_or_what_merge_says() -> None:
    metrics = Metrics()
    for task, depth in (("part/0", 3), ("part/1", 5)):
        mine = metrics.of_task(task)
        mine.gauge("depth").set(depth)
        mine.gauge("oldest", lambda depth=depth: depth * 10.0, merge="max")  # type: ignore[misc]
        mine.gauge("free", merge="min", labels=("disk",)).labels("a").set(depth)
    metrics.gauge("depth").inc(100)
    metrics.gauge("depth").dec(0.5)
    assert values(metrics) == {("depth",): 107.5, ("oldest",): 50.0, ("free", "a"): 3.0}


def test_a_gauge_is_gone_with_its_task_and_a_count_is_not() -> None:
    metrics = Metrics()
    for task in ("part/0", "part/1"):
        metrics.of_task(task).gauge("depth", lambda: 1.0)
        metrics.of_task(task).counter("orders").inc()
    metrics.forget("part/0")
    assert values(metrics) == {("depth",): 1.0, ("orders_total",): 2.0}
    metrics.of_task("part/0").gauge("depth", lambda: 7.0)
    assert values(metrics)["depth",] == 8.0


def test_a_function_is_asked_when_a_report_is_due_and_the_latest_one_counts() -> None:
    metrics = Metrics()
    asked = []
    for number in (1, 2, 3):  # as a function called for every record does
        metrics.gauge("depth", lambda number=number: asked.append(number) or number)  # type: ignore[misc]
    assert asked == []
    assert values(metrics) == {("depth",): 3.0}
    assert asked == [3]


@pytest.mark.parametrize("function", [lambda: 1 / 0, lambda: None, lambda: "much"])
def test_a_gauge_whose_function_fails_is_left_out_and_complained_about_once(
    function: Callable[[], float], caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    metrics.gauge("bad", function)
    metrics.gauge("good", lambda: 1.0)
    for _ in range(3):
        assert values(metrics) == {("good",): 1.0}
    (line,) = ours(caplog)
    assert line.startswith("metric bad: its function failed, it is left out: ")


@pytest.mark.parametrize("level", [math.nan, math.inf, -math.inf])
def test_a_level_that_is_no_number_is_left_out(level: float, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.gauge("asked", lambda: level)
    metrics.gauge("told").set(level)
    assert values(metrics) == {}
    assert not ours(caplog)  # it may be meant: nothing is known yet


# ---- label sets


def test_after_a_hundred_label_sets_the_rest_is_other(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    for number in range(MAX_LABEL_SETS + 50):
        metrics.counter("orders", labels=("customer", "kind")).labels(number, "new").inc()
    metrics.counter("orders", labels=("customer", "kind")).labels(0, "new").inc()
    found = values(metrics)
    assert len(found) == MAX_LABEL_SETS + 1
    assert found["orders_total", "other", "other"] == 50.0
    assert found["orders_total", "0", "new"] == 2.0
    (line,) = ours(caplog)
    assert line == "metric orders_total: has 100 label sets, all further ones are counted under 'other'"


def test_the_bound_holds_over_the_gauges_of_all_tasks() -> None:
    metrics = Metrics()
    for number in range(150):
        metrics.of_task(f"part/{number % 3}").gauge("depth", labels=("queue",)).labels(number).set(1)
    found = values(metrics)
    assert len(found) == MAX_LABEL_SETS + 1
    assert sum(found.values()) == MAX_LABEL_SETS + 3  # of each task, what it last set under "other"


def test_text_that_is_not_utf_8_does_no_harm() -> None:
    metrics = Metrics()
    metrics.counter("orders", "\udcff", labels=("country",)).labels("\udc80").inc()
    definitions, (series,) = metrics.collect()
    assert (definitions[0].doc, series.labels) == ("?", ("?",))


# ---- misuse


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda m: m.counter("9lives"),
            "metric '9lives_total': a name has letters, digits and '_', and does not begin with a digit",
        ),
        (lambda m: m.counter("orders-de"), "letters, digits"),
        (lambda m: m.counter("orders:rate"), "letters, digits"),
        (lambda m: m.group("a b"), "metric group 'a b': a name has letters"),
        (lambda m: m.counter("kstream_orders"), "names with kstream_ are kstream's own, choose another"),
        (lambda m: m.group("kstream").counter("orders"), "names with kstream_ are kstream's own"),
        (lambda m: m.gauge("tasks"), "kstream itself has a metric of this name, choose another or put it in a group"),
        (lambda m: m.gauge("depth_total"), "a gauge does not end in _total, choose another name"),
        (lambda m: m.histogram("size_bucket"), "a histogram does not end in _bucket"),
        (lambda m: m.counter("a", labels=("app",)), "'app' cannot be a label, choose another name"),
        (lambda m: m.counter("a", labels=("le",)), "'le' cannot be a label"),
        (lambda m: m.counter("a", labels=("__a",)), "'__a' cannot be a label"),
        (lambda m: m.counter("a", labels=("a", "a")), "a label is given twice"),
        (lambda m: m.counter("a", labels="country"), "labels are a tuple of names, ('country',) for a single one"),
        (lambda m: m.histogram("a", buckets=(2, 1)), "buckets are finite upper bounds, ascending"),
        (lambda m: m.histogram("a", buckets=(1, math.inf)), "buckets are finite upper bounds, ascending"),
        (lambda m: m.histogram("a", buckets=range(51)), "51 buckets, at most 50 are allowed"),
        (lambda m: m.gauge("a", "what it is"), "the second argument of gauge is a function, or doc="),
        (lambda m: m.gauge("a", merge="mean"), "merge is one of sum, max, min"),
        (lambda m: m.gauge("orders"), "metric orders: orders_total exists, choose another name"),
        (lambda m: m.histogram("orders"), "metric orders: orders_total exists"),
        (lambda m: m.counter("orders"), "it has labels ('country',) elsewhere, and () here"),
        (lambda m: m.gauge("size"), "metric size: it has kind 'histogram' elsewhere, and 'gauge' here"),
        (lambda m: m.histogram("size", buckets=(1, 3)), "it has bounds (1.0, 2.0) elsewhere, and (1.0, 3.0) here"),
        (lambda m: m.counter("orders", labels=("country",)).inc(), "say which series, with .labels(country=...)"),
        (lambda m: m.counter("orders", labels=("country",)).labels(), "give exactly its labels: country"),
        (lambda m: m.counter("orders", labels=("country",)).labels("de", "x"), "give exactly its labels: country"),
        (lambda m: m.counter("orders", labels=("country",)).labels(land="de"), "give exactly its labels: country"),
        (lambda m: m.counter("orders", labels=("country",)).labels(country="de", land=1), "give exactly its labels"),
        (lambda m: m.counter("plain").labels(country="de"), "was declared without labels, so none can be given"),
        (lambda m: m.counter("plain").inc(-1), "metric plain_total: -1 cannot be counted: a count grows by a finite"),
        (lambda m: m.counter("plain").inc(math.nan), "nan cannot be counted"),
        (lambda m: m.histogram("size").observe(math.inf), "inf cannot be counted"),
    ],
)
def test_misuse_is_one_line(call: Callable[[Metrics], object], text: str) -> None:
    metrics = Metrics()
    metrics.counter("orders", labels=("country",))
    metrics.histogram("size", buckets=(1, 2))
    with pytest.raises(MetricsError) as caught:
        call(metrics)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("value", ["much", None])
def test_what_is_no_number_fails_where_it_is_given(value: object) -> None:
    metrics = Metrics()
    for call in (metrics.counter("a").inc, metrics.gauge("b").set, metrics.histogram("c").observe):
        with pytest.raises((TypeError, ValueError)):
            call(value)  # type: ignore[operator]
    assert values(metrics) == {("a_total",): 0.0, ("c",): 0.0}


# ---- in an app


def make_app() -> tuple[kstream.App, kstream.Topic[str, int]]:
    app = kstream.App("shop")
    orders = app.topic("orders", key=str, value=int)

    @app.lifespan
    async def lifespan(worker: kstream.Worker) -> AsyncIterator[None]:
        worker.metrics.counter("starts", "Starts of the worker.").inc()
        yield

    def price(value: int, ctx: kstream.Context[str]) -> int:
        if value < 0:
            raise ValueError("a negative price")
        ctx.metrics.counter("orders", "Orders taken.", labels=("country",)).labels(country=ctx.key).inc()
        ctx.metrics.histogram("price_euros", "Prices.", buckets=(10, 100)).observe(value)
        ctx.metrics.group("last").gauge("price_euros").set(value)
        return value

    app.stream(orders).map(price).to(app.topic("priced", key=str, value=int))
    return app, orders


def test_a_function_counts_and_the_driver_reads() -> None:
    app, orders = make_app()
    with TestDriver(app, partitions=2) as d:
        for country, price in (("de", 5), ("fr", 50), ("de", 500)):
            d.send(orders, price, key=country)
        assert d.metric("orders_total", country="de") == 2.0
        assert d.metric("orders_total", country="fr") == 1.0
        assert d.metric("orders_total") == 3.0
        assert d.metric("orders_total", country="it") == 0.0
        assert d.metric("price_euros_count") == 3.0
        assert d.metric("price_euros_sum") == 555.0
        assert d.metric("starts_total") == 1.0


def test_counts_are_of_calls_and_survive_the_worker() -> None:
    app, orders = make_app()
    with TestDriver(app) as d:
        d.send(orders, 5, key="de")
        d.crash()  # nothing was committed: the record is processed, and counted, again
        assert d.metric("orders_total", country="de") == 2.0
        assert d.metric("starts_total") == 2.0
        assert d.metric("last_price_euros") == 5.0  # of the tasks that live


@pytest.mark.parametrize(("name", "labels"), [("order_total", {}), ("orders_total", {"land": "de"}), ("orders", {})])
def test_a_metric_that_does_not_exist_is_said_to_be_missing(name: str, labels: dict[str, str]) -> None:
    app, orders = make_app()
    with TestDriver(app) as d:
        d.send(orders, 5, key="de")
        with pytest.raises(KStreamError, match=r"no metric .*orders_total\(country\)"):
            d.metric(name, **labels)


def test_an_agent_has_them_too_and_its_gauge_is_its_tasks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    app = kstream.App("agents")
    topic = app.topic("orders", key=str, value=int)

    @app.agent(topic)
    async def count(stream: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> None:
        open_orders: list[int] = []
        ctx.metrics.gauge("open_orders", lambda: len(open_orders), "Orders not yet paid.")
        async for value in stream:
            open_orders.append(value)
            ctx.metrics.meter("seen").inc()

    with TestDriver(app, partitions=3) as d:
        for partition in (0, 1, 1):
            d.send(topic, 1, key="a", partition=partition)
        assert d.metric("open_orders") == 3.0
        assert d.metric("seen_total") == 3.0
    assert not ours(caplog)


def test_a_gauge_moves_with_its_task_and_a_count_stays_with_the_worker(tmp_path: Path) -> None:
    """Four tasks on one worker, then on two: over both, each task's gauge counts once."""
    app = kstream.App("moving")
    topic = app.topic("orders", key=str, value=int)

    def seen(value: int, ctx: kstream.Context[str]) -> int:
        ctx.metrics.gauge("tasks_at_work").set(1)
        ctx.metrics.counter("orders").inc()
        return value

    app.stream(topic).map(seen).to(app.topic("out", key=str, value=int))
    fleet = Fleet(app, tmp_path)
    keys = [str(number) for number in range(40)]
    try:
        fleet.start("a")
        fleet.send(topic, keys)
        fleet.settle()
        assert values(fleet.workers["a"].worker.metrics) == {("tasks_at_work",): 4.0, ("orders_total",): 40.0}
        fleet.start("b")
        fleet.settle()
        assert values(fleet.workers["a"].worker.metrics) == {("tasks_at_work",): 2.0, ("orders_total",): 40.0}
        fleet.send(topic, keys)
        fleet.settle()
        both = [values(worker.worker.metrics) for worker in fleet.workers.values()]
        assert [one["tasks_at_work",] for one in both] == [2.0, 2.0]
        assert sum(one["orders_total",] for one in both) == 80.0
    finally:
        fleet.close()
