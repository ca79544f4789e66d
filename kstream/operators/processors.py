"""From the node of a processor to its operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kstream.operators.dropping import Lines
from kstream.operators.emitting import Output
from kstream.operators.process import Process
from kstream.operators.user_processor import ProcessorCursor
from kstream.processor_nodes import ProcessNode
from kstream.state.store import Store
from kstream.state.time import TaskTime
from kstream.state.timers import TimerStore
from kstream.state.watermark import Watermark


def processor(
    node: ProcessNode,
    stores: Mapping[str, Store[Any]],
    ctx: ProcessorCursor,
    time: Watermark | None,
    wall: TaskTime | None,
    lines: Lines,
    check_every: int,
) -> Process:
    """Args:
    check_every: of how many results one is read back.
    """
    name = f"processor {node.name!r}"
    outputs: dict[str | None, Output] = {None: Output(node.value.codec, name, check_every)}
    for side in node.sides.values():
        outputs[side.output] = Output(side.value.codec, f"{name}, to={side.output!r}", check_every)
    own = {attribute: stores[spec.name] for attribute, spec in node.states.items()}
    timers = None if node.timer_store is None else stores[node.timer_store.name]
    assert timers is None or isinstance(timers, TimerStore)
    return Process(
        node.name, lambda: node.make(own, ctx), ctx, node.key.codec, outputs, list(own.values()), timers, time, wall,
        lines,
    )  # fmt: skip
