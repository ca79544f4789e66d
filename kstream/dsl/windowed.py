"""Records grouped by key and window."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from kstream.codecs import Windowed, windowed_codec
from kstream.codecs.base import is_codec
from kstream.dsl.hints import STEPS
from kstream.dsl.stream import Grouped
from kstream.errors import TopologyError
from kstream.specs.fields import whole_milliseconds
from kstream.specs.schema import UNKNOWN, Schema
from kstream.specs.store import BackendKind, StoreSpec
from kstream.specs.topic import Topic, check_topic
from kstream.specs.windows import Windows, check_windows
from kstream.topology import Emit, Node

if TYPE_CHECKING:
    from kstream.specs.ttl import TTL

K = TypeVar("K")
V = TypeVar("V")


class WindowedGroup(Grouped[Windowed[K], V], Generic[K, V]):
    """Records grouped by key and window, ready to be aggregated, as those of a group are. Results have keys of the
    type `kstream.Windowed`.

    `emit="update"` writes the new result for every record, "commit" once per changed window and commit, "close" once
    per window, when it closes. Closed windows are removed from the store and its changelog.
    """

    INSTEAD = dict.fromkeys((*STEPS, "to", "stream"), "aggregate it first: count(), sum(function), aggregate(...)")

    def __init__(
        self, group: Grouped[K, V], windows: Windows, grace: timedelta, late: Topic[K, V] | None = None
    ) -> None:  # fmt: skip
        self._group_before, self._windows = group, check_windows(windows)
        super().__init__(group._graph, group._node, group._repartition, group._parallelism, group._group)
        self._grace = whole_milliseconds(grace, "window: grace=")
        if late is not None:
            check_topic(late, "window: late=")
        self._late = late

    def node(self) -> Node:
        return self._group_before.node()

    def _check_emit(self, emit: Emit) -> None:
        check_emit_of_windows(emit)

    def _store(
        self, name: str, key: Schema, value: Schema, backend: BackendKind | None, ttl: TTL | None
    ) -> StoreSpec:  # fmt: skip
        if ttl is not None:
            raise TopologyError(f"{name!r}: ttl= has no meaning for windows: they are removed when they close")
        inner: Any = key.kind
        kind: Any = UNKNOWN if inner is UNKNOWN or is_codec(inner) else cast("Any", Windowed)[inner]
        keys = Schema(kind, windowed_codec(key.codec, stored=True))
        return StoreSpec(name, keys, value, backend=backend, windows=self._windows)


def check_emit_of_windows(emit: object) -> None:
    """Raises TopologyError when it is none."""
    if emit not in ("update", "commit", "close"):
        raise TopologyError(
            f"emit={emit!r}: it is 'update' (every record), 'commit' (once per window and commit) or 'close' "
            "(once, when the window closes)"
        )
