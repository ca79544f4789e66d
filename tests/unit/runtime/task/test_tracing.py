"""Spans of traced records: exact trees, over topics, agents, aborts and replays; and nothing at all when it is off."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import kstream
from kstream.errors import AbortRequired, ProcessingError, ProducerLost
from kstream.runtime.task.task import Task
from kstream.runtime.task.tracing import MAX_HELD, TracedTask, Tracing
from kstream.testing import TestDriver
from kstream.types import Fetch, TopicPartition

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-01".encode())
UNSAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-00".encode())

Tree = tuple[str, list[Any]]


class Spans:
    """A tracer provider and what it exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def trees(self) -> list[Tree]:
        """By name, each with its children, in the order of their starts."""
        spans = sorted(self.all, key=lambda span: span.start_time or 0)
        ids = {span.context.span_id for span in spans if span.context}

        def tree(span: ReadableSpan) -> Tree:
            assert span.context is not None
            own = span.context.span_id
            return span.name, [tree(child) for child in spans if child.parent and child.parent.span_id == own]

        return [tree(span) for span in spans if span.parent is None or span.parent.span_id not in ids]

    def clear(self) -> None:
        self._exporter.clear()


@pytest.fixture
def spans() -> Spans:
    return Spans()


def driver(app: kstream.App, spans: Spans, **more: Any) -> TestDriver:
    return TestDriver(app, partitions=1, **{"tracer_provider": spans.provider, "trace_sample": 1.0, **more})


def send(d: TestDriver, topic: kstream.Topic[Any, Any], *values: Any, headers: Any = None) -> None:
    """All of them in one fetch."""
    for value in values:
        d.cluster.append(topic.name, b"k", topic.value.codec.encode(value), headers=headers)
    d.process()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def plus_one(value: int) -> int:
    return value + 1


# ---- trees


def test_records_of_two_inputs_are_traced(spans: Spans) -> None:
    """In a part that takes them by input, too (runtime/task/together.py)."""
    app = kstream.App("a")
    left, right = (app.topic(name, key=str, value=int) for name in ("left", "right"))
    out = app.topic("out", key=str, value=int)
    app.stream(left).merge(app.stream(right)).to(out)
    with driver(app, spans) as d:
        for number in range(4):
            d.cluster.append((left, right)[number % 2].name, b"k", b"1", timestamp=1_000 + number)
        d.process()
        d.commit()
        assert [record.headers[0][0] for record in d.records(out) if record.headers] == ["traceparent"] * 4
    assert [name for name, _ in spans.trees()] == ["process left", "process right"] * 2


def test_a_record_through_two_sub_topologies_is_one_trace(spans: Spans) -> None:
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    counts = (
        app.stream(source).map(plus_one).group_by(lambda value: str(value % 2), key=str, name="parity").count(name="n")
    )
    counts.to(out)
    with driver(app, spans) as d:
        send(d, source, 4)
        assert spans.named("process in") == []  # not committed yet: nobody knows what becomes of it
        d.commit()
        assert [record.headers[0][0] for record in d.records(out) if record.headers] == ["traceparent"]
    repartition = "a-parity-repartition"
    assert spans.trees() == [
        (
            "process in",
            [
                (
                    "map in-map",
                    [
                        (
                            "rekey in-map-rekey",
                            [
                                (
                                    f"send {repartition}",
                                    [(f"process {repartition}", [("aggregate n", [("send out", [])])])],
                                )
                            ],
                        )
                    ],
                )
            ],
        )
    ]
    assert len({span.context.trace_id for span in spans.all if span.context}) == 1
    (record,) = spans.named("process in")
    assert record.kind is SpanKind.CONSUMER
    assert attributes(record) == {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "in",
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
        "messaging.consumer.group.name": "a",
        "messaging.client.id": d.app.name + "-default-test-0",
        "kstream.task": "in/0",
    }
    (sent,) = spans.named("send out")
    assert (sent.kind, attributes(sent)["messaging.destination.name"]) == (SpanKind.PRODUCER, "out")
    assert all(span.status.status_code is StatusCode.UNSET for span in spans.all)
    assert all((span.end_time or 0) >= (span.start_time or 0) for span in spans.all)


def test_a_trace_that_came_with_the_record_goes_on_and_its_headers_too(spans: Spans) -> None:
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    @app.agent(source, to=out)
    def passes_on(value: int, ctx: kstream.Context[str]) -> kstream.Record[str, int]:
        return kstream.Record(ctx.key, value, headers=ctx.headers)

    with driver(app, spans, trace_sample=0.0) as d:
        send(d, source, 1, headers=[("user", b"x"), SAMPLED, ("tracestate", b"vendor=1")])
        (record,) = d.records(out)
    (processed,) = spans.named("process in")
    assert processed.context is not None and processed.parent is not None
    assert (f"{processed.context.trace_id:032x}", f"{processed.parent.span_id:016x}") == (TRACE, PARENT)
    (sent,) = spans.named("send out")
    assert sent.context is not None
    assert record.headers == [
        ("user", b"x"),
        ("traceparent", f"00-{TRACE}-{sent.context.span_id:016x}-01".encode()),
        ("tracestate", b"vendor=1"),
    ]


def test_records_that_are_not_sampled_have_no_spans_and_no_headers(spans: Spans) -> None:
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(source).map(plus_one).to(out)
    with driver(app, spans) as d:  # a trace that somebody decided not to sample is not sampled here either
        send(d, source, 1, headers=[UNSAMPLED])
        assert [record.headers for record in d.records(out)] == [None]
    with driver(app, spans, trace_sample=0.0) as d:
        send(d, source, 1)
        send(d, source, 1, headers=[("traceparent", b"rubbish \xff"), ("other", None)])
        assert [record.headers for record in d.records(out)] == [None, None]
    assert spans.all == []


def test_of_a_batch_only_the_traced_ones_go_alone_and_the_order_stays(spans: Spans) -> None:
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    sizes: list[int] = []
    app.stream(source).map(plus_one).to(out)
    with driver(app, spans, trace_sample=0.0) as d:
        d.process()
        (task,) = d.worker.tasks.values()
        push = task._push

        def counted(fetch: Fetch) -> None:
            sizes.append(len(fetch))
            push(fetch)

        task._push = counted  # type: ignore[method-assign]
        for value in range(10):
            headers = [SAMPLED] if value in (0, 4, 5) else None
            d.cluster.append("in", b"k", b"%d" % value, headers=headers)
        assert d.values(out) == list(range(1, 11))
    assert sizes == [1, 3, 1, 1, 4]
    assert [attributes(span)["messaging.kafka.offset"] for span in spans.named("process in")] == [0, 4, 5]


def test_offsets_with_gaps(spans: Spans) -> None:
    """Transaction markers lie between the records of a topic that an app wrote."""
    app = kstream.App("a")
    source, middle = app.topic("in", key=str, value=int), app.topic("middle", key=str, value=int)
    out = app.topic("out", key=str, value=int)
    app.stream(source).map(plus_one).to(middle)
    app.stream(middle).map(plus_one).to(out)
    with driver(app, spans, trace_sample=0.0) as d:
        for value in range(6):
            send(d, source, value, headers=[SAMPLED] if value % 3 == 2 else None)
            d.worker.commit_now()
        assert sorted(d.values(out)) == list(range(2, 8))
    assert len(spans.named("process in")) == len(spans.named("process middle")) == 2


# ---- agents


def test_an_async_agent_nests_what_it_calls_and_other_tasks_stay_out(spans: Spans) -> None:
    app = kstream.App("a")
    one, other = app.topic("in", key=str, value=int), app.topic("other", key=str, value=int)
    out, others = app.topic("out", key=str, value=int), app.topic("others", key=str, value=int)
    tracer = spans.provider.get_tracer("client")
    gates: list[asyncio.Future[None]] = []

    @app.agent(one, to=out)
    async def asks(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for value in stream:
            with tracer.start_as_current_span("GET /price"):
                gates.append(asyncio.get_running_loop().create_future())
                await gates[-1]
            yield value

    @app.agent(other, to=others)
    def opens(value: int) -> int:
        assert not trace.get_current_span().get_span_context().is_valid
        gates[-1].set_result(None)
        return value

    with driver(app, spans, trace_sample=0.0) as d:

        def waiting(headers: Any) -> None:
            wanted = len(gates) + 1
            d.cluster.append("in", b"k", b"5", headers=headers)
            while len(gates) < wanted:
                d.worker.step()

        def opened() -> None:
            d.cluster.append("other", b"k", b"1")
            d.process()

        waiting([SAMPLED])
        opened()  # another task's record, while the traced one waits
        waiting(None)
        opened()  # and one that is not traced, behind one that was
        assert d.values(out) == [5, 5]
        assert [record.headers for record in d.records(others)] == [None, None]
        assert [bool(record.headers) for record in d.records(out)] == [True, False]
    assert spans.trees() == [
        ("process in", [("agent asks", [("GET /price", [])]), ("send out", [])]),
        ("GET /price", []),
    ]


def test_outputs_that_are_put_in_order_belong_to_their_record(spans: Spans) -> None:
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(source).map(plus_one).to(out)

    @app.agent(source, to=out)
    async def also(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for value in stream:
            await asyncio.sleep(0)
            yield -value

    with driver(app, spans) as d:
        send(d, source, 1, 2)
        assert d.values(out) == [2, -1, 3, -2]
        assert all(record.headers for record in d.records(out))
    one: Tree = ("process in", [("map in-map", []), ("agent also", []), ("send out", []), ("send out", [])])
    assert spans.trees() == [one, one]


def test_each_output_of_a_record_has_a_span(spans: Spans) -> None:
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    extra = app.topic("extra", key=str, value=int)

    @app.agent(source, to=out)
    def twice(value: int, ctx: kstream.Context[str]) -> Iterator[int]:
        ctx.send(extra, value)
        yield value
        yield value

    with driver(app, spans) as d:
        send(d, source, 7)
        assert (d.values(out), d.values(extra)) == ([7, 7], [7])
    assert spans.trees() == [
        ("process in", [("agent twice", []), ("send extra", []), ("send out", []), ("send out", [])])
    ]


def test_what_is_emitted_at_commit_has_no_trace(spans: Spans) -> None:
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(source).group_by_key().count(name="n", emit="commit").to(out)
    with driver(app, spans) as d:
        send(d, source, 1, 2)
        assert [record.headers for record in d.records(out)] == [None]
    assert spans.trees() == [("process in", [("aggregate n", [])])] * 2


# ---- aborts


@pytest.mark.parametrize("error", [AbortRequired("planned"), ProducerLost("planned")], ids=repr)
def test_an_abort_and_its_replay(spans: Spans, error: Exception) -> None:
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(source).map(plus_one).to(out)
    with driver(app, spans, trace_sample=0.5) as d:
        send(d, source, *range(20))
        d.cluster.faults.plan("producer.commit", error)
        d.worker.commit_now()
        first = spans.trees()
        offsets = {attributes(span)["messaging.kafka.offset"] for span in spans.named("process in")}
        assert first == [("process in", [("map in-map", [("send out", [])])])] * len(offsets)
        assert 5 <= len(offsets) <= 15
        for span in spans.named("process in"):
            assert attributes(span)["kstream.aborted"] is True
            assert span.status.status_code is StatusCode.ERROR
        spans.clear()
        assert d.values(out) == list(range(1, 21))
        assert [bool(record.headers) for record in d.records(out)] == [offset in offsets for offset in range(20)]
    assert spans.trees() == first
    assert {attributes(span)["messaging.kafka.offset"] for span in spans.named("process in")} == offsets
    assert not any("kstream.aborted" in attributes(span) for span in spans.all)


def test_a_crash_and_its_replay(spans: Spans) -> None:
    """What the process could still say: the same records, aborted, then committed."""
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(source).map(plus_one).to(out)
    with driver(app, spans) as d:
        send(d, source, 1, 2)
        d.crash()
        d.commit()
    found = [
        (attributes(span)["messaging.kafka.offset"], "kstream.aborted" in attributes(span))
        for span in spans.named("process in")
    ]
    assert found == [(0, True), (1, True), (0, False), (1, False)]


def test_a_failing_record_says_so(spans: Spans) -> None:
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    def fails(value: int) -> int:
        if value == 13:
            raise ValueError("thirteen")
        return value

    app.stream(source).map(fails).to(out)
    with pytest.raises(ProcessingError), driver(app, spans) as d:
        send(d, source, 12, 13)
    failed = [span for span in spans.named("process in") if attributes(span)["messaging.kafka.offset"] == 1]
    assert failed  # more than once: it is tried alone
    for span in failed:
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "ValueError: thirteen"
        assert attributes(span)["kstream.aborted"] is True
        (event,) = span.events
        assert event.name == "exception"
    operators = [span for span in spans.named("map in-map") if span.status.status_code is StatusCode.ERROR]
    assert len(operators) == len(failed)
    committed = [span for span in spans.named("process in") if "kstream.aborted" not in attributes(span)]
    assert [attributes(span)["messaging.kafka.offset"] for span in committed] == [0]


@pytest.mark.parametrize("way", ["map", "agent", "async agent"])
def test_once_care_is_taken_a_failing_record_that_is_traced_costs_no_abort(spans: Spans, way: str) -> None:
    """And its span says what became of it, each time it was tried; those of the others are committed."""
    app = kstream.App("a", on_error=[kstream.Retry(1, base=0.0, jitter=0.0), kstream.Skip()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    def fails(value: int) -> int:
        if value == 13:
            raise ValueError("thirteen")
        return value

    if way == "map":
        app.stream(source).map(fails).to(out)
    elif way == "agent":
        app.agent(source, to=out)(fails)
    else:

        @app.agent(source, to=out)
        async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
            async for value in stream:
                yield fails(value)

    with driver(app, spans) as d:
        send(d, source, 13)
        d.commit()
        before = d.worker.aborts
        spans.clear()
        send(d, source, 1, 13, 2, 13, 3)
        d.advance(1.0)
        assert d.values(out) == [1, 2, 3]
        assert d.worker.aborts == before
    found: dict[int, list[bool]] = {}
    for span in spans.named("process in"):
        failed = span.status.status_code is StatusCode.ERROR
        if attributes(span).get("kstream.aborted"):  # it was taken back
            assert span.status.description == "ValueError: thirteen"
            assert [event.name for event in span.events] == ["exception"]
        elif failed:  # the loop goes on without it
            assert way != "async agent" and span.status.description == "ValueError: the record is left out"
        found.setdefault(attributes(span)["messaging.kafka.offset"], []).append(failed)
    assert found == {1: [False], 2: [True, True], 3: [False], 4: [True, True], 5: [False]}
    assert all(span.end_time is not None for span in spans.all)
    steps = spans.named({"map": "map in-map"}.get(way, "agent fails" if way == "agent" else "agent agent"))
    assert len(steps) == 7


def test_an_agent_that_is_cut_off_ends_its_span(spans: Spans) -> None:
    app = kstream.App("a")
    source = app.topic("in", key=str, value=int)
    at_it = False

    @app.agent(source)
    async def hangs(stream: kstream.AgentStream[str, int]) -> None:
        nonlocal at_it
        async for _ in stream:
            at_it = True
            await asyncio.Event().wait()

    d = driver(app, spans)
    d.cluster.append("in", b"k", b"1")
    while not at_it:
        d.worker.step()
    assert spans.all == []
    d.close(commit=False)
    assert spans.trees() == [("process in", [("agent hangs", [])])]
    assert all(attributes(span)["kstream.aborted"] is True for span in spans.all)


# ---- which, how many, at what cost


def test_the_share_is_kept_evenly_and_always_the_same() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    at = TopicPartition("in", 3)
    for share in (0.0, 0.001, 0.1, 0.5, 1.0):
        tracing = Tracing(provider, share, "g", "c")
        chosen = tracing.beginning(at, range(20_000))
        assert abs(len(chosen) - share * 20_000) <= 2, share
        again = Tracing(provider, share, "x", "y")
        assert [offset for offset in range(20_000) if again.beginning(at, [offset])] == chosen
    tenth = Tracing(provider, 0.1, "g", "c")
    assert tenth.beginning(at, range(1000)) != tenth.beginning(TopicPartition("in", 4), range(1000))


def test_a_full_queue_makes_no_second_span(spans: Spans) -> None:
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(source).flat_map(lambda value: [value] * 5, value=int).to(out)
    with driver(app, spans) as d:
        d.cluster.produce_buffer_limit = 2
        send(d, source, 1)
        d.cluster.produce_buffer_limit = None
        assert d.values(out) == [1] * 5
    assert len(spans.named("send out")) == 5


def test_no_more_spans_are_held_than_memory_allows(spans: Spans) -> None:
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(source).to(out)
    with driver(app, spans) as d:
        send(d, source, *range(MAX_HELD + 10))
        assert d.values(out) == list(range(MAX_HELD + 10))
        assert len(spans.named("process in")) == MAX_HELD
        send(d, source, 5)
        d.commit()
    assert len(spans.named("process in")) == MAX_HELD + 1


def test_without_traces_there_is_nothing_on_the_path() -> None:
    """The very same classes, functions and calls as without tracing in the code; not even the import."""
    app = kstream.App("a")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(source).map(plus_one).to(out)
    with TestDriver(app, partitions=1) as d:
        d.process()
        (task,) = d.worker.tasks.values()
        assert type(task) is Task
        start, step, sink = task.plan.operators
        assert start.children == [step.push]
        assert step.children == [sink.push]
        assert task.plan.writer._outlet is d.worker.transaction  # type: ignore[attr-defined]
    with TestDriver(app, partitions=1, tracer_provider=TracerProvider(shutdown_on_exit=False)) as d:
        d.process()
        (task,) = d.worker.tasks.values()
        assert type(task) is TracedTask
    code = (
        "import sys, kstream\nfrom kstream.testing import TestDriver\napp = kstream.App('a')\n"
        "t = app.topic('in', key=str, value=int)\napp.stream(t).to(app.topic('out', key=str, value=int))\n"
        "with TestDriver(app) as d:\n    d.send(t, 1, key='k')\n"
        "from kstream.observe.traces import provider_for\nassert provider_for('a', 'i', '0', 0.0) is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "[]"
