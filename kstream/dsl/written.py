"""What classes of processors are seen to have written wrongly, where they are declared."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, Never, NoReturn

from kstream.dsl import states
from kstream.errors import TopologyError

_STATES: Final = {
    id(one): one.__name__
    for one in vars(states).values()
    if isinstance(one, type) and issubclass(one, states.State) and one is not states.State
}
_NOTHING: Final = (None, type(None), NoReturn, Never, Any, object)
"""What a method may be declared to return: nothing, or what says nothing."""
_NOTHING_WRITTEN: Final = ("None", "NoneType", "NoReturn", "Never", "Any", "object")


def check_written(kind: type, declared: Mapping[str, states.State], name: str) -> None:
    """Of a processor class and the states that it declares, by attribute.

    Raises:
        TopologyError: one state has two names; a state is made in `__init__`, where nothing binds it to a key; a method
            is called nearly as `on_timer`, which is missing; or `process` or `on_timer` says that it returns something.
    """
    what, names = f"processor {name!r}", dict.fromkeys(dir(kind))
    seen: dict[int, str] = {}
    for attribute, state in declared.items():
        if (other := seen.setdefault(id(state), attribute)) != attribute:
            raise TopologyError(
                f"{what}: {other} and {attribute} are one state: declare two, each on a line of its own"
            )
    made: Any = vars(kind).get("__init__")
    if inspect.isfunction(made) and (found := next(_states_named(made), None)):
        raise TopologyError(
            f"{what}: {kind.__name__}.__init__ makes a {found}: declare states in the class, outside of methods"
        )
    methods = [method for one in names if inspect.isfunction(method := getattr(kind, one, None))]
    called = {one for method in methods for one in _names(method.__code__)}
    own = [one for one in names if inspect.isfunction(getattr(kind, one, None)) and not one.startswith("_")]
    if kind.on_timer.__module__ == "kstream.dsl.processor":  # type: ignore[attr-defined]
        others = [one for one in own if one != "on_timer" and one not in called]
        if near := get_close_matches("on_timer", [one.lower() for one in others], 1, 0.85):
            raise TopologyError(
                f"{what}: {kind.__name__} has a method {near[0]!r}, which nothing calls: on_timer is meant"
            )
    for method in ("process", "on_timer"):
        returned = inspect.get_annotations(getattr(kind, method)).get("return")
        if isinstance(returned, str):
            said = returned.rpartition(".")[2] not in _NOTHING_WRITTEN
        else:
            said = returned not in _NOTHING
        if said:
            raise TopologyError(
                f"{what}: {method} is declared to return {getattr(returned, '__name__', returned)}, and "
                "what it returns goes nowhere: write ctx.emit(value), and -> None"
            )


def _states_named(function: FunctionType) -> Iterator[str]:
    """The classes of states that its names mean: a user's own `ValueState` is none."""
    known = dict(function.__globals__)
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # not assigned yet
            known[name] = cell.cell_contents
    for name in (*code.co_names, *code.co_freevars):
        one = known.get(name, sys.modules.get(name))  # the module may be imported within the function
        if id(one) in _STATES:
            yield _STATES[id(one)]
        elif issubclass(type(one), ModuleType):
            for other in code.co_names:
                if other not in known and (it := id(vars(one).get(other))) in _STATES:
                    yield _STATES[it]


def _names(code: CodeType) -> Iterator[str]:
    """What it names, and functions in it do."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
