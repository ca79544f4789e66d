"""Columns of consecutive records: what travels between operators.

A batch starts as one fetch (consecutive records of one partition) and keeps a reference to it: `rows` says which
record of the fetch each element comes from, so that timestamps, headers and offsets are read only when somebody
asks. Keys and values are held encoded, decoded or both; each form is made once, when first wanted.

A live state object never sits in a column: it may go on changing before the column is read. Operators hand state on
encoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from itertools import compress
from operator import length_hint
from typing import Any

from kstream.codecs import (
    SAMPLE,
    Codec,
    ColumnError,
    JsonBounds,
    as_in_topics,
    decode_column,
    decode_keys,
    encode_column,
    encode_keys,
)
from kstream.errors import CodecError, RecordTooLarge
from kstream.operators.bounds import check_keys
from kstream.operators.origin import Origin


class Batch:
    """Parallel columns of n records.

    `origin` and `rows` are None for records that no input caused (changes emitted at commit): these carry their
    own `timestamps`. `json` are the bounds that the encoded values are held to before they are decoded; None where none
    of them can be out of bounds.
    """

    __slots__ = (
        "_keys", "_raw_keys", "_raw_values", "_timestamps", "_values", "json", "key_codec", "origin", "rows", "size",
        "value_codec",
    )  # fmt: skip

    def __init__(
        self,
        size: int,
        key_codec: Codec[Any],
        value_codec: Codec[Any],
        *,
        origin: Origin | None = None,
        rows: Sequence[int] | None = None,
        keys: list[Any] | None = None,
        raw_keys: list[bytes | None] | None = None,
        values: list[Any] | None = None,
        raw_values: list[bytes | None] | None = None,
        timestamps: list[int] | None = None,
        json: JsonBounds | None = None,
    ) -> None:
        self.json = json
        self.size, self.key_codec, self.value_codec = size, key_codec, value_codec
        self.origin, self.rows = origin, rows
        self._keys, self._raw_keys = keys, raw_keys
        self._values, self._raw_values = values, raw_values
        self._timestamps = timestamps

    def __len__(self) -> int:
        return self.size

    # ---- columns

    @property
    def values(self) -> list[Any]:
        if self._values is None:
            assert self._raw_values is not None
            try:
                self._values = self._decoded(self._raw_values)
            except ColumnError as error:
                self.blame(error.index)
                raise
        return self._values

    def _decoded(self, raw: Sequence[bytes | None]) -> list[Any]:
        if self.json is not None and (found := self.json.outside(self.value_codec, raw)):
            self.blame(found[0])
            raise found[1]
        return decode_column(self.value_codec, raw)

    @property
    def keys(self) -> list[Any]:
        if self._keys is None:
            try:
                self._keys = decode_keys(self.key_codec, self._raw_key_column())
            except ColumnError as error:
                self.blame(error.index)
                raise
        return self._keys

    def key_of(self, index: int) -> Any:
        """Of one record: it fails only where this one cannot be decoded."""
        origin = self.origin
        if self._keys is not None or origin is None:
            return self.keys[index]
        if not origin.singly:
            at_fault = origin.at_fault
            try:
                return self.keys[index]
            except (CodecError, RecordTooLarge):
                origin.singly, origin.at_fault = True, at_fault
        raw = None if self._raw_keys is None else self._raw_keys[index : index + 1]
        alone = Batch(1, self.key_codec, self.value_codec, origin=origin.alone(self.row(index)), raw_keys=raw)
        return alone.keys[0]

    @property
    def timestamps(self) -> list[int]:
        """Milliseconds since the epoch."""
        if self._timestamps is None:
            assert self.origin is not None
            self._timestamps = self.of_rows(self.origin.timestamps)
        return self._timestamps

    def of_rows(self, column: list[int]) -> list[int]:
        """Of a column of the origin, what its records have."""
        return column if self.rows is None else [column[row] for row in self.rows]

    def encoded_values(self, codec: Codec[Any], every: int = SAMPLE) -> list[bytes | None]:
        """Values as this codec writes them. Those that came encoded by it are taken as they came; of the others one of
        `every` is compared with what a reader gets."""
        if self._raw_values is not None and self.value_codec is codec:
            return self._raw_values
        return encode_column(codec, self.values, every)

    def encoded_keys(self, codec: Codec[Any]) -> list[bytes | None]:
        """Keys as this codec writes them. Keys that came encoded by the same codec are taken as they came."""
        if self.key_codec is codec:
            if self._raw_keys is None and self._keys is None:
                return self._raw_key_column()
            if self._raw_keys is not None:
                return self._raw_keys
        elif self._raw_keys is not None and (raw := as_in_topics(self.key_codec, codec, self._raw_keys)) is not None:
            return raw
        raw = encode_keys(codec, self.keys)
        if self.key_codec is codec:
            self._raw_keys = raw
        return raw

    def _raw_key_column(self) -> list[bytes | None]:
        """The keys of the fetch, extracted only when somebody wants them."""
        if self._raw_keys is None:
            assert self.origin is not None
            raw = self.origin.fetch.keys()
            bounds = self.origin.bounds
            json = bounds.json_beyond(check_keys(self.origin.fetch, raw, bounds.size))
            if json is not None and (found := json.outside(self.key_codec, raw)):
                self.origin.at_fault = found[0]
                raise found[1]
            self._raw_keys = raw if self.rows is None else [raw[row] for row in self.rows]
        return self._raw_keys

    def blame(self, index: int) -> None:
        """What is being done with the batch failed on this element."""
        if self.origin is not None:
            self.origin.at_fault = self.row(index)

    def blame_last(self, elements: Iterator[Any]) -> int:
        """The same, on the element that was taken last from this iterator over a column; returns its place."""
        index = self.size - length_hint(elements) - 1
        self.blame(index)
        return index

    def leaves_out(self, index: int, error: BaseException) -> bool:
        """What is being done with the batch failed on this element, of whose record nothing was done before. Whether
        that is left out, and the others go on."""
        origin, rows = self.origin, self.rows
        if origin is None or origin.leave_out is None or (rows is not None and rows.count(rows[index]) > 1):
            return False
        if not origin.leave_out(self.row(index), error):
            return False
        origin.at_fault = None  # what fails after that is another
        return True

    @property
    def may_go_on(self) -> bool:
        """Whether there is somebody to ask when a record fails: without, the first that does ends the batch."""
        return self.origin is not None and self.origin.leave_out is not None

    def row(self, index: int) -> int:
        """Which record of the origin the element comes from: its ordinal in the input."""
        return index if self.rows is None else self.rows[index]

    def place(self, index: int) -> int:
        """Where it has its place in the order of what goes out: a record of the fetch, or AFTER_ALL."""
        row, origin = self.row(index), self.origin
        if origin is None or (origin.places is None and not origin.of_time):
            return row
        return origin.places_of((row,))[0]

    def cause(self, index: int) -> tuple[Origin, int] | None:
        """The result that it is of; None: it is of an input record."""
        origin = self.origin
        return (origin, self.row(index)) if origin is not None and origin.of_time else None

    # ---- derived batches

    def without(self, indices: Sequence[int]) -> Batch:
        """All but the records at these places."""
        mask = [True] * self.size
        for index in indices:
            mask[index] = False
        return self.where(mask)

    def readable(self) -> Batch:
        """The records whose values can be decoded; the others are left out, where they may be.

        Raises:
            CodecError: they may not.
        """
        if self._values is not None or not self.may_go_on:
            return self
        with suppress(CodecError):
            _ = self.values
            return self
        values: list[Any] = []
        left: list[int] = []
        for index, data in enumerate(self._raw_values or ()):
            try:
                values += self._decoded((data,))
            except CodecError as error:
                self.blame(index)
                if not self.leaves_out(index, error):
                    raise
                left.append(index)
        batch = self.without(left) if left else self
        batch._values = values
        return batch

    def with_values(self, values: list[Any], codec: Codec[Any]) -> Batch:
        return self._derive(codec, values=values)

    def with_encoded_values(self, raw_values: list[bytes | None], codec: Codec[Any]) -> Batch:
        return self._derive(codec, raw_values=raw_values)

    def with_own_values(self) -> Batch:
        """The same records with values that no other batch refers to: decoded anew, or copied."""
        if self._raw_values is not None:
            batch = self._derive(self.value_codec, raw_values=self._raw_values)
            batch.json = self.json
            return batch
        return self._derive(self.value_codec, values=deepcopy(self.values))

    def with_keys(self, keys: list[Any], codec: Codec[Any]) -> Batch:
        return Batch(
            self.size, codec, self.value_codec, origin=self.origin, rows=self.rows, keys=keys,
            values=self._values, raw_values=self._raw_values, timestamps=self._timestamps, json=self.json,
        )  # fmt: skip

    def with_encoded_keys(self, raw_keys: list[bytes | None], codec: Codec[Any]) -> Batch:
        return Batch(
            self.size, codec, self.value_codec, origin=self.origin, rows=self.rows, raw_keys=raw_keys,
            values=self._values, raw_values=self._raw_values, timestamps=self._timestamps, json=self.json,
        )  # fmt: skip

    def spread(self, counts: Sequence[int]) -> Batch:
        """Each record as many times as `counts` says, each time with a value that nothing else refers to."""
        indices = [index for index, count in enumerate(counts) for _ in range(count)]
        batch = self.at(indices)
        if self._raw_values is not None:
            batch._raw_values = [self._raw_values[index] for index in indices]
            batch.json = self.json
        else:
            values = self.values
            batch._values = [deepcopy(values[index]) for index in indices]
        return batch

    def _derive(
        self, codec: Codec[Any], *, values: list[Any] | None = None, raw_values: list[bytes | None] | None = None
    ) -> Batch:
        return Batch(
            self.size, self.key_codec, codec, origin=self.origin, rows=self.rows, keys=self._keys,
            raw_keys=self._raw_keys, values=values, raw_values=raw_values, timestamps=self._timestamps,
        )  # fmt: skip

    def where(self, mask: Sequence[Any]) -> Batch:
        """The records at which the mask is true."""
        if self.origin is not None:
            rows = list(compress(range(self.size) if self.rows is None else self.rows, mask))
        else:
            rows = None

        def pick(column: list[Any] | None) -> list[Any] | None:
            return None if column is None else list(compress(column, mask))

        size = len(rows) if rows is not None else sum(map(bool, mask))
        return Batch(
            size, self.key_codec, self.value_codec, origin=self.origin, rows=rows, keys=pick(self._keys),
            raw_keys=pick(self._raw_keys), values=pick(self._values), raw_values=pick(self._raw_values),
            timestamps=pick(self._timestamps), json=self.json,
        )  # fmt: skip

    def cut(self, start: int, stop: int) -> Batch:
        """The records `start` to `stop` (exclusive)."""

        def part(column: list[Any] | None) -> list[Any] | None:
            return None if column is None else column[start:stop]

        rows = None if self.origin is None else (range(self.size) if self.rows is None else self.rows)[start:stop]
        return Batch(
            stop - start, self.key_codec, self.value_codec, origin=self.origin, rows=rows, keys=part(self._keys),
            raw_keys=part(self._raw_keys), values=part(self._values), raw_values=part(self._raw_values),
            timestamps=part(self._timestamps), json=self.json,
        )  # fmt: skip

    def at(self, indices: Sequence[int]) -> Batch:
        """The records at these places, in this order; a place may come more than once. Values are not taken along."""

        def pick(column: Sequence[Any] | None) -> list[Any] | None:
            return None if column is None else [column[index] for index in indices]

        rows = None if self.origin is None else (list(indices) if self.rows is None else pick(self.rows))
        return Batch(
            len(indices), self.key_codec, self.value_codec, origin=self.origin, rows=rows, keys=pick(self._keys),
            raw_keys=pick(self._raw_keys), timestamps=pick(self._timestamps),
        )  # fmt: skip

    def alone(self, index: int) -> Batch:
        """This record by itself. What is made of it shows in no other batch, and blames nothing."""
        alone = self.cut(index, index + 1)
        if alone.origin is not None:
            alone._timestamps = alone.timestamps
            alone._raw_keys = alone._raw_keys if alone._keys is not None else alone._raw_key_column()
            alone.origin = alone.rows = None
        return alone

    @property
    def form(self) -> tuple[object, ...]:
        """What columns it has, of which codecs: batches of one form can be joined without a trace."""
        told = self.origin if self.origin is not None and self.origin.of_time else None
        return (
            self.key_codec, self._keys is not None and self._raw_keys is None,
            self.value_codec, self._raw_values is None, self.json, id(told),
        )  # fmt: skip

    @staticmethod
    def joined(places: Sequence[tuple[Batch, int]]) -> Batch:
        """A batch of these elements of batches, which are of one origin and form."""
        first = places[0][0]
        _, decoded_keys, _, decoded_values, *_ = first.form
        columns: dict[int, tuple[Any, Any, list[int]]] = {}
        for batch, _ in places:
            if id(batch) not in columns:
                keys = batch._keys if decoded_keys else batch.encoded_keys(batch.key_codec)
                values = batch._values if decoded_values else batch._raw_values
                columns[id(batch)] = keys, values, batch.timestamps
        keys = [columns[id(batch)][0][index] for batch, index in places]
        values = [columns[id(batch)][1][index] for batch, index in places]
        stamps = [columns[id(batch)][2][index] for batch, index in places]
        return Batch(
            len(places), first.key_codec, first.value_codec, origin=first.origin,
            rows=[batch.row(index) for batch, index in places], json=first.json,
            keys=keys if decoded_keys else None, raw_keys=None if decoded_keys else keys,
            values=values if decoded_values else None, raw_values=None if decoded_values else values,
            timestamps=stamps,
        )  # fmt: skip

    def repeat(self, counts: Sequence[int], values: list[Any], codec: Codec[Any]) -> Batch:
        """Each record as many times as `counts` says, with these values (flat_map)."""

        def spread(column: Sequence[Any] | None) -> list[Any] | None:
            if column is None:
                return None
            return [item for item, count in zip(column, counts, strict=True) for _ in range(count)]

        rows = None if self.origin is None else spread(range(self.size) if self.rows is None else self.rows)
        return Batch(
            len(values), self.key_codec, codec, origin=self.origin, rows=rows, keys=spread(self._keys),
            raw_keys=spread(self._raw_keys), values=values, timestamps=spread(self._timestamps),
        )  # fmt: skip
