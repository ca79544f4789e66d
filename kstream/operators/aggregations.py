"""From the node of an aggregation to its operator: each kind of window has one of its own."""

from __future__ import annotations

from functools import partial
from typing import Any

from kstream.operators.aggregate import Aggregate
from kstream.operators.base import Cursor
from kstream.operators.counting_aggregate import CountingAggregate
from kstream.operators.dropping import Lines
from kstream.operators.early_aggregate import EarlyAggregate
from kstream.operators.kafka_sliding_aggregate import KafkaSlidingAggregate
from kstream.operators.late import LateTopic
from kstream.operators.session_aggregate import SessionAggregate
from kstream.operators.sliding_aggregate import SlidingAggregate
from kstream.operators.timed_aggregate import TimedAggregate
from kstream.operators.varying_sessions import VaryingSessions
from kstream.operators.windowed_aggregate import WindowedAggregate
from kstream.specs.windows import Windows
from kstream.state.sessions import SessionStore
from kstream.state.sliding import SlidingStore
from kstream.state.store import Store
from kstream.state.watermark import Watermark
from kstream.state.windows import WindowStore
from kstream.topology import AggregateNode
from kstream.window_nodes import CountingNode, KafkaSlidingNode, SlidingNode


def aggregation(
    node: AggregateNode,
    store: Store[Any],
    cursor: Cursor | None,
    lines: Lines,
    time: Watermark | None,
    late: LateTopic | None,
    check_every: int,
) -> Aggregate | SessionAggregate | SlidingAggregate | KafkaSlidingAggregate:
    """
    Args:
        cursor: where its function wants the context.
        time: of the task, where it keeps any.
        late: where records go that are too late.
    """
    if isinstance(node, CountingNode):
        return CountingAggregate(node, store, cursor, lines, check_every)
    if node.windows is None:
        of_keys = Aggregate if node.stores[0].ttl is None else TimedAggregate
        return of_keys(store, node.initial, node.fold, cursor, every_update=node.emit == "update", lines=lines)
    assert time is not None
    if isinstance(store, SessionStore):
        varying = getattr(node.windows, "gap_of", None) is not None
        of_sessions = VaryingSessions if varying else SessionAggregate
        return of_sessions(node, store, cursor, lines, time, check_every, late)
    if isinstance(node, KafkaSlidingNode):
        assert isinstance(store, SlidingStore)
        return KafkaSlidingAggregate(node, store, lines, time, check_every, late)
    assert isinstance(store, WindowStore)
    (parent,) = node.parents
    if isinstance(node, SlidingNode):
        return SlidingAggregate(node, store, parent.key.codec, lines, time, check_every, late)
    assert isinstance(node.windows, Windows)
    kind = partial(EarlyAggregate, every=node.early) if node.early else WindowedAggregate
    return kind(
        store, node.initial, node.fold, cursor, emit=node.emit, lines=lines, key_codec=parent.key.codec,
        windows=node.windows, grace=node.grace, time=time, late=late,
    )  # fmt: skip
