"""Which tables a function uses: found by looking at what its code loads by name.

A table must be known before the app runs: its changelog is read back first, and records pass one at a time where two
steps use it. Found are tables in a function's globals and closure; in modules, classes and objects that it names, and
in its own (`self`); in functions and methods that it calls by name, of the same package; in partials and in nested
functions. Names that follow a dot behind something unknown count for nothing. Functions are looked through when they
are declared, and once more when all is: a table may stand below them (dsl/graph.py). Where that is not enough (a table
in a container, chosen at run time), `tables=[...]` of an agent names them; a table used without being known raises at
the first use.
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
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
        if isinstance(thing.__func__, FunctionType):
            yield from _search_function(thing.__func__, seen, thing.__self__)
        for value in vars(thing.__self__).values() if hasattr(thing.__self__, "__dict__") else ():
            if isinstance(value, ReadableTable):
                yield value
    elif isinstance(thing, FunctionType):
        yield from _search_function(thing, seen, None)
    elif _is_called(thing):
        yield from _search(MethodType(vars(type(thing))["__call__"], thing), seen)


def _search_function(function: FunctionType, seen: set[int], owner: Any) -> Iterator[ReadableTable[Any, Any]]:
    """`owner`: what its first parameter is, where it is a method."""
    cells: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # not assigned yet
            cells[name] = cell.cell_contents
    for value in cells.values():  # it may be handed on
        if isinstance(value, ReadableTable | FunctionType | functools.partial) or inspect.ismethod(value):
            yield from _search(value, seen)
    code = function.__code__
    mine = {} if owner is None or not code.co_argcount else {code.co_varnames[0]: owner}
    for value in _loaded(code, function.__globals__, cells | mine, mine, package=_package_of(function)):
        yield from _search(value, seen)
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        if isinstance(default, ReadableTable):
            yield default


def _package_of(thing: Any) -> str:
    return (getattr(thing, "__module__", None) or "").partition(".")[0]


def _is_followed(value: Any, package: str) -> bool:
    """Functions of other libraries hold none of our tables: do not walk through them."""
    if isinstance(value, FunctionType) or inspect.ismethod(value):
        return _package_of(value) == package
    return isinstance(value, ReadableTable | functools.partial)


def _is_called(thing: Any) -> bool:
    """Whether it is an object that is a function too."""
    return inspect.isfunction(vars(type(thing)).get("__call__"))


def _loaded(
    code: CodeType, variables: Mapping[str, Any], cells: Mapping[str, Any], local: Mapping[str, Any], package: str
) -> Iterator[Any]:
    """The tables and functions that the code and functions in it load: globals, variables of the functions around, and
    attributes of modules, classes and objects among them (`tables.balance`, `self.balance`).

    Args:
        cells: the variables of the functions around.
        local: what is known of its own.
        package: of the code; objects of others are not looked into.
    """
    holder: Any = None  # what the instruction before has loaded, where that may have attributes of interest
    for instruction in dis.get_instructions(code):
        value, name = None, instruction.argval
        if holder is not None and instruction.opname not in _ATTRIBUTE and _is_called(holder):
            yield holder
        if instruction.opname in _GLOBAL:
            value = variables.get(name)
        elif instruction.opname in _CELL:
            value = cells.get(name)
        elif instruction.opname.startswith("LOAD_FAST"):
            value = local.get(name[-1] if isinstance(name, tuple) else name)
        elif holder is not None and instruction.opname in _ATTRIBUTE:
            value = _attribute(holder, name)
        if value is None:
            holder = None
            continue
        known = (
            isinstance(value, ModuleType) or _package_of(value if isinstance(value, type) else type(value)) == package
        )
        holder = value if known else None
        if _is_followed(value, package):
            yield value
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loaded(constant, variables, cells, {}, package)


def _attribute(holder: Any, name: str) -> Any:
    """As it is found without running anything."""
    if isinstance(holder, ModuleType):
        return vars(holder).get(name)
    value = inspect.getattr_static(holder, name, None)
    if isinstance(value, staticmethod):
        return value.__func__
    if isinstance(value, classmethod):
        return MethodType(value.__func__, holder if isinstance(holder, type) else type(holder))
    if isinstance(value, property):
        value = value.fget
    return MethodType(value, holder) if isinstance(value, FunctionType) else value


_GLOBAL: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_CELL: Final = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
_ATTRIBUTE: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
"""Instructions of the Pythons from 3.11 on."""
