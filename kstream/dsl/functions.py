"""What can be told of a user's function before it is called: how many arguments it takes, what it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from kstream.errors import TopologyError


def positional_parameters(function: Callable[..., Any]) -> int | None:
    """How many positional arguments a function requires or may take; None when it cannot be told (C functions)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(1 for parameter in parameters if parameter.kind in kinds and parameter.default is parameter.empty)


def wants_context(function: Callable[..., Any], values: int = 1) -> bool:
    """Whether the function takes a context after its `values` arguments.

    Raises:
        TopologyError: it takes neither `values` arguments nor one more.
    """
    if not callable(function):
        raise TopologyError(f"{function!r} is not a function")
    count = positional_parameters(function)
    if count is None or count == values or inspect.isclass(function):
        return False
    if count == values + 1:
        return True
    name = getattr(function, "__qualname__", repr(function))
    raise TopologyError(
        f"{name}() takes {count} arguments: it should take {values}, or {values + 1} with the context last"
    )


def name_of(function: Callable[..., Any]) -> str:
    """What messages call it."""
    return getattr(function, "__name__", repr(function))
