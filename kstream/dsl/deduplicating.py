"""Streams without the records that were there before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Self, TypeVar, cast

from kstream.codecs import Windowed, is_codec, windowed_codec
from kstream.codecs.timers import TimerKey, timer_codec
from kstream.dsl.functions import called, check_takes
from kstream.dsl.graph import advice
from kstream.dsl.joins import Joining
from kstream.specs.fields import whole_milliseconds
from kstream.specs.schema import UNKNOWN, Kind, Schema, returned_by, schema
from kstream.specs.store import BackendKind, StoreSpec, check_backend
from kstream.table_nodes import DeduplicateNode

K = TypeVar("K")
V = TypeVar("V")


class Deduplicating(Joining[K, V]):
    """The part of a stream that knows them."""

    def deduplicate(
        self,
        by: Callable[[V], Any] | None = None,
        *,
        within: timedelta,
        of: Kind[Any] | None = None,
        name: str | None = None,
        backend: BackendKind | None = None,
    ) -> Self:
        """Passes on a record unless one with the same key, and the same `by`, was passed on whose event time is less
        than `within` from its own. (Kafka Streams' KIP-655, ROW_NUMBER = 1 in Flink's SQL.)

        What is left out is counted (`records_dropped_total`, reason `duplicate`). So are records that are late by
        `within` or more (`late`), for whether they were there before is not known any more; and, without `by`, those
        without a key (`no key`). Where the key was changed by `rekey`, records travel to its home first.

        Args:
            by: what tells a record from others of its key, as the id of an event; None is no id, and passes. Without
                it one record of each key is passed on.
            within: for so long it is remembered what was passed on.
            of: the type of what `by` gives, where its annotation does not say.
            name: of the store and its changelog `<app>-<name>-changelog`: give one, and keep it.
            backend: where what is committed lies: "rocksdb", "memory" or "file"; None: where the setting says.

        Raises:
            TopologyError: `within` is no length of time, or `by` cannot be called.
        """
        made = self._graph.child_name(self.node, "distinct") if name is None else name
        length = whole_milliseconds(within, f"deduplicate {made!r}: within=", least=1)
        check_backend(backend, f"deduplicate {made!r}")
        if by is not None:
            called(by, "deduplicate")
            check_takes(by, 1)
        ids = schema(of or (UNKNOWN if by is None else returned_by(by)), f"what {made!r} is told apart by", key=True)
        before = self.at_home(made)
        spec = StoreSpec(
            made, _places(before.key, with_ids=by is not None), schema(int, made), backend=backend,
            holds="windows" if by is None else "windowed ids",
            layout=f"deduplicate within {within}{'' if by is None else ', by id'}",
        )  # fmt: skip
        self._graph.store(spec, "deduplicate", advice(name))
        node = DeduplicateNode(
            name=made,
            parents=(before,),
            key=before.key,
            value=before.value,
            stores=(spec,),
            users=() if by is None else (by,),
            by=by,
            ids=ids,
            within=length,
        )
        self._graph.add(node)
        return self._on(node, rekeyed=False)


def _places(key: Schema, *, with_ids: bool) -> Schema:
    """The type of the store's keys."""
    inner = timer_codec(key.codec) if with_ids else key.codec
    kind: Any = key.kind
    if kind is not UNKNOWN and not is_codec(kind):
        kind = cast("Any", Windowed)[cast("Any", TimerKey)[kind] if with_ids else kind]
    return Schema(UNKNOWN if is_codec(kind) else kind, windowed_codec(inner, stored=True))
