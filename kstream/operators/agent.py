"""Agents that are plain functions or generator functions, and what agents of every kind put out.

What an agent returns or yields is encoded at once ("a yielded value is taken when it is yielded"), because it may be
a live state object, and goes out when the batch is through.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, cast

from kstream.codecs import SAMPLE, BuiltIn, ColumnError, check_column, encode_value
from kstream.errors import CodecError, KStreamError
from kstream.operators.base import Cursor, Operator
from kstream.operators.batch import Batch
from kstream.operators.writer import Writer
from kstream.specs.record import Record, checked_headers, checked_timestamp
from kstream.specs.topic import Topic
from kstream.state.containers import TIMED

if TYPE_CHECKING:  # declaring an app does without it
    from kstream.state.store import Store


class Results:
    """What an agent put out for one batch, encoded, with the input record of each.

    The first output of each class is compared, to the last type inside, with what a reader gets; whether it can be read
    is tried of one of `check_every`. With 1, and of untyped JSON, each is compared.
    """

    def __init__(
        self, to: Topic[Any, Any] | None, writer: Writer, order: int, name: str, check_every: int = SAMPLE
    ) -> None:
        self._to, self._writer, self._order, self._name = to, writer, order, name
        self._values: list[bytes | None] = []
        self._indices: list[int] = []
        self._records: list[tuple[int, Record[Any, Any]]] = []
        self._encode = to.value.codec.encode if to else _nowhere(name)
        codec = to.value.codec if to else None
        self._each = check_every == 1 or (isinstance(codec, BuiltIn) and codec.loose)
        self._check_every = check_every
        self.emitted = 0
        self._class: type | None = None  # of the output before: the same class needs no second look
        self._record_class: type | None = None  # the same of the Record before

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._values or self._records)

    def take(self, index: int, result: Any) -> None:
        """One output of the record at `index`; None is none."""
        if result is None:
            return
        if isinstance(result, Record):
            # Order among the outputs of a batch is kept: once a Record came, all go one by one.
            self._flush_plain_into_records()
            self._records.append((index, self._encoded(result)))
        elif result.__class__ is not self._class and self._to is not None:
            try:
                if isinstance(result, TIMED):
                    result = result.plain()
                data = encode_value(self._to.value.codec, result)  # raises when it would not come back as it is
            except CodecError as error:
                raise CodecError(f"topic {self._to.name!r}: {error}{_instead_of(result)}") from error
            self._class = None if self._each else result.__class__
            self._append(index, data)
        elif self._records:
            self._append(index, self._encode(result))
        else:
            self._values.append(self._encode(result))
            self._indices.append(index)

    def _append(self, index: int, data: bytes | None) -> None:
        if self._records:
            self._records.append((index, Record(_INPUT_KEY, data)))
        else:
            self._values.append(data)
            self._indices.append(index)

    def release(self, batch: Batch) -> None:
        """Hands the outputs of the batch over."""
        to = self._to
        if to is None:
            return
        if self._values:
            values, self._values = self._values, []
            indices, self._indices = self._indices, []
            self._check(values)
            self.emitted += len(values)
            one_of_each = indices == list(range(batch.size))
            out = batch if one_of_each else batch.at(indices)
            self._writer.column(self._order, out, to.name, values, out.encoded_keys(to.key.codec))
        elif self._records:
            records, self._records = self._records, []
            self._check([record.value for _, record in records])
            self.emitted += len(records)
            keys = None
            for index, record in records:
                key = record.key
                if key is _INPUT_KEY:
                    keys = keys or batch.encoded_keys(to.key.codec)
                    key = keys[index]
                timestamp = batch.timestamps[index] if record.timestamp is None else cast("int", record.timestamp)
                self._writer.one(
                    self._order, batch.place(index), to.name, record.value, key, timestamp, record.headers, -1,
                    batch.cause(index),
                )  # fmt: skip

    def drop(self, index: int) -> None:
        """What was taken of this record, the last one."""
        while self._indices and self._indices[-1] == index:
            del self._indices[-1], self._values[-1]
        while self._records and self._records[-1][0] == index:
            del self._records[-1]

    def reset(self) -> None:
        self._values, self._indices, self._records = [], [], []

    def _check(self, values: list[bytes | None]) -> None:
        if self._each:
            return
        try:
            check_column(self._to.value.codec, values, self._check_every)  # type: ignore[union-attr]
        except CodecError as error:
            raise CodecError(f"agent {self._name!r}: {error}") from error

    def _flush_plain_into_records(self) -> None:
        for index, value in zip(self._indices, self._values, strict=True):
            self._records.append((index, Record(_INPUT_KEY, value)))
        self._values, self._indices = [], []

    def _encoded(self, record: Record[Any, Any]) -> Record[Any, Any]:
        cls = record.value.__class__
        encoded = encode_record(self._to, record, self._name, exact=cls is not self._record_class)
        self._record_class = None if self._check_every == 1 else cls
        return encoded


def _instead_of(result: Any) -> str:
    """What to do about a result that is none: the end of an error's text."""
    if isinstance(result, Coroutine):
        result.close()  # or Python warns that nobody awaited it
        return "; nothing awaits it: write async def f(stream)"
    if isinstance(result, (list, tuple, set, Iterator)):
        return "; one result is returned: yield each of several, and return kstream.Record(key, value) for another key"
    return ""


_INPUT_KEY: Any = object()  # the key of the input record, encoded when the batch goes out


def _nowhere(name: str) -> Callable[[Any], bytes]:
    def refuse(value: Any) -> bytes:
        raise KStreamError(f"agent {name!r} put out {value!r}, but has no topic to send it to: declare to=")

    return refuse


def encode_record(to: Topic[Any, Any] | None, record: Record[Any, Any], who: str, *, exact: bool) -> Record[Any, Any]:
    """The record with key and value as bytes, timestamp and headers in the form that the client takes.

    Args:
        exact: key and value are compared, to the last type inside, with what a reader gets; else they are equal.

    Raises:
        KStreamError: there is no topic, or a tombstone goes to a topic not declared `T | None`.
        CodecError: key, value, timestamp or headers cannot be written.
    """
    if to is None:
        _nowhere(who)(record)
        raise AssertionError
    if record.value is None and not getattr(to.value.codec, "nullable", False):
        raise KStreamError(f"a tombstone (value None) for {to.name!r}, whose values are not declared `| None`")
    try:
        key = None if record.key is None else encode_value(to.key.codec, record.key, exact=exact)
        value = None if record.value is None else encode_value(to.value.codec, record.value, exact=exact)
        timestamp = None if record.timestamp is None else checked_timestamp(record.timestamp)
        headers = None if record.headers is None else checked_headers(record.headers)
    except CodecError as error:
        if isinstance(record.value, TIMED):
            plain = Record(record.key, record.value.plain(), record.timestamp, record.headers)
            return encode_record(to, plain, who, exact=True)
        raise CodecError(f"topic {to.name!r}: {error}") from error
    return Record(key, value, timestamp, headers)


class FunctionAgent(Operator):
    """A plain function of one value, or a generator function of one value (`many`)."""

    traceless = True

    def __init__(
        self,
        function: Callable[..., Any],
        cursor: Cursor | None,
        results: Results,
        stores: list[Store[Any]],
        *,
        many: bool,
    ) -> None:
        super().__init__()
        self.function, self.cursor, self.results, self.many = function, cursor, results, many
        self.stores = stores

    def push(self, batch: Batch) -> None:
        if self.leaves_out:
            batch = batch.readable()
        prefetch(self.stores, batch)
        function, take = self.function, self.results.take
        arguments: tuple[Any, ...] = ()
        cursor: Any = self.cursor
        if cursor is not None:
            cursor.batch, arguments = batch, (cursor,)
        else:
            cursor = _Nowhere
        rest = enumerate(batch.values)
        while True:
            try:
                if self.many:
                    for cursor.index, value in rest:
                        for result in function(value, *arguments):
                            take(cursor.index, result)
                else:
                    for cursor.index, value in rest:
                        take(cursor.index, function(value, *arguments))
                break
            except BaseException as error:
                batch.blame(cursor.index)
                if not (self.leaves_out and batch.leaves_out(cursor.index, error)):
                    raise
                self.results.drop(cursor.index)
        cursor.batch = None
        self.results.release(batch)
        self.emitted = self.results.emitted

    def take_back(self) -> bool:
        self.reset()
        self.results.emitted = self._kept
        return super().take_back()

    def reset(self) -> None:
        self.results.reset()


class _Nowhere:
    """A cursor nobody reads."""

    batch = None
    index = 0


def prefetch(stores: list[Store[Any]], batch: Batch) -> None:
    """One multi-get for the whole batch: the key of a keyed table is the key of the record."""
    for store in stores:
        if store.spec.scope == "keyed":
            try:
                keys = batch.encoded_keys(store.key_codec)
            except ColumnError as error:
                raise ColumnError(
                    f"table {store.name!r}: {error}; the key of a keyed table is that of the record: group_by the "
                    "table's key before, or declare the table scope='partition'",
                    error.index,
                ) from error
            store.batch_keys = keys
            store.load(keys)
