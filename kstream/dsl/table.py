"""Tables: keyed state that user code reads, and writes where it is its own, like a dict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar, overload

from kstream.codecs import copier, encode_value, sure_classes
from kstream.codecs.checking import check
from kstream.codecs.keys import after_prefix, is_ordered
from kstream.dsl.functions import called, check_takes
from kstream.dsl.hints import Hinted
from kstream.errors import TableError, TopologyError
from kstream.runtime.task.context import current_store
from kstream.specs.store import StoreSpec

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


class ReadableTable(Generic[K, V]):
    """A store seen from user code. Each task has its own part of it, backed by a changelog.

    Use it only while a record is processed (in agents, and functions of streams).
    """

    def __init__(self, spec: StoreSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self._encode_key = spec.key.codec.encode
        self._key_classes = sure_classes(spec.key.codec)  # of keys that need no closer look

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, key={self.spec.key}, value={self.spec.value})"

    def __getitem__(self, key: K) -> V:
        """The value of the key. Raises KeyError when there is none."""
        if key.__class__ not in self._key_classes:
            self._check_key(key)
        try:
            value = current_store(self.name).get(self._encode_key(key))
        except UnicodeEncodeError:
            self._check_key(key)  # says whose key it cannot be
            raise
        if value is None:
            raise KeyError(key)
        return value  # type: ignore[no-any-return]

    def __contains__(self, key: K) -> bool:
        if key.__class__ not in self._key_classes:
            self._check_key(key)
        try:
            return current_store(self.name).get(self._encode_key(key)) is not None
        except UnicodeEncodeError:
            self._check_key(key)
            raise

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        if key.__class__ not in self._key_classes:
            self._check_key(key)
        try:
            value = current_store(self.name).get(self._encode_key(key))
        except UnicodeEncodeError:
            self._check_key(key)
            raise
        return default if value is None else value

    def items(self) -> Iterator[tuple[K, V]]:
        """All entries of this partition, in the order of their encoded keys. Do not write while iterating."""
        return self._scan(b"", None)

    def range(self, start: K | None = None, stop: K | None = None) -> Iterator[tuple[K, V]]:
        """The entries of this partition from the key `start` on, before `stop`, in the order of keys; None: no bound.
        Do not write while iterating.

        Reads nothing that lies outside. As with slices `stop` is left out (Kafka Streams' `range` has it in), and there
        is nothing between bounds that are the wrong way round. Text is ordered by code points, as Python does.

        Raises:
            TableError: keys of this type do not lie in their order: only text and bytes do.
        """
        self._check_ordered("range")
        return self._scan(b"" if start is None else self._encoded(start), None if stop is None else self._encoded(stop))

    def prefix(self, prefix: K) -> Iterator[tuple[K, V]]:
        """The entries of this partition whose keys begin with this text or these bytes, in the order of keys. Do not
        write while iterating.

        Raises:
            TableError: the keys are neither text nor bytes.
        """
        self._check_ordered("prefix")
        first = self._encoded(prefix)
        return self._scan(first, after_prefix(first))

    def keys(self) -> Iterator[K]:
        return (key for key, _ in self.items())

    def values(self) -> Iterator[V]:
        return (value for _, value in self.items())

    def __iter__(self) -> Iterator[K]:
        return self.keys()

    def __len__(self) -> int:
        """Entries in this partition; reads them all."""
        return sum(1 for _ in current_store(self.name).scan())

    def shown(self, value: Any) -> Any:
        """What users see of an entry."""
        return value

    def _scan(self, start: bytes, stop: bytes | None) -> Iterator[tuple[K, V]]:
        for raw, value in current_store(self.name).scan(start, stop):
            yield self._key_of(raw), self.shown(value)

    def _encoded(self, key: K) -> bytes:
        if key.__class__ not in self._key_classes:
            self._check_key(key)
        try:
            return self._encode_key(key)
        except UnicodeEncodeError:
            self._check_key(key)
            raise

    def _check_ordered(self, what: str) -> None:
        """Raises TableError where a range of keys has no meaning."""
        if not is_ordered(self.spec.key.codec):
            raise TableError(
                f"table {self.name!r} has keys of type {self.spec.key}, which do not lie in their order: {what}() is "
                "for keys of type str or bytes (write numbers with leading zeros: f'{n:012}'), items() for all entries"
            )

    def _key_of(self, raw: bytes) -> K:
        try:
            return self.spec.key.codec.decode(raw)  # type: ignore[no-any-return]
        except Exception as error:
            raise TableError(
                f"table {self.name!r}: its key {raw!r} cannot be read as {self.spec.key}: {error}"
            ) from error

    def _check_key(self, key: K) -> None:
        """A key of another type would be another key, and could not be decoded."""
        if key is None:
            raise TableError(f"None cannot be a key of table {self.name!r}: does the record have no key?")
        try:
            encode_value(self.spec.key.codec, key)
        except Exception as error:
            raise TableError(f"{key!r} cannot be a key of table {self.name!r}: {error}") from error


class Table(Hinted, ReadableTable[K, V]):
    """A table of the app's own, which agents read and write.

    A value read from it is live: after changing it in place, assign it back (`table[key] = value`), or the change is
    lost. A keyed table's key is the record's key, so that each key has one home partition; with `scope="partition"`
    any key goes, private to the partition.
    """

    INSTEAD: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("stream", "to"), "a table that agents write emits no changes: only aggregations do"),
        **dict.fromkeys(
            ("clear", "copy", "popitem", "setdefault", "update"),
            "write table[key] = value or del table[key], one key at a time",
        ),
    }

    def __init__(self, spec: StoreSpec, default: Callable[[], V] | None) -> None:
        super().__init__(spec)
        self._default = default

    def __getitem__(self, key: K) -> V:
        """The value of the key, or a new default. Raises KeyError when there is neither."""
        if key.__class__ not in self._key_classes:
            self._check_key(key)
        store = current_store(self.name)
        try:
            value = store.get(self._encode_key(key))
        except UnicodeEncodeError:
            self._check_key(key)
            raise
        if value is None:
            if self._default is None:
                raise KeyError(key)
            value = self._default()
            if store.verify:
                store.mutations.default(self._encode_key(key), value, self._default)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        if value is None:
            raise TableError(f"None cannot be a value of table {self.name!r}: use del to remove the key")
        if key.__class__ not in self._key_classes:
            self._check_key(key)
        try:
            current_store(self.name).put(self._encode_key(key), value)
        except UnicodeEncodeError:
            self._check_key(key)
            raise

    def __delitem__(self, key: K) -> None:
        """Removes the key; one that is not there is no error (as in a changelog)."""
        if key.__class__ not in self._key_classes:
            self._check_key(key)
        try:
            current_store(self.name).delete(self._encode_key(key))
        except UnicodeEncodeError:
            self._check_key(key)
            raise

    def pop(self, key: K, default: D | None = None) -> V | D | None:
        """Removes the key and returns its value; `default`, and no error, where it is not there."""
        value = self.get(key)
        if value is None:
            return default
        del self[key]
        return value


def check_table(table: Any, taker: str) -> None:
    """Raises TopologyError when this is no table but, say, the name of one.

    Args:
        taker: what it was given to: "table".
    """
    if not isinstance(table, ReadableTable):
        raise TopologyError(f"{taker} takes a table, not {table!r}: give it what app.table(...) or count(...) returned")


def check_tables(tables: Iterable[Any], taker: str) -> tuple[ReadableTable[Any, Any], ...]:
    """`tables=` as it was given to `taker`. Raises TopologyError where one is no table."""
    if isinstance(tables, ReadableTable | str) or not isinstance(tables, Iterable):
        raise TopologyError(f"{taker}: tables={tables!r}: give a list of tables")
    found = tuple(tables)
    for table in found:
        check_table(table, f"{taker}: tables")
    return found


def default_factory(default: Any, spec: StoreSpec) -> Callable[[], Any] | None:
    """`default=` as a factory: a class or function is called, a value is copied each time.

    Raises:
        TopologyError: the function cannot be called without arguments, or the value is none of the table's.
    """
    if default is None:
        return None
    if callable(default):
        called(default, f"table {spec.name!r}: default")
        check_takes(default, 0)
        return default  # type: ignore[no-any-return]
    codec = spec.value.codec
    try:
        check(codec, default, encode_value(codec, default) or b"")
    except Exception as error:  # whatever the codec says
        raise TopologyError(f"table {spec.name!r}: default={default!r} is no {spec.value}: {error}") from error
    copy = copier(codec)
    return lambda: copy(default)
