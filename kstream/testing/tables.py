"""What the TestDriver shows of tables and of the states of processors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from kstream.codecs import Codec
from kstream.dsl.processor import states_of
from kstream.dsl.states import State
from kstream.dsl.table import ReadableTable, check_table
from kstream.errors import TopologyError
from kstream.processor_nodes import ProcessNode
from kstream.runtime.worker.loop import StreamWorker
from kstream.topology import Node

K = TypeVar("K")
V = TypeVar("V")


class TableView(Mapping[K, V], Generic[K, V]):
    """What a store holds, read from those of all tasks.

    Args:
        codec: of its keys.
        shown: what users see of an entry.
    """

    def __init__(
        self, workers: Sequence[StreamWorker], store: str, codec: Codec[K], shown: Callable[[Any], V]
    ) -> None:  # fmt: skip
        self._content: dict[bytes, V] = {}  # by their bytes, as the stores have them: equal keys may be two entries
        self._codec = codec
        tables = [worker.tables.stores[store] for worker in workers if store in worker.tables.stores]
        for table in tables[:1]:  # each worker has all of it
            self._content.update(table.scan())
        for task in (task for worker in workers for task in worker.tasks.values()):
            if store in task.stores:
                self._content.update((key, shown(value)) for key, value in task.stores[store].scan())

    def __getitem__(self, key: K) -> V:
        try:
            return self._content[self._codec.encode(key)]
        except KeyError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[K]:
        return map(self._codec.decode, self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{key!r}: {value!r}" for key, value in self.items()) + "}"


def view_of(given: object, nodes: Iterable[Node], workers: Sequence[StreamWorker]) -> TableView[Any, Any]:
    """Of a table, of the state of a processor, or of a state by the name of its store.

    Raises:
        TopologyError: it is none of these, or the state of several processors.
    """
    if not isinstance(given, State | str):
        check_table(given, "table")
        table: ReadableTable[Any, Any] = given  # type: ignore[assignment]
        return TableView(workers, table.name, table.spec.key.codec, table.shown)
    known = {
        node.states[attribute].name: (node.states[attribute].key.codec, state)
        for node in nodes
        if isinstance(node, ProcessNode)
        for attribute, state in states_of(node.processor).items()
    }
    names = [name for name, (_, state) in known.items() if given in (name, state)]
    what = repr(given) if isinstance(given, str) else f"this {type(given).__name__}"
    if not names:
        raise TopologyError(
            f"table takes a table, not {what}: give it what app.table(...) or count(...) returned, or the state of a "
            f"processor of this app; there are: {', '.join(known) or 'none'}"
        )
    if len(names) > 1:
        raise TopologyError(f"{what} is the state of several processors: give its name, one of {', '.join(names)}")
    codec, state = known[names[0]]
    return TableView(workers, names[0], codec, state.shown)
