"""A stream joined with a table that each worker has whole: each record finds the row of the key that it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kstream.codecs import ColumnError, encode_keys, holds_none
from kstream.errors import KStreamError
from kstream.global_nodes import GlobalJoinNode
from kstream.operators.base import Cursor
from kstream.operators.batch import Batch
from kstream.operators.dropping import NO_KEY, NO_VALUE, Dropping, Lines
from kstream.operators.stateless import apply
from kstream.state.global_store import GlobalStore, RowUnreadable
from kstream.state.store import Store


class GlobalJoin(Dropping):
    """`node.left`: a record that finds nothing is joined with None, and so is one that names no key; otherwise they
    give nothing. A record without a value gives nothing.

    Args:
        on_cursor, cursor: for what `on` and the joiner take as their last argument.
    """

    def __init__(
        self, node: GlobalJoinNode, store: GlobalStore[Any], on_cursor: Cursor | None, cursor: Cursor | None,
        lines: Lines,
    ) -> None:  # fmt: skip
        super().__init__(lines)
        self._node, self._store, self._on_cursor, self._cursor = node, store, on_cursor, cursor

    def push(self, batch: Batch) -> None:
        if self._node.on is None and not self._node.left:
            batch = self._keyed(batch, self._store.key_codec)[0]
        # all of them, whether they find anything or not: one that cannot be read is never lost in silence
        values = batch.values
        if holds_none(batch.value_codec) and None in values:
            batch = self._without(batch, values, NO_VALUE)
        batch, keys = self._asked(batch)
        if not self._node.left and None in keys:
            batch = self._without(batch, keys, NO_KEY)
            keys = [key for key in keys if key is not None]
        found = self._found(batch, keys)
        if not self._node.left and None in found:
            batch = batch.where([one is not None for one in found])
            found = [one for one in found if one is not None]
        if batch.size:
            self.emit(self._joined(batch, found))

    def _asked(self, batch: Batch) -> tuple[Batch, list[bytes | None]]:
        """The key that each record names, encoded."""
        codec = self._store.key_codec
        if self._node.on is None:
            return batch, batch.encoded_keys(codec)
        batch, keys = apply(self._node.on, self._on_cursor, batch)
        try:
            return batch, encode_keys(codec, keys)
        except ColumnError as error:
            batch.blame(error.index)
            cause = error.__cause__ or error
            raise KStreamError(
                f"on= of the join with global table {self._store.name!r} gave {keys[error.index]!r}, which cannot be a "
                f"key of it: {cause}"
            ) from error

    def _found(self, batch: Batch, keys: list[bytes | None]) -> list[Any]:
        try:
            return self._store.rows(keys)
        except RowUnreadable as error:
            batch.blame(keys.index(error.key))
            raise

    def _joined(self, batch: Batch, found: list[Any]) -> Batch:
        joiner: Callable[..., Any] = self._node.joiner
        others = iter(found)

        def join(value: Any, *context: Any) -> Any:
            return joiner(value, next(others), *context)

        batch, results = apply(join, self._cursor, batch, of=joiner)
        return batch.with_values(results, self._node.value.codec)


def global_join(node: GlobalJoinNode, store: Store[Any], cursor: Callable[[], Cursor], lines: Lines) -> GlobalJoin:
    """The operator of such a node, with cursors where its functions take the context."""
    assert isinstance(store, GlobalStore)
    on_cursor = cursor() if node.on_wants_context else None
    return GlobalJoin(node, store, on_cursor, cursor() if node.wants_context else None, lines)
