"""The Grafana dashboard is what its script makes, and asks for nothing that is not there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from monitoring.expressions import problems
from monitoring.shortened import MONITORING
from monitoring.stack import Expression, Stack, dashboard_expressions

BOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def named(expression: Expression) -> str:
    return expression.panel


def test_the_file_is_up_to_date(tmp_path: Path) -> None:
    made = tmp_path / "dashboard.json"
    subprocess.run([sys.executable, MONITORING / "make_dashboard.py", made], check=True, timeout=110)
    assert (MONITORING / "dashboard.json").read_text() == made.read_text(), "run: python monitoring/make_dashboard.py"


@pytest.mark.parametrize("expression", dashboard_expressions(), ids=named)
def test_a_query_uses_metrics_and_labels_that_exist(expression: Expression) -> None:
    assert problems(expression.text) == []
    assert "$" not in expression.text


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    with Stack([], tmp_path) as stack:
        for expression in dashboard_expressions():
            stack.query(expression.text)


def test_queries_follow_the_variables() -> None:
    assert [one["name"] for one in BOARD["templating"]["list"]] == ["datasource", "app", "instance"]
    for panel in PANELS:
        for target in panel["targets"]:
            metrics = re.findall(r"\bkstream_\w+", target["expr"])
            assert len(metrics) == target["expr"].count('{app=~"$app", instance=~"$instance"') > 0, panel["title"]


def test_legends_name_labels_that_the_answer_has() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            kept = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            if kept and not target["expr"].startswith("topk"):
                labels = {label for group in kept for label in re.findall(r"\w+", group)}
                assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels, panel["title"]


def test_every_panel_says_what_it_shows() -> None:
    for panel in PANELS:
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert "libraryPanel" not in panel, panel["title"]


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_the_rows_are_those_that_an_operator_expects() -> None:
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Status",
        "Throughput",
        "Latency",
        "Lag",
        "Checkpoints",
        "Backpressure",
        "State",
        "Restores",
        "Rebalances",
        "Errors",
        "System",
        "Kafka clients",
    ]
