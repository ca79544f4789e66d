"""The drawing of the topology, computed in the browser for graphs of 1 to 60 nodes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kstream.observe.status import Graph, GraphEdge, GraphNode
from kstream.web.server import WebServer
from support.page import TOKEN, Page

pytestmark = pytest.mark.timeout(300)

ARRANGE = """async graph => {
    const { arrange } = await import("/static/graph.js");
    const plan = arrange(graph);
    return { width: plan.width, height: plan.height, nodes: Object.fromEntries(plan.nodes),
             parts: Object.fromEntries(plan.parts), paths: Object.fromEntries(plan.paths) };
}"""

Box = dict[str, Any]


def random_graph(chance: random.Random, parts: int) -> Graph:
    """Topics and sub-topologies at random: edges that skip, join, part, and now and then lead back."""
    topics = [f"topic:{number}" for number in range(parts + chance.randint(1, 4))]
    nodes = [GraphNode(topic, "topic", topic * chance.randint(1, 3)) for topic in topics]
    edges: set[tuple[str, str]] = set()
    for part in range(parts):
        operators: list[str] = []
        for number in range(chance.randint(1, 5)):
            name = f"part{part}/{number}"
            stores = [f"store-{part}-{one}" for one in range(chance.choice([0, 0, 1, 2]))]
            nodes.append(GraphNode(name, "map", f"operator-{number}", f"part{part}", stores=stores))
            edges.add((chance.choice([*operators, topics[part]]), name))
            operators.append(name)
        edges.add((topics[part], operators[0]))
        for _ in range(chance.randint(0, 3)):
            edges.add((chance.choice(operators), chance.choice(topics)))
    return Graph(
        "app", [f"part{part}" for part in range(parts)], nodes, [GraphEdge(f"{a}>{b}", a, b) for a, b in sorted(edges)]
    )


def overlap(one: Box, other: Box) -> bool:
    return bool(
        one["x"] < other["x"] + other["width"]
        and other["x"] < one["x"] + one["width"]
        and one["y"] < other["y"] + other["height"]
        and other["y"] < one["y"] + one["height"]
    )


def pairs(boxes: list[Box]) -> Iterator[tuple[Box, Box]]:
    for at, one in enumerate(boxes):
        for other in boxes[at + 1 :]:
            yield one, other


@pytest.fixture
def open_page(page: Page, server: WebServer) -> Page:
    page.open(server.url, TOKEN)
    return page


def test_nothing_overlaps_and_everything_lies_within_its_box(open_page: Page) -> None:
    chance = random.Random(7)
    for parts in [0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 10, 12, 15]:
        graph = random_graph(chance, parts)
        plan = open_page.page.evaluate(ARRANGE, msgspec.to_builtins(graph))
        assert set(plan["nodes"]) == {node.id for node in graph.nodes}
        topics = [box for box in plan["nodes"].values() if not box["part"]]
        for one, other in pairs([*topics, *plan["parts"].values()]):
            assert not overlap(one, other), (parts, one, other)
        for name, frame in plan["parts"].items():
            inside = [box for box in plan["nodes"].values() if box["part"] == name]
            for one, other in pairs(inside):
                assert not overlap(one, other), (parts, one, other)
            for box in inside:
                assert frame["x"] < box["x"] and box["x"] + box["width"] < frame["x"] + frame["width"]
                assert frame["y"] < box["y"] and box["y"] + box["height"] < frame["y"] + frame["height"]
        for box in [*topics, *plan["parts"].values()]:
            assert box["x"] > -0.5 and box["x"] + box["width"] <= plan["width"] + 0.5
            assert box["y"] > -0.5 and box["y"] + box["height"] <= plan["height"] + 0.5


def test_every_edge_leads_from_its_source_to_its_target(open_page: Page) -> None:
    graph = random_graph(random.Random(3), 9)
    plan = open_page.page.evaluate(ARRANGE, msgspec.to_builtins(graph))
    assert set(plan["paths"]) == {edge.id for edge in graph.edges}
    for edge in graph.edges:
        first, last = plan["paths"][edge.id][0], plan["paths"][edge.id][-1]
        for point, node in ((first, plan["nodes"][edge.source]), (last, plan["nodes"][edge.target])):
            assert point["x"] in (node["x"], node["x"] + node["width"])
            assert abs(point["y"] - (node["y"] + node["height"] / 2)) < 0.01


def test_a_chain_goes_from_left_to_right(open_page: Page) -> None:
    names = ["topic:a", "p/one", "p/two", "p/three", "topic:b"]
    nodes = [GraphNode(name, "map", name, "p" if name.startswith("p/") else None) for name in names]
    edges = [GraphEdge(f"{a}>{b}", a, b) for a, b in itertools.pairwise(names)]
    plan = open_page.page.evaluate(ARRANGE, msgspec.to_builtins(Graph("app", ["p"], nodes, edges)))
    places = [plan["nodes"][name] for name in names]
    assert all(a["x"] + a["width"] < b["x"] for a, b in itertools.pairwise(places))
    assert len({round(one["y"] + one["height"] / 2) for one in places[1:4]}) == 1
