"""A table joined with a table: the changes of one find what the other has. Each side has an operator of its own; what
both give is kept as a table, which leaves out deletions of what is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kstream.codecs import Codec
from kstream.operators.base import Operator
from kstream.operators.batch import Batch
from kstream.operators.joins.lookup import Lookup
from kstream.operators.stateless import apply


class TableChanges(Operator):
    """Of each change of a key, what the join has of it now, or None where it has nothing.

    Args:
        lookup: in the other table.
        left, right: whether a row of that side is needed for a result; at least one of the two sides is.
        is_left: the changes are those of the left side.
    """

    def __init__(
        self,
        lookup: Lookup,
        joiner: Callable[[Any, Any], Any],
        value_codec: Codec[Any],
        *,
        left: bool,
        right: bool,
        is_left: bool,
    ) -> None:
        super().__init__()
        self._lookup, self.value_codec, self._is_left = lookup, value_codec, is_left
        self._joiner = _joiner(joiner, left=left, right=right)
        self._users = joiner

    def push(self, batch: Batch) -> None:
        others = iter(self._lookup(batch.encoded_keys(self._lookup.store.key_codec)))
        joiner = self._joiner

        def of_left(value: Any) -> Any:
            return joiner(value, next(others))

        def of_right(value: Any) -> Any:
            return joiner(next(others), value)

        batch, results = apply(of_left if self._is_left else of_right, None, batch, of=self._users)
        self.emit(batch.with_values(results, self.value_codec))


def _joiner(joiner: Callable[[Any, Any], Any], *, left: bool, right: bool) -> Callable[[Any, Any], Any]:
    """Asks the user's only where there is a result."""

    def join(one: Any, other: Any) -> Any:
        if (one is None and (left or other is None)) or (other is None and right):
            return None
        return joiner(one, other)

    return join
