"""The chart and the two helms: what the tests render, and with which values."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "kstream"

Values = Mapping[str, Any]
Object = dict[str, Any]

BASE: Values = {
    "app": "services.flights.app:app",
    "image": {"repository": "registry.example/flights", "tag": "1.4.0"},
    "bootstrapServers": "kafka-0:9092,kafka-1:9092",
}
KEDA: Values = {
    "appName": "flights",
    "autoscaling": {"enabled": True, "partitions": 12, "maxReplicas": 6, "topics": ["flights", "flights-by-carrier"]},
}
TWO_GROUPS: Values = {
    "groups": {
        "default": {"replicas": 3},
        "cpu-intensive": {
            "workers": "1..4",
            "resources": {"requests": {"cpu": "2", "memory": "3Gi"}, "limits": {"memory": "3Gi"}},
            "settings": {"commit_interval": "1s"},
        },
    }
}
TLS: Values = {
    "tls": {
        "kafka": {
            "ca": {"secret": "kafka-cluster-ca-cert"},
            "certificate": {"secret": "flights", "certificate": "user.crt", "key": "user.key", "password": "pw"},
        },
        "web": {"secret": "flights-tls", "ca": "ca.crt"},
    },
    "settings": {"kafka": {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "flights"}},
}
LOCKED: Values = {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
MONITORING: Values = {
    "monitoring": {
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    }
}


def merged(*values: Values) -> dict[str, Any]:
    """One map of several, the later ones over the earlier, as Helm merges values."""
    result: dict[str, Any] = {}
    for one in values:
        for key, value in one.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


# Each feature on and off, alone and together. Every case is linted, validated and scored.
MATRIX: dict[str, Values] = {
    "plain": {},
    "one pod, no extras": {
        "replicas": 1,
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "serviceAccount": {"create": False, "name": "given"},
    },
    "without claims": {"persistence": {"enabled": False}},
    "claims of a class": {
        "persistence": {
            "size": "500Gi",
            "storageClass": "fast",
            "accessModes": ["ReadWriteOncePod"],
            "retention": {"whenDeleted": "Delete", "whenScaled": "Delete"},
            "annotations": {"backup": "no"},
        }
    },
    "two groups": TWO_GROUPS,
    "groups that differ": merged(
        TWO_GROUPS,
        KEDA,
        {
            "groups": {
                "default": {"autoscaling": {"enabled": False}},
                "cpu-intensive": {"persistence": {"enabled": False}, "podDisruptionBudget": {"maxUnavailable": 2}},
                "gpu": {"nodeSelector": {"gpu": "yes"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
            }
        },
    ),
    "only another group": {"groups": {"default": None, "cpu-intensive": {}}},
    "settings": {
        "settings": {
            "max_uncommitted_records": 1000000,
            "commit_interval": "500ms",
            "auto_create_topics": False,
            "kafka": {
                "security.protocol": "SASL_SSL",
                "consumer.fetch.wait.max.ms": 250,
                "socket.keepalive.enable": True,
            },
            "changelog": {"max.message.bytes": 6000000},
        }
    },
    "a secret of mine": {"secrets": [{"name": "mine", "keys": {"kafka.sasl.password": "pw", "web_token": "t"}}]},
    "several secrets": {
        "secrets": [
            {"name": "mine", "keys": {"kafka.sasl.username": "user", "kafka.sasl.password": "pw"}},
            {"name": "page", "keys": {"web_token": "t"}},
        ],
        "createSecret": {"kafka.sasl.oauthbearer.client.secret": "s"},
    },
    "a secret in the environment": {
        "secrets": [{"name": "mine", "keys": {"kafka.sasl.password": "pw"}}],
        "secretsAs": "env",
    },
    "a secret that is made": {"createSecret": {"kafka.sasl.password": "p{{ }}\"'$w", "web_token": 12345678}},
    "tls": TLS,
    "tls from a config map": {"tls": {"kafka": {"ca": {"configMap": "authorities", "key": "all.pem"}}}},
    "an ingress": {
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "annotations": {"nginx.ingress.kubernetes.io/affinity": "cookie"},
            "hosts": ["flights.example.com", "*.air.example.com"],
            "tls": [{"secretName": "flights-tls", "hosts": ["flights.example.com"]}],
        },
        "secrets": [{"name": "page", "keys": {"web_token": "t"}}],
        "settings": {"web_hosts": "one.example.com, two.example.com"},
    },
    "hooks": {
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "7"]}}},
        "groups": {"default": {}, "b": {"lifecycle": {"postStart": {"exec": {"command": ["true"]}}}}},
        "automountServiceAccountToken": True,
    },
    "probes of a group": {"groups": {"default": {}, "b": {"probes": {"startup": {"failureThreshold": 240}}}}},
    "objects of mine": {
        "extraManifests": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": '{{ include "kstream.fullname" . }}-more'}},
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-text'}\n",
        ]
    },
    "rules and dashboard alone": {
        "monitoring": {"only": True, "prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}}
    },
    "keda": KEDA,
    "keda from zero": merged(KEDA, {"autoscaling": {"minReplicas": 0, "keda": {"authenticationRef": "kafka"}}}),
    "keda with more": merged(KEDA, {"autoscaling": {"keda": {"metadata": {"version": "2.5.0", "tls": "enable"}}}}),
    "keda without claims": merged(KEDA, {"persistence": {"enabled": False}}),
    "keda for an app without stores": merged(
        KEDA, {"autoscaling": {"keda": {"excludePersistentLag": True, "holdWhileRestoring": False}}}
    ),
    "keda with prometheus": merged(
        KEDA, {"autoscaling": {"keda": {"prometheus": "http://prometheus.monitoring:9090"}}}
    ),
    "keda and tls": merged(KEDA, TLS),
    "hpa": merged(KEDA, {"autoscaling": {"kind": "hpa", "minReplicas": 2}}),
    "hpa by kstream's metrics": merged(
        KEDA, {"autoscaling": {"kind": "hpa", "minReplicas": 2, "hpa": {"source": "kstream"}}}
    ),
    "monitoring": MONITORING,
    "alerts of mine": merged(
        MONITORING,
        {
            "monitoring": {
                "prometheusRule": {
                    "annotations": {"owner": "air"},
                    "additionalRuleLabels": {"team": "air"},
                    "grafanaUrl": "https://grafana.example",
                    "disabled": {"HighBackpressure": True},
                    "customRules": {"LagGrowing": {"for": "30m", "keepFiringFor": "10m", "severity": "critical"}},
                    "thresholds": {"restarts": 5},
                }
            }
        },
    ),
    "topics are made": {"topics": {"create": True}},
    "topics are made by a job": {
        "topicsJob": {
            "enabled": True,
            "settings": {"kafka": {"sasl.username": "topics"}},
            "secrets": [{"name": "topics-kafka", "keys": {"kafka.sasl.password": "password"}}],
        },
        "settings": {"topic_prefix": "staging.", "kafka": {"sasl.mechanism": "PLAIN", "sasl.username": "flights"}},
        "secrets": [{"name": "flights-kafka", "keys": {"kafka.sasl.password": "password", "web_token": "token"}}],
        "tls": {"kafka": {"ca": {"secret": "kafka-cluster-ca-cert"}}, "web": {"secret": "flights-tls"}},
    },
    "extras": {
        "labels": {"team": "air"},
        "annotations": {"owner": "air"},
        "podLabels": {"tier": "stream"},
        "podAnnotations": {"example.org/note": "yes"},
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "extraEnvFrom": [{"secretRef": {"name": "more"}}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
        "initContainers": [{"name": "first", "image": "busybox:1.37", "command": ["true"], **LOCKED}],
        "sidecars": [{"name": "beside", "image": "busybox:1.37", "command": ["sleep", "infinity"], **LOCKED}],
        "image": {"digest": f"sha256:{'a' * 64}", "pullSecrets": ["registry"]},
        "priorityClassName": "high",
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "topologySpreadConstraints": [
            {"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
        ],
    },
    "a network that is closed": {
        "networkPolicy": {
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "egress": [{"ports": [{"port": 9092}]}, {"ports": [{"port": 53, "protocol": "UDP"}]}],
        }
    },
    "other names": {"fullnameOverride": "flights", "web": {"port": 9000, "service": {"port": 80, "type": "NodePort"}}},
}


class Refused(Exception):
    """Helm's answer to values that it does not take."""


@dataclass(frozen=True)
class Helm:
    """One of the two helms. Every call may be given values, as files that Helm reads."""

    program: Path
    folder: Path  # where values are written

    def run(self, *arguments: str, values: Values | None = None, check: bool = True) -> str:
        """Standard output. Raises Refused with what Helm said when it fails."""
        command = [str(self.program), *arguments]
        if values is not None:
            file = self.folder / "values.yaml"
            file.write_text(yaml.safe_dump(dict(values)))
            command += ["--values", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise Refused(without_links(done.stderr) or done.stdout)
        return done.stdout

    def text(self, *values: Values, version: str = "1.37.0") -> str:
        """The rendered chart, over the values that every app needs."""
        all_values = merged(BASE, *values)
        return self.run(
            "template", "air", str(CHART), "--namespace", "prod", "--kube-version", version, values=all_values
        )

    def template(self, *values: Values) -> Rendered:
        """The rendered objects."""
        return Rendered([one for one in yaml.safe_load_all(self.text(*values)) if one])


@dataclass(frozen=True)
class Rendered:
    """Objects of a rendered chart."""

    objects: list[Object]

    def of(self, kind: str) -> list[Object]:
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str, name: str = "") -> Object:
        """The only object of that kind, or the one of that name."""
        (found,) = [one for one in self.of(kind) if not name or one["metadata"]["name"] == name]
        return found

    def workloads(self) -> Iterator[Object]:
        yield from self.of("StatefulSet")
        yield from self.of("Deployment")


def pod_of(workload: Object) -> Object:
    """The pod's spec."""
    found: Object = workload["spec"]["template"]["spec"]
    return found


def container_of(workload: Object, name: str = "kstream") -> Object:
    """One of its containers, init containers included."""
    spec = pod_of(workload)
    (found,) = [one for one in (*spec["containers"], *spec.get("initContainers", [])) if one["name"] == name]
    return found


def env_of(workload: Object, name: str = "kstream") -> dict[str, Any]:
    """Variables of a container: the text, or where it comes from. A later one wins, as in Kubernetes."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container_of(workload, name)["env"]}


def without_links(text: str) -> str:
    """Helm's messages without the lines in which it says that it follows the links to monitoring/."""
    return "\n".join(line for line in text.splitlines() if "found symbolic link" not in line)
