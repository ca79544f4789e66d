"""Slips in values are refused, with the name of the value; what is right is not."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.helm.chart import BASE, CHART, KEDA, Helm, Refused, Values, merged

# (what is wrong, values, a part of the answer)
SLIPS: list[tuple[str, Values, str]] = [
    ("an unknown name", {"replica": 3}, "replica"),
    ("an unknown name inside", {"image": {"repo": "x"}}, "repo"),
    ("an unknown name in a group", {"groups": {"default": {"replica": 3}}}, "replica"),
    ("a value that no group has of its own", {"groups": {"default": {"web": {"port": 9000}}}}, "web"),
    ("an unknown setting", {"settings": {"comit_interval": "1s"}}, "comit_interval"),
    ("an unknown setting of a group", {"groups": {"default": {"settings": {"x": 1}}}}, "x"),
    ("a setting of the chart's", {"settings": {"instance": "a"}}, "instance"),
    ("a setting that is a secret", {"settings": {"web_token": "t"}}, "web_token"),
    ("a password in the ConfigMap", {"settings": {"kafka": {"sasl.password": "p"}}}, "sasl.password"),
    ("a duration without sense", {"settings": {"commit_interval": "1 fortnight"}}, "commit_interval"),
    ("a choice that is none", {"settings": {"compression": "zip"}}, "compression"),
    ("text for yes or no", {"settings": {"auto_create_topics": "sure"}}, "auto_create_topics"),
    ("text for a number", {"replicas": "three"}, "replicas"),
    ("half a pod", {"replicas": 1.5}, "replicas"),
    ("fewer than no pods", {"replicas": -1}, "replicas"),
    ("no app's name", {"app": "services/flights/app.py"}, "app"),
    ("brokers without a port", {"bootstrapServers": "kafka"}, "bootstrapServers"),
    ("a list of brokers", {"bootstrapServers": ["kafka:9092"]}, "bootstrapServers"),
    ("a range that is none", {"workers": "1-4"}, "workers"),
    ("no workers", {"workers": 0}, "workers"),
    ("a group that Kafka's name cannot hold", {"groups": {"CPU_intensive": {}}}, "CPU_intensive"),
    ("a size without a unit", {"persistence": {"size": "100"}}, "size"),
    ("a size in other units", {"persistence": {"size": "10GB"}}, "size"),
    ("a volume for many", {"persistence": {"accessModes": ["ReadWriteMany"]}}, "accessModes"),
    ("a policy that is none", {"persistence": {"retention": {"whenScaled": "Keep"}}}, "whenScaled"),
    ("memory in words", {"resources": {"limits": {"memory": "a lot"}}}, "memory"),
    ("resources with a slip", {"resources": {"limit": {}}}, "limit"),
    ("stop words", {"onStop": "go"}, "onStop"),
    ("a time to stop in words", {"shutdownTimeout": "60s"}, "shutdownTimeout"),
    ("yes as text", {"persistence": {"enabled": "yes"}}, "enabled"),
    ("an autoscaler that is none", {"autoscaling": {"kind": "vpa"}}, "kind"),
    ("a scale-down without patience", {"autoscaling": {"scaleDown": {"stabilizationWindowSeconds": 60}}}, "scaleDown"),
    ("topics as text", {"autoscaling": {"topics": "flights"}}, "topics"),
    ("a topic's name with a blank", {"autoscaling": {"topics": ["my flights"]}}, "topics"),
    ("a budget of nothing", {"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
    ("a port of root's", {"web": {"port": 80}}, "port"),
    ("variables as a map", {"extraEnv": {"TZ": "UTC"}}, "extraEnv"),
    ("a variable without a name", {"extraEnv": [{"value": "UTC"}]}, "extraEnv"),
    ("a tag with a digest in it", {"image": {"tag": "1.0@sha256:abc"}}, "tag"),
    ("a digest that is short", {"image": {"digest": "sha256:abc"}}, "digest"),
    ("a pull policy that is none", {"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ("secrets by word of mouth", {"secretsAs": "arguments"}, "secretsAs"),
    ("a secret without a name", {"secrets": [{"keys": {"web_token": "t"}}]}, "name"),
    ("a secret that gives nothing", {"secrets": [{"name": "a", "keys": {}}]}, "keys"),
    ("secrets as a map", {"secrets": {"name": "a"}}, "secrets"),
    ("a certificate by its path", {"tls": {"kafka": {"ca": {"secret": "/etc/ca.pem"}}}}, "secret"),
    ("tls as yes", {"tls": {"kafka": {"enabled": True}}}, "enabled"),
    ("an ingress below a path", {"ingress": {"path": "/flights"}}, "path"),
    ("an ingress with an address", {"ingress": {"hosts": ["https://flights.example.com"]}}, "hosts"),
    ("a token or not, in words", {"automountServiceAccountToken": "no"}, "automountServiceAccountToken"),
    ("a hook that is none", {"lifecycle": {"preStart": {}}}, "preStart"),
    ("a hook of a group that is none", {"groups": {"default": {"lifecycle": {"preStart": {}}}}}, "preStart"),
    ("a probe of a group, another kind", {"groups": {"default": {"probes": {"live": {}}}}}, "live"),
    ("a manifest that is a number", {"extraManifests": [1]}, "extraManifests"),
    ("metrics of nobody", {"autoscaling": {"hpa": {"source": "prometheus"}}}, "source"),
    ("a Prometheus without a scheme", {"autoscaling": {"keda": {"prometheus": "prometheus:9090"}}}, "prometheus"),
    ("a class with a blank", {"priorityClassName": "very high"}, "priorityClassName"),
    ("a label that is a number", {"labels": {"tier": 1}}, "tier"),
    ("a probe of another kind", {"probes": {"startup": {"exec": {}}}}, "exec"),
]

ROOMY: Values = {"resources": {"limits": {"memory": "16Gi"}}}

# (what does not fit together, values, the answer's beginning)
CONFLICTS: list[tuple[str, Values, str]] = [
    (
        "topics made twice",
        {"topics": {"create": True}, "topicsJob": {"enabled": True}},
        "topicsJob.enabled and topics.create both make the topics",
    ),
    (
        "a job with a secret that is not there yet",
        {"createSecret": {"web_token": "t"}, "topicsJob": {"enabled": True}},
        "the Secret of createSecret is not there before the install",
    ),
    ("autoscaling without a name", {"autoscaling": {**KEDA["autoscaling"]}}, "needs appName"),
    (
        "autoscaling by the name in the code",
        {**KEDA, "settings": {"topic_prefix": "staging."}},
        "the consumer group is staging.flights; call it so",
    ),
    (
        "autoscaling by another name than the app's",
        {**KEDA, "settings": {"app_name": "second"}},
        "settings.app_name makes the consumer group second; call it so",
    ),
    ("workers from many to few", {"workers": "4..1"}, "workers is 4..1, whose end is less"),
    (
        "a variable twice",
        {"extraEnv": [{"name": "KSTREAM_WORKERS", "value": "3"}]},
        "KSTREAM_WORKERS is made of the chart's other values",
    ),
    (
        "a secret twice",
        {
            "secrets": [{"name": "a", "keys": {"web_token": "t"}}],
            "groups": {"b": {"extraEnv": [{"name": "KSTREAM_WEB_TOKEN_FILE", "value": "/x"}]}},
        },
        "groups.b: extraEnv: KSTREAM_WEB_TOKEN_FILE is made",
    ),
    ("autoscaling without topics", merged(KEDA, {"autoscaling": {"topics": []}}), "needs topics"),
    ("autoscaling without partitions", merged(KEDA, {"autoscaling": {"partitions": 0}}), "needs partitions"),
    ("more pods than partitions", merged(KEDA, {"autoscaling": {"maxReplicas": 13}}), "maxReplicas is 13, but 12"),
    (
        "more workers than partitions",
        merged(KEDA, ROOMY, {"workers": 4, "autoscaling": {"maxReplicas": 4}}),
        "keep 3 pods",
    ),
    (
        "that of one group",
        merged(KEDA, ROOMY, {"groups": {"b": {"workers": 7}}}),
        "groups.b: autoscaling: maxReplicas is 6",
    ),
    ("fewest above most", merged(KEDA, {"autoscaling": {"minReplicas": 7}}), "minReplicas is 7, more than"),
    ("an hpa from zero", merged(KEDA, {"autoscaling": {"kind": "hpa", "minReplicas": 0}}), "needs kind keda"),
    (
        "workers beyond the memory",
        {"workers": 2},
        "2 workers with 512MiB each need a memory limit of 1152Mi, it is 1Gi",
    ),
    ("that with a setting", {"settings": {"memory": "1GiB"}}, "1 workers with 1GiB each"),
    ("that for one group", {"groups": {"b": {"workers": "1..2"}}}, "groups.b: 2 workers"),
    (
        "one setting from two secrets",
        {"secrets": [{"name": "a", "keys": {"web_token": "t"}}, {"name": "b", "keys": {"web_token": "t"}}]},
        "web_token comes from Secret a and from b; name it once",
    ),
    (
        "one setting from a secret and by value",
        {"secrets": [{"name": "a", "keys": {"web_token": "t"}}], "createSecret": {"web_token": "t"}},
        "createSecret: web_token comes from Secret a already",
    ),
    ("two authorities", {"tls": {"kafka": {"ca": {"secret": "a", "configMap": "b"}}}}, "both given; use one"),
    ("a password of no key", {"tls": {"kafka": {"certificate": {"password": "p"}}}}, "password needs secret"),
    (
        "tls without tls",
        {"tls": {"kafka": {"ca": {"secret": "a"}}}, "settings": {"kafka": {"security.protocol": "sasl_plaintext"}}},
        "which has no TLS; set SSL or SASL_SSL",
    ),
    (
        "a file twice",
        {"tls": {"kafka": {"ca": {"secret": "a"}}}, "settings": {"kafka": {"ssl.ca.location": "/ca.pem"}}},
        "ssl.ca.location is made of tls.kafka",
    ),
    ("an ingress without a name", {"ingress": {"enabled": True}, "createSecret": {"web_token": "t"}}, "needs hosts"),
    ("an ingress without a token", {"ingress": {"enabled": True, "hosts": ["a.example"]}}, "needs web_token"),
    (
        "a lag that nobody takes",
        merged(KEDA, {"autoscaling": {"minReplicas": 0, "activationLagThreshold": 1000}}),
        "as much as a pod may have",
    ),
    ("nothing to install", {"monitoring": {"only": True}}, "monitoring.only: there is nothing to install"),
    ("a name that labels cannot hold", {"fullnameOverride": "a" * 40, "groups": {"b" * 12: {}}}, "has 53 characters"),
    ("no groups", {"groups": {"default": None}}, ""),
]


@pytest.mark.parametrize(("values", "named"), [one[1:] for one in SLIPS], ids=[one[0] for one in SLIPS])
def test_slips(helm: Helm, values: Values, named: str) -> None:
    with pytest.raises(Refused) as refused:
        helm.text(values)
    answer = str(refused.value)
    assert "values don't meet the specifications of the schema" in answer
    assert named in answer.replace("/", ".")


@pytest.mark.parametrize(("values", "answer"), [one[1:] for one in CONFLICTS], ids=[one[0] for one in CONFLICTS])
def test_conflicts(helm: Helm, values: Values, answer: str) -> None:
    with pytest.raises(Refused) as refused:
        helm.text(values)
    assert answer in str(refused.value)


@pytest.mark.parametrize("workers", [1, 12, "1..4"])
def test_as_many_pods_as_are_busy(one_helm: Helm, workers: Any) -> None:
    """The cap is exact: one pod more is refused above."""
    most = {1: 12, 12: 1, "1..4": 12}[workers]
    values = merged(KEDA, ROOMY, {"workers": workers, "autoscaling": {"maxReplicas": most}})
    assert one_helm.template(values).one("ScaledObject")["spec"]["maxReplicaCount"] == most


def test_the_base_is_accepted(helm: Helm) -> None:
    """So that the refusals above are those of the slips."""
    assert helm.run("template", "air", str(CHART), values=BASE)
