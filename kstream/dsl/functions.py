"""What can be told of a user's function before it is called: its form, how many arguments it takes, its name."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, get_origin, get_type_hints

from kstream.errors import TopologyError
from kstream.specs.schema import UNKNOWN
from kstream.specs.steps import AgentKind


def name_of(function: Any) -> str:
    """What messages and agents call it: the same in every process, so not by its address."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    return getattr(function, "__name__", None) or (type(function).__name__ if callable(function) else repr(function))


def kind_of(function: Callable[..., Any], *, decorated: bool = False) -> AgentKind:
    """The form of a function, of a partial or of an object that is called.

    Args:
        decorated: whether to look through decorators (`functools.wraps`). They may pass on what the function gives, or
            make something else of it.
    """
    for one in _layers(function, decorated):
        if inspect.isasyncgenfunction(one):
            return AgentKind.ASYNC_GENERATOR
        if inspect.iscoroutinefunction(one):
            return AgentKind.COROUTINE
        if inspect.isgeneratorfunction(one):
            return AgentKind.GENERATOR
    return AgentKind.FUNCTION


def _layers(function: Any, decorated: bool) -> Iterator[Any]:
    """The function, then what is behind it."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen and not inspect.isclass(function):
        seen.add(id(function))
        yield function
        if isinstance(function, functools.partial):
            function = function.func
        elif decorated and hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif not inspect.isroutine(function):
            function = vars(type(function)).get("__call__")
        else:
            return


def first_annotation(function: Callable[..., Any]) -> Any:
    """What the first parameter is annotated with; UNKNOWN where it is not, or the annotation cannot be resolved."""
    return _annotation(function, 0)


def _annotation(function: Callable[..., Any], place: int) -> Any:
    """The same of the parameter at this place."""
    try:
        *_, innermost = _layers(function, True)
        name = list(inspect.signature(function).parameters)[place]
        return get_type_hints(innermost).get(name, UNKNOWN)
    except Exception:  # names that exist only under TYPE_CHECKING, functions in C: as good as no annotation
        return UNKNOWN


def called(function: Callable[..., Any], by: str, *, generator: bool = False) -> str:
    """What messages call this call: "filter(cheap)".

    Args:
        by: who calls the function, and needs its result at once.
        generator: whether a generator function will do.

    Raises:
        TopologyError: its result is not there at once.
    """
    kind, call = kind_of(function), f"{by}({name_of(function)})"
    if kind in (AgentKind.COROUTINE, AgentKind.ASYNC_GENERATOR):
        raise TopologyError(
            f"{call} is given an async function, which it cannot await: await in an agent "
            "(async def f(stream): async for value in stream: ...)"
        )
    if kind is AgentKind.GENERATOR and not generator:
        raise TopologyError(
            f"{call} is given a generator function: return the value, or use flat_map for any number of values"
        )
    return call


def positional_parameters(function: Callable[..., Any]) -> tuple[int, float] | None:
    """How many positional arguments a function needs and how many it may take; None when it cannot be told (functions
    in C).

    Raises:
        TopologyError: it needs a keyword argument.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    least, most = 0, 0.0
    for one in parameters:
        if one.kind is inspect.Parameter.VAR_POSITIONAL:
            most = math.inf
        elif one.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            least += one.default is one.empty
            most += 1
        elif one.kind is inspect.Parameter.KEYWORD_ONLY and one.default is one.empty:
            raise TopologyError(
                f"{_qualified(function)}() needs the keyword argument {one.name!r}, which is never passed: "
                "give it a default, or use functools.partial"
            )
    return least, most


def wants_context(function: Callable[..., Any], values: int = 1, *, timers: bool = False) -> bool:
    """Whether the function takes a context after its `values` arguments: it does when it needs one more.

    Args:
        timers: that context may have timers.

    Raises:
        TopologyError: it takes neither `values` arguments nor one more, or a context that it will not be given.
    """
    if not _takes(function, values, values + 1, f"{values}, or {values + 1} with the context last"):
        return False
    _refuse_others_context(function, values, timers=timers)
    return True


def wants_timers(function: Callable[..., Any]) -> bool:
    """Whether it is declared with the context of agents with timers."""
    from kstream.runtime.task.processing import TimerContext

    return _kind_of_context(function, 1) is TimerContext


def _kind_of_context(function: Callable[..., Any], place: int) -> Any:
    kind = _annotation(function, place)
    return get_origin(kind) or kind


def _refuse_others_context(function: Callable[..., Any], place: int, *, timers: bool) -> None:
    from kstream.runtime.task.processing import ProcessorContext, TimerContext

    kind = _kind_of_context(function, place)
    if kind is ProcessorContext:
        raise TopologyError(
            f"{name_of(function)} is declared with a ProcessorContext, which has timers and state of a key; a function "
            "is given a kstream.Context: write a kstream.Processor, and use it by stream.process(...)"
        )
    if kind is TimerContext and not timers:
        raise TopologyError(
            f"{name_of(function)} is declared with a TimerContext, which agents with timers are given; other functions "
            "have none, and are given a kstream.Context"
        )


def check_takes(function: Callable[..., Any], values: int) -> None:
    """Raises TopologyError when the function cannot be called with so many arguments, which are all that it gets."""
    _takes(function, values, None, str(values or "none") + ", and is given no context" * bool(values))


def check_called(function: Callable[..., Any], by: str, values: int) -> None:
    """Both: its result is there at once, and it takes so many values. Raises TopologyError."""
    called(function, by)
    check_takes(function, values)


def check_large(function: Callable[[Any, Any], Any] | None, what: str) -> Callable[[Any, Any], Any] | None:
    """`on_large_state=` as it was given. `what` has it, for the message: "table 'a'".

    Raises:
        TopologyError: it is no function of a key and a value.
    """
    if function is None:
        return None
    if not callable(function):
        raise TopologyError(f"{what}: on_large_state={function!r} is not a function")
    called(function, f"{what}: on_large_state")
    try:
        check_takes(function, 2)
    except TopologyError as error:
        raise TopologyError(f"{what}: on_large_state: {error}") from None
    return function


def _takes(function: Callable[..., Any], values: int, more: int | None, wanted: str) -> bool:
    """Whether it takes `more` arguments rather than `values`."""
    if not callable(function):
        raise TopologyError(f"{function!r} is not a function")
    if inspect.isclass(function) or (count := positional_parameters(function)) is None:
        return False
    least, most = count
    if least <= values <= most:
        return False
    if least == more:
        return True
    found = least if least > values else int(most)
    raise TopologyError(f"{_qualified(function)}() takes {found} arguments: it should take {wanted}")


def _qualified(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or name_of(function)
