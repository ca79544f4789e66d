"""Which tables a function uses: found by looking at what its code loads by name.

A table must be known before the app runs: its changelog is read back first, and records pass one at a time where two
steps use it. Found are tables in a function's globals and closure; in modules, classes and objects that it names, and
in its own (`self`); in functions and methods that it calls by name, of the same package; in partials and in nested
functions. Names that follow a dot behind something unknown count for nothing. Functions are looked through when they
are declared, and once more when all is: a table may stand below them (dsl/graph.py). Where that is not enough (a table
in a container, behind `super()`, chosen at run time), `@uses(...)` over the function names them, or `tables=[...]` of
the step or agent. A table used without being known stops the task at the first use.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final, TypeVar

from kstream.dsl.table import ReadableTable, check_table
from kstream.errors import TopologyError

F = TypeVar("F", bound=Callable[..., Any])


def uses(*tables: ReadableTable[Any, Any]) -> Callable[[F], F]:
    """Says that a function, or class of processors, uses these tables, where its code does not show it.

        @kstream.uses(*prices.values())
        def priced(order: Order, ctx: kstream.Context[str]) -> float: ...

    It goes over functions of steps and agents, folds, joiners, predicates, and functions that these call by name.

    Raises:
        TopologyError: one of them is no table, or what is decorated cannot be called, or is an agent already.
    """
    for table in tables:
        check_table(table, "@kstream.uses")

    def mark(function: F) -> F:
        if not callable(function):
            raise TopologyError(f"@kstream.uses: {function!r} is not a function")
        from kstream.dsl.agent import Agent

        if isinstance(function, Agent):
            raise TopologyError(f"@kstream.uses: agent {function.name!r} is declared already: put it below @app.agent")
        marked: Any = function
        if not _takes_marks(marked):
            marked = functools.partial(function)
        names = {table.name for table in tables}  # one before is of the last app of a factory that marks this function
        before = (table for table in vars(marked).get(_USES, ()) if table.name not in names)
        setattr(marked, _USES, (*before, *tables))
        return marked  # type: ignore[no-any-return]

    return mark


def _takes_marks(thing: Any) -> bool:
    """Neither a method nor one in C does."""
    if _is(thing, type):
        return not thing.__flags__ & _IMMUTABLE
    return _is(thing, FunctionType, functools.partial)


def _said(thing: Any) -> tuple[ReadableTable[Any, Any], ...]:
    """What `uses` says of it; of a class, of its bases too."""
    if _is(thing, type):
        return tuple(table for cls in thing.__mro__ for table in vars(cls).get(_USES, ()))
    return getattr(thing, _USES, ()) if _is(thing, FunctionType, functools.partial) else ()


_USES: Final = "__kstream_uses__"
_IMMUTABLE: Final = 1 << 8
"""Of a class (Py_TPFLAGS_IMMUTABLETYPE)."""


def tables_used(*functions: Callable[..., Any], held: bool = True) -> list[ReadableTable[Any, Any]]:
    """`held`: those too that lie in an object whose method is called, and are not named there."""
    seen: dict[Any, Any] = {}  # with what they are, for an id is taken again when its object is gone
    waiting: list[Any] = [*reversed(functions)]
    found: dict[ReadableTable[Any, Any], None] = {}
    while waiting:  # and not by recursion: functions call each other, and themselves, as deep as they like
        thing = waiting.pop()
        mark: Any = id(thing)
        if _is(thing, MethodType):  # one is made anew each time it is looked for
            mark = id(thing.__func__), id(thing.__self__)
        if mark in seen:
            continue
        seen[mark] = thing
        if _is(thing, ReadableTable):
            found[thing] = None
        else:
            waiting += reversed(list(_within(thing, held)))
    return list(found)


def _within(thing: Any, held: bool) -> Iterator[Any]:
    """What it may use: tables, and functions to look through."""
    if _is(thing, functools.partial):
        yield from (*_said(thing), thing.func, *thing.args, *thing.keywords.values())
    elif _is(thing, MethodType):
        if _is(thing.__func__, FunctionType):
            yield from _search_function(thing.__func__, thing.__self__)
        for value in vars(thing.__self__).values() if held and hasattr(thing.__self__, "__dict__") else ():
            if _is(value, ReadableTable):
                yield value
    elif _is(thing, FunctionType):
        yield from _search_function(thing, None)
    elif _is(thing, type):
        yield from _said(thing)
    elif _is_called(thing):
        yield from (*_said(type(thing)), MethodType(vars(type(thing))["__call__"], thing))


def _search_function(function: FunctionType, owner: Any) -> Iterator[Any]:
    """`owner`: what its first parameter is, where it is a method."""
    cells: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # not assigned yet
            cells[name] = cell.cell_contents
    for value in cells.values():  # it may be handed on
        if _is(value, ReadableTable, FunctionType, functools.partial, MethodType):
            yield value
    yield from _said(function)
    code = function.__code__
    mine = {} if owner is None or not code.co_argcount else {code.co_varnames[0]: owner}
    yield from _loaded(code, function.__globals__, cells | mine, mine, package=_package_of(function))
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        if _is(default, ReadableTable):
            yield default


def _is(thing: Any, *kinds: type) -> bool:
    """By its type alone: `isinstance` asks the object for its class, at which a lazy one connects to its database."""
    return issubclass(type(thing), kinds)


def _package_of(thing: Any) -> str:
    module = getattr(thing, "__module__", None)
    return module.partition(".")[0] if isinstance(module, str) else ""


def _is_followed(value: Any, package: str) -> bool:
    """Functions of other libraries hold none of our tables: do not walk through them."""
    if _is(value, FunctionType, MethodType):
        return _package_of(value) == package
    return _is(value, ReadableTable, functools.partial)


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
    for kind, name in _loads(code):
        value = None
        if holder is not None and kind not in _ATTRIBUTE and _is_called(holder):
            yield holder
        if kind in _GLOBAL:
            value = variables.get(name)
        elif kind in _CELL:
            value = cells.get(name)
        elif "LOAD_FAST" in kind:  # behind a store, too: STORE_FAST_LOAD_FAST of Python 3.13
            value = local.get(name[-1] if isinstance(name, tuple) else name)
        elif kind == "IMPORT_NAME":  # within a function; what is not imported yet is no error
            value = sys.modules.get(name)
        elif holder is not None and kind in _ATTRIBUTE:
            value = _attribute(holder, name)
        if value is None:
            holder = None
            continue
        known = _is(value, ModuleType) or _package_of(value if _is(value, type) else type(value)) == package
        holder = value if known else None
        if _is_followed(value, package):
            yield value
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loaded(constant, variables, cells, {}, package)


@functools.cache
def _loads(code: CodeType) -> tuple[tuple[str, Any], ...]:
    """Its instructions. Many steps lead to the same functions, and to take one apart is slow."""
    return tuple((one.opname, one.argval) for one in dis.get_instructions(code) if one.opname != "EXTENDED_ARG")


def _attribute(holder: Any, name: str) -> Any:
    """As it is found without running anything."""
    if _is(holder, ModuleType):
        return vars(holder).get(name)
    value = inspect.getattr_static(holder, name, None)
    if _is(value, staticmethod):
        return value.__func__
    if _is(value, classmethod):
        return MethodType(value.__func__, holder if _is(holder, type) else type(holder))
    if _is(value, property):
        value = value.fget
    return MethodType(value, holder) if _is(value, FunctionType) else value


_GLOBAL: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_CELL: Final = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
_ATTRIBUTE: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"})
"""Instructions of the Pythons from 3.11 on."""
