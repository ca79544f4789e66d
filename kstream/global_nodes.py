"""The node of a join with a table that each worker has whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kstream.specs.global_table import GlobalSpec
from kstream.topology import Node


@dataclass(eq=False, kw_only=True)
class GlobalJoinNode(Node):
    """Joins each record with what the global table `table` has of the key `on` of its value at that moment; without
    `on`, of its own key. `on_wants_context`: `on` takes the context, too. `left`: records that find nothing
    have results."""

    table: GlobalSpec
    on: Callable[..., Any] | None
    on_wants_context: bool
    joiner: Callable[..., Any]
    wants_context: bool
    left: bool

    @property
    def may_send(self) -> bool:
        return self.wants_context or self.on_wants_context

    @property
    def kind(self) -> str:
        return "join"

    def describe(self) -> str:
        by = "" if self.on is None else " by a key of its own"
        return f"join {self.name}  global table={self.table.name} how={'left' if self.left else 'inner'}{by}"
