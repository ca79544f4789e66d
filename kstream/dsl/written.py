"""What classes of processors are seen to have written wrongly, where they are declared."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final, Never, NoReturn

from kstream.dsl import states
from kstream.errors import TopologyError

_STATES: Final = frozenset(
    name for name, one in vars(states).items() if isinstance(one, type) and issubclass(one, states.State)
)


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
    if inspect.isfunction(made) and (found := _STATES.intersection(made.__code__.co_names)):
        raise TopologyError(
            f"{what}: {kind.__name__}.__init__ makes a {min(found)}: declare states in the class, outside of methods"
        )
    own = [one for one in names if inspect.isfunction(getattr(kind, one, None)) and not one.startswith("_")]
    if kind.on_timer.__module__ == "kstream.dsl.processor":  # type: ignore[attr-defined]
        others = [one for one in own if one != "on_timer"]
        if near := get_close_matches("on_timer", [one.lower() for one in others], 1, 0.85):
            raise TopologyError(
                f"{what}: {kind.__name__} has a method {near[0]!r}, which nothing calls: on_timer is meant"
            )
    for method in ("process", "on_timer"):
        returned = inspect.get_annotations(getattr(kind, method)).get("return")
        if returned not in (None, "None", "NoReturn", "Never", NoReturn, Never, Any, "Any"):
            raise TopologyError(
                f"{what}: {method} is declared to return {getattr(returned, '__name__', returned)}, and "
                "what it returns goes nowhere: write ctx.emit(value), and -> None"
            )
