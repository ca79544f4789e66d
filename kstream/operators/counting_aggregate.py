"""Aggregations over windows of so many records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from kstream.operators.aggregate import Aggregate
from kstream.operators.base import Cursor
from kstream.operators.batch import Batch
from kstream.operators.dropping import Lines
from kstream.operators.emitting import check_results
from kstream.specs.counting import Counted
from kstream.state.store import Store
from kstream.window_nodes import CountingNode


class CountingAggregate(Aggregate):
    """An `Aggregate` that emits the accumulator with each `n`th record of a key, and begins anew behind it: the key
    leaves the store."""

    _tells_accumulators = False

    def __init__(
        self, node: CountingNode, store: Store[Any], cursor: Cursor | None, lines: Lines, check_every: int
    ) -> None:  # fmt: skip
        super().__init__(store, node.initial, node.fold, cursor, every_update=True, lines=lines)
        self._n, self._value_codec, self._check_every = node.count.n, node.value.codec, check_every

    def push(self, batch: Batch) -> None:
        store = self.store
        if self.leaves_out:
            batch = batch.readable()
        batch, keys = self._sound(batch, store.key_codec)
        store.batch_keys = keys
        store.load(keys)
        encoded, left_out = self._fold_column(batch, keys)
        if self.cursor is not None:
            self.cursor.batch = None
        if left_out:
            batch = batch.without(left_out)
            keys = batch.encoded_keys(store.key_codec)
        live = store.live
        there = [key for key in dict.fromkeys(cast("list[bytes]", keys)) if live[key] is not None]
        store.changed(there)
        for key in set(cast("list[bytes]", keys)).difference(there):
            store.delete(key)
        full = [value is not None for value in encoded or ()]
        if any(full):
            results = cast("list[bytes | None]", [value for value in encoded or () if value is not None])
            check_results(self.store.name, self._value_codec, results, self._check_every)
            self.emit(batch.where(full).with_encoded_values(results, self._value_codec))

    def _fold_rest(
        self, fold: Any, rest: Iterator[tuple[bytes | None, Any]], encoded: list[bytes | None] | None
    ) -> None:
        """None in `encoded` is a record with which its window is not full."""
        live, initial, n = cast("dict[bytes | None, Any]", self.store.live), self.initial, self._n
        assert encoded is not None
        encode, append = self._value_codec.encode, encoded.append
        for key, value in rest:
            counted = live[key]
            if counted is None:
                counted = Counted(0, initial())
            result = fold(counted.value, value)
            if result is None:
                raise self._returned_none()
            if counted.count + 1 >= n:  # more, where a larger n was declared before
                append(encode(result))
                live[key] = None
                continue
            append(None)
            counted.count += 1
            counted.value = result
            live[key] = counted
