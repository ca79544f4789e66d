"""Records grouped by key and window."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from kstream.codecs import Codec, Windowed, WindowedSpan, windowed_codec
from kstream.codecs.base import is_codec
from kstream.codecs.spans import stored_span_codec
from kstream.dsl.grouping import Grouping
from kstream.dsl.hints import OF_WINDOWS
from kstream.dsl.stream import Grouped
from kstream.errors import TopologyError
from kstream.specs.fields import whole_milliseconds
from kstream.specs.schema import UNKNOWN, Schema
from kstream.specs.store import BackendKind, StoreSpec
from kstream.specs.topic import Topic, check_topic
from kstream.specs.windows import Windows, check_windows
from kstream.topology import Emit

if TYPE_CHECKING:
    from kstream.specs.local_days import LocalDays
    from kstream.specs.ttl import TTL
    from kstream.specs.windows import Cumulating

K = TypeVar("K")
V = TypeVar("V")
W = TypeVar("W")


class OfWindows(Grouped[W, V], Generic[W, V]):
    """Records grouped by key and window, ready to be aggregated, as those of a group are.

    `emit="update"` writes the new result for every record, "commit" once per changed window and commit, "close" once
    per window, when it closes. Closed windows are removed from the store and its changelog.
    """

    INSTEAD = dict.fromkeys(OF_WINDOWS, "aggregate it first: count(), sum(function), aggregate(...)")

    def __init__(
        self, records: Grouping, windows: Windows, grace: timedelta, late: Topic[Any, V] | None = None,
        early: timedelta | None = None,
    ) -> None:  # fmt: skip
        self._windows = check_windows(windows)
        super().__init__(records)
        self._grace = whole_milliseconds(grace, "window: grace=")
        if late is not None:
            check_topic(late, "window: late=")
        self._late = late
        if early is not None:
            self._early = whole_milliseconds(early, "window: early=", least=1)
            if self._early >= windows.size:
                raise TopologyError(f"window: early={early!r} is no shorter than the windows, {windows}: leave it out")

    def _check_emit(self, emit: Emit) -> None:
        check_emit_of_windows(emit)
        if self._early and emit != "close":
            raise TopologyError(
                f"window: early= tells results before those of emit='close'; emit={emit!r} does so by itself: leave "
                "early= out"
            )

    def _store(
        self, name: str, key: Schema, value: Schema, backend: BackendKind | None, ttl: TTL | None
    ) -> StoreSpec:  # fmt: skip
        if ttl is not None:
            raise TopologyError(f"{name!r}: ttl= has no meaning for windows: they are removed when they close")
        inner: Any = key.kind
        kind: Any = UNKNOWN if inner is UNKNOWN or is_codec(inner) else self._key_class[inner]
        assert self._windows is not None
        keys = Schema(kind, self._stored(key))
        return StoreSpec(name, keys, value, backend=backend, holds="windows", layout=self._windows.layout)

    _key_class: ClassVar[Any]

    def _stored(self, key: Schema) -> Codec[Any]:
        """The codec of such keys in the store."""
        raise NotImplementedError


class WindowedGroup(OfWindows[Windowed[K], V], Generic[K, V]):
    """Of windows of one size: results have keys of the type `kstream.Windowed`."""

    _key_class = Windowed

    def _stored(self, key: Schema) -> Codec[Any]:
        return windowed_codec(key.codec, stored=True)


class SpanGroup(OfWindows[WindowedSpan[K], V], Generic[K, V]):
    """Of windows whose ends do not follow from their starts: results have keys of the type `kstream.WindowedSpan`."""

    _key_class = WindowedSpan

    def _stored(self, key: Schema) -> Codec[Any]:
        windows = cast("Cumulating | LocalDays", self._windows)
        return stored_span_codec(key.codec, windows.place, windows.span)


def check_emit_of_windows(emit: object) -> None:
    """Raises TopologyError when it is none."""
    if emit not in ("update", "commit", "close"):
        raise TopologyError(
            f"emit={emit!r}: it is 'update' (every record), 'commit' (once per window and commit) or 'close' "
            "(once, when the window closes)"
        )
