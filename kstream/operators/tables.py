"""From the nodes of tables, and of joins with them, to their operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kstream.foreign_nodes import AloneNode, AnswerNode, ForeignJoinNode, SubscribeNode, TellNode
from kstream.operators.base import Cursor, Operator
from kstream.operators.branch import Pass
from kstream.operators.dropping import Lines
from kstream.operators.joins.as_of import AsOfJoin
from kstream.operators.joins.foreign import AnswerAll, AnswerOne, ForeignJoin, Subscribe
from kstream.operators.joins.lookup import Lookup
from kstream.operators.joins.stream_table import StreamTableJoin
from kstream.operators.joins.table_table import TableChanges
from kstream.operators.retract import Retract
from kstream.operators.upsert import Upsert
from kstream.operators.versioned_upsert import VersionedUpsert
from kstream.state.store import Store
from kstream.state.versions import VersionStore
from kstream.state.watermark import Watermark
from kstream.table_nodes import AsOfJoinNode, RetractNode, TableChangeNode, TableJoinNode, TableNode
from kstream.topology import Node


def of_tables(
    node: Node,
    stores: Mapping[str, Store[Any]],
    cursor: Cursor | None,
    lines: Lines,
    watermark: Watermark | None,
    check_every: int,
) -> Operator:
    """The operator of such a node.

    Args:
        cursor: for a joiner that wants a context.
    """
    match node:
        case TableNode():
            table = stores[node.stores[0].name]
            if not node.history:
                return Upsert(table, lines, check_every, quiet=node.quiet)
            versions = stores[node.stores[1].name]
            assert isinstance(versions, VersionStore) and watermark is not None
            return VersionedUpsert(table, versions, node.history, watermark, lines, check_every)
        case RetractNode():
            (before,) = node.parents
            rows = before.stores[0].value.codec
            return Retract(node.function, node.views, rows, node.key.codec, node.value.codec, lines)
        case TableChangeNode():
            return TableChanges(
                Lookup(stores[node.stores[0].name], node.views), node.joiner, node.value.codec,
                left=node.how != "outer", right=node.how == "inner", is_left=node.left,
            )  # fmt: skip
        case AsOfJoinNode():
            versions = stores[node.stores[1].name]
            assert isinstance(versions, VersionStore) and watermark is not None
            return AsOfJoin(
                stores[node.stores[0].name], versions, node.history, node.views, node.joiner, cursor,
                node.value.codec, lines, watermark, left=node.how == "left",
            )  # fmt: skip
        case TableJoinNode():
            lookup = Lookup(stores[node.stores[0].name], node.views)
            return StreamTableJoin(lookup, node.joiner, cursor, node.value.codec, lines, left=node.how == "left")
        case SubscribeNode():
            (before,) = node.parents
            return Subscribe(
                stores[node.stores[0].name], node.on, node.joiner, before.value.codec, node.key.codec,
                node.results.codec, left=node.left,
            )  # fmt: skip
        case AloneNode():
            return Pass()
        case AnswerNode():
            lookup = Lookup(stores[node.stores[1].name], node.views)
            return AnswerOne(stores[node.stores[0].name], lookup, node.row.codec, node.key.codec)
        case TellNode():
            (before,) = node.parents
            return AnswerAll(
                stores[node.stores[0].name], before.key.codec, before.value.codec, node.key.codec
            )  # fmt: skip
        case ForeignJoinNode():
            lookup = Lookup(stores[node.stores[1].name], node.views)
            return ForeignJoin(
                stores[node.stores[0].name], lookup, node.joiner, node.row.codec, node.value.codec, left=node.left
            )  # fmt: skip
    raise AssertionError(node)
