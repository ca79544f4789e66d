"""Agents: functions over the values of a stream, with tables and outputs."""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from functools import partial
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Generic, Never, NoReturn, TypeVar, Union, get_args, get_origin, overload

from kstream.dsl.functions import first_annotation, kind_of, name_of, wants_context, wants_timers
from kstream.dsl.graph import Graph
from kstream.dsl.processor import Processor, timer_store
from kstream.dsl.stream import AggregateTable, Grouped, Stream
from kstream.dsl.table import ReadableTable, check_tables
from kstream.errors import TopologyError
from kstream.operators.async_agent import AgentStream
from kstream.runtime.task.context import Context
from kstream.runtime.task.processing import TimerContext
from kstream.specs.record import Record
from kstream.specs.schema import UNKNOWN, returned_by, schema, told_apart, type_name
from kstream.specs.steps import ASYNC, AgentKind, Step
from kstream.specs.timers import Timer
from kstream.specs.topic import Topic, check_topic
from kstream.topology import DEFAULT_GROUP, AgentNode, Node, SourceNode, StatelessNode, with_all_before

if TYPE_CHECKING:
    from kstream.specs.policy import Policy

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
H = TypeVar("H", bound=Callable[[Timer, TimerContext[Any]], Any])


class Agent(Generic[F]):
    """A declared agent. Call it like the function it is, in a unit test of its own."""

    def __init__(self, function: F, node: AgentNode, graph: Graph) -> None:
        self.function, self.name = function, node.name
        self._node, self._graph = node, graph
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)

    def on_timer(self, function: H, /) -> H:
        """Decorates what is called when a timer of the agent is due, which its context has set: `ctx.timer(...)`, as
        `kstream.TimerContext` has it. A function of the timer (`kstream.Timer`) and a context of its key, which returns
        a result, a `Record`, or None for nothing; a generator function yields any number. Results go to the agent's
        `to`, with the timer's key and time. (Flink's `onTimer`.)

        Timers are kept as `<app>-<agent>-timers-changelog`: keep the agent's name.

        Raises:
            TopologyError: the agent has one already, takes no context to set timers by, or reads keys that are not
                where they belong; the function is async or does not take (timer, ctx), or its results do not fit.
        """
        declare_timers(self._graph, self._node, function)
        return function

    def __repr__(self) -> str:
        return f"Agent({self.name!r})"


class AgentDecorator(Generic[K, V]):
    """What `@app.agent(source, ...)` decorates with: a function over the values of the source becomes an agent.

    Raises:
        TopologyError: no agent can read the source.
    """

    def __init__(
        self,
        graph: Graph,
        source: Topic[K, V] | Stream[K, V] | Grouped[K, V],
        to: Topic[Any, Any] | None,
        name: str | None,
        tables: Iterable[ReadableTable[Any, Any]],
        group: str | None,
        on_error: tuple[Policy, ...] | None = None,
        timeout: float | None = None,
    ) -> None:
        check_source(source)
        self._declare = partial(
            declare, graph, source, to=to, name=name, tables=tables, group=group, on_error=on_error, timeout=timeout
        )

    @overload
    def __call__(self, function: Callable[[V], R], /) -> Agent[Callable[[V], R]]: ...
    @overload
    def __call__(self, function: Callable[[V, Context[K]], R], /) -> Agent[Callable[[V, Context[K]], R]]: ...
    @overload
    def __call__(self, function: Callable[[AgentStream[K, V]], R], /) -> Agent[Callable[[AgentStream[K, V]], R]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # nothing is both a value and a stream
        self, function: Callable[[AgentStream[K, V], Context[K]], R], /
    ) -> Agent[Callable[[AgentStream[K, V], Context[K]], R]]: ...
    @overload
    def __call__(self, function: Callable[[V, TimerContext[K]], R], /) -> Agent[Callable[[V, TimerContext[K]], R]]: ...
    @overload
    def __call__(
        self, function: Callable[[AgentStream[K, V], TimerContext[K]], R], /
    ) -> Agent[Callable[[AgentStream[K, V], TimerContext[K]], R]]: ...
    def __call__(self, function: Callable[..., Any], /) -> Agent[Any]:
        return self._declare(function)


def declare(
    graph: Graph,
    source: Topic[Any, Any] | Stream[Any, Any] | Grouped[Any, Any],
    function: F,
    *,
    to: Topic[Any, Any] | None,
    name: str | None,
    tables: Iterable[ReadableTable[Any, Any]],
    group: str | None,
    on_error: tuple[Policy, ...] | None,
    timeout: float | None,
) -> Agent[F]:
    """Adds the agent's node to the graph.

    Raises:
        TopologyError: the function's form, or what it puts out, does not fit.
    """
    agent_name = name or name_of(function)
    if inspect.isclass(function) and issubclass(function, Processor):
        raise TopologyError(
            f"agent {agent_name!r}: {function.__name__} is a processor: write app.stream(...).process("
            f"{function.__name__}, name=...)"
        )
    if not callable(function):
        raise TopologyError(f"agent {agent_name!r}: {function!r} is not a function")
    if to is not None:
        check_topic(to, f"agent {agent_name!r}: to")
    tables = check_tables(tables, f"agent {agent_name!r}")
    kind = _kind(function, agent_name, to)
    _check_timeout(timeout, kind, agent_name)
    parent = _node(graph, source, group)
    context = wants_context(function, timers=True)
    out = schema(UNKNOWN, agent_name)
    node = AgentNode(
        name=agent_name,
        parents=(parent,),
        key=parent.key,
        value=out,
        stores=tuple(dict.fromkeys(table.spec for table in tables)),
        users=(function,),
        function=function,
        agent=kind,
        wants_context=context,
        to=to,
        group=group,
        on_error=on_error,
        timeout=timeout,
    )
    if to is not None:
        _check_output(function, kind, parent, to, agent_name)
    graph.add(node)
    return Agent(function, node, graph)


def declare_timers(graph: Graph, node: AgentNode, function: Callable[..., Any]) -> None:
    """The agent has timers. Raises TopologyError as `Agent.on_timer`."""
    who, agent = f"on_timer of agent {node.name!r}", name_of(node.function)
    if not callable(function):
        raise TopologyError(f"{who}: {function!r} is not a function: write @{agent}.on_timer over one of (timer, ctx)")
    if node.on_timer is not None:
        raise TopologyError(f"{who} is declared twice: make them one function, which looks at timer.name")
    if not node.wants_context:
        raise TopologyError(
            f"{who}: nothing sets a timer, for {agent} takes no context: add a parameter, ctx: kstream.TimerContext"
        )
    kind = kind_of(function)
    if kind in ASYNC:
        raise TopologyError(
            f"{who} is async, and a timer is done at once: write a plain function; what has to be awaited goes by "
            "ctx.send(topic, value) to an agent over that topic"
        )
    timer = first_annotation(function)
    if not wants_context(function, timers=True) or timer not in (UNKNOWN, Any, object, Timer):
        raise TopologyError(f"{who}: {name_of(function)} is called with a kstream.Timer and the context: (timer, ctx)")
    if any(isinstance(one, StatelessNode) and one.step is Step.REKEY for one in with_all_before(node)):
        raise TopologyError(
            f"{who}: rekey has changed the keys, and a timer is kept where its key belongs: put repartition(name=...) "
            "between them"
        )
    if node.to is not None:
        _check_output(function, kind, node.parents[0], node.to, node.name)
    graph.timers(node, timer_store(node.name, node.key), function, yields=kind is AgentKind.GENERATOR)


def _check_timeout(timeout: Any, kind: AgentKind, name: str) -> None:
    if timeout is None:
        return
    if kind in (AgentKind.FUNCTION, AgentKind.GENERATOR):
        raise TopologyError(
            f"agent {name!r}: timeout= is for async agents: a function cannot be interrupted. One that does not return "
            "is ended with its worker (max_poll_interval)"
        )
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise TopologyError(f"agent {name!r}: timeout={timeout!r}: seconds, more than 0")


def check_source(source: Any) -> None:
    """Raises TopologyError when no agent can read this."""
    if isinstance(source, (Topic, Stream, Grouped)):
        return
    if inspect.isroutine(source):  # @app.agent over a function
        name = name_of(source)
        raise TopologyError(f"@app.agent needs what {name!r} reads: write @app.agent(topic)")
    hint = ": stream() gives its changes" if isinstance(source, AggregateTable) else ""
    raise TopologyError(f"an agent reads a topic, a stream or a group, not {source!r}{hint}")


def _node(graph: Graph, source: Topic[Any, Any] | Stream[Any, Any] | Grouped[Any, Any], group: str | None) -> Node:
    """What the agent reads: in its isolation group, where the stream begins with this."""
    if isinstance(source, Topic):
        return graph.source(source, group)
    if isinstance(source, Grouped):
        return (source if group is None else source.isolated(group)).node()
    node = source.node
    if group is not None and isinstance(node, SourceNode) and node.group == DEFAULT_GROUP:
        return graph.source(node.topic, group)
    return node


def _kind(function: Callable[..., Any], name: str, to: Topic[Any, Any] | None) -> AgentKind:
    """The agent's form. Async functions take the stream, others a value.

    Raises:
        TopologyError: one that takes the other.
    """
    kind = kind_of(function, decorated=True)
    takes = first_annotation(function)
    write = f"write async def {name_of(function)}(stream): async for value in stream: ..."
    if kind in (AgentKind.FUNCTION, AgentKind.GENERATOR):
        if get_origin(takes) is AgentStream or takes is AgentStream:
            raise TopologyError(f"agent {name!r} takes the stream, so it is async: {write}")
        return kind
    if not _may_be_stream(takes):
        if kind_of(function) is AgentKind.FUNCTION:  # a decorator makes a plain function of it
            return AgentKind.FUNCTION
        why = f"takes {type_name(takes)}"
    elif kind is AgentKind.ASYNC_GENERATOR:
        return kind
    elif (result := returned_by(function)) not in (UNKNOWN, Any, None, NoneType, NoReturn, Never):
        why = f"returns {type_name(result)}"
    elif to is not None and not wants_timers(function):  # its timers may have results
        why = f"yields nothing, though it has to={to.name!r}"
    else:
        return kind
    raise TopologyError(
        f"agent {name!r} is an async function of one value: it {why}, where an async agent takes the stream and "
        f"yields its results: {write}"
    )


def _may_be_stream(kind: Any) -> bool:
    """Whether a parameter annotated with this may be given the stream."""
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return any(
        member in (UNKNOWN, Any, object)
        or (get_origin(member) or member) in (AgentStream, AsyncIterable, AsyncIterator, AsyncGenerator)
        or isinstance(member, TypeVar)
        or getattr(member, "_is_protocol", False)
        for member in members
    )


def _check_output(function: Callable[..., Any], kind: AgentKind, parent: Node, to: Topic[Any, Any], name: str) -> None:
    """Compares the annotated outputs with the topic, both named in the error."""
    result = returned_by(function)
    if kind in (AgentKind.ASYNC_GENERATOR, AgentKind.GENERATOR):
        arguments = get_args(result)
        result = arguments[0] if arguments else UNKNOWN
    members = get_args(result) if get_origin(result) in (Union, UnionType) else (result,)
    for member in members:
        if member in (UNKNOWN, None, type(None), Any):
            continue
        if get_origin(member) is Record or member is Record:
            sides = get_args(member)
            pairs = [("key", sides[0], to.key), ("value", sides[1], to.value)] if sides else []
        else:
            pairs = [("value", member, to.value)]
            if not to.key.accepts(parent.key):
                one, other = told_apart(parent.key.kind, to.key.kind)
                raise TopologyError(
                    f"agent {name!r} keeps the keys of its input, of type {one}, but topic {to.name!r} is "
                    f"declared key={other}: return kstream.Record(key, value)"
                )
        for side, have, want in pairs:
            if isinstance(have, TypeVar) or have in (Any, None, type(None)):
                continue
            if not want.accepts(schema(have, f"agent {name!r}", key=side == "key")):
                one, other = told_apart(have, want.kind)
                raise TopologyError(
                    f"agent {name!r} puts out {side}s of type {one}, but topic {to.name!r} is declared {side}={other}"
                )
