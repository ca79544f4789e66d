"""Makes the Grafana dashboard: `python monitoring/make_dashboard.py` writes monitoring/dashboard.json.

What it shows is in panels.py. A panel's description is what the catalogue says of its metric, unless it has one of its
own. tests/monitoring holds the file to this script, and its queries to the catalogue.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panels import GREEN, ROWS, Panel

from kstream.observe.catalogue import CATALOGUE, PREFIX

FILE = Path(__file__).with_name("dashboard.json")

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24  # columns of Grafana's grid


def render() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


def dashboard() -> dict[str, Any]:
    return {
        "uid": "kstream",
        "title": "kstream",
        "description": "Services built on kstream. Made by monitoring/make_dashboard.py.",
        "tags": ["kstream", "kafka"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # the cross-hair is shared by all panels
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": list(panels()),
    }


def variables() -> list[dict[str, Any]]:
    def values(name: str, label: str, query: str) -> dict[str, Any]:
        everything = {"text": ["All"], "value": ["$__all"], "selected": True}
        return {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,  # whenever the time range changes
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": everything,
        }

    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}},
        values("app", "App", f"label_values({PREFIX}build_info, app)"),
        values("instance", "Instance", f'label_values({PREFIX}build_info{{app=~"$app"}}, instance)'),
    ]


def panels() -> Iterator[dict[str, Any]]:
    """Rows and panels with their places in the grid, from left to right and top to bottom."""
    number, y = 0, 0
    for title, row in ROWS.items():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": _place(0, y, WIDTH, 1),
            "panels": [],
        }
        y += 1
        x = tallest = 0
        for panel in row:
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            yield {"id": number, "gridPos": _place(x, y, panel.width, panel.height), **_panel(panel)}
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel) -> dict[str, Any]:
    least, greatest = panel.limits
    defaults: dict[str, Any] = {"unit": panel.unit, "min": least, "custom": _custom(panel), **_colours(panel)}
    if greatest is not None:
        defaults["max"] = greatest
    if panel.names:
        options = {value: {"text": text, "index": index} for index, (value, text) in enumerate(panel.names.items())}
        defaults["mappings"] = [{"type": "value", "options": options}]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text or _doc(panel),
        "datasource": SOURCE,
        "targets": [_target(panel, *query, index) for index, query in enumerate(panel.queries.items())],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        **({"transformations": _columns()} if panel.kind == "table" else {}),
    }


def _doc(panel: Panel) -> str:
    """What the catalogue says of the panel's first metric."""
    (found, *_) = re.findall(rf"{PREFIX}(\w+?)(?:_bucket|_sum|_count)?\{{", next(iter(panel.queries.values())))
    return CATALOGUE[found].doc


def _target(panel: Panel, legend: str, expression: str, index: int) -> dict[str, Any]:
    instant = panel.kind in ("stat", "table")
    return {
        "refId": chr(ord("A") + index),
        "datasource": SOURCE,
        "expr": expression,
        "legendFormat": legend or "__auto",
        "instant": instant,
        "range": not instant,
        "format": {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series"),
    }


def _colours(panel: Panel) -> dict[str, Any]:
    steps = [{"value": None if at == panel.levels[0][0] else at, "color": colour} for at, colour in panel.levels]
    by_level = panel.kind in ("stat", "state-timeline")
    return {
        "color": {"mode": "thresholds" if by_level else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps or [{"value": None, "color": GREEN}]},
    }


def _custom(panel: Panel) -> dict[str, Any]:
    if panel.kind != "timeseries":
        return {}
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if panel.stacked else 8,
        "showPoints": "never",
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if panel.levels else "off"},
    }


def _options(panel: Panel) -> dict[str, Any]:
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    match panel.kind:
        case "stat":
            reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
            return {"reduceOptions": reduced, "colorMode": "value", "graphMode": "none", "textMode": "auto"}
        case "heatmap":
            return {
                "calculate": False,
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
                "yAxis": {"unit": panel.unit},
                "cellGap": 1,
            }
        case "state-timeline":
            return {"showValue": "never", "legend": legend, "mergeValues": True}
        case "table":
            return {"showHeader": True}
        case _:
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def _columns() -> list[dict[str, Any]]:
    """Of the table of versions: the labels, without what says nothing."""
    hidden = {name: True for name in ("Time", "Value", "__name__", "job")}
    return [{"id": "organize", "options": {"excludeByName": hidden, "renameByName": {"name": "instance name"}}}]


if __name__ == "__main__":
    (Path(sys.argv[1]) if sys.argv[1:] else FILE).write_text(render())
