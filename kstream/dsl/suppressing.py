"""Tables whose changes are told less often."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args

from kstream.dsl.graph import Graph, advice
from kstream.dsl.processor import Processor
from kstream.dsl.states import ValueState
from kstream.errors import KStreamError, TopologyError
from kstream.specs.fields import whole_milliseconds
from kstream.specs.schema import UNKNOWN, nullable
from kstream.specs.store import StoreSpec
from kstream.specs.timers import Timer, TimerClock
from kstream.table_nodes import TableNode

if TYPE_CHECKING:
    from kstream.dsl.stream import Stream
    from kstream.runtime.task.processing import ProcessorContext


def suppress(
    graph: Graph, changes: Stream[Any, Any], after: timedelta, name: str, clock: TimerClock, backend: Any
) -> TableNode:  # fmt: skip
    """The node of the table that `suppress` makes of changes. Raises as that."""
    whole_milliseconds(after, f"suppress {name!r}: after=", least=1)
    if clock not in get_args(TimerClock):
        raise TopologyError(f"suppress {name!r}: clock={clock!r} is neither 'event' nor 'wall'")
    kind: Any = changes.node.value.kind
    told_as: Any = nullable(changes.node.value, f"suppress {name!r}").kind
    if told_as is UNKNOWN:
        told_as = Any | None

    class Held(Processor[Any, Any, Any]):
        """A row that was changed, until it is told. While it waits it has a timer; without a value it is gone."""

        row: Any = ValueState(kind, backend=backend)

        def process(self, value: Any, ctx: ProcessorContext[Any, Any]) -> None:
            self.row.value = value
            if ctx.due() is None:
                if clock == "event" and ctx.timestamp < 0:
                    raise KStreamError(
                        f"suppress {name!r} counts from the time of a change, and the one of {ctx.key!r} has none "
                        "(Kafka's timestamp is -1): declare timestamp= for its topic, or suppress(..., clock='wall')"
                    )
                ctx.timer(after=after, clock=clock)

        def on_timer(self, timer: Timer, ctx: ProcessorContext[Any, Any]) -> None:
            ctx.emit(self.row.value)
            self.row.clear()

    told = changes.process(Held, name=f"{name}-held", value=told_as)
    spec = StoreSpec(name, told.node.key, told.node.value, backend=backend)
    graph.store(spec, "table", advice(name))
    node = TableNode(
        name=name, parents=(told.node,), key=told.node.key, value=told.node.value, stores=(spec,), quiet=True
    )  # fmt: skip
    graph.add(node)
    return node
