"""What the chart makes of its values: identity, settings, stops, monitoring, and the traps that can be seen without a
cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.helm.chart import (
    BASE,
    KEDA,
    MATRIX,
    MONITORING,
    ROOT,
    TWO_GROUPS,
    Helm,
    Object,
    Rendered,
    Values,
    container_of,
    env_of,
    pod_of,
)


def config_of(rendered: Rendered) -> dict[str, str]:
    found: dict[str, str] = rendered.one("ConfigMap", "air-kstream")["data"]
    return found


# ---- identity and groups


def test_with_a_claim_an_instance_is_its_pod(one_helm: Helm) -> None:
    rendered = one_helm.template()
    workload = rendered.one("StatefulSet")
    env = env_of(workload)
    assert env["KSTREAM_INSTANCE"] == "$(POD_NAME)"
    assert env["KSTREAM_ON_STOP"] == "auto"  # which is: stay, for an instance that has a name
    assert list(env).index("POD_NAME") < list(env).index("KSTREAM_INSTANCE")  # else it is not expanded
    headless = rendered.one("Service", workload["spec"]["serviceName"])
    assert headless["spec"]["clusterIP"] == "None" and headless["spec"]["publishNotReadyAddresses"]
    assert env["KSTREAM_WEB_URL"] == "http://$(POD_NAME).air-kstream-pods.$(POD_NAMESPACE).svc:8010"
    mounts = {one["name"]: one["mountPath"] for one in container_of(workload)["volumeMounts"]}
    assert mounts == {"state": config_of(rendered)["KSTREAM_STATE_DIR"], "tmp": "/tmp"}
    assert workload["spec"]["updateStrategy"]["rollingUpdate"] == {"partition": 0}  # no default: test_cluster_traps.py


def test_without_a_claim_nobody_waits_for_a_pod_that_does_not_come_back(one_helm: Helm) -> None:
    workload = one_helm.template({"persistence": {"enabled": False}}).one("Deployment")
    assert env_of(workload)["KSTREAM_ON_STOP"] == "leave"
    assert "KSTREAM_WEB_URL" not in env_of(workload)  # its pods have no host names
    assert workload["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    stays = one_helm.template({"persistence": {"enabled": False}, "onStop": "stay"}).one("Deployment")
    assert env_of(stays)["KSTREAM_ON_STOP"] == "stay"


def test_state_without_a_claim_fits_into_the_ephemeral_storage(one_helm: Helm) -> None:
    """Else the kubelet evicts the pod as soon as the state is as large as the limit."""
    workload = one_helm.template({"persistence": {"enabled": False, "size": "2Gi"}}).one("Deployment")
    volumes = {one["name"]: one for one in pod_of(workload)["volumes"]}
    assert volumes["state"]["emptyDir"] == {"sizeLimit": "2Gi"}
    assert container_of(workload)["resources"]["limits"]["ephemeral-storage"] == f"{2048 + 512}Mi"


def test_alone_default_runs_all_groups(one_helm: Helm) -> None:
    assert env_of(one_helm.template().one("StatefulSet"))["KSTREAM_GROUPS"] == ""


def test_each_of_several_groups_runs_its_own(one_helm: Helm) -> None:
    rendered = one_helm.template(TWO_GROUPS)
    ran = {one["metadata"]["name"]: env_of(one)["KSTREAM_GROUPS"] for one in rendered.workloads()}
    assert ran == {"air-kstream": "default", "air-kstream-cpu-intensive": "cpu-intensive"}


def test_a_group_alone_that_is_not_default_runs_only_itself(one_helm: Helm) -> None:
    workload = one_helm.template(MATRIX["only another group"]).one("StatefulSet")
    assert env_of(workload)["KSTREAM_GROUPS"] == "cpu-intensive"


def test_a_group_has_what_is_its_own_and_the_rest_from_above(one_helm: Helm) -> None:
    rendered = one_helm.template(TWO_GROUPS, {"replicas": 5, "settings": {"commit_interval": "200ms"}})
    plain, heavy = rendered.one("StatefulSet", "air-kstream"), rendered.one("StatefulSet", "air-kstream-cpu-intensive")
    assert (plain["spec"]["replicas"], heavy["spec"]["replicas"]) == (3, 5)
    assert (env_of(plain)["KSTREAM_WORKERS"], env_of(heavy)["KSTREAM_WORKERS"]) == ("1", "1..4")
    assert container_of(heavy)["resources"]["limits"] == {"memory": "3Gi", "ephemeral-storage": "512Mi"}
    assert config_of(rendered)["KSTREAM_COMMIT_INTERVAL"] == "200ms"
    assert env_of(heavy)["KSTREAM_COMMIT_INTERVAL"] == "1s"
    assert "KSTREAM_COMMIT_INTERVAL" not in env_of(plain)


def test_false_and_zero_of_a_group_count(one_helm: Helm) -> None:
    off = {
        "groups": {"b": {"replicas": 0, "persistence": {"enabled": False}, "podDisruptionBudget": {"enabled": False}}}
    }
    rendered = one_helm.template(off)
    assert rendered.one("Deployment")["spec"]["replicas"] == 0
    assert [one["metadata"]["name"] for one in rendered.of("PodDisruptionBudget")] == ["air-kstream"]


def test_selectors_find_the_pods_of_their_group_and_no_others(one_helm: Helm) -> None:
    """That of `helm test` would get records' requests, and be scraped, if it looked like one of the app's."""
    rendered = one_helm.template(MONITORING, TWO_GROUPS)
    pods = {one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"] for one in rendered.workloads()}
    test_pod = rendered.one("Pod")["metadata"]["labels"]

    def found(selector: dict[str, str]) -> set[str]:
        assert not selector.items() <= test_pod.items()
        return {name for name, labels in pods.items() if selector.items() <= labels.items()}

    for kind in ("StatefulSet", "PodDisruptionBudget"):
        for one in rendered.of(kind):
            assert found(one["spec"]["selector"]["matchLabels"]) == {one["metadata"]["name"]}
    for service in rendered.of("Service"):
        assert found(service["spec"]["selector"]) == set(pods)
    assert found(rendered.one("PodMonitor")["spec"]["selector"]["matchLabels"]) == set(pods)
    assert found(rendered.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]) == set(pods)


# ---- settings


def test_settings_are_variables_that_kstream_understands(one_helm: Helm) -> None:
    """kstream itself reads what the chart wrote, numbers of a million and librdkafka's keys included."""
    rendered = one_helm.template(MATRIX["settings"], {"workers": "1..4", "resources": {"limits": {"memory": "4Gi"}}})
    fixed = {name: value for name, value in env_of(rendered.one("StatefulSet")).items() if isinstance(value, str)}
    read = changed_settings({**config_of(rendered), **fixed, "KSTREAM_INSTANCE": "air-kstream-0"})
    assert str(read["max_uncommitted_records"]) == "1000000"
    assert read["kafka.security.protocol"] == "SASL_SSL"
    assert str(read["kafka.consumer.fetch.wait.max.ms"]) == "250"
    assert str(read["kafka.socket.keepalive.enable"]).lower() == "true"
    assert str(read["changelog.max.message.bytes"]) == "6000000"
    assert read["bootstrap_servers"] == BASE["bootstrapServers"]
    assert str(read["auto_create_topics"]).lower() == "false"
    assert {"state_dir", "web_host", "web_port", "shutdown_timeout", "workers", "instance"} <= set(read)


def test_secrets_are_files_that_kstream_reads(one_helm: Helm, tmp_path: Path) -> None:
    rendered = one_helm.template(MATRIX["a secret that is made"])
    workload, secret = rendered.one("StatefulSet"), rendered.one("Secret")
    mounted = {one["name"]: one["mountPath"] for one in container_of(workload)["volumeMounts"]}["secrets"]
    for key, value in secret["stringData"].items():
        tmp_path.joinpath(key).write_text(value)
    files = {
        name: str(value).replace(mounted, str(tmp_path))
        for name, value in env_of(workload).items()
        if name.endswith("_FILE")
    }
    assert len(files) == 2
    read = changed_settings({**files, "KSTREAM_INSTANCE": "a"})
    assert {"kafka.sasl.password", "web_token"} <= set(read)
    assert secret["stringData"] == {"kafka.sasl.password": "p{{ }}\"'$w", "web_token": "12345678"}
    assert "checksum/secret" in workload["spec"]["template"]["metadata"]["annotations"]


def changed_settings(environment: dict[str, str]) -> dict[str, Any]:
    """What `kstream config` says is not at its default, in this environment."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("KSTREAM_")}
    command = [str(Path(sys.executable).with_name("kstream")), "config", "--changed", "--json"]
    done = subprocess.run(command, env={**ours, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    rows = said["settings"] if isinstance(said, dict) else said
    return {one["name"]: one["value"] for one in rows}


def test_a_secret_of_mine_in_the_environment(one_helm: Helm) -> None:
    rendered = one_helm.template(MATRIX["a secret in the environment"])
    assert not rendered.of("Secret")
    workload = rendered.one("StatefulSet")
    assert env_of(workload)["KSTREAM_KAFKA__SASL_PASSWORD"] == {"secretKeyRef": {"name": "mine", "key": "pw"}}
    assert "secrets" not in [one["name"] for one in pod_of(workload)["volumes"]]


def test_a_change_of_settings_is_an_upgrade_and_a_change_of_labels_is_none(one_helm: Helm) -> None:
    def pod(values: Values) -> Object:
        found: Object = one_helm.template(values).one("StatefulSet")["spec"]["template"]
        return found

    before = pod({})
    assert pod({"settings": {"linger": "7ms"}}) != before
    assert pod({"monitoring": {"podMonitor": {"enabled": True}}}) == before


def test_services_of_others_set_no_variables(one_helm: Helm) -> None:
    """A Service called kstream-web would otherwise set KSTREAM_WEB_PORT=tcp://..., in every pod."""
    rendered = one_helm.template()
    specs = [pod_of(rendered.one("StatefulSet")), rendered.one("Pod")["spec"]]
    assert all(spec["enableServiceLinks"] is False for spec in specs)


# ---- start, stop, upgrade


@pytest.mark.parametrize("seconds", [60, 300])
def test_a_pod_lives_longer_than_its_stop_may_take(one_helm: Helm, seconds: int) -> None:
    rendered = one_helm.template({"shutdownTimeout": seconds})
    assert config_of(rendered)["KSTREAM_SHUTDOWN_TIMEOUT"] == f"{seconds}s"
    assert pod_of(rendered.one("StatefulSet"))["terminationGracePeriodSeconds"] == seconds + 30


def test_probes_tolerate_a_long_restore(one_helm: Helm) -> None:
    rendered = one_helm.template()
    container = container_of(rendered.one("StatefulSet"))
    paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/startup", "liveness": "/live", "readiness": "/ready"}
    startup = container["startupProbe"]
    assert 120 <= startup["periodSeconds"] * startup["failureThreshold"] <= 600, "it waits for no restore"
    assert config_of(rendered)["KSTREAM_WEB_HOST"] == "0.0.0.0"  # the kubelet asks from outside the pod
    (port,) = container["ports"]
    assert str(port["containerPort"]) == config_of(rendered)["KSTREAM_WEB_PORT"]


def test_topics_are_made_before_the_app_starts(one_helm: Helm) -> None:
    workload = one_helm.template({"topics": {"create": True}}).one("StatefulSet")
    topics, app = container_of(workload, "topics"), container_of(workload)
    assert topics["command"] + topics["args"] == ["kstream", "topics", BASE["app"], "--create"]
    assert app["command"] + app["args"] == ["kstream", "run", BASE["app"]]
    assert topics["env"] == app["env"] and topics["envFrom"] == app["envFrom"]


# ---- autoscaling


def test_replicas_are_the_autoscalers(one_helm: Helm) -> None:
    workload = one_helm.template(KEDA).one("StatefulSet")
    assert "replicas" not in workload["spec"]
    assert workload["metadata"]["annotations"] == {"kstream/replicas": "left-out"}
    fixed = one_helm.template().one("StatefulSet")
    assert fixed["spec"]["replicas"] == 2 and "annotations" not in fixed["metadata"]


def test_lag_of_each_topic_of_the_group(one_helm: Helm) -> None:
    own = {"autoscaling": {"topics": ["heavy"], "partitions": 4, "maxReplicas": 4}}
    rendered = one_helm.template(KEDA, {"groups": {"cpu-intensive": own}})
    asked = {
        one["metadata"]["name"]: [
            (t["metadata"]["consumerGroup"], t["metadata"]["topic"]) for t in one["spec"]["triggers"]
        ]
        for one in rendered.of("ScaledObject")
    }
    assert asked == {
        "air-kstream": [("flights", "flights"), ("flights", "flights-by-carrier")],
        "air-kstream-cpu-intensive": [("flights-cpu-intensive", "heavy")],
    }
    for one in rendered.of("ScaledObject"):
        target = one["spec"]["scaleTargetRef"]
        assert target["name"] == one["metadata"]["name"] and target["kind"] == "StatefulSet"
        for trigger in one["spec"]["triggers"]:
            metadata = trigger["metadata"]
            assert metadata["excludePersistentLag"] == metadata["ensureEvenDistributionOfPartitions"] == "true"
            assert all(isinstance(value, str) for value in metadata.values())


@pytest.mark.parametrize("kind", ["keda", "hpa"])
def test_down_is_slow(one_helm: Helm, kind: str) -> None:
    rendered = one_helm.template(KEDA, {"autoscaling": {"kind": kind}})
    if kind == "keda":
        behavior = rendered.one("ScaledObject")["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    else:
        behavior = rendered.one("HorizontalPodAutoscaler")["spec"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 600
    assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}]


# ---- monitoring


def test_targets_are_as_the_rules_expect(one_helm: Helm) -> None:
    rendered = one_helm.template(MONITORING)
    (pods,) = rendered.one("PodMonitor")["spec"]["podMetricsEndpoints"]
    (services,) = rendered.one("ServiceMonitor")["spec"]["endpoints"]
    for endpoint in (pods, services):
        labels = {one["targetLabel"]: one for one in endpoint["relabelings"]}
        assert labels["job"]["replacement"] == "kstream"
        assert "app" not in labels  # that label is kstream's own
    selector = rendered.one("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    (chosen,) = [one for one in rendered.of("Service") if selector.items() <= one["metadata"]["labels"].items()]
    assert chosen["spec"]["publishNotReadyAddresses"]  # pods that restore are scraped too


def test_templates_of_alerts_stay_templates(helm: Helm) -> None:
    rules = helm.template(MONITORING).one("PrometheusRule")["spec"]["groups"]
    texts = [one["annotations"]["summary"] for group in rules for one in group["rules"] if "annotations" in one]
    assert any("{{ $labels.app }}" in text for text in texts)


# ---- security


@pytest.mark.parametrize("values", [{}, MATRIX["keda without claims"], MATRIX["topics are made"]])
def test_every_container_is_locked_up(one_helm: Helm, values: Values) -> None:
    rendered = one_helm.template(values)
    specs = [pod_of(one) for one in rendered.workloads()] + [rendered.one("Pod")["spec"]]
    for spec in specs:
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*spec["containers"], *spec.get("initContainers", [])):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and context["runAsNonRoot"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["allowPrivilegeEscalation"] is False


def test_the_user_is_that_of_the_image() -> None:
    """A volume is given to the group of the pod; the state directory of the image belongs to its user."""
    dockerfile = ROOT.joinpath("Dockerfile").read_text()
    assert "\nUSER 10001:10001\n" in dockerfile


def test_a_closed_network_still_lets_helm_test_in(one_helm: Helm) -> None:
    rendered = one_helm.template(MATRIX["a network that is closed"])
    (rule,) = rendered.one("NetworkPolicy")["spec"]["ingress"]
    test_pod = rendered.one("Pod")["metadata"]["labels"]
    assert any(
        one.get("podSelector", {}).get("matchLabels", {"x": ""}).items() <= test_pod.items() for one in rule["from"]
    )
    assert len(rule["from"]) == 2
