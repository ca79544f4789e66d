"""The topology as the page draws it."""

from __future__ import annotations

import kstream
from kstream.runtime.view.graph import Drawing


def app() -> kstream.App:
    app = kstream.App("drawn")
    events = app.topic("events", key=str, value=int)
    out = app.topic("out", key=str, value=int)
    alerts = app.topic("alerts", key=str, value=int)
    seen = app.table("seen", key=str, value=int, default=int)

    @app.agent(events, to=alerts)
    def watch(value: int) -> int | None:
        seen["x"] += value
        return value if value > 5 else None

    stream = app.stream(events)
    stream.map(abs, value=int).to(out)
    stream.map(abs, value=int).to(out)
    stream.group_by(str, key=str, name="by-value").count(name="n").to(out)
    return app


def test_topics_lie_between_the_boxes() -> None:
    drawing = Drawing(app().topology())
    graph = drawing.graph
    topics = {node.label: node for node in graph.nodes if node.kind == "topic"}
    assert topics.keys() == {"events", "out", "alerts", "drawn-by-value-repartition"}
    assert topics["drawn-by-value-repartition"].internal and all(node.part is None for node in topics.values())
    operators = [node for node in graph.nodes if node.kind != "topic"]
    assert sorted((node.part, node.kind, node.label, tuple(node.stores)) for node in operators) == [
        ("drawn-by-value-repartition", "aggregate", "n", ("n",)),
        ("events", "agent", "watch", ("seen",)),
        ("events", "map", "events-map", ()),
        ("events", "map", "events-map", ()),
        ("events", "rekey", "events-rekey", ()),
    ]
    ids = {node.id for node in graph.nodes}
    assert len(ids) == len(graph.nodes) and len({edge.id for edge in graph.edges}) == len(graph.edges) == 10
    assert all(edge.source in ids and edge.target in ids for edge in graph.edges)


def test_edges_have_the_rate_of_the_operator_before_them() -> None:
    drawing = Drawing(app().topology())
    rates = drawing.rates(
        {("events", "source events"): 100.0, ("events", "agent watch"): 3.0, ("events", "sink out #2"): 40.0}
    )
    assert rates.keys() == {edge.id for edge in drawing.graph.edges}
    assert rates["topic:events -> events/agent watch"] == 100.0
    assert rates["events/agent watch -> topic:alerts"] == 3.0
    assert rates["events/map events-map #2 -> topic:out"] == 40.0
    assert rates["drawn-by-value-repartition/aggregate n -> topic:out"] == 0.0


def test_failures_are_shown_at_the_operator_or_at_the_topic_that_is_read_or_written() -> None:
    drawing = Drawing(app().topology())
    failing = drawing.failing(
        {
            ("events", "source events"): 2,
            ("events", "agent watch"): 3,
            ("events", "sink out"): 1,
            ("events", "sink out #2"): 1,
            ("gone", "map"): 9,
        }
    )
    assert failing == {"topic:events": 2, "events/agent watch": 3, "topic:out": 2}
    assert failing.keys() <= {node.id for node in drawing.graph.nodes}
