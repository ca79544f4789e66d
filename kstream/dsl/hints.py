"""What to write instead of a method that a class does not have: the error says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

STEPS = ("map", "filter", "flat_map", "peek", "rekey", "group_by", "group_by_key")
"""The methods of a stream that others are asked for."""

FOLDS = ("count", "sum", "min", "max", "reduce", "aggregate")
"""The methods of a group that others are asked for."""


class Hinted:
    """`INSTEAD` maps the names of methods that are looked for in vain to what the error says."""

    INSTEAD: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:  # a type checker would take any attribute

        def __getattr__(self, name):
            hint = self.INSTEAD.get(name)
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}" + (f": {hint}" if hint else "")
            )
