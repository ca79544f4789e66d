"""How many partitions the topics of a join get, whatever was declared first; what cannot fit is not made."""

from __future__ import annotations

from typing import Any

import pytest

import kstream
from kstream.config import Settings
from kstream.errors import TopologyError
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.cluster.topics import INTERNAL
from kstream.testing import MemoryCluster
from kstream.testing.clients import MemoryClients

STREAM, TABLE = "app-j-repartition", "app-t-repartition"


def same(value: str) -> str:
    return value


def pair(left: str, right: str) -> str:
    return left + right


def joined(first: str, **repartition: Any) -> kstream.App:
    """A stream of `b` with new keys, joined with a table of `a`, whose keys are new too, or which is repartitioned."""
    app = kstream.App("app")
    a, b = (app.topic(name, key=str, value=str) for name in "ab")

    def stream() -> Any:
        return app.stream(b).rekey(same, key=str)

    def table() -> Any:
        if repartition:
            return app.stream(a).repartition(name="t", **repartition).to_table("t")
        return app.stream(a).rekey(same, key=str).to_table("t")

    if first == "stream":
        left = stream()
        right = table()
    else:
        right = table()
        left = stream()
    left.join(right, pair, name="j")
    return app


def prepared(app: kstream.App, existing: dict[str, int]) -> tuple[dict[str, int], MemoryCluster]:
    cluster = MemoryCluster()
    for name, count in existing.items():
        cluster.create_topic(name, count, INTERNAL["repartition"] if name.endswith("-repartition") else {})
    return prepare_topics(app.topology(), MemoryClients(cluster).admin(), Settings()), cluster


@pytest.mark.parametrize("first", ["stream", "table"])
@pytest.mark.parametrize(
    ("existing", "repartition", "expected"),
    [
        pytest.param({"a": 4, "b": 2}, {}, 4, id="as many as what writes the table's topic"),
        pytest.param({"a": 2, "b": 4}, {}, 2, id="also where that has fewer"),
        pytest.param({"a": 3, "b": 2, TABLE: 4}, {}, 4, id="as many as the table's topic has already"),
        pytest.param({"a": 3, "b": 2, STREAM: 5}, {}, 5, id="as many as the stream's topic has already"),
        pytest.param({"a": 3, "b": 2}, {"parallelism": 8}, 8, id="as many as are declared"),
    ],
)
def test_both_topics_of_a_join_are_made_with_as_many(
    first: str, existing: dict[str, int], repartition: dict[str, int], expected: int
) -> None:
    counts, _ = prepared(joined(first, **repartition), existing)
    assert {name: counts[name] for name in (STREAM, TABLE, "app-t-changelog")} == {
        STREAM: expected, TABLE: expected, "app-t-changelog": expected,
    }  # fmt: skip


@pytest.mark.parametrize("first", ["stream", "table"])
def test_where_they_cannot_fit_none_is_made(first: str) -> None:
    """The stream's topic is there, with another number than is declared for the table's."""
    app = joined(first, parallelism=8)
    with pytest.raises(TopologyError, match=r"must have equal partition counts: .*app-j-repartition has 2"):
        prepared(app, {"a": 3, "b": 2, STREAM: 2})


def test_three_that_cannot_fit_are_told_before_one_is_made() -> None:
    app = kstream.App("app")
    a, b, c = (app.topic(name, key=str, value=str) for name in "abc")
    stream = app.stream(b).rekey(same, key=str)
    table = app.stream(a).repartition(name="t", parallelism=8).to_table("t")
    stream.join(table, pair, name="j").join(app.stream(c).to_table("c"), pair)
    cluster = MemoryCluster()
    for name in "abc":
        cluster.create_topic(name, 3)
    with pytest.raises(TopologyError, match=r"must have equal partition counts: .*app-t-repartition has 8"):
        prepare_topics(app.topology(), MemoryClients(cluster).admin(), Settings())
    assert sorted(cluster.topics()) == ["a", "b", "c"]
