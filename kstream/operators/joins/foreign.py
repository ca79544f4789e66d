"""A table joined with a table by a foreign key (Kafka Streams' KIP-213).

A row of the left asks the task that has the right row, through a topic, and is joined with each answer: at once, and
whenever that row changes. An answer carries the token of the row that asked, a digest of its value: one that was on its
way when the row changed is of no use, and is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final, cast

from kstream.codecs import Codec, ColumnError, encode_column, encode_keys
from kstream.codecs.foreign import ANSWERS, SUBSCRIPTIONS, Answer, Asked, Subscription
from kstream.codecs.timers import key_and_name, key_with_id
from kstream.operators.base import Operator, Push
from kstream.operators.batch import Batch
from kstream.operators.joins.lookup import Lookup
from kstream.operators.stateless import apply
from kstream.operators.told import AT_ONCE
from kstream.state.store import Store

TOKEN: Final = 16
"""Bytes of a token."""


class Subscribe(Operator):
    """Of each change of the left what it asks for, and that its row before asks no more. `alone` has the results of
    rows that ask for nothing: they went, or their foreign key is None.

    Args:
        left: rows without a partner have a result.
    """

    def __init__(
        self,
        asked: Store[Asked],
        on: Callable[[Any], Any],
        joiner: Callable[[Any, Any], Any],
        row_codec: Codec[Any],
        key_codec: Codec[Any],
        result_codec: Codec[Any],
        *,
        left: bool,
    ) -> None:
        super().__init__()
        self._asked, self._on, self._joiner, self._left = asked, on, joiner, left
        self._row_codec, self.key_codec, self._result_codec = row_codec, key_codec, result_codec
        self.alone: list[Push] = []

    def push(self, batch: Batch) -> None:
        store = self._asked
        keys = cast("list[bytes]", batch.encoded_keys(store.key_codec))
        foreign = self._foreign(batch)
        store.load(keys)
        live, rows, wanted = store.live, list[int](), list[bytes | None]()
        told: list[Subscription] = []
        raws = batch.encoded_values(self._row_codec)
        for row, (key, own, raw) in enumerate(zip(keys, foreign, raws, strict=True)):
            before = live[key]
            if before is not None and before.key != own:
                rows.append(row)
                wanted.append(before.key)
                told.append(Subscription(key, None))
            if own is None:
                if before is not None:
                    store.delete(key)
            else:
                token = blake2b(raw or b"", digest_size=TOKEN).digest()
                store.put(key, Asked(token, own))
                rows.append(row)
                wanted.append(own)
                told.append(Subscription(key, token))
        if None in foreign:
            self._tell_alone(batch.where([own is None for own in foreign]))
        self.emit(batch.at(rows).with_encoded_keys(wanted, self.key_codec).with_values(told, SUBSCRIPTIONS))

    def _foreign(self, batch: Batch) -> list[bytes | None]:
        on = self._on

        def key_of(row: Any) -> Any:
            return None if row is None else on(row)

        _, found = apply(key_of, None, batch, of=on)
        try:
            return encode_keys(self.key_codec, found)
        except ColumnError as error:
            batch.blame(error.index)
            raise ColumnError(f"the foreign key of a row: {error}", error.index) from error.__cause__ or error

    def _tell_alone(self, batch: Batch) -> None:
        joiner, left = self._joiner, self._left

        def join(row: Any) -> Any:
            return joiner(row, None) if left and row is not None else None

        batch, results = apply(join, None, batch, of=joiner)
        for push in self.alone:
            push(batch.with_values(results, self._result_codec))


class AnswerOne(Operator):
    """Keeps subscriptions, and answers each with the row that there is."""

    def __init__(
        self, subscriptions: Store[bytes], lookup: Lookup, row_codec: Codec[Any], key_codec: Codec[Any]
    ) -> None:
        super().__init__()
        self._subscriptions, self._lookup, self._row_codec, self._key_codec = (
            subscriptions, lookup, row_codec, key_codec,
        )  # fmt: skip

    def push(self, batch: Batch) -> None:
        store = self._subscriptions
        keys = cast("list[bytes]", batch.encoded_keys(self._lookup.store.key_codec))
        subscriptions: list[Subscription] = batch.values
        places = [key_with_id(key, one.key) for key, one in zip(keys, subscriptions, strict=True)]
        store.load(places)
        for place, one in zip(places, subscriptions, strict=True):
            if one.token is not None:
                store.put(place, one.token)
            elif store.live[place] is not None:
                store.delete(place)
        batch = batch.where([one.token is not None for one in subscriptions])
        if not batch.size:
            return
        found = self._lookup(batch.encoded_keys(self._lookup.store.key_codec))
        raws = iter(encode_column(self._row_codec, [row for row in found if row is not None]))
        asking: list[Subscription] = batch.values
        answers = [
            Answer(cast("bytes", one.token), None if row is None else next(raws))
            for one, row in zip(asking, found, strict=True)
        ]
        batch = batch.with_encoded_keys([one.key for one in asking], self._key_codec)
        self.emit(batch.with_values(answers, ANSWERS))


class AnswerAll(Operator):
    """Tells each change of the right to all that subscribed to its row."""

    def __init__(
        self, subscriptions: Store[bytes], right_codec: Codec[Any], row_codec: Codec[Any], key_codec: Codec[Any]
    ) -> None:
        """`right_codec` is that of the keys of the right, `key_codec` that of those of the left."""
        super().__init__()
        self._subscriptions, self._right_codec = subscriptions, right_codec
        self._row_codec, self._key_codec = row_codec, key_codec

    def push(self, batch: Batch) -> None:
        rows, asking, answers = list[int](), list[bytes | None](), list[Answer]()
        keys = cast("list[bytes]", batch.encoded_keys(self._right_codec))
        raws = batch.encoded_values(self._row_codec)
        for row, (key, value, raw) in enumerate(zip(keys, batch.values, raws, strict=True)):
            first = key_with_id(key, b"")
            for place, token in self._subscriptions.scan(first, first + b"\xff"):
                rows.append(row)
                asking.append(key_and_name(place)[1].encode("latin-1"))
                answers.append(Answer(token, None if value is None else raw))
                if len(rows) == AT_ONCE:  # a row may have any number
                    self._tell(batch, rows, asking, answers)
                    rows, asking, answers = [], [], []
        self._tell(batch, rows, asking, answers)

    def _tell(
        self, batch: Batch, rows: Sequence[int], keys: list[bytes | None], answers: list[Answer]
    ) -> None:  # fmt: skip
        self.emit(batch.at(rows).with_encoded_keys(keys, self._key_codec).with_values(answers, ANSWERS))


class ForeignJoin(Operator):
    """Joins answers with the rows that asked, where these are still what they were."""

    def __init__(
        self,
        asked: Store[Asked],
        lookup: Lookup,
        joiner: Callable[[Any, Any], Any],
        row_codec: Codec[Any],
        value_codec: Codec[Any],
        *,
        left: bool,
    ) -> None:
        super().__init__()
        self._asked, self._lookup, self._joiner, self._left = asked, lookup, joiner, left
        self._row_codec, self.value_codec = row_codec, value_codec

    def push(self, batch: Batch) -> None:
        store = self._asked
        keys = cast("list[bytes]", batch.encoded_keys(store.key_codec))
        store.load(keys)
        live, answers = store.live, batch.values
        current = [
            (asked := live[key]) is not None and asked.token == one.token
            for key, one in zip(keys, answers, strict=True)
        ]
        batch = batch.where(current)
        if not batch.size:
            return
        found = self._lookup(batch.encoded_keys(self._lookup.store.key_codec))
        if None in found:
            batch = batch.where([row is not None for row in found])
        rows = iter([row for row in found if row is not None])
        decode, joiner, left = self._row_codec.decode, self._joiner, self._left

        def join(answer: Answer) -> Any:
            row = next(rows)
            if answer.value is None:
                return joiner(row, None) if left else None
            return joiner(row, decode(answer.value))

        batch, results = apply(join, None, batch, of=joiner)
        self.emit(batch.with_values(results, self.value_codec))
