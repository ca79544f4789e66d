"""A stream joined with a table that each worker has whole: each record finds the row of the key that it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kstream.codecs import ColumnError, encode_keys
from kstream.errors import KStreamError
from kstream.global_nodes import GlobalJoinNode
from kstream.operators.base import Cursor
from kstream.operators.batch import Batch
from kstream.operators.dropping import NO_KEY, Lines
from kstream.operators.joins.finding import FindingJoin
from kstream.operators.stateless import apply
from kstream.state.global_store import GlobalStore, RowUnreadable
from kstream.state.store import Store


class GlobalJoin(FindingJoin):
    """Without `on=` each record names its own key.

    Args:
        on_cursor, cursor: for what `on` and the joiner take as their last argument.
    """

    def __init__(
        self, node: GlobalJoinNode, store: GlobalStore[Any], on_cursor: Cursor | None, cursor: Cursor | None,
        lines: Lines,
    ) -> None:  # fmt: skip
        super().__init__(
            store.key_codec, node.joiner, cursor, node.value.codec, lines, left=node.left, by_key=node.on is None
        )
        self._on, self._store, self._on_cursor = node.on, store, on_cursor

    def _find(self, batch: Batch) -> tuple[Batch, list[Any]]:
        batch, keys = self._asked(batch)
        if not self._left and None in keys:
            batch = self._without(batch, keys, NO_KEY)
            keys = [key for key in keys if key is not None]
        return batch, self._found(batch, keys)

    def _asked(self, batch: Batch) -> tuple[Batch, list[bytes | None]]:
        """The key that each record names, encoded."""
        if self._on is None:
            return batch, batch.encoded_keys(self._key_codec)
        batch, keys = apply(self._on, self._on_cursor, batch)
        try:
            return batch, encode_keys(self._key_codec, keys)
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


def global_join(node: GlobalJoinNode, store: Store[Any], cursor: Callable[[], Cursor], lines: Lines) -> GlobalJoin:
    """The operator of such a node, with cursors where its functions take the context."""
    assert isinstance(store, GlobalStore)
    on_cursor = cursor() if node.on_wants_context else None
    return GlobalJoin(node, store, on_cursor, cursor() if node.wants_context else None, lines)
