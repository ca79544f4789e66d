"""What the chart makes of its values: identity, settings, stops, monitoring, and the traps that can be seen without a
cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.helm.chart import (
    BASE,
    CHART,
    KEDA,
    MATRIX,
    MONITORING,
    ROOT,
    TLS,
    TWO_GROUPS,
    Helm,
    Object,
    Rendered,
    Values,
    container_of,
    env_of,
    pod_of,
)
from kstream.web.guard import Guard


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
    files = mounted(workload, {"air-kstream": secret["stringData"]}, tmp_path)
    assert len(files) == 2
    read = changed_settings({**files, "KSTREAM_INSTANCE": "a"})
    assert {"kafka.sasl.password", "web_token"} <= set(read)
    assert secret["stringData"] == {"kafka.sasl.password": "p{{ }}\"'$w", "web_token": "12345678"}
    assert "checksum/secret" in workload["spec"]["template"]["metadata"]["annotations"]


def mounted(workload: Object, contents: Mapping[str, Mapping[str, str]], folder: Path) -> dict[str, str]:
    """What the kubelet makes of a pod's projected volumes, below `folder`. Returns the variables that name files."""
    places = {one["name"]: one["mountPath"] for one in container_of(workload)["volumeMounts"]}
    for volume in pod_of(workload)["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            ((_, one),) = source.items()
            for item in one["items"]:
                file = folder / places[volume["name"]].lstrip("/") / item["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(contents[one["name"]][item["key"]])
    return {
        name: f"{folder}{value}" for name, value in env_of(workload).items() if str(value).startswith("/etc/kstream/")
    }


def test_several_secrets_give_what_is_named_of_them(one_helm: Helm, tmp_path: Path) -> None:
    rendered = one_helm.template(MATRIX["several secrets"])
    contents = {
        "mine": {"user": "flights", "pw": "p1", "other": "not to be seen"},
        "page": {"t": "token"},
        "air-kstream": rendered.one("Secret")["stringData"],
    }
    files = mounted(rendered.one("StatefulSet"), contents, tmp_path)
    read = changed_settings({**files, "KSTREAM_INSTANCE": "a"})
    assert {"kafka.sasl.username", "kafka.sasl.password", "web_token", "kafka.sasl.oauthbearer.client.secret"} <= set(
        read
    )
    assert "not to be seen" not in [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    as_variables = env_of(one_helm.template(MATRIX["several secrets"], {"secretsAs": "env"}).one("StatefulSet"))
    assert as_variables["KSTREAM_KAFKA__SASL_USERNAME"] == {"secretKeyRef": {"name": "mine", "key": "user"}}
    assert as_variables["KSTREAM_WEB_TOKEN"] == {"secretKeyRef": {"name": "page", "key": "t"}}


# ---- certificates


def test_certificates_lie_where_the_settings_look(one_helm: Helm, tmp_path: Path) -> None:
    rendered = one_helm.template(TLS)
    workload, config = rendered.one("StatefulSet"), config_of(rendered)
    contents = {
        "kafka-cluster-ca-cert": {"ca.crt": "authorities"},
        "flights": {"user.crt": "certificate", "user.key": "key", "pw": "password"},
        "flights-tls": {"tls.crt": "page's", "tls.key": "page's key", "ca.crt": "page's authority"},
    }
    mounted(workload, contents, tmp_path)

    def at(name: str) -> str:
        return Path(f"{tmp_path}{config.get(name) or env_of(workload)[name]}").read_text()

    assert at("KSTREAM_KAFKA__SSL_CA_LOCATION") == "authorities"
    assert at("KSTREAM_KAFKA__SSL_CERTIFICATE_LOCATION") == "certificate"
    assert at("KSTREAM_KAFKA__SSL_KEY_LOCATION") == "key"
    assert at("KSTREAM_KAFKA__SSL_KEY_PASSWORD_FILE") == "password"
    assert at("KSTREAM_WEB_TLS_CERTIFICATE") == "page's" and at("KSTREAM_WEB_TLS_KEY") == "page's key"
    assert at("KSTREAM_WEB_TLS_CA") == "page's authority"
    assert config["KSTREAM_KAFKA__SECURITY_PROTOCOL"] == "SASL_SSL"
    without = config_of(one_helm.template(MATRIX["tls from a config map"]))
    assert without["KSTREAM_KAFKA__SECURITY_PROTOCOL"] == "SSL"


def test_with_a_certificate_of_the_page_everybody_asks_by_https(one_helm: Helm) -> None:
    rendered = one_helm.template(TLS, KEDA, MONITORING)
    workload = rendered.one("StatefulSet")
    container = container_of(workload)
    assert {container[f"{kind}Probe"]["httpGet"]["scheme"] for kind in ("startup", "liveness", "readiness")} == {
        "HTTPS"
    }
    (pods,) = rendered.one("PodMonitor")["spec"]["podMetricsEndpoints"]
    (services,) = rendered.one("ServiceMonitor")["spec"]["endpoints"]
    assert pods["scheme"] == services["scheme"] == "https"
    assert pods["tlsConfig"] == services["tlsConfig"] == {"insecureSkipVerify": True}  # an address is in no certificate
    assert all(url.startswith("https://") for url in asked(rendered))
    assert all(url.startswith("http://") for url in asked(one_helm.template(KEDA)))


def asked(rendered: Rendered) -> list[str]:
    """Addresses under which pods are asked by name: by helm test, by KEDA, and by each other."""
    (test,) = rendered.one("Pod")["spec"]["containers"]
    workload = rendered.one("StatefulSet")
    own = (
        env_of(workload)["KSTREAM_WEB_URL"].replace("$(POD_NAME)", "air-kstream-0").replace("$(POD_NAMESPACE)", "prod")
    )
    triggers = [trigger for one in rendered.of("ScaledObject") for trigger in one["spec"]["triggers"]]
    urls = [one["metadata"]["url"] for one in triggers if one["type"] == "metrics-api"]
    return [test["env"][0]["value"], own, *urls]


@pytest.mark.parametrize("values", [{}, MATRIX["an ingress"], {"fullnameOverride": "flights"}])
def test_pods_answer_to_the_names_that_they_are_asked_by(one_helm: Helm, values: Values) -> None:
    """Any other name gets 421 (docs/security.md): `helm test` was answered so, and nobody had seen it."""
    rendered = one_helm.template(values, KEDA)
    hosts = next(iter(rendered.of("ConfigMap")))["data"]["KSTREAM_WEB_HOSTS"]
    read = changed_settings({"KSTREAM_WEB_HOSTS": hosts, "KSTREAM_INSTANCE": "a"})["web_hosts"]
    names = [*read.split(","), urlsplit(asked(rendered)[1]).hostname]  # web_url's is added by kstream itself
    guard = Guard(None, "t", None, names)  # type: ignore[arg-type]
    for url in asked(rendered):
        assert guard.is_ours(urlsplit(url).netloc), url
    for ingress in rendered.of("Ingress"):
        assert guard.is_ours("flights.example.com") and guard.is_ours("one.air.example.com")
        assert guard.is_ours("one.example.com") and guard.is_ours("two.example.com")  # those of the settings stay
        assert len(ingress["spec"]["rules"]) == 2
    assert not guard.is_ours("evil.example.com")


def test_the_ingress_leads_to_the_page(one_helm: Helm) -> None:
    rendered = one_helm.template(MATRIX["an ingress"])
    spec = rendered.one("Ingress")["spec"]
    assert spec["ingressClassName"] == "nginx" and spec["tls"][0]["secretName"] == "flights-tls"
    for rule in spec["rules"]:
        (path,) = rule["http"]["paths"]
        service = rendered.one("Service", path["backend"]["service"]["name"])
        assert path["backend"]["service"]["port"]["name"] in [port["name"] for port in service["spec"]["ports"]]


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
    assert topics["command"] + topics["args"] == ["kstream", "topics", BASE["app"], "--create", "--within", "300"]
    assert app["command"] + app["args"] == ["kstream", "run", BASE["app"]]
    assert topics["env"] == app["env"] and topics["envFrom"] == app["envFrom"]


def test_topics_are_made_by_a_job_with_a_user_of_its_own(one_helm: Helm) -> None:
    """Before the install there is nothing of the release: neither settings nor secrets, nor an account."""
    rendered = one_helm.template(MATRIX["topics are made by a job"])
    job, workload = rendered.one("Job"), rendered.one("StatefulSet")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    container, env = container_of(job, "topics"), {one["name"]: one["value"] for one in _env(job)}
    assert container["command"] + container["args"] == ["kstream", "topics", BASE["app"], "--create"]
    assert "envFrom" not in container and "serviceAccountName" not in pod_of(job)
    theirs = config_of(rendered)
    own = {name: text for name, text in env.items() if not name.endswith("_FILE")}
    assert own.pop("KSTREAM_KAFKA__SASL_USERNAME") == "topics"
    assert theirs["KSTREAM_KAFKA__SASL_USERNAME"] == "flights" and theirs["KSTREAM_TOPIC_PREFIX"] == "staging."
    assert own.items() <= theirs.items() and "KSTREAM_WEB_TLS_CERTIFICATE" not in own
    files = {name: text for name, text in env.items() if name.endswith("_FILE")}
    assert files == {"KSTREAM_KAFKA__SASL_PASSWORD_FILE": "/etc/kstream/secrets/topics-kafka/password"}
    assert "topics-kafka" not in json.dumps(workload) and "flights-" not in json.dumps(pod_of(job)["volumes"])
    labels, selector = job["spec"]["template"]["metadata"]["labels"], workload["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= labels.items()
    assert not one_helm.template().of("Job"), "none that nobody asked for"


def test_the_job_has_the_variables_that_the_apps_module_may_read(one_helm: Helm) -> None:
    """It imports it. What the job says itself comes last, and holds."""
    more = {"extraEnv": [{"name": "REGION", "value": "eu"}], "extraEnvFrom": [{"configMapRef": {"name": "given"}}]}
    job = one_helm.template(MATRIX["topics are made by a job"], more).one("Job")
    assert _env(job)[0] == {"name": "REGION", "value": "eu"}
    assert container_of(job, "topics")["envFrom"] == more["extraEnvFrom"]


def _env(workload: Object) -> list[dict[str, str]]:
    found: list[dict[str, str]] = container_of(workload, "topics")["env"]
    return found


@pytest.mark.parametrize("seconds", [0, 7])
def test_a_hook_has_its_time_before_the_stop(one_helm: Helm, seconds: int) -> None:
    values = {"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}} if seconds else {}
    workload = one_helm.template(values).one("StatefulSet")
    assert container_of(workload).get("lifecycle", {}) == values.get("lifecycle", {})
    assert pod_of(workload)["terminationGracePeriodSeconds"] == 60 + 30 + seconds


def test_without_hooks_it_says_none(one_helm: Helm) -> None:
    assert "lifecycle" not in container_of(one_helm.template({"lifecycle": None}).one("StatefulSet"))


def test_hooks_and_probes_of_a_group(one_helm: Helm) -> None:
    hooks = one_helm.template(MATRIX["hooks"])
    assert set(container_of(hooks.one("StatefulSet", "air-kstream"))["lifecycle"]) == {"preStop"}
    assert set(container_of(hooks.one("StatefulSet", "air-kstream-b"))["lifecycle"]) == {"preStop", "postStart"}
    assert all(pod_of(one)["automountServiceAccountToken"] is True for one in hooks.workloads())
    probes = one_helm.template(MATRIX["probes of a group"])
    plain, patient = (
        container_of(probes.one("StatefulSet", name))["startupProbe"] for name in ("air-kstream", "air-kstream-b")
    )
    assert (plain["failureThreshold"], patient["failureThreshold"]) == (60, 240)
    assert patient["periodSeconds"] == plain["periodSeconds"] == 5


def test_a_class_of_priority_for_all_or_for_a_group(one_helm: Helm) -> None:
    values = {"priorityClassName": "high", "groups": {"default": {}, "b": {"priorityClassName": "low"}}}
    rendered = one_helm.template(values)
    found = {one["metadata"]["name"]: pod_of(one)["priorityClassName"] for one in rendered.workloads()}
    assert found == {"air-kstream": "high", "air-kstream-b": "low"}


def test_objects_of_mine_are_filled_in(helm: Helm) -> None:
    rendered = helm.template(MATRIX["objects of mine"])
    names = {one["metadata"]["name"] for one in rendered.of("ConfigMap")}
    assert names == {"air-kstream", "air-kstream-more", "air-text"}


def test_rules_and_dashboard_alone(helm: Helm) -> None:
    """Once for a cluster: nothing of an app, and no app is asked for. What is in them is what a release has."""
    alone = MATRIX["rules and dashboard alone"]
    said = helm.run("template", "air", str(CHART), "--namespace", "prod", values=alone)
    objects = [one for one in yaml.safe_load_all(said) if one]
    assert {one["kind"] for one in objects} == {"PrometheusRule", "ConfigMap"}
    of_release = helm.template(MONITORING)
    assert Rendered(objects).one("PrometheusRule")["spec"] == of_release.one("PrometheusRule")["spec"]
    assert Rendered(objects).one("ConfigMap")["data"] == of_release.one("ConfigMap", "air-kstream-dashboard")["data"]


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
            (t["metadata"]["consumerGroup"], t["metadata"]["topic"])
            for t in one["spec"]["triggers"]
            if t["type"] == "kafka"
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
            assert all(isinstance(value, str) for value in trigger["metadata"].values())


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


@pytest.mark.parametrize(
    "values", [{}, MATRIX["keda without claims"], MATRIX["topics are made"], MATRIX["topics are made by a job"]]
)
def test_every_container_is_locked_up(one_helm: Helm, values: Values) -> None:
    rendered = one_helm.template(values)
    specs = [pod_of(one) for one in [*rendered.workloads(), *rendered.of("Job")]] + [rendered.one("Pod")["spec"]]
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
