"""Keyed aggregation: folds a column of values into a store.

The store's live objects are read and replaced in one loop; what is emitted is always the encoded accumulator, taken
at that moment, because the object goes on changing: a live state object never sits in a column. What is kept is encoded
once more at the commit, each changed key: to hold all those bytes until then costs more (see `Store.changed_to`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, ClassVar, cast

from kstream.codecs import holds_none
from kstream.errors import KStreamError
from kstream.operators.base import Cursor
from kstream.operators.batch import Batch
from kstream.operators.dropping import NO_KEY, NO_VALUE, Dropping, Lines, refuse_epoch
from kstream.operators.origin import Origin
from kstream.operators.told import Teller, Telling
from kstream.state.store import Store


class Aggregate(Dropping, Telling):
    """With `every_update` each record emits the accumulator; otherwise each changed key emits once, before the
    commit. Either way an output has the timestamp of the last record that went into it.

    A record without a key or without a value (a tombstone) cannot be folded: it is left out, counted in `dropped` and
    logged, as Kafka Streams does.
    """

    _tells_accumulators: ClassVar[bool] = True
    """Whether that is what it emits with each update."""
    _what: ClassVar[str] = "the result of"

    def __init__(
        self,
        store: Store[Any],
        initial: Callable[[], Any],
        fold: Callable[..., Any],
        cursor: Cursor | None,
        *,
        every_update: bool,
        lines: Lines,
    ) -> None:
        super().__init__(lines)
        self.store, self.initial, self.fold, self.cursor = store, initial, fold, cursor
        self.every_update = every_update
        self._tells_last = not every_update  # before a commit, with the time of the last record of each key
        self._changed_at: dict[bytes, int] = {}  # since the last commit, by key: what was kept
        self._changed_now: dict[bytes, int] = {}  # the same since then
        self._flushed: dict[bytes, int] | None = None  # what was kept, where it was told since
        self.teller = Teller(f"{self._what} {store.name!r}", store.key_codec, by_key=not every_update)

    def push(self, batch: Batch) -> None:
        store = self.store
        if self.leaves_out:
            batch = batch.readable()
        keys = batch.encoded_keys(store.key_codec)
        store.batch_keys = keys
        if None in store.load(keys):
            batch = self._without(batch, keys, NO_KEY)
            keys = batch.encoded_keys(store.key_codec)
        if holds_none(batch.value_codec) and None in batch.values:
            batch = self._without(batch, batch.values, NO_VALUE)
            keys = batch.encoded_keys(store.key_codec)
        if self._tells_last and self.children and 0 in batch.timestamps:
            refuse_epoch(batch, batch.timestamps.index(0), store.name)
        encoded, left_out = self._fold_column(batch, keys)
        if self.cursor is not None:
            self.cursor.batch = None
        if left_out:
            batch = batch.without(left_out)
            keys = batch.encoded_keys(store.key_codec)
        if encoded is not None:
            store.changed_to(keys, encoded, kept=batch.may_go_on)  # `undo` goes by them
            self.emit(batch.with_encoded_values(encoded, store.value_codec))
        else:
            store.changed(keys)
            if self._tells_last:
                self._changed_now.update(zip(cast("list[bytes]", keys), batch.timestamps, strict=True))

    def _fold_column(self, batch: Batch, keys: list[bytes | None]) -> tuple[list[bytes | None] | None, list[int]]:
        """Folds each value in. Returns each accumulator as it was then, encoded, where every update is emitted; and
        which records failed and are left out."""
        fold = self._fold_over(batch)
        encoded = cast("list[bytes | None] | None", [] if self.every_update else None)
        values, left_out = iter(batch.values), cast("list[int]", [])
        rest = zip(keys, values, strict=True)
        folded: dict[bytes | None, int] = {}  # keys up to the last that failed, and how many accumulators with theirs
        place = 0
        while True:
            try:
                self._fold_rest(fold, rest, encoded)
                return encoded, left_out
            except BaseException as error:
                index = batch.blame_last(values)
                if not self.leaves_out:
                    raise
                folded.update(zip(keys[place:index], count(place - len(left_out)), strict=False))
                place = index + 1
                if not self._goes_on(batch, keys, index, error, encoded, folded.get(keys[index])):
                    raise
                left_out.append(index)

    def _fold_rest(
        self,
        fold: Callable[[Any, Any], Any],
        rest: Iterator[tuple[bytes | None, Any]],
        encoded: list[bytes | None] | None,
    ) -> None:
        live, initial = cast("dict[bytes | None, Any]", self.store.live), self.initial
        encode, append = self.store.encode, None if encoded is None else encoded.append
        for key, value in rest:
            kept = live[key]
            accumulator = fold(initial() if kept is None else kept, value)
            if accumulator is None:
                raise self._returned_none()
            if accumulator is not kept:  # else it was changed in place
                live[key] = accumulator
            if append is not None:
                append(encode(accumulator))

    def _goes_on(
        self, batch: Batch, keys: list[bytes | None], index: int, error: BaseException,
        encoded: list[bytes | None] | None, place: int | None,
    ) -> bool:  # fmt: skip
        """Behind a record that failed: its accumulator is what it was before, if that is known.

        Args:
            place: of the encoded accumulator that the last record of the key in this batch left; None: there was none.
        """
        key = keys[index]
        if key is None:
            return False
        if place is None:
            return self.store.undo(key) and batch.leaves_out(index, error)
        if encoded is None or not self._tells_accumulators:  # what records before it did would be gone too
            return False
        return self.store.undo(key, encoded[place]) and batch.leaves_out(index, error)

    def flush(self) -> None:
        super().flush()
        changed_at, self._flushed = self._changed_at | self._changed_now, self._changed_at
        self._changed_at, self._changed_now = {}, {}
        if not changed_at:
            return
        changes = self.store.encode_changes()
        raw_values = [changes[key] for key in changed_at]
        if None in raw_values:  # removed again: it has expired (TTL)
            changed_at = {key: at for key, at in changed_at.items() if changes[key] is not None}
            raw_values = [changes[key] for key in changed_at]
        self._tell(list(changed_at), raw_values, list(changed_at.values()), None, None)

    def _tell(
        self,
        keys: Sequence[bytes | None],
        raw: Sequence[bytes | None],
        stamps: Sequence[int],
        origin: Origin | None,
        rows: Sequence[int] | None,
    ) -> None:
        """Results that no record of theirs is behind: of `rows` of the origin, where a batch moved time there."""
        self.teller.tell_encoded(self.store.value_codec, keys, raw, stamps, origin, rows, self.emit)

    def keep(self) -> None:
        super().keep()
        self._changed_at.update(self._changed_now)
        self._changed_now, self._flushed = {}, None

    def take_back(self) -> bool:
        self._changed_now = {}
        if self._flushed is not None:
            self._changed_at, self._flushed = self._flushed, None
        return super().take_back()

    def committed(self) -> None:
        super().committed()
        self._flushed = None

    def reset(self) -> None:
        super().reset()
        self._forget()

    def _forget(self) -> None:
        self._changed_at, self._changed_now, self._flushed = {}, {}, None

    def _fold_over(self, batch: Batch) -> Callable[[Any, Any], Any]:
        if self.cursor is None:
            return self.fold
        cursor, fold = self.cursor, self.fold
        cursor.batch, cursor.index = batch, -1

        def with_context(accumulator: Any, value: Any) -> Any:
            cursor.index += 1
            return fold(accumulator, value, cursor)

        return with_context

    def _returned_none(self) -> KStreamError:
        return KStreamError(
            f"the function of {self.store.name!r} returned None: a fold returns the accumulator, the others a value"
        )
