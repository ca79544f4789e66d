"""The Grafana dashboard is what its script makes, and asks for nothing that is not there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.expressions import problems
from monitoring.shortened import MONITORING
from monitoring.stack import Expression, Stack, dashboard_expressions, panels_of

RUNBOOK = "https://github.com/kstream-py/kstream/blob/main/docs/runbook.md"
BOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in panels_of(BOARD) if panel["type"] != "row"]
ROWS = [panel for panel in BOARD["panels"] if panel["type"] == "row"]
RULES = yaml.safe_load((MONITORING / "rules/kstream.yml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"]: rule for group in RULES["groups"] for rule in group["rules"] if "record" in rule}


def named(expression: Expression) -> str:
    return expression.panel


def test_the_file_is_up_to_date(tmp_path: Path) -> None:
    made = tmp_path / "dashboard.json"
    subprocess.run([sys.executable, MONITORING / "make_dashboard.py", made], check=True, timeout=110)
    assert (MONITORING / "dashboard.json").read_text() == made.read_text(), "run: python monitoring/make_dashboard.py"


@pytest.mark.parametrize("expression", dashboard_expressions(), ids=named)
def test_a_query_uses_metrics_and_labels_that_exist(expression: Expression) -> None:
    assert problems(expression.text, RECORDED) == []
    assert "$" not in expression.text.replace('"$1"', "")  # of label_replace


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    with Stack([], tmp_path) as stack:
        for expression in dashboard_expressions():
            stack.query(expression.text)


def test_queries_follow_the_variables() -> None:
    assert [one["name"] for one in BOARD["templating"]["list"]] == ["datasource", "namespace", "app", "instance"]
    for where, expression in (
        *((panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]),
        *((one["name"], one["expr"]) for one in BOARD["annotations"]["list"]),
    ):
        metrics = re.findall(r"(?<!:)\b(?:kstream_\w+|ALERTS\w*)", expression)
        of_app, of_instance = 'namespace=~"$namespace", app=~"$app"', 'instance=~"$instance"'
        recorded = len(re.findall(r"\w+:kstream_\w+:\w+", expression))
        assert len(metrics) + recorded == expression.count(of_app) > 0, where
        assert expression.count(of_instance) == len([one for one in metrics if not one.startswith("ALERTS")]), where


def test_legends_name_labels_that_the_answer_has() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            kept = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            if kept and panel["type"] != "table" and not target["expr"].startswith("topk"):
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
    for inside in (BOARD["panels"], *(row["panels"] for row in ROWS)):
        taken: dict[tuple[int, int], str] = {}
        for panel in inside:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    everything = list(panels_of(BOARD))
    assert len({panel["id"] for panel in everything}) == len(everything)


def test_the_first_row_answers_what_somebody_asks_and_the_others_are_closed() -> None:
    assert [(row["title"], row["collapsed"]) for row in ROWS] == [
        ("Now", False),
        ("Status", True),
        ("Throughput", True),
        ("Latency", True),
        ("Lag", True),
        ("Checkpoints", True),
        ("Backpressure", True),
        ("State", True),
        ("Restores", True),
        ("Rebalances", True),
        ("Errors", True),
        ("System", True),
        ("Kafka clients", True),
    ]
    opened = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in opened] == [
        "Alerts firing: since when, and what to do",
        "Instances ready, and wanted",
        "Furthest behind, and since when",
    ]
    assert all(panel["gridPos"]["y"] == 1 for panel in opened)  # one row, seen without scrolling


def test_an_alert_leads_to_a_panel_that_shows_its_metric_and_from_the_table_to_its_runbook() -> None:
    numbered = {panel["id"]: panel for panel in PANELS}
    table = next(panel for panel in PANELS if panel["title"].startswith("Alerts firing"))
    for name, alert in ALERTS.items():
        found = re.fullmatch(
            r"http://localhost:3000/d/(\w+)/kstream\?viewPanel=(\d+)"
            r"&var-namespace=\{\{ \$labels\.namespace \}\}&var-app=\{\{ \$labels\.app \}\}",
            alert["annotations"]["dashboard_url"],
        )
        assert found is not None and found[1] == BOARD["uid"], name
        if name in ("JobDown", "InstanceDown", "NotReady"):
            assert numbered[int(found[2])]["title"] == "Ready"  # it shows gaps, and since when
            continue
        shown = "".join(target["expr"] for target in numbered[int(found[2])]["targets"])
        asked = alert["expr"] + "".join(rule["expr"] for record, rule in RECORDED.items() if record in alert["expr"])
        assert set(re.findall(r"kstream_\w+?(?=_bucket|\W)", shown)) & set(
            re.findall(r"kstream_\w+?(?=_bucket|\W)", asked)
        ), name
        assert f'"section", "{name.lower()}", "alertname", "{name}"' in table["targets"][0]["expr"]
    assert f"{RUNBOOK}#${{__data.fields.section}}" in json.dumps(table)


def test_restarts_rebalances_and_deployments_are_marked() -> None:
    assert [one["name"] for one in BOARD["annotations"]["list"]] == [
        "Restarts", "Rebalances", "Deployments", "Versions",
    ]  # fmt: skip
