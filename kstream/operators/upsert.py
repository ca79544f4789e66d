"""to_table: the last value of each key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from kstream.codecs import SAMPLE, ColumnError
from kstream.operators.base import Push
from kstream.operators.batch import Batch
from kstream.operators.dropping import Dropping, Lines
from kstream.state.store import Store


class Upsert(Dropping):
    """Puts each value into the store, removes the key where it is None, and passes the changes on, encoded.

    A record without a key is left out. Every value is decoded, so that one that cannot be read fails here and now. One
    of `check_every` values is compared with what a reader gets, where they did not come as the bytes that are kept.

    Args:
        quiet: that a key is removed which is not there is no change.
    """

    def __init__(self, store: Store[Any], lines: Lines, check_every: int = SAMPLE, *, quiet: bool = False) -> None:
        super().__init__(lines)
        self.store, self._check_every, self._quiet = store, check_every, quiet
        self.pairs: list[Push] = []  # children that get the row before and the row after, live

    def push(self, batch: Batch) -> None:
        store = self.store
        batch, keys = self._keyed(batch, store.key_codec)
        if not batch.size:
            return
        store.load(keys)
        if self._quiet and None in batch.values:
            batch = batch.where(self._changes(keys, batch.values))
            keys = batch.encoded_keys(store.key_codec)
            if not batch.size:
                return
        self._put(batch, keys, self._encoded(batch))

    def _encoded(self, batch: Batch) -> list[bytes | None]:
        """The values, as the store keeps them; each can be read."""
        store, _ = self.store, batch.values
        try:
            return batch.encoded_values(store.value_codec, self._check_every)
        except ColumnError as error:
            batch.blame(error.index)
            raise ColumnError(f"table {store.name!r}: {error}", error.index) from error.__cause__ or error

    def _put(self, batch: Batch, keys: Sequence[bytes | None], encoded: list[bytes | None]) -> None:
        """The rows become these, whose keys were loaded, and the changes are passed on."""
        store, values = self.store, batch.values
        store.batch_keys = keys
        pairs = self._pairs(keys, values) if self.pairs else []
        last = dict(zip(cast("list[bytes]", keys), range(batch.size), strict=True))
        kept = {key: at for key, at in last.items() if values[at] is not None}
        store.live.update((key, values[at]) for key, at in kept.items())
        store.changed_to(list(kept), [encoded[at] for at in kept.values()])
        if len(kept) < len(last):
            for key in last:
                if key not in kept:
                    store.delete(key)
        for push in self.pairs:
            push(batch.with_values(pairs, store.value_codec))
        self.emit(batch.with_encoded_values(encoded, store.value_codec))

    def _pairs(self, keys: Sequence[bytes | None], values: Sequence[Any]) -> list[Any]:
        """The row before and the row after each record."""
        there, live = cast("dict[bytes | None, Any]", {}), cast("dict[bytes | None, Any]", self.store.live)
        pairs = []
        for key, value in zip(keys, values, strict=True):
            pairs.append([there[key] if key in there else live[key], value])
            there[key] = value
        return pairs

    def _changes(self, keys: Sequence[bytes | None], values: Sequence[Any]) -> list[bool]:
        """Of each record whether it changes anything: of a key, the record before it says what is there."""
        there, live = cast("dict[bytes | None, bool]", {}), cast("dict[bytes | None, Any]", self.store.live)
        changes = []
        for key, value in zip(keys, values, strict=True):
            changes.append(value is not None or there.get(key, live[key] is not None))
            there[key] = value is not None
        return changes
