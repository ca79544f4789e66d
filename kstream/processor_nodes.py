"""The nodes of processors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kstream.specs.store import StoreSpec
from kstream.specs.timing import Timing
from kstream.topology import Node, WayNode


@dataclass(eq=False, kw_only=True)
class ProcessNode(Node):
    """Calls a processor of the user's, of the class `processor`. `make` makes one for a task, given the stores of its
    state by attribute, and its context; `states` are the specs of these stores, `timer_store` that of its timers, where
    it has any. `sides` are its side outputs, by name: they are declared later than it is."""

    processor: type
    make: Callable[[dict[str, Any], Any], Any]
    states: dict[str, StoreSpec]
    timer_store: StoreSpec | None
    sides: dict[str, SideNode]

    @property
    def timing(self) -> Timing:
        return Timing(True, "its timers") if self.timer_store is not None else Timing()

    @property
    def may_send(self) -> bool:
        return True

    def describe(self) -> str:
        state = f"  state={','.join(self.states)}" if self.states else ""
        return f"process {self.name}{state}{'' if self.timer_store is None else '  timers'}"


@dataclass(eq=False, kw_only=True)
class SideNode(WayNode):
    """A side output of a processor, called `output`."""

    output: str

    @property
    def kind(self) -> str:
        return "side"
