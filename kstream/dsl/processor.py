"""Processors: user code that is given each record of a key with what it keeps of that key, and sets timers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_origin

from kstream.codecs.timers import timer_codec
from kstream.dsl.deduplicating import Deduplicating
from kstream.dsl.functions import check_takes
from kstream.dsl.graph import advice
from kstream.dsl.states import State
from kstream.dsl.table import ReadableTable, check_tables
from kstream.dsl.written import check_written
from kstream.errors import TopologyError
from kstream.processor_nodes import ProcessNode
from kstream.runtime.task.processing import ProcessorContext
from kstream.specs.names import check_name
from kstream.specs.schema import UNKNOWN, Kind, Schema, schema, told_apart
from kstream.specs.store import StoreSpec
from kstream.specs.timers import Due, Timer

if TYPE_CHECKING:
    from kstream.dsl.processed import Processed

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")

TIMERS = "timers"
"""What the store of the timers of a processor or agent is called, behind its name."""


class Processor(Generic[K, V, R]):
    """A base of classes of one's own, over keys, values and results of these types. (Flink's keyed process function.)

    One is made for each task. Its state is declared in the class (`ValueState` and the others); what it keeps elsewhere
    (`self.seen = set()`) is lost with a restart, and not taken back by an abort.
    """

    def open(self, ctx: ProcessorContext[K, R]) -> None:
        """Before the first record or timer of the task. There is no key yet; `ctx.worker` and `ctx.metrics` are."""

    def process(self, value: V, ctx: ProcessorContext[K, R]) -> None:
        """A record. Results go by `ctx.emit`."""
        raise NotImplementedError

    def on_timer(self, timer: Timer, ctx: ProcessorContext[K, R]) -> None:
        """A timer of the key `ctx.key` is due, which `ctx.timer` has set. It is no more."""
        raise NotImplementedError

    def close(self) -> None:
        """The task leaves, or the worker stops. Not called where the process is killed."""


def states_of(kind: type) -> dict[str, State]:
    """The states that a class and its bases declare, by attribute."""
    found: dict[str, Any] = {}
    for cls in reversed(kind.__mro__):
        found |= vars(cls)
    return {name: state for name, state in found.items() if isinstance(state, State)}


def has_timers(kind: type[Processor[Any, Any, Any]]) -> bool:
    return kind.on_timer is not Processor.on_timer


def types_of(kind: type) -> tuple[Any, Any, Any]:
    """Key, value and result, as `Processor[...]` says among the bases; UNKNOWN where it does not."""
    for cls in kind.__mro__:
        for base in getattr(cls, "__orig_bases__", ()) if "__orig_bases__" in vars(cls) else ():
            if get_origin(base) is Processor:
                key, value, result = (one if _is_known(one) else UNKNOWN for one in get_args(base))
                return key, value, result
    return UNKNOWN, UNKNOWN, UNKNOWN


def _is_known(kind: Any) -> bool:
    return kind not in (Any, type(None)) and not isinstance(kind, TypeVar) and type(kind).__name__ != "ForwardRef"


class Processing(Deduplicating[K, V]):
    """The part of a stream that has to do with processors."""

    def process(
        self,
        processor: Callable[[], Processor[K, V, R]],
        *,
        name: str,
        value: Kind[R] | None = None,
        tables: Iterable[ReadableTable[Any, Any]] = (),
    ) -> Processed[K, R]:
        """Gives each record to a processor, with what it keeps of the record's key; results are what it emits.

        A record without a key is left out, counted and logged. Where the key was changed by `rekey`, records travel to
        its home first, through `<app>-<name>-repartition`.

        Args:
            processor: a class of one's own over `kstream.Processor`, or what makes one without arguments
                (`functools.partial(Class, ...)`).
            name: of the processor. Its stores and their changelogs are called after it
                (`<app>-<name>-<attribute>-changelog`): keep it.
            value: the type of the results, where the base `Processor[K, V, R]` does not say.
            tables: that it uses, where its code does not show it.

        Raises:
            TopologyError: that is no processor, or one over other types than the stream's; the name is taken.
        """
        from kstream.dsl.processed import Processed

        check_name(name, "processor", float("inf"))
        kind = _class_of(processor, name)
        _check(kind, name)
        of_keys, of_values, of_results = types_of(kind)
        before = self.at_home(name)
        _check_fits(name, "keys", of_keys, before.key)
        _check_fits(name, "values", of_values, before.value)
        declared = states_of(kind)
        check_written(kind, declared, name)
        timed = has_timers(kind)
        if timed and TIMERS in declared:
            raise TopologyError(f"processor {name!r}: its timers are kept as {TIMERS!r}: call the state otherwise")
        specs = {attribute: state.spec(name, before.key) for attribute, state in declared.items()}
        timers = timer_store(name, before.key) if timed else None
        own = (*specs.values(), *(() if timers is None else (timers,)))
        for spec in own:
            self._graph.store(spec, "state", advice(name))

        def make(stores: dict[str, Any], ctx: Any) -> Processor[Any, Any, Any]:
            made = processor()
            for attribute, state in declared.items():
                state.bind(made, stores[attribute], ctx)
            return made

        functions = [
            MethodType(one, kind) for cls in kind.__mro__ for one in vars(cls).values() if inspect.isfunction(one)
        ]
        node = ProcessNode(
            name=name,
            parents=(before,),
            key=before.key,
            value=schema(value or of_results, f"the results of processor {name!r}"),
            stores=own,
            users=(*functions, kind, processor, *check_tables(tables, f"processor {name!r}")),
            processor=kind,
            make=make,
            states=specs,
            timer_store=timers,
            sides={},
        )
        self._graph.add(node)
        return Processed(self._graph, node)


def timer_store(name: str, key: Schema) -> StoreSpec:
    """The store of the timers of a processor or agent, whose records have such keys."""
    codec = timer_codec(key.codec)
    return StoreSpec(f"{name}-{TIMERS}", Schema(codec, codec), schema(Due, "timers"), holds="timers")


def _class_of(processor: Any, name: str) -> type[Processor[Any, Any, Any]]:
    """Raises TopologyError where it makes no processor."""
    kind: Any = processor
    if isinstance(kind, functools.partial):
        kind = kind.func
    if not inspect.isclass(kind):
        if not callable(processor):
            raise TopologyError(
                f"process: {processor!r} is no class of a processor: give it the class, not an instance"
            )
        check_takes(processor, 0)
        kind = type(processor())
    elif issubclass(kind, Processor):
        _check_can_be_made(processor, kind, name)
    if not (isinstance(kind, type) and issubclass(kind, Processor)):
        raise TopologyError(f"processor {name!r}: {kind.__name__} has not the base kstream.Processor")
    return kind


def _check_can_be_made(processor: Any, kind: type, name: str) -> None:
    if left := sorted(getattr(kind, "__abstractmethods__", ())):
        raise TopologyError(
            f"processor {name!r} cannot be made: {kind.__name__} is abstract, define {', '.join(left)} in it"
        )
    try:
        inspect.signature(processor).bind()
    except (TypeError, ValueError) as error:
        if isinstance(error, ValueError) and not isinstance(processor, functools.partial):
            return  # it has no signature that can be read
        raise TopologyError(
            f"processor {name!r} cannot be made: {kind.__name__}: {error}; it is made without arguments, so give those "
            "of __init__ by functools.partial(...)"
        ) from None


def _check(kind: type[Processor[Any, Any, Any]], name: str) -> None:
    if kind.process is Processor.process:
        raise TopologyError(f"processor {name!r}: {kind.__name__} has no process(self, value, ctx)")
    for method in (kind.open, kind.process, kind.on_timer, kind.close):
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            raise TopologyError(
                f"processor {name!r}: {method.__qualname__} is async, and nothing awaits it: use an agent"
            )
        if inspect.isgeneratorfunction(method):
            raise TopologyError(f"processor {name!r}: {method.__qualname__} yields: write ctx.emit(value) instead")
        wanted = inspect.signature(getattr(Processor, method.__name__, method))
        if not _can_be_called(method, len(wanted.parameters)):
            raise TopologyError(
                f"processor {name!r} cannot be made: {method.__qualname__}() takes other arguments than it is given: "
                f"write def {method.__name__}({', '.join(wanted.parameters)})"
            )


def _can_be_called(method: Any, values: int) -> bool:
    """Whether a function of a class takes so many positional arguments, `self` among them."""
    if not inspect.isfunction(method):
        return True  # a static method, or one in C: it shows when it is called
    try:
        inspect.signature(method, follow_wrapped=False).bind(*range(values))  # a decorator may give more
    except TypeError:
        return False
    return True


def _check_fits(name: str, what: str, declared: Any, have: Schema) -> None:
    if declared is UNKNOWN:
        return
    want = schema(declared, f"the {what} of processor {name!r}", key=what == "keys")
    if not want.accepts(have):
        one, other = told_apart(want.kind, have.kind)
        raise TopologyError(f"processor {name!r} is declared for {what} of type {one}, and the stream has {other}")
