"""Traces: a span for each sampled record, through the operators of its task and over topics to the tasks behind them.

A traced record is a batch of its own (how the input is cut must not show anyway), so all that its task does until it
is through with it, and all that it produces, is caused by it. Its span is held until the transaction ends, because only
then it is known what became of it. Without a tracer provider none of this is imported, and no call goes through it.
"""

from __future__ import annotations

import time
import zlib
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import SpanKind, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kstream.operators.async_agent import AsyncAgent
from kstream.operators.base import Operator, Outlet, Push
from kstream.operators.batch import Batch
from kstream.operators.sink import Sink
from kstream.runtime.task.task import Task
from kstream.topology import Node, SubTopology
from kstream.types import Fetch, Headers, Produce, TopicPartition

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer, TracerProvider

MAX_HELD: Final = 1000
"""Traced records of a task in one transaction; those after them are not traced. Their spans are in memory."""

_W3C: Final = TraceContextTextMapPropagator()
_NOTHING: Final = Context()
_MASK: Final = (1 << 64) - 1
_SPREAD: Final = 0x9E3779B97F4A7C15  # 2**64 by the golden ratio: its multiples spread offsets evenly


class Tracing:
    """What the tasks of a worker share.

    Args:
        share: of the records without a trace of their own that begin one, 0 to 1. Which ones follows from topic,
            partition and offset, so a replay traces the same.
        client: the worker's name in Kafka.
    """

    def __init__(self, provider: TracerProvider, share: float, group: str, client: str) -> None:
        self.tracer: Tracer = provider.get_tracer("kstream")
        self.attributes = {
            "messaging.system": "kafka", "messaging.consumer.group.name": group, "messaging.client.id": client
        }  # fmt: skip
        self._limit = int(share * (1 << 64))

    def beginning(self, at: TopicPartition, offsets: Sequence[int]) -> list[int]:
        """Those of the offsets that begin a trace: evenly spread, differently in each partition."""
        limit = self._limit
        if not limit:
            return []
        seed = zlib.crc32(f"{at.topic}/{at.partition}".encode()) << 32
        return [offset for offset in offsets if (offset * _SPREAD + seed) & _MASK < limit]


class _Mark(NamedTuple):
    """A record to be traced, and the context it came with."""

    offset: int
    parent: Context


class TaskTraces:
    """The traces of one task: which records have one, and the spans of the current one.

    It is the task's outlet too, so that what a traced record causes has its headers, whoever produces it and when.
    """

    def __init__(self, tracing: Tracing, part: SubTopology, task: str, outlet: Outlet) -> None:
        self._tracing, self._task, self._outlet = tracing, task, outlet
        self._internal = {source.topic.name for source in part.sources if source.topic.internal}
        self._internal |= {delay.topic for delay in part.delays}
        self._names = dict(zip(part.nodes, part.operator_names, strict=True))
        self._tracer = tracing.tracer
        self._marks: defaultdict[TopicPartition, deque[_Mark]] = defaultdict(deque)
        self._agents: list[_AgentSpans] = []
        self._span: Span | None = None  # of the current record
        self._mark: _Mark | None = None  # as above
        self._context: Context | None = None  # with that span in it
        self._failed = False
        self._held: list[tuple[Span, int]] = []  # of records that are through, with when (ns), until the commit

    # ---- which records

    def notice(self, fetch: Fetch) -> None:
        """Looks for records to be traced. Fetches come in order, but may come again."""
        offsets, headers = fetch.offsets(), fetch.headers()
        found: dict[int, Context] = {}
        if fetch.at.topic not in self._internal:  # there a trace goes on or there is none
            found = dict.fromkeys(self._tracing.beginning(fetch.at, offsets), _NOTHING)
        if any(headers):
            for offset, carried in zip(offsets, headers, strict=True):
                parent = _carried(carried) if carried else None
                if parent is None:
                    continue
                if get_current_span(parent).get_span_context().trace_flags.sampled:
                    found[offset] = parent
                else:
                    found.pop(offset, None)
        marks = self._marks[fetch.at]
        last = marks[-1].offset if marks else -1
        marks.extend(_Mark(offset, found[offset]) for offset in sorted(found) if offset > last)

    def limit(self, fetch: Fetch) -> int:
        """How many records of the fetch may go together: up to the next traced one, which goes alone."""
        marks, first = self._marks[fetch.at], fetch.first_offset
        while marks and marks[0].offset < first:
            marks.popleft()
        if not marks:
            return len(fetch)
        if marks[0].offset == first:
            return 1
        near = fetch.cut(0, min(len(fetch), marks[0].offset - first))  # offsets may have gaps
        return bisect_left(near.offsets(), marks[0].offset)

    # ---- the current record

    def begin(self, fetch: Fetch) -> None:
        """The task begins with a fetch: one traced record, or any number of others."""
        marks = self._marks[fetch.at]
        if not marks or marks[0].offset != fetch.first_offset or len(self._held) >= MAX_HELD:
            return
        at, mark = fetch.at, marks.popleft()
        self._mark = mark
        self._span = self._tracer.start_span(
            f"process {at.topic}",
            mark.parent,
            SpanKind.CONSUMER,
            {
                **self._tracing.attributes,
                "messaging.operation.type": "process",
                "messaging.operation.name": "process",
                "messaging.destination.name": at.topic,
                "messaging.destination.partition.id": str(at.partition),
                "messaging.kafka.offset": mark.offset,
                "kstream.task": self._task,
            },
        )
        self._context = set_span_in_context(self._span, mark.parent)
        self._failed = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """What runs inside belongs to the current record; what it raises is noted in the span."""
        if self._span is None or self._context is None:
            yield
            return
        token = attach(self._context)
        try:
            yield
        except Exception as error:
            _fail(self._span, error)
            self._failed = True
            raise
        finally:
            detach(token)

    def end(self) -> None:
        """The task is through with the current record, as far as it goes: nothing is committed yet."""
        if self._span is not None:
            self._held.append((self._span, time.time_ns()))
            self._span = self._context = None

    def left_out(self, reason: str) -> None:
        """The current record failed, with an exception of this class, and is left out; the task goes on."""
        if self._span is not None:
            self._span.set_status(StatusCode.ERROR, f"{reason}: the record is left out")

    def taken_back(self, fetch: Fetch, error: BaseException) -> None:
        """The task failed with a fetch, and took back what it had done with it. It comes again, or is left out."""
        for agent in self._agents:
            agent.abort()
        if self._span is not None and self._mark is not None:
            _fail(self._span, error)
            self._span.set_attribute("kstream.aborted", True)
            self._span.end()
            self._span = self._context = None
            self._marks[fetch.at].appendleft(self._mark)

    # ---- the end of a transaction

    def committed(self) -> None:
        held, self._held = self._held, []
        for span, ended in held:
            span.end(ended)

    def forget(self) -> None:
        """After an abort, or when the task leaves: what is held was not committed."""
        self._marks.clear()
        for agent in self._agents:
            agent.abort()
        if self._span is not None:
            if self._failed:
                self._span.set_attribute("kstream.aborted", True)
                self._span.end()
                self._span = self._context = None
            else:
                self.end()
        held, self._held = self._held, []
        for span, ended in held:
            _abort(span)
            span.end(ended)

    # ---- operators

    def around(self, node: Node, operator: Operator, push: Push) -> Push:
        """This push of the operator, in a span of its own while the current record is traced."""
        if isinstance(operator, Sink):  # what it sends has a span
            return push
        start = self._starter(self._names[node])
        if isinstance(operator, AsyncAgent):
            spans = _AgentSpans(operator, start)
            self._agents.append(spans)
            return spans.push

        def traced(batch: Batch) -> None:
            span = start()
            if span is None:
                push(batch)
                return
            token = attach(set_span_in_context(span))
            try:
                push(batch)
            except Exception as error:  # the record's span has its traceback
                span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
                raise
            finally:
                detach(token)
                span.end()

        return traced

    def _starter(self, name: str) -> Callable[[], Span | None]:
        attributes = {"kstream.task": self._task}

        def start() -> Span | None:
            return None if self._span is None else self._tracer.start_span(name, attributes=attributes)

        return start

    # ---- the outlet

    @property
    def produce(self) -> Produce:
        return self._outlet.produce if self._span is None else self._produce_traced

    @property
    def produced(self) -> dict[str, int]:
        return self._outlet.produced

    def wait_for_room(self) -> None:
        self._outlet.wait_for_room()

    def meaning(
        self, error: Exception, topic: str, value: bytes | None, key: bytes | None, partition: int
    ) -> Exception:
        return self._outlet.meaning(error, topic, value, key, partition)

    def _produce_traced(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int = -1,
        callback: None = None,
        on_delivery: None = None,
        timestamp: int = 0,
        headers: Headers | None = None,
        /,
    ) -> None:
        span = self._tracer.start_span(
            f"send {topic}",
            get_current() if get_current_span().get_span_context().is_valid else self._context,
            SpanKind.PRODUCER,
            {
                "messaging.system": "kafka",
                "messaging.operation.type": "send",
                "messaging.operation.name": "send",
                "messaging.destination.name": topic,
                "kstream.task": self._task,
            },
        )
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, set_span_in_context(span))
        kept = [header for header in headers or () if header[0] not in _W3C.fields]
        traced = [*kept, *((name, value.encode()) for name, value in carrier.items())]
        # Raises BufferError when the queue is full, and is called again: this span never ends then, so nobody sees it.
        self._outlet.produce(topic, value, key, partition, None, None, timestamp, traced)
        span.end()


class _AgentSpans:
    """The span of an async agent: from being given the record to asking for the next one.

    It is the current span of the agent's own context variables, whatever other tasks do meanwhile: what the agent calls
    nests in it.
    """

    def __init__(self, agent: AsyncAgent, start: Callable[[], Span | None]) -> None:
        self._agent, self._start, self._push = agent, start, agent.push
        self._span: Span | None = None
        self._entered = False
        agent.when_drained = self._drained

    def push(self, batch: Batch) -> None:
        self._span = self._start()
        if self._span is not None or self._entered:
            self._agent.start()
            context = _NOTHING if self._span is None else set_span_in_context(self._span)
            self._agent.variables.run(attach, context)
            self._entered = self._span is not None
        self._push(batch)

    def _drained(self) -> None:
        span, self._span = self._span, None
        if span is not None:
            span.end()

    def abort(self) -> None:
        span, self._span = self._span, None
        self._entered = False  # the next batch starts the agent anew
        if span is not None:
            _abort(span)
            span.end()


def _fail(span: Span, error: BaseException) -> None:
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    span.record_exception(cause)
    span.set_status(StatusCode.ERROR, f"{type(cause).__name__}: {cause}")


def _abort(span: Span) -> None:
    span.set_attribute("kstream.aborted", True)
    span.set_status(StatusCode.ERROR, "the transaction was aborted; the record is processed again")


def _carried(headers: Headers) -> Context | None:
    """The context in a record's headers, if there is a valid one."""
    carrier = {name: value.decode("ascii", "replace") for name, value in headers if name in _W3C.fields and value}
    if "traceparent" not in carrier:
        return None
    found = _W3C.extract(carrier, _NOTHING)
    return found if get_current_span(found).get_span_context().is_valid else None


class TracedTask(Task):
    """A task that traces. All it adds to a task is here."""

    def __init__(self, traces: TaskTraces, *args: Any, **more: Any) -> None:
        self._traces = traces
        super().__init__(*args, **more)
        self.handling.traceless, self._together = False, None  # spans

    def add(self, fetch: Fetch) -> None:
        super().add(fetch)
        self._traces.notice(fetch)

    def _next(self) -> Fetch | None:
        fetch = super()._next()
        if fetch is None:
            return None
        return self.reading.cut(fetch, self._traces.limit(fetch))

    def _push(self, fetch: Fetch) -> None:
        self._traces.begin(fetch)
        with self._traces.active():
            super()._push(fetch)
        for verdict, *_ in self.handling.left_out:
            self._traces.left_out(verdict.reason)

    def _finished(self, fetch: Fetch) -> bool:
        with self._traces.active():
            through = super()._finished(fetch)
        if through:
            self._traces.end()
        return through

    def _failed(self, fetch: Fetch, error: BaseException) -> None:
        super()._failed(fetch, error)
        self._traces.taken_back(fetch, error)

    def was_committed(self, now: float) -> None:
        super().was_committed(now)
        self._traces.committed()

    def _drop_work(self) -> None:
        super()._drop_work()
        self._traces.forget()
