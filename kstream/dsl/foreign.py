"""Two tables that are joined by a foreign key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from kstream.codecs.foreign import ANSWERS, ASKED, SUBSCRIPTIONS, Answer, Subscription
from kstream.codecs.timers import timer_codec
from kstream.dsl.functions import called, check_takes
from kstream.dsl.graph import Graph, advice
from kstream.errors import TopologyError
from kstream.foreign_nodes import AloneNode, AnswerNode, ForeignJoinNode, SubscribeNode, TellNode
from kstream.specs.schema import UNKNOWN, Schema, nullable, returned_by, schema, told_apart, without_none
from kstream.specs.store import StoreSpec
from kstream.table_nodes import JoinHow, TableNode
from kstream.topology import MergeNode

if TYPE_CHECKING:
    from kstream.dsl.tabular import Tabular


def join_foreign(
    graph: Graph,
    left: Tabular[Any, Any],
    right: Tabular[Any, Any],
    joiner: Callable[[Any, Any], Any],
    on: Callable[[Any], Any],
    how: str,
    name: str | None,
    value: Any,
    backend: Any,
) -> TableNode:
    """The node of `left.join(right, joiner, on=...)`, which has the joined table. Raises as that."""
    call = called(joiner, "join")
    called(on, "join")
    check_takes(on, 1)
    if how not in get_args(JoinHow):
        raise TopologyError(
            f"{call}: how={how!r} is neither 'inner' nor 'left', as joins by a foreign key are: results have the keys "
            "of the left, and a row of the right that nobody names has none"
        )
    keys, asked_for = left.rows.key, right.rows.key
    declared = without_none(returned_by(on))
    if declared is not UNKNOWN and (given := schema(declared, "on=", key=True)).codec is not asked_for.codec:
        mine, theirs = told_apart(given.kind, asked_for.kind)
        raise TopologyError(
            f"{call}: on= gives keys of type {mine}, and table {right.rows.name!r} has keys of type {theirs}"
        )
    made = graph.child_name(left.node, "join") if name is None else name
    said = f"the result of {call}"
    results = nullable(schema(value or returned_by(joiner), said), said)
    asked = StoreSpec(f"{made}-asked", keys, Schema(bytes, ASKED), backend=backend)
    subscribed = StoreSpec(
        f"{made}-subscriptions", Schema(asked_for.kind, timer_codec(asked_for.codec)), schema(bytes, "tokens"),
        backend=backend, holds="subscriptions",
    )  # fmt: skip
    spec = StoreSpec(made, keys, results, backend=backend)
    for one in (asked, subscribed, spec):
        graph.store(one, "table", advice(name))
    subscribe = SubscribeNode(
        name=made, parents=(left.node,), key=asked_for, value=Schema(Subscription, SUBSCRIPTIONS),
        stores=(asked,), users=(on, joiner), on=on, joiner=joiner, left=how == "left", results=results,
    )  # fmt: skip
    graph.add(subscribe)
    alone = AloneNode(name=made, parents=(subscribe,), key=keys, value=results)
    graph.add(alone)
    asking = graph.repartition(
        subscribe, graph.group_name(f"{made}-subscription", subscribe, ""), None, None, asked_for
    )  # fmt: skip
    answered = Schema(Answer, ANSWERS)
    answer = AnswerNode(
        name=made, parents=(asking,), key=keys, value=answered,
        stores=(subscribed, right.rows), users=right.views,
        row=right.node.value, views=right.views,
    )  # fmt: skip
    tell = TellNode(name=made, parents=(right.node,), key=keys, value=answered, stores=(subscribed,))
    answers = MergeNode(name=f"{made}-answers", parents=(answer, tell), key=keys, value=answered)
    for node in (answer, tell, answers):
        graph.add(node)
    back = graph.repartition(answers, graph.group_name(f"{made}-answer", answers, ""), None, None, keys)
    joined = ForeignJoinNode(
        name=made, parents=(back,), key=keys, value=results,
        stores=(asked, left.rows), users=(joiner, *left.views),
        joiner=joiner, left=how == "left", row=right.node.value, views=left.views,
    )  # fmt: skip
    both = MergeNode(name=made, parents=(alone, joined), key=keys, value=results)
    table = TableNode(name=made, parents=(both,), key=keys, value=results, stores=(spec,), quiet=True)
    for made_node in (joined, both, table):
        graph.add(made_node)
    return table
