"""What to write instead of a method that a class does not have: the error says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NoReturn

STEPS = (
    "map", "filter", "flat_map", "peek", "rekey", "group_by", "group_by_key", "branch", "merge", "repartition",
    "through", "debug", "sample", "sink", "to_table", "join", "process", "deduplicate",
)  # fmt: skip
"""The methods of a stream that others are asked for."""

OTHER_STEPS = tuple(step for step in STEPS if step not in ("filter", "join", "group_by"))
"""Those that tables do not have."""

OF_WINDOWS = (*STEPS, "to", "stream", "window")
"""Those that groups with windows do not have."""

FOLDS = (
    "count", "sum", "min", "max", "reduce", "aggregate", "first", "last", "collect", "top_n", "mean", "count_distinct",
    "quantiles",
)  # fmt: skip
"""The methods of a group that others are asked for."""


class _Instead:
    """Stands for a method that a class does not have."""

    def __init__(self, name: str, hint: str) -> None:
        self._name, self._hint = name, hint

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(f"{owner.__name__!r} object has no attribute {self._name!r}: {self._hint}")


class Hinted:
    """`INSTEAD` maps the names of methods that are looked for in vain to what the error says.

    There is no `__getattr__` here: a class that has one finds *all* of its attributes at half the speed.
    """

    INSTEAD: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, hint in cls.INSTEAD.items():
            if name not in vars(cls):
                setattr(cls, name, _Instead(name, hint))
