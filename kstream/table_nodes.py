"""The nodes of tables of streams, of joins, and of what else looks records up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from kstream.specs.schema import Schema
from kstream.specs.timing import Timing
from kstream.specs.within import Within
from kstream.topology import MergeNode, Node, SourceNode, SubTopology, with_all_before

JoinHow = Literal["inner", "left"]
StreamJoinHow = Literal["inner", "left", "outer"]

STEP: Final = 1000
"""See `step_of`."""


def sources_before(node: Node) -> set[Node]:
    return {one for one in with_all_before(node) if isinstance(one, SourceNode)}


def meets(node: Node) -> bool:
    """Whether records of one source come to a node by several ways."""
    before = [sources_before(parent) for parent in node.parents]
    return sum(map(len, before)) > len(set().union(*before))


def step_of(part: SubTopology) -> int:
    """Milliseconds within which it does not matter which of its inputs is read first.

    Where streams are joined by time and nothing else brings two inputs together, that decides nothing but the order of
    results: the time of a task is the least over its inputs, so none is late because another is ahead. Topics whose
    records alternate would be read by one or two at a time, at ten times the cost of a record.
    """
    users = Counter(store.name for node in part.nodes for store in node.stores)
    if not any(isinstance(node, StreamJoinNode) for node in part.nodes) or users.most_common(1)[0][1] > 1:
        return 1
    merges = (node for node in part.nodes if isinstance(node, MergeNode))
    return 1 if any(len(sources_before(node)) > 1 for node in merges) else STEP


TableJoinHow = Literal["inner", "left", "outer"]


@dataclass(eq=False, kw_only=True)
class TableNode(Node):
    """Keeps the last value of each key in `stores[0]`, None deletes, and passes the changes on. `quiet`: but not that a
    key was deleted which was not there. With a `history` (ms) its last value is that of the latest time, and
    `stores[1]` has those that were valid so long before the time of the task."""

    by_column = True

    quiet: bool = False
    history: int = 0

    @property
    def timing(self) -> Timing:
        return Timing(follows=self.history > 0)

    def describe(self) -> str:
        history = f" history={timedelta(milliseconds=self.history)}" if self.history else ""
        return f"table {self.name}  store={self.stores[0].name}{history}"


@dataclass(eq=False, kw_only=True)
class TableJoinNode(Node):
    """Joins each record with what the table `stores[0]` has of its key at that moment, seen through `views`."""

    by_column = True

    joiner: Callable[..., Any]
    wants_context: bool
    how: JoinHow
    views: tuple[Callable[[Any], Any], ...] = ()

    @property
    def kind(self) -> str:
        return "join"

    def describe(self) -> str:
        return f"join {self.name}  table={self.stores[0].name} how={self.how}"


@dataclass(eq=False, kw_only=True)
class AsOfJoinNode(TableJoinNode):
    """Joins each record with the row of its key that was valid at its time: `stores[1]` has the versions of the table
    `stores[0]`, for `history` ms."""

    history: int

    @property
    def timing(self) -> Timing:
        return Timing(follows=True)

    def describe(self) -> str:
        return f"{super().describe()} as of its time"


@dataclass(eq=False, kw_only=True)
class StreamJoinNode(Node):
    """Joins the records of its two parents that are near each other in time. `stores` begin with those of the left and
    of the right side. With one parent, and one store, it is an inner join of a stream with itself."""

    by_column = True

    joiner: Callable[..., Any]
    wants_context: bool
    how: StreamJoinHow
    within: Within

    @property
    def kind(self) -> str:
        return "join"

    @property
    def timing(self) -> Timing:
        if self.how == "inner":
            return Timing(follows=True)
        open_for = max(self.within.left_open, self.within.right_open if self.how == "outer" else 0)
        return Timing(True, f"how={self.how!r}", open_for)

    def describe(self) -> str:
        return f"join {self.name}  {self.parents[0].name} with {self.parents[-1].name} how={self.how} {self.within}"


@dataclass(eq=False, kw_only=True)
class TableChangeNode(Node):
    """Joins each change of a table with what another table, `stores[0]`, has of its key, seen through `views`. `left`:
    the changes are those of the left table."""

    by_column = True

    joiner: Callable[[Any, Any], Any]
    how: TableJoinHow
    left: bool
    views: tuple[Callable[[Any], Any], ...] = ()

    @property
    def kind(self) -> str:
        return "join"

    def describe(self) -> str:
        return f"join {self.name}  {'right' if self.left else 'left'} table={self.stores[0].name} how={self.how}"


@dataclass(eq=False, kw_only=True)
class RetractNode(Node):
    """Of each change of its parent, a `TableNode`, seen through `views`: the row before and the row after, for the
    groups that `function` says."""

    function: Callable[[Any], Any]
    views: tuple[Callable[[Any], Any], ...] = ()

    @property
    def kind(self) -> str:
        return "group"


@dataclass(eq=False, kw_only=True)
class DeduplicateNode(Node):
    """Passes on records unless one of the same key, and the same `by`, was passed on whose time is less than `within`
    (ms) from theirs: `stores[0]` has those. `ids` is the type of what `by` gives; None: only keys count."""

    by_column = True

    by: Callable[[Any], Any] | None
    ids: Schema
    within: int

    @property
    def timing(self) -> Timing:
        return Timing(follows=True)

    def describe(self) -> str:
        return f"deduplicate {self.name}  store={self.stores[0].name} within={timedelta(milliseconds=self.within)}"
