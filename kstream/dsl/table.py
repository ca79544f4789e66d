"""Tables: keyed state that agents read and write like a dict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from kstream.codecs import copier
from kstream.dsl.graph import Graph
from kstream.errors import TableError
from kstream.runtime.task.context import current_store
from kstream.specs.store import StoreSpec
from kstream.specs.topic import Topic
from kstream.topology import AggregateNode

if TYPE_CHECKING:
    from kstream.dsl.stream import Stream

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


class Table(Generic[K, V]):
    """A store seen from user code. Each task has its own part of it, backed by a changelog.

    Read and write it only while a record is processed (in agents, and functions of streams). A value read from it is
    live: after changing it in place, assign it back (`table[key] = value`), or the change is lost.

    A keyed table's key is the record's key, so that each key has one home partition; with `scope="partition"` any
    key goes, private to the partition.
    """

    def __init__(self, graph: Graph, spec: StoreSpec, default: Callable[[], V] | None) -> None:
        self.spec = spec
        self.name = spec.name
        self._graph = graph
        self._default = default
        self._encode_key = spec.key.codec.encode
        self._node: AggregateNode | None = None

    def __repr__(self) -> str:
        return f"Table({self.name!r}, key={self.spec.key}, value={self.spec.value})"

    # ---- a dict, inside a task

    def __getitem__(self, key: K) -> V:
        """The value of the key, or a new default. Raises KeyError when there is neither."""
        if key is None:
            raise self._null_key()
        store = current_store(self.name)
        value = store.get(self._encode_key(key))
        if value is None:
            if self._default is None:
                raise KeyError(key)
            value = self._default()
            if store.verify:
                store.remember_default(self._encode_key(key), value, self._default)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        if value is None:
            raise TableError(f"None cannot be a value of table {self.name!r}: use del to remove the key")
        if key is None:
            raise self._null_key()
        if self._node is not None:
            raise TableError(f"table {self.name!r} is the result of an aggregation: it can be read, not written")
        current_store(self.name).put(self._encode_key(key), value)

    def __delitem__(self, key: K) -> None:
        """Removes the key; one that is not there is no error (as in a changelog)."""
        if self._node is not None:
            raise TableError(f"table {self.name!r} is the result of an aggregation: it can be read, not written")
        current_store(self.name).delete(self._encode_key(key))

    def __contains__(self, key: K) -> bool:
        return current_store(self.name).get(self._encode_key(key)) is not None

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        value = current_store(self.name).get(self._encode_key(key))
        return default if value is None else value

    def pop(self, key: K, default: D | None = None) -> V | D | None:
        value = self.get(key)
        if value is None:
            return default
        del self[key]
        return value

    def items(self) -> Iterator[tuple[K, V]]:
        """All entries of this partition, in the order of their encoded keys. Do not write while iterating."""
        decode = self.spec.key.codec.decode
        for raw, value in current_store(self.name).scan():
            yield decode(raw), value

    def keys(self) -> Iterator[K]:
        return (key for key, _ in self.items())

    def values(self) -> Iterator[V]:
        return (value for _, value in self.items())

    def __iter__(self) -> Iterator[K]:
        return self.keys()

    def __len__(self) -> int:
        """Entries in this partition; reads them all."""
        return sum(1 for _ in current_store(self.name).scan())

    def _null_key(self) -> TableError:
        return TableError(f"None cannot be a key of table {self.name!r}: does the record have no key?")

    # ---- a stream of changes, of aggregations

    def to(self, topic: Topic[K, V]) -> None:
        """Writes each emitted change to a topic."""
        self.stream().to(topic)

    def stream(self) -> Stream[K, V]:
        """The emitted changes as a stream."""
        from kstream.dsl.stream import Stream  # tables and streams make each other

        if self._node is None:
            raise TableError(
                f"table {self.name!r} is written by agents and emits no changes: "
                "only aggregations have stream() and to()"
            )
        return Stream(self._graph, self._node)

    @classmethod
    def of_aggregation(cls, graph: Graph, node: AggregateNode) -> Table[Any, Any]:
        table: Table[Any, Any] = cls(graph, node.stores[0], None)
        table._node = node
        return table


def default_factory(default: Any, spec: StoreSpec) -> Callable[[], Any] | None:
    """`default=` as a factory: a class or function is called, a value is copied each time."""
    if default is None:
        return None
    if callable(default):
        return default  # type: ignore[no-any-return]
    copy = copier(spec.value.codec)
    return lambda: copy(default)
