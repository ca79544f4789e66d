"""Makes the Grafana dashboard: `python monitoring/make_dashboard.py` writes monitoring/dashboard.json.

What it shows is in panels.py. A panel's description is what the catalogue says of its metric, unless it has one of its
own. tests/monitoring holds the file to this script, and its queries to the catalogue.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from panels import GREEN, OF_APP, ROWS, RUNBOOK, Panel, now, of

from kstream.observe.catalogue import CATALOGUE, PREFIX

FILE = Path(__file__).with_name("dashboard.json")
RULES = Path(__file__).with_name("rules") / "kstream.yml"

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
        "annotations": {"list": list(annotations())},
        "links": [{"title": "Runbook", "type": "link", "icon": "doc", "url": RUNBOOK, "targetBlank": True}],
        "panels": list(panels()),
    }


def annotations() -> Iterator[dict[str, Any]]:
    """What is marked in all panels."""

    def marks(name: str, colour: str, expression: str, title: str, text: str, *, at: bool = False) -> dict[str, Any]:
        return {
            "name": name,
            "datasource": SOURCE,
            "enable": True,
            "iconColor": colour,
            "expr": expression,
            "step": "60s",
            "titleFormat": title,
            "textFormat": text,
            "useValueForTime": "on" if at else "",  # the value is when it happened, in ms
        }

    changed = " or ".join(
        f'label_replace(changes(kube_{kind}_metadata_generation{{namespace=~"$namespace"}}[2m]) > 0, '
        f'"workload", "$1", "{kind}", "(.+)")'
        for kind in ("statefulset", "deployment")
    )
    ours = f"app_workload:kstream_build_info:max{{{OF_APP}}}"
    versions = f"count by (namespace, app, version) ({of('build_info')})"
    yield marks("Restarts", "red", f"{of('start_time_seconds')} * 1000", "{{app}} started", "{{instance}}", at=True)
    yield marks(
        "Rebalances", "orange", f"changes({of('rebalances_total')}[1m]) > 0", "{{app}}: rebalance", "{{instance}}"
    )
    yield marks(
        "Deployments",
        "blue",
        f"({changed}) and on (namespace, workload) {ours}",
        "{{workload}} changed",
        "{{namespace}}",
    )
    yield marks(
        "Versions", "purple", f"{versions} unless {versions.replace('})', '} offset 2m)')}",
        "{{app}}: kstream {{version}}", "{{namespace}}",
    )  # fmt: skip


def sections() -> dict[str, str]:
    """Of the runbook, by alert."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule["alert"].lower() for rule in rules if "alert" in rule}


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
        values("namespace", "Namespace", f"label_values({PREFIX}build_info, namespace)"),
        values("app", "App", f'label_values({PREFIX}build_info{{namespace=~"$namespace"}}, app)'),
        values("instance", "Instance", f"label_values({PREFIX}build_info{{{OF_APP}}}, instance)"),
    ]


def panels() -> Iterator[dict[str, Any]]:
    """Rows and panels with their places in the grid, from left to right and top to bottom. The first row is open."""
    y = 1
    yield _row("Now", 0, [])
    opened = list(_row_of(now(sections()), y))
    yield from opened
    y += max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in opened) - y
    for title, row in ROWS.items():
        yield _row(title, y, list(_row_of(row, y + 1)))
        y += 1  # what is collapsed takes no room


def _row(title: str, y: int, inside: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": number(f"row {title}"),
        "type": "row",
        "title": title,
        "collapsed": bool(inside),
        "gridPos": _place(0, y, WIDTH, 1),
        "panels": inside,
    }


def _row_of(row: list[Panel], y: int) -> Iterator[dict[str, Any]]:
    x = tallest = 0
    for panel in row:
        if x + panel.width > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        yield {"id": number(panel.title), "gridPos": _place(x, y, panel.width, panel.height), **_panel(panel)}
        x, tallest = x + panel.width, max(tallest, panel.height)


def number(title: str) -> int:
    """A panel's: the same whatever comes before it, since alerts lead to it (`dashboard_url` in the rules)."""
    return zlib.crc32(title.encode()) % 1_000_000


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
        "fieldConfig": {"defaults": defaults, "overrides": _overrides(panel)},
        "options": _options(panel),
        **({"transformations": _columns(panel)} if panel.kind == "table" else {}),
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


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    """Units and links of a table's columns."""
    found = []
    for title, unit in panel.columns.values():
        properties: list[dict[str, Any]] = [{"id": "unit", "value": unit}] if unit else []
        if title in panel.links:
            link = {"title": "What to do", "url": panel.links[title], "targetBlank": True}
            properties.append({"id": "links", "value": [link]})
        if properties:
            found.append({"matcher": {"id": "byName", "options": title}, "properties": properties})
    if panel.links:  # links are made of it
        hidden = {"id": "custom.hidden", "value": True}
        found.append({"matcher": {"id": "byName", "options": "section"}, "properties": [hidden]})
    return found


def _columns(panel: Panel) -> list[dict[str, Any]]:
    """Of a table: those that have a title come first; what says nothing is left out."""
    names = ("Time", "__name__", "job") if panel.columns else ("Time", "Value", "__name__", "job")
    titles = {name: title for name, (title, _) in panel.columns.items()} or {"name": "instance name"}
    organized = {
        "excludeByName": dict.fromkeys(names, True),
        "indexByName": {name: index for index, name in enumerate(panel.columns)},
        "renameByName": titles,
    }
    one_table = [{"id": "merge", "options": {}}] if len(panel.queries) > 1 else []
    return [*one_table, {"id": "organize", "options": organized}]


if __name__ == "__main__":
    (Path(sys.argv[1]) if sys.argv[1:] else FILE).write_text(render())
