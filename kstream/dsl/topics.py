"""How topics are declared."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from kstream.dsl.functions import called
from kstream.dsl.graph import Graph
from kstream.dsl.uses import tables_used
from kstream.errors import TopologyError
from kstream.specs.config import check_config
from kstream.specs.fields import whole_milliseconds
from kstream.specs.names import check_name, check_partitions
from kstream.specs.schema import Kind, schema
from kstream.specs.topic import IN_ORDER, Topic, TopicConfig, event_time

if TYPE_CHECKING:
    from typing_extensions import TypeForm

K = TypeVar("K")
V = TypeVar("V")


class Topics:
    """The part of an app that declares its topics."""

    _graph: Graph

    @overload
    def topic(
        self, name: str, *, key: Kind[K], value: Kind[V], partitions: int | None = None, config: TopicConfig = None,
        timestamp: str | Callable[[V], Any] | None = None, out_of_order: timedelta = IN_ORDER,
        idle_advance: bool = False,
    ) -> Topic[K, V]: ...  # fmt: skip
    @overload
    def topic(  # what is no class, as `T | None`. mypy takes no TypeForm for a part of a union, such as Kind
        self, name: str, *, key: Kind[K], value: TypeForm[V], partitions: int | None = None, config: TopicConfig = None,
        timestamp: str | Callable[[V], Any] | None = None, out_of_order: timedelta = IN_ORDER,
        idle_advance: bool = False,
    ) -> Topic[K, V]: ...  # fmt: skip
    @overload
    def topic(
        self, name: str, *, key: Kind[K], value: Any = None, partitions: int | None = None, config: TopicConfig = None,
        timestamp: str | Callable[[Any], Any] | None = None, out_of_order: timedelta = IN_ORDER,
        idle_advance: bool = False,
    ) -> Topic[K, Any]: ...  # fmt: skip
    @overload
    def topic(
        self, name: str, *, key: Any = bytes, value: Any = None, config: TopicConfig = None,
        partitions: int | None = None, timestamp: str | Callable[..., Any] | None = None, out_of_order: timedelta = ...,
        idle_advance: bool = False,
    ) -> Topic[Any, Any]: ...  # fmt: skip
    def topic(
        self,
        name: str,
        *,
        key: Any = bytes,
        value: Any = None,
        partitions: int | None = None,
        timestamp: str | Callable[[Any], Any] | None = None,
        config: TopicConfig = None,
        out_of_order: timedelta = IN_ORDER,
        idle_advance: bool = False,
    ) -> Topic[Any, Any]:
        """Declares a topic.

        Args:
            name: in Kafka, behind the `KSTREAM_TOPIC_PREFIX` of the environment, where there is one.
            key, value: the types, or codecs of one's own. `T | None` admits tombstones. Undeclared values are plain
                JSON, undeclared keys bytes.
            partitions: how many it must have; it is created with so many when it is missing.
            timestamp: event time: a field's name, or a function of the value giving a datetime or ms since the epoch.
            config: Kafka's topic settings, for when it is created.
            out_of_order: by how much records may come later than others of their partition that have a later event
                time. Windows over the topic wait so long (Flink's bounded out-of-orderness).
            idle_advance: while nothing comes of any input of a task (see `idle_timeout`), time goes on with the clock
                from the last record of this topic on, so that windows close. What comes with an earlier time is late.
        """
        check_name(name, "topic")
        check_partitions(partitions, f"topic {name!r}: partitions")
        copied = check_config(config, f"topic {name!r}: config")
        if callable(timestamp):
            called(timestamp, f"topic {name!r}: timestamp")
            if used := tables_used(timestamp):
                raise TopologyError(
                    f"topic {name!r}: timestamp= uses table {used[0].name!r}: the time of a record must lie in the "
                    "record, for it is asked again whenever that is read again"
                )
        keys = schema(key, f"the key of topic {name!r}", key=True)
        values = schema(Any if value is None else value, f"the value of topic {name!r}")
        time_of = None if timestamp is None else event_time(timestamp, name, values.kind)
        if not isinstance(idle_advance, bool):
            raise TopologyError(f"topic {name!r}: idle_advance={idle_advance!r} is neither True nor False")
        late = whole_milliseconds(out_of_order, f"topic {name!r}: out_of_order=")
        topic: Topic[Any, Any] = Topic(
            self._graph.names.topic(name),
            keys,
            values,
            partitions,
            time_of,
            copied,
            out_of_order=late,
            idle_advance=idle_advance,
        )
        self._graph.topic(topic)
        return topic
