"""The nodes of a foreign-key join of tables. Rows of the left ask, those of the right answer, through two topics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kstream.specs.schema import Schema
from kstream.topology import Node


@dataclass(eq=False, kw_only=True)
class ForeignNode(Node):
    """One of those below."""

    by_column = True


@dataclass(eq=False, kw_only=True)
class SubscribeNode(ForeignNode):
    """Where the left is: each change asks for the row of the right whose key is `on` of it. `stores[0]` has what each
    key asks for. `left`: rows without a partner have results. Its own outputs are subscriptions; an `AloneNode` has the
    results of rows that ask for nothing."""

    on: Callable[[Any], Any]
    joiner: Callable[[Any, Any], Any]
    left: bool
    results: Schema

    def describe(self) -> str:
        return f"subscribe {self.name}  store={self.stores[0].name}"


@dataclass(eq=False, kw_only=True)
class AloneNode(ForeignNode):
    """The results of the rows before it that ask for nothing: they went, or have no foreign key."""


@dataclass(eq=False, kw_only=True)
class AnswerNode(ForeignNode):
    """Where the right is: each subscription is kept in `stores[0]`, and answered by what the table `stores[1]` has,
    seen through `views`. `row`: the type of that."""

    row: Schema
    views: tuple[Callable[[Any], Any], ...] = ()

    def describe(self) -> str:
        return f"answer {self.name}  table={self.stores[1].name}"


@dataclass(eq=False, kw_only=True)
class TellNode(ForeignNode):
    """Where the right is: each change is told to those that subscribed, which `stores[0]` has."""

    def describe(self) -> str:
        return f"tell {self.name}  store={self.stores[0].name}"


@dataclass(eq=False, kw_only=True)
class ForeignJoinNode(ForeignNode):
    """Where the left is: joins answers with what the table `stores[1]` has, seen through `views`, where they are of
    what is asked for now, which `stores[0]` has. `row`: the type of what they answer."""

    joiner: Callable[[Any, Any], Any]
    left: bool
    row: Schema
    views: tuple[Callable[[Any], Any], ...] = ()

    @property
    def kind(self) -> str:
        return "join"

    def describe(self) -> str:
        return f"join {self.name}  table={self.stores[1].name} how={'left' if self.left else 'inner'} by a foreign key"
