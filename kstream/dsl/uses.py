"""Which tables a function uses: found by looking at what its code loads by name.

A table must be known before the app runs, for its changelog is read back first. Found are tables in a function's
globals and closure and in modules that it names, in functions it calls by name (of the same kind, and methods' owners),
and in nested functions. Names that only follow a dot are attributes of something unknown and count for nothing.
Where that is not enough (a table in a container, chosen at run time), `tables=[...]` names them; a table used
without being known raises at the first use.
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from kstream.dsl.table import ReadableTable


def tables_used(*functions: Callable[..., Any]) -> list[ReadableTable[Any, Any]]:
    seen: set[int] = set()
    return list(dict.fromkeys(table for function in functions for table in _search(function, seen)))


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
        for value in _loaded(thing.__code__, thing.__globals__):
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


def _loaded(code: CodeType, variables: Mapping[str, Any]) -> Iterator[Any]:
    """The globals that the code and functions in it load, and attributes of modules among them (`tables.balance`)."""
    module: ModuleType | None = None  # what the instruction before has loaded, if a module
    for instruction in dis.get_instructions(code):
        value = None
        if instruction.opname in _GLOBAL:
            value = variables.get(instruction.argval)
        elif module is not None and instruction.opname in _ATTRIBUTE:
            value = vars(module).get(instruction.argval)
        module = value if isinstance(value, ModuleType) else None
        if value is not None:
            yield value
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loaded(constant, variables)


_GLOBAL: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTE: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
"""Instructions of the Pythons from 3.11 on."""
