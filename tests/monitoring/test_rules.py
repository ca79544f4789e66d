"""Prometheus' and Alertmanager's files, judged by their own tools, and held to the catalogue and the runbook."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import kstream
from monitoring.expressions import problems
from support.tools import tool

pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
RULES = MONITORING / "rules/kstream.yml"
UNIT_TESTS = sorted((MONITORING / "rules/tests").glob("*.yml"))
RUNBOOK = ROOT / "docs/runbook.md"
RUNBOOK_URL = "https://github.com/kstream-py/kstream/blob/main/docs/runbook.md"


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
each_alert = pytest.mark.parametrize("name", ALERTS)


def run(*command: object, cwd: Path = ROOT) -> str:
    """What a tool prints; fails with it when the tool does."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- the tools' own judgement


def test_promtool_accepts_the_rules() -> None:
    assert f"{len(rules())} rules found" in run(tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_promtool_accepts_the_configuration() -> None:
    assert "1 rule files found" in run(tool("promtool"), "check", "config", MONITORING / "prometheus.yml")


def test_amtool_accepts_the_configuration() -> None:
    assert "2 receivers" in run(tool("amtool"), "check-config", MONITORING / "alertmanager.yml")


@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=pytest.mark.more if file.stem == "days" else ()) for file in UNIT_TESTS],
    ids=lambda file: file.stem,
)
def test_the_rules_pass_their_unit_tests(file: Path) -> None:
    assert "SUCCESS" in run(tool("promtool"), "test", "rules", file.name, cwd=file.parent)


# ---- what the tools do not see


def unit_tested() -> Iterator[tuple[str, bool]]:
    """Alert and whether it has to fire, for each check in the unit tests."""
    for file in UNIT_TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for check in test["alert_rule_test"]:
                yield check["alertname"], bool(check.get("exp_alerts"))


@each_alert
def test_an_alert_is_unit_tested_firing_and_silent(name: str) -> None:
    assert {fires for alert, fires in unit_tested() if alert == name} == {True, False}


@each_alert
def test_the_text_of_an_alert_holds_for_whatever_threshold(name: str) -> None:
    """The chart sets the numbers that have a name, and `for`. What is told is what was measured. Of the rule's numbers
    only windows are told, and for how long it has lasted, which the chart says anew."""
    alert = ALERTS[name]
    text = alert["annotations"]["summary"] + " " + alert["annotations"]["description"]
    minutes = [f"{number}m" for number in re.findall(r"(\d+) minutes", text)]
    assert set(minutes) <= {alert.get("for"), *re.findall(r"\[(\d+m)", alert["expr"])}
    assert minutes.count(alert.get("for", "")) <= 1, "which of them the chart has to say anew is not known"
    if re.search(r" # \w+$", alert["expr"], re.MULTILINE):
        assert not re.search(r"\b(half|third|twice|double|one minute|a minute|hours|days)\b", text)


@each_alert
def test_an_alert_says_what_an_operator_needs(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url", "dashboard_url"}


@each_alert
def test_an_alert_leads_to_its_section_of_the_runbook(name: str) -> None:
    assert ALERTS[name]["annotations"]["runbook_url"] == f"{RUNBOOK_URL}#{name.lower()}"
    sections = re.split(r"(?m)^## ", RUNBOOK.read_text())
    (section,) = [text for text in sections if text.startswith(f"{name}\n")]
    for part in ("**Symptom.**", "**Meaning.**", "**Look at.**", "**Do.**"):
        assert part in section, part
    look, do = section.partition("**Look at.**")[2].split("**Do.**")
    assert "`" in look or "](" in look, "nothing to look at is named"
    assert "`" in do or "](" in do, "no command, setting or other section is named that mends it"


def test_the_runbook_has_no_alert_that_is_not_there() -> None:
    titles = re.findall(r"(?m)^## (\w+)$", RUNBOOK.read_text())
    assert sorted(titles) == sorted(ALERTS)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_uses_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    recorded = {one["record"] for one in rules() if "record" in one}
    assert problems(rule["expr"], recorded) == []


@pytest.mark.parametrize(
    ("labels", "receiver"), [("severity=critical", "pager"), ("severity=warning", "tickets"), ("app=other", "tickets")]
)
def test_critical_alerts_page_and_warnings_do_not(labels: str, receiver: str) -> None:
    routes = run(tool("amtool"), "config", "routes", "test", "--config.file", MONITORING / "alertmanager.yml", labels)
    assert routes.strip() == receiver


def test_every_severity_has_a_route_and_every_alert_the_labels_of_the_inhibition() -> None:
    manager = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())
    routed = {route["matchers"][0] for route in manager["route"]["routes"]}
    assert routed == {f'severity="{alert["labels"]["severity"]}"' for alert in ALERTS.values()}
    (rule,) = manager["inhibit_rules"]
    assert rule["source_matchers"] == ['job="kstream"', 'severity="critical"']
    assert rule["target_matchers"] == ['job="kstream"', 'severity="warning"']
    assert rule["equal"] == ["namespace", "app"]
    for file in UNIT_TESTS:  # all that fire have them
        for test in yaml.safe_load(file.read_text())["tests"]:
            for alert in (alert for check in test["alert_rule_test"] for alert in check.get("exp_alerts", ())):
                assert alert["exp_labels"]["job"] == "kstream"
                assert "app" in alert["exp_labels"] or test["name"].startswith("JobDown, no"), test["name"]


def test_a_replay_of_old_data_is_among_the_silent() -> None:
    (replay,) = (
        test
        for file in UNIT_TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        if test["name"].startswith("A replay of old data")
    )
    silent = {check["alertname"] for check in replay["alert_rule_test"] if not check.get("exp_alerts")}
    assert {"HighLatency", "TimeBehind", "LagGrowing", "TaskStalled"} <= silent


def test_recorded_series_are_used() -> None:
    expressions = "\n".join(rule["expr"] for rule in rules())
    for rule in rules():
        assert "alert" in rule or rule["record"] in expressions


def test_delay_topics_are_named_as_the_rules_expect() -> None:
    """LagGrowing leaves them out by their names."""
    (found,) = set(re.findall(r'topic!~"(.+?)"', RULES.read_text()))
    app = kstream.App("app", on_error=[kstream.RetryLater([0.5, 5, 3600])])
    stream = app.stream(app.topic("in", key=str, value=int))
    stream.group_by(str, key=str, name="by").count(name="n").to(app.topic("out", key=str, value=int))
    topics = [delay.topic for part in app.topology().parts for delay in part.delays]
    assert len(topics) == 6 and all(re.fullmatch(found, topic) for topic in topics)
