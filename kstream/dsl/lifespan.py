"""Which functions can be an app's lifespan."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, Final

from kstream.dsl.functions import check_takes, kind_of, name_of
from kstream.errors import TopologyError
from kstream.specs.steps import AgentKind

_NOT: Final = {
    AgentKind.FUNCTION: "is a plain function",
    AgentKind.GENERATOR: "is a generator function",
    AgentKind.COROUTINE: "is an async function without a yield",
}


def check_lifespan(function: Any, app: str) -> None:
    """Raises TopologyError when the function does not give an async generator."""
    if not callable(function):
        problem = "is not a function"
    elif inspect.isclass(function):
        problem = "is a class"
    elif getattr(function, "__globals__", None) is vars(contextlib):  # what its decorators make
        problem = "is a context manager: leave @asynccontextmanager out"
    elif (kind := kind_of(function, decorated=True)) is not AgentKind.ASYNC_GENERATOR:
        problem = _NOT[kind]
    else:
        check_takes(function, 1)
        return
    raise TopologyError(
        f"app {app!r}: {name_of(function)} {problem}, a lifespan is an async generator: "
        "write async def f(worker): ...; yield; ..."
    )
