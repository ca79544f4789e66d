"""What the chart makes of the project's alerts: its values change them, and nothing else does."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.chart import CHART, MONITORING, ROOT, Helm, Refused, Values

PROJECTS = yaml.safe_load((ROOT / "monitoring/rules/kstream.yml").read_text())
NUMBER = re.compile(r"(\S+) # (\w+)$", re.MULTILINE)


def of_project() -> dict[str, dict[str, Any]]:
    return alerts(deepcopy(PROJECTS))


def alerts(rules: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule}


def rendered(helm: Helm, **values: Any) -> dict[str, Any]:
    found: dict[str, Any] = helm.template(MONITORING, given(values)).one("PrometheusRule")["spec"]
    return found


def given(values: Values) -> Values:
    return {"monitoring": {"prometheusRule": values}}


def test_without_values_they_are_the_projects(one_helm: Helm) -> None:
    expected = deepcopy(PROJECTS)
    for alert in alerts(expected).values():
        del alert["annotations"]["dashboard_url"]  # where Grafana is cannot be known
    assert rendered(one_helm) == expected


def test_thresholds_have_one_place_each() -> None:
    """Names and defaults in the values, the schema and the rules are the same."""
    found = {name: float(number) for rule in of_project().values() for number, name in NUMBER.findall(rule["expr"])}
    values = yaml.safe_load(CHART.joinpath("values.yaml").read_text())["monitoring"]["prometheusRule"]["thresholds"]
    assert found == values
    schema = yaml.safe_load(CHART.joinpath("values.schema.json").read_text())["properties"]["monitoring"]
    assert set(schema["properties"]["prometheusRule"]["properties"]["thresholds"]["properties"]) == set(found)


@pytest.mark.parametrize("value", [7, 0.25, 123456789])
def test_a_threshold_is_set_and_prometheus_takes_it(one_helm: Helm, tool: Callable[[str], Path], value: float) -> None:
    names = {name for rule in of_project().values() for _, name in NUMBER.findall(rule["expr"])}
    rules = rendered(one_helm, thresholds=dict.fromkeys(names, value))
    found = {(name, float(number)) for rule in alerts(rules).values() for number, name in NUMBER.findall(rule["expr"])}
    assert found == {(name, value) for name in names}
    file = one_helm.folder / "rules.yml"
    file.write_text(yaml.safe_dump(rules))
    said = subprocess.run([tool("promtool"), "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert said.returncode == 0 and "SUCCESS" in said.stdout, said.stderr


def test_labels_and_links_are_those_of_the_operators(one_helm: Helm) -> None:
    rules = rendered(
        one_helm,
        additionalRuleLabels={"team": "air", "severity": "page"},
        additionalRuleAnnotations={"note": "{{ $labels.app }}"},
        runbookUrl="https://wiki.example/kstream#",
        grafanaUrl="https://grafana.example/",
    )
    for name, alert in alerts(rules).items():
        before = of_project()[name]["annotations"]
        assert alert["labels"] == {"team": "air", "severity": "page"}
        link = before["dashboard_url"].replace("http://localhost:3000", "https://grafana.example")
        assert alert["annotations"] == {
            **before,
            "note": "{{ $labels.app }}",
            "runbook_url": f"https://wiki.example/kstream#{name.lower()}",
            "dashboard_url": link,
        }


def test_one_alert_is_another_and_one_is_left_out(one_helm: Helm) -> None:
    custom = {"LagGrowing": {"for": "30m", "keepFiringFor": "1h", "severity": "critical"}}
    found = alerts(rendered(one_helm, customRules=custom, disabled={"HighBackpressure": True, "JobDown": False}))
    assert found.keys() == of_project().keys() - {"HighBackpressure"}
    changed = found["LagGrowing"]
    assert (changed["for"], changed["keep_firing_for"], changed["labels"]) == ("30m", "1h", {"severity": "critical"})
    assert found["JobDown"]["for"] == of_project()["JobDown"]["for"]


@pytest.mark.parametrize("lasts,words", [("7m", "7 minutes"), ("2h", "2h")])
def test_an_alert_that_waits_longer_says_so(one_helm: Helm, lasts: str, words: str) -> None:
    custom = {name: {"for": lasts} for name in of_project()}
    for name, alert in alerts(rendered(one_helm, customRules=custom)).items():
        before = of_project()[name]
        assert alert["for"] == lasts
        minutes = before.get("for", "none").removesuffix("m")
        said = re.sub(rf"\b{minutes} minutes", words, before["annotations"]["description"])
        assert alert["annotations"]["description"] == said
        assert name != "HighBackpressure" or said.startswith(f"For {words} it has waited")


@pytest.mark.parametrize("values", [{"disabled": {"JobsDown": True}}, {"customRules": {"JobsDown": {"for": "1m"}}}])
def test_an_alert_that_is_not_there_is_refused(one_helm: Helm, values: Values) -> None:
    with pytest.raises(
        Refused, match=r"prometheusRule\.\w+: there is no alert JobsDown; there are JobDown, InstanceDown"
    ):
        one_helm.template(MONITORING, given(values))


@pytest.mark.parametrize(
    "values",
    [
        {"thresholds": {"restart": 3}},
        {"thresholds": {"restarts": "many"}},
        {"customRules": {"JobDown": {"for": "soon"}}},
        {"customRules": {"JobDown": {"four": "1m"}}},
        {"disabled": {"JobDown": "yes"}},
        {"runbookUrl": "wiki"},
    ],
    ids=str,
)
def test_slips_are_refused(one_helm: Helm, values: Values) -> None:
    with pytest.raises(Refused, match="values don't meet the specifications of the schema"):
        one_helm.template(MONITORING, given(values))


def test_targets_say_what_workload_they_belong_to(one_helm: Helm) -> None:
    release = one_helm.template(MONITORING)
    (pods,) = release.one("PodMonitor")["spec"]["podMetricsEndpoints"]
    (services,) = release.one("ServiceMonitor")["spec"]["endpoints"]
    assert pods["relabelings"] == services["relabelings"]
    rules = [one for one in pods["relabelings"] if one["targetLabel"] == "workload"]
    for source, expected in (
        ("StatefulSet;air-kstream", "air-kstream"),
        ("ReplicaSet;air-5c9d8-x-7d4f", "air-5c9d8-x"),
    ):
        (found,) = [match[1] for one in rules if (match := re.fullmatch(one["regex"], source))]
        assert found == expected
