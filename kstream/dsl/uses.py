"""Which tables a function uses: found by looking at the names it refers to.

A table must be known before the app runs, for its changelog is read back first. Found are tables in a function's
globals and closure, in functions it calls by name (of the same kind, and methods' owners), and in nested functions.
Where that is not enough (a table in a container, chosen at run time), `tables=[...]` names them; a table used
without being known raises at the first use.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

from kstream.dsl.table import ReadableTable


def tables_used(*functions: Callable[..., Any]) -> list[ReadableTable[Any, Any]]:
    found: dict[str, ReadableTable[Any, Any]] = {}
    seen: set[int] = set()
    for function in functions:
        for table in _search(function, seen):
            found.setdefault(table.name, table)
    return list(found.values())


def _search(thing: Any, seen: set[int]) -> Iterator[ReadableTable[Any, Any]]:
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, ReadableTable):
        yield thing
    elif isinstance(thing, functools.partial):
        for part in (thing.func, *thing.args, *thing.keywords.values()):
            yield from _search(part, seen)
    elif inspect.ismethod(thing):
        yield from _search(thing.__func__, seen)
        for value in vars(thing.__self__).values() if hasattr(thing.__self__, "__dict__") else ():
            if isinstance(value, ReadableTable):
                yield value
    elif isinstance(thing, FunctionType):
        for name in _names(thing.__code__):
            if name in thing.__globals__:
                value = thing.__globals__[name]
                if isinstance(value, ReadableTable) or _same_package(value, thing):
                    yield from _search(value, seen)
        for cell in thing.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if isinstance(value, ReadableTable | FunctionType | functools.partial) or inspect.ismethod(value):
                yield from _search(value, seen)
        for default in (*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()):
            if isinstance(default, ReadableTable):
                yield default
    elif callable(thing) and inspect.isfunction(vars(type(thing)).get("__call__")):
        yield from _search(MethodType(vars(type(thing))["__call__"], thing), seen)  # an object that is callable


def _same_package(value: Any, function: FunctionType) -> bool:
    """Functions of other libraries hold none of our tables: do not walk through them."""
    if not isinstance(value, FunctionType | functools.partial):
        return False
    module = getattr(value, "__module__", None) or function.__module__
    return module.partition(".")[0] == function.__module__.partition(".")[0]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
