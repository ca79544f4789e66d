"""From a group to its windows."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from kstream.errors import TopologyError

if TYPE_CHECKING:
    from kstream.dsl.counting import CountingGroup
    from kstream.dsl.grouping import Grouping
    from kstream.dsl.kafka_sliding import KafkaSlidingGroup
    from kstream.dsl.sessions import SessionGroup
    from kstream.dsl.sliding import SlidingGroup
    from kstream.dsl.windowed import SpanGroup, WindowedGroup
    from kstream.specs.counting import Counting
    from kstream.specs.kafka_sliding import KafkaSliding
    from kstream.specs.local_days import LocalDays
    from kstream.specs.sessions import Session
    from kstream.specs.sliding import Sliding
    from kstream.specs.topic import Topic
    from kstream.specs.windows import Cumulating, Hopping, Tumbling

K = TypeVar("K")
V = TypeVar("V")


class Windowing(Generic[K, V]):
    """What a group does with windows."""

    _records: Grouping

    @overload
    def window(
        self, windows: Tumbling | Hopping, *, grace: timedelta, late: Topic[K, V] | None = None,
        early: timedelta | None = None,
    ) -> WindowedGroup[K, V]: ...  # fmt: skip
    @overload
    def window(
        self, windows: LocalDays, *, grace: timedelta, late: Topic[K, V] | None = None, early: timedelta | None = None
    ) -> SpanGroup[K, V]: ...
    @overload
    def window(self, windows: Cumulating, *, grace: timedelta, late: Topic[K, V] | None = None) -> SpanGroup[K, V]: ...
    @overload
    def window(self, windows: Session, *, grace: timedelta, late: Topic[K, V] | None = None) -> SessionGroup[K, V]: ...
    @overload
    def window(self, windows: Sliding, *, grace: timedelta, late: Topic[K, V] | None = None) -> SlidingGroup[K, V]: ...
    @overload
    def window(
        self, windows: KafkaSliding, *, grace: timedelta, late: Topic[K, V] | None = None
    ) -> KafkaSlidingGroup[K, V]: ...
    @overload
    def window(self, windows: Counting) -> CountingGroup[K, V]: ...
    def window(
        self, windows: Any, *, grace: Any = None, late: Topic[K, V] | None = None, early: timedelta | None = None
    ) -> Any:
        """Parts each key's records into windows of event time, to be aggregated by themselves.

            orders.group_by_key().window(kstream.Tumbling(minutes=1), grace=timedelta(seconds=10)).count(emit="close")

        Args:
            windows: `Tumbling`, `Hopping`, `Cumulating`, `LocalDays`, `Sliding`, `KafkaSliding`, `Session` or
                `Counting`.
            grace: a window closes so long after its end. Until then records that come late go into it; later ones are
                left out, and counted. It is always said: too short loses records, too long keeps results back.
                (Not with `Counting`.)
            late: a topic for records that are too late for all their windows, in the task's transaction, with the
                header `kstream.late.by`: the ms for which the last of these windows had been closed.
            early: with `emit="close"`, what open windows have is told too, whenever so much event time has passed: at
                whole multiples of it since the epoch. (`Tumbling`, `Hopping` and `LocalDays`.)

        Raises:
            TopologyError: these are no windows, or that can be no grace.
        """
        from kstream.dsl.counting import CountingGroup
        from kstream.dsl.kafka_sliding import KafkaSlidingGroup
        from kstream.dsl.sessions import SessionGroup
        from kstream.dsl.sliding import SlidingGroup
        from kstream.dsl.windowed import SpanGroup, WindowedGroup
        from kstream.specs.counting import Counting
        from kstream.specs.kafka_sliding import KafkaSliding
        from kstream.specs.sessions import Session
        from kstream.specs.sliding import Sliding
        from kstream.specs.windows import Cumulating

        if early is not None and (isinstance(windows, Session | Sliding | KafkaSliding | Cumulating | Counting)):
            raise TopologyError("window: early= is for Tumbling, Hopping and LocalDays: leave it out")
        if isinstance(windows, Counting):
            if grace is not None or late is not None:
                raise TopologyError("window: Counting(n) counts records as they come: leave grace= and late= out")
            return CountingGroup(self._records, windows)
        if isinstance(windows, Sliding):
            return SlidingGroup(self._records, windows, grace, late)
        if isinstance(windows, KafkaSliding):
            return KafkaSlidingGroup(self._records, windows, grace, late)
        if isinstance(windows, Session):
            return SessionGroup(self._records, windows, grace, late)
        kind = SpanGroup if getattr(windows, "spans", False) else WindowedGroup
        return kind(self._records, windows, grace, late, early)
