"""The user's program, as the processes of an instance agree on it: what workers load, and that they got the same."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import msgspec

from kstream.config.loading import load_module, load_target
from kstream.errors import ConfigError, TopologyError
from kstream.topology import Topology

SHOWN = 3
"""Differences that are named."""


class Program(msgspec.Struct):
    """What workers load.

    Attributes:
        target: `module:attribute` of the app.
        modules: further modules that declared something of it.
        topology: what must come of it; empty where nobody compares.
    """

    target: str
    modules: list[str] = []
    topology: list[str] = []


def program_of(app: object, topology: Topology, declared_in: Iterable[str], target: str | None) -> Program:
    """What the workers of this program load.

    Args:
        declared_in: the modules whose import declared something, by `__name__`.
        target: where the app is; found by itself in a module's attribute.

    Raises:
        ConfigError: workers could not find the app, or a module that declares a part of it.
    """
    modules = [name for name in declared_in if name != "__main__"]
    if target is None:
        target = _target(app)
        if "__main__" in declared_in:
            main = _importable(sys.modules["__main__"])
            if main is None:
                raise ConfigError(
                    "workers cannot import the program, which declares a part of this app: put the declarations into a "
                    "module, or run it in this process with workers=0"
                )
            modules.append(main)
    return Program(target, modules, said_of(topology))


def load(program: Program) -> object:
    """The app, as this process loads it.

    Raises:
        AppLoadError: a module is missing or fails.
        TopologyError: what it declares is not what the program declared that started this process.
    """
    app = load_target(program.target)
    for module in program.modules:
        load_module(module)
    if program.topology:
        _compare(program, said_of(app.topology()))  # type: ignore[attr-defined]  # an App, which this layer does not know
    return app


def said_of(topology: Topology) -> list[str]:
    """The description of a topology, line by line, without what differs between processes."""
    return [re.sub(r" at 0x[0-9a-f]+|\b__main__\.", "", line) for line in topology.describe().splitlines() if line]


def _compare(program: Program, found: list[str]) -> None:
    if found == program.topology:
        return
    there = _shown([line for line in program.topology if line not in found])
    here = _shown([line for line in found if line not in program.topology])
    loaded = ", ".join(dict.fromkeys([program.target, *program.modules]))
    raise TopologyError(
        f"workers that load {loaded} get another topology than the program that started them; only the program has: "
        f"{there}; only the worker has: {here}. Declare all of it where a module is imported, the same in every process"
    )


def _shown(lines: list[str]) -> str:
    shown = " | ".join(line.strip() for line in lines[:SHOWN])
    return (shown + (f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else "")) or "nothing"


def _target(app: object) -> str:
    """A module of the program that has the app as an attribute."""
    for module in list(sys.modules.values()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is app and (name := _importable(module)) is not None:
                return f"{name}:{attribute}"
    raise ConfigError(
        "workers cannot find this app: make it an attribute of a module and use `kstream run module:attribute`, "
        "or run it in this process with workers=0"
    )


def _importable(module: ModuleType) -> str | None:
    """The name by which other processes import a module, be it the program's own."""
    if module.__name__ != "__main__":
        return module.__name__
    spec = getattr(module, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    # Python takes __file__ away once the program's last line has run, as where that starts a thread with app.run().
    path = Path(str(getattr(module, "__file__", None) or getattr(module.__loader__, "path", "")))
    here = path.suffix == ".py" and path.parent.resolve() == Path(sys.path[0] or ".").resolve()
    return path.stem if here else None
