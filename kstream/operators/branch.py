"""branch: each record goes one way of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kstream.operators.base import Cursor, Operator
from kstream.operators.batch import Batch
from kstream.operators.stateless import apply


class Branch(Operator):
    """A record goes to the child at the place of the first predicate that is true of it, to the last child where none
    is. All predicates are asked before any child has a record."""

    traceless = True

    def __init__(self, predicates: Sequence[tuple[Callable[..., Any], Cursor | None]]) -> None:
        super().__init__()
        self._predicates = predicates

    def push(self, batch: Batch) -> None:
        self.emitted += batch.size
        ways, rest = [], batch
        for function, cursor in self._predicates:
            _, mask = apply(function, cursor, rest)
            ways.append(rest.where(mask))
            rest = rest.where([not one for one in mask])
        for child, way in zip(self.children, [*ways, rest], strict=True):
            if way.size:
                child(way)


class Pass(Operator):
    """What comes is passed on: one way of a branch, or a step that is only a name."""

    traceless = True

    def push(self, batch: Batch) -> None:
        self.emit(batch)
