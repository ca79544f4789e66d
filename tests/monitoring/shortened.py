"""The files of monitoring/ as the tests run them: the same but for waits, addresses and the receiver's URL.

Every wait is divided by `SPEED`, or by another number, and kept long enough to hold a few scrapes. Numbers of seconds
that an expression compares with (such as the age of a checkpoint) are thresholds, not waits, and stay, unless it is
asked for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).parents[2] / "monitoring"

SPEED = 60.0
LEAST_WAIT, LEAST_WINDOW = 1.0, 5.0
"""Seconds. A window of five scrapes survives that a busy machine misses some."""

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
DURATION = r"(?:\d+(?:ms|[smhdw]))+"
WINDOW = re.compile(rf"(?<=\[){DURATION}(?=\])|(?<=\boffset ){DURATION}")
THRESHOLD = re.compile(r"\d+(?= # \w+Seconds\b)")


def write_shortened(
    directory: Path, alertmanager: str, webhook: str, speed: float = SPEED, *, thresholds: bool = False
) -> tuple[Path, Path]:
    """Writes the shortened files into `directory`, laid out as monitoring/ is, without targets.

    Args:
        alertmanager: host:port of it.
        webhook: URL to which alerts go.
        speed: what every wait is divided by.
        thresholds: divides those that are seconds too, by their names.

    Returns the files of Prometheus and of Alertmanager.
    """
    (directory / "rules").mkdir(parents=True)
    (directory / "targets").mkdir()
    for rules in sorted((MONITORING / "rules").glob("*.yml")):
        _write(directory / "rules" / rules.name, shortened_rules(_read(rules), speed, thresholds=thresholds))

    prometheus = _read(MONITORING / "prometheus.yml")
    for interval in ("scrape_interval", "evaluation_interval"):
        prometheus["global"][interval] = shorter(prometheus["global"][interval], LEAST_WAIT, speed)
    (managers,) = prometheus["alerting"]["alertmanagers"]
    managers["static_configs"] = [{"targets": [alertmanager]}]
    (job,) = prometheus["scrape_configs"]
    (found,) = job["file_sd_configs"]
    found["refresh_interval"] = shorter(found["refresh_interval"], LEAST_WAIT, speed)

    manager = _read(MONITORING / "alertmanager.yml")
    for route in (manager["route"], *manager["route"]["routes"]):
        for wait in {"group_wait", "group_interval", "repeat_interval"} & route.keys():
            route[wait] = shorter(route[wait], LEAST_WAIT, speed)
    for receiver in manager["receivers"]:
        (hook,) = receiver["webhook_configs"]
        hook["url"] = f"{webhook}/{receiver['name']}"

    files = directory / "prometheus.yml", directory / "alertmanager.yml"
    _write(files[0], prometheus)
    _write(files[1], manager)
    return files


def shortened_rules(rules: dict[str, Any], speed: float = SPEED, *, thresholds: bool = False) -> dict[str, Any]:
    """The same groups, with shorter `for`, `keep_firing_for`, and windows and offsets in the expressions."""
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = WINDOW.sub(lambda found: shorter(found[0], LEAST_WINDOW, speed), rule["expr"])
            if thresholds:
                rule["expr"] = THRESHOLD.sub(lambda found: f"{float(found[0]) / speed:g}", rule["expr"])
            for wait in {"for", "keep_firing_for"} & rule.keys():
                rule[wait] = shorter(rule[wait], LEAST_WAIT, speed)
    return rules


def shorter(duration: str, least: float, speed: float = SPEED) -> str:
    """A duration of Prometheus ("5m", "1h30m"), divided by `speed`; never less than `least` seconds."""
    parts = re.findall(r"(\d+)(ms|[smhdw])", duration)
    seconds = sum(int(number) * UNITS[unit] for number, unit in parts)
    return f"{round(max(least, seconds / speed) * 1000)}ms"


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    return content


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(content, sort_keys=False))
