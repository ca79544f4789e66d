"""The chart through the linters: every case of the matrix, with both helms."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.chart import BASE, CHART, MATRIX, MONITORING, ROOT, Helm, Refused, Values, merged
from deploy.helm.validation import VERSIONS, crd_files, locations, write_schemas

CASES = pytest.mark.parametrize("values", MATRIX.values(), ids=list(MATRIX))

# kube-score's findings that stay, and why.
EXPLAINED = {
    "CPU limit is not set": "a limit stalls restores and bursts; the request shares the CPU fairly",
    "ImagePullPolicy is not set to Always": "releases have tags of their own; with Always a restart needs the registry",
    "Deployment few replicas": "with autoscaling their number is the autoscaler's",
    "The service is of type NodePort": "a value of the user's",
    "The pod does not have a matching NetworkPolicy": "the pod of `helm test` lives for seconds and serves nothing",
}


@pytest.fixture(scope="module")
def schemas(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    write_schemas(folder, tool("kubernetes-schemas"), crd_files(tool("keda-crds"), tool("prometheus-operator-crds")))
    return folder


@CASES
def test_helm_lint(helm: Helm, values: Values) -> None:
    said = helm.run("lint", "--strict", str(CHART), values=merged(BASE, values))
    assert "0 chart(s) failed" in said


def test_helm_lint_without_values(helm: Helm) -> None:
    """As a chart repository's check does it."""
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(CHART))


@CASES
def test_both_helms_make_the_same(tool: Callable[[str], Path], tmp_path: Path, values: Values) -> None:
    """As objects: the helms differ in blank lines."""
    three, four = (Helm(tool(name), tmp_path).template(values) for name in ("helm3", "helm4"))
    assert three.objects == four.objects


@pytest.fixture(scope="module")
def rendered(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every case of the matrix."""
    folder = tmp_path_factory.mktemp("rendered")
    helm = Helm(tool("helm4"), tmp_path_factory.mktemp("values"))
    for name, values in MATRIX.items():
        folder.joinpath(f"{name}.yaml").write_text(helm.text(values))
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_schemas_of_kubernetes_and_operators(
    rendered: Path, version: str, schemas: Path, tool: Callable[[str], Path]
) -> None:
    command = [str(tool("kubeconform")), "-strict", "-summary", "-output=json", f"-kubernetes-version={version}"]
    done = subprocess.run([*command, *locations(schemas), str(rendered)], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert found.get("resources", []) == []
    assert found["summary"]["valid"] > 5 * len(MATRIX) and not found["summary"]["skipped"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_kubernetes_that_is_validated_is_supported(one_helm: Helm, version: str) -> None:
    assert one_helm.text(version=version)


def test_an_older_kubernetes_is_refused(one_helm: Helm) -> None:
    with pytest.raises(Refused, match=r"requires kubeVersion: >=1\.28"):
        one_helm.text(version="1.27.9")


def test_the_schemas_refuse_what_is_wrong(one_helm: Helm, schemas: Path, tool: Callable[[str], Path]) -> None:
    """A field nobody knows in each kind that has one: so that the test above says something."""
    good = one_helm.template(MONITORING, MATRIX["keda"], MATRIX["groups that differ"])
    kinds = {one["kind"] for one in good.objects if "spec" in one}
    assert {"PodMonitor", "ServiceMonitor", "PrometheusRule", "ScaledObject", "StatefulSet", "Deployment"} <= kinds
    for kind in kinds:
        wrong = good.of(kind)[0]
        wrong["spec"]["unheardOf"] = True
        file = one_helm.folder / "wrong.yaml"
        file.write_text(yaml.safe_dump(wrong))
        command = [str(tool("kubeconform")), "-strict", "-kubernetes-version=1.37.0", *locations(schemas), str(file)]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        assert "unheardOf" in said, kind


def test_kube_score(rendered: Path, tool: Callable[[str], Path]) -> None:
    explained = set()
    for file in rendered.iterdir():
        if "extras" in file.stem or "alone" in file.stem:
            continue  # containers of the user's, and what was switched off on purpose; and nothing that it knows
        command = [str(tool("kube-score")), "score", "--output-format=ci", "--kubernetes-version=v1.28", str(file)]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        assert "[OK]" in said, file.stem
        for line in said.splitlines():
            if line.startswith(("[CRITICAL]", "[WARNING]")):
                reasons = [one for one in EXPLAINED if one in line]
                assert reasons, f"{file.stem}: {line}"
                explained.update(reasons)
    assert explained == set(EXPLAINED), "an explanation without a finding"


def test_the_rules_in_the_release_hold(helm: Helm, tool: Callable[[str], Path]) -> None:
    rules = helm.template(MONITORING).one("PrometheusRule")["spec"]  # test_alerts.py compares them
    file = helm.folder / "rules.yml"
    file.write_text(yaml.safe_dump(rules))
    said = subprocess.run([tool("promtool"), "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert said.returncode == 0 and "SUCCESS" in said.stdout, said.stderr


def test_the_dashboard_in_the_release_is_the_projects(helm: Helm) -> None:
    config = helm.template(MONITORING).one("ConfigMap", "air-kstream-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config["data"]["kstream.json"]) == json.loads(
        ROOT.joinpath("monitoring/dashboard.json").read_text()
    )


def test_a_package_has_them_too(helm: Helm) -> None:
    """Links out of the chart become files: a package that is installed elsewhere is the same release."""
    helm.run("package", str(CHART), "--destination", str(helm.folder))
    (package,) = helm.folder.glob("kstream-*.tgz")
    values = merged(BASE, MONITORING)
    from_package = helm.run("template", "air", str(package), "--namespace", "prod", values=values)
    from_folder = helm.run("template", "air", str(CHART), "--namespace", "prod", values=values)
    assert list(yaml.safe_load_all(from_package)) == list(yaml.safe_load_all(from_folder))


@pytest.mark.parametrize("missing", ["app", "image", "bootstrapServers"])
def test_what_must_be_given_is_asked_for(helm: Helm, missing: str) -> None:
    values = {key: value for key, value in BASE.items() if key != missing}
    with pytest.raises(Refused, match=f"{missing}.* is missing: "):
        helm.run("template", "air", str(CHART), values=values)


def test_notes_name_commands_for_each_workload(one_helm: Helm) -> None:
    values = merged(BASE, MATRIX["groups that differ"])
    said = one_helm.run("install", "air", str(CHART), "--dry-run=client", "-n", "prod", values=values)
    notes = said.split("NOTES:")[1]
    for expected in (
        "kubectl -n prod rollout status statefulset/air-kstream\n",
        "kubectl -n prod rollout status deployment/air-kstream-cpu-intensive\n",
        "kubectl -n prod rollout status statefulset/air-kstream-gpu\n",
        "kstream lag services.flights.app:app",
        "helm -n prod test air",
        "air-kstream-gpu: its pods follow the lag, 1 to 6.",
        "Groups of the app that are not among `groups` are run by nobody.",
        "Its state is restored from Kafka whenever a pod is replaced.",
    ):
        assert expected in notes, expected
    assert "<nil>" not in notes and "%!" not in notes


def test_notes_of_rules_alone_speak_of_no_app(one_helm: Helm) -> None:
    said = one_helm.run("install", "air", str(CHART), "--dry-run=client", values=MATRIX["rules and dashboard alone"])
    notes = said.split("NOTES:")[1]
    assert "alerts and dashboard for all kstream apps" in notes and "rollout status" not in notes


PAGE = ROOT / "docs" / "deploy-kubernetes.md"


def shown(page: Path) -> list[dict[str, Any]]:
    """The YAML of a page."""
    return [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)]


@pytest.mark.parametrize(("page", "least"), [(CHART / "README.md", 5), (PAGE, 4)], ids=["README", "docs"])
def test_the_values_that_pages_show(one_helm: Helm, page: Path, least: int) -> None:
    values = [one for one in shown(page) if "apiVersion" not in one and "rules" not in one]
    assert len(values) >= least
    for one in values:
        assert one_helm.template(one).of("StatefulSet")


def test_the_adapters_rules_are_queries(tool: Callable[[str], Path], tmp_path: Path) -> None:
    """For the metrics that the HPA asks for, with the labels by which it asks."""
    (adapter,) = [one for one in shown(PAGE) if "rules" in one]
    written = []
    for rule in adapter["rules"]["external"]:
        name = rule["seriesQuery"].partition("{")[0]
        query = rule["metricsQuery"].replace("<<.Series>>", name).replace("<<.LabelMatchers>>", 'app="flights"')
        written.append({"record": f"asked:{name}", "expr": query})
    assert {one["record"] for one in written} == {"asked:kstream_consumer_lag_records", "asked:kstream_instances_held"}
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "adapter", "rules": written}]}))
    said = subprocess.run([tool("promtool"), "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
