"""What the chart's ScaledObject does: KEDA's own programs on a real API server, with its HPA, on a real Kafka and real
instances, one for each pod that there is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from deploy.helm.chart import Helm, Values
from deploy.helm.cluster import Cluster
from deploy.helm.keda import Pods, keda
from deploy.helm.release import Release
from support.kafka import SECONDS, read
from support.observing import Service, services
from support.serving import Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # the first test may wait for the cluster's tools

PARTITIONS = 4
THRESHOLD = 700
"""Records that one pod may have: 1,000 are work for two, and those of one partition for one."""
AT_ONCE = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 1}]}


class Scaled:
    """The chart's release with its ScaledObject, and what KEDA and the HPA make of it."""

    def __init__(self, release: Release, pods: Pods) -> None:
        self.release, self.pods, self.cluster = release, pods, release.cluster

    def install(self, values: Values) -> None:
        self.release.upgrade(values, wait=False, more=("--install",))
        # what the chart asks for, but for patience: ten minutes are the least that it takes
        behavior = {"scaleUp": AT_ONCE, "scaleDown": AT_ONCE}
        self.patch("merge", {"spec": {"advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}}}})

    def patch(self, kind: str, change: object) -> None:
        where = ("-n", self.release.namespace, "patch", "scaledobject", self.release.name)
        self.cluster.kubectl(*where, f"--type={kind}", "-p", json.dumps(change))

    def replicas(self) -> int:
        """Pods that are asked for. Those that are there have their instances."""
        self.pods.follow(self.cluster.pods(self.release.namespace))
        return self.release.replicas()

    def comes_to(self, replicas: int) -> None:
        self.cluster.until(lambda: self.replicas() == replicas, f"it does not come to {replicas} pods", 300)

    def holds(self) -> bool:
        """Whether the pods themselves say that none of them may go."""
        return any(one.metrics()("kstream_instances_held", group="default") for one in self.pods.instances.values())

    def asks(self) -> dict[str, int]:
        """Pods that each trigger asks the HPA for, by its type."""
        hpa = self.cluster.get("hpa", self.release.name, self.release.namespace)
        targets = {one["external"]["metric"]["name"]: one["external"]["target"] for one in hpa["spec"]["metrics"]}
        found: dict[str, int] = {}
        for one in hpa["status"].get("currentMetrics") or ():
            if not one.get("external"):
                continue
            name = one["external"]["metric"]["name"]
            total = quantity(one["external"]["current"]["averageValue"]) * hpa["status"]["currentReplicas"]
            kind = re.sub(r"^s\d+-", "", name).partition("-")[0]
            pods = math.ceil(round(total / quantity(targets[name]["averageValue"]), 3))
            found[kind] = max(pods, found.get(kind, 0))
        return found


def quantity(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


@contextmanager
def open_transaction(servers: str, topic: str) -> Iterator[None]:
    """Somebody's, at the end of the topic's first partition: who restores from there waits for it."""
    producer = Producer(
        {"bootstrap.servers": servers, "transactional.id": f"{topic}-open", "transaction.timeout.ms": 900_000}
    )
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    producer.produce(topic, b"never", b"never", 0)
    assert producer.flush(SECONDS) == 0
    try:
        yield
    finally:
        producer.abort_transaction(SECONDS)


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for make in services(bootstrap_servers, tmp_path, monkeypatch):
        yield make(PARTITIONS)


def test_from_zero_up_not_down_while_one_restores_and_back_to_zero(
    cluster: Cluster, tool: Callable[[str], Path], one_helm: Helm, service: Service
) -> None:
    values: Values = {
        "appName": service.name,
        "bootstrapServers": service.servers,
        "autoscaling": {
            "enabled": True,
            "minReplicas": 0,
            "maxReplicas": 2,
            "partitions": PARTITIONS,
            "topics": [service.events, service.repartition],
            "lagThreshold": THRESHOLD,
            "pollingInterval": 1,
            "cooldownPeriod": 3,
        },
    }
    with cluster.namespace("keda-scales", volumes=4) as namespace:

        def start(name: str) -> Served:
            settings = cluster.get("configmap", "air-kstream", namespace)["data"]
            return service.start(name, web_hosts=settings["KSTREAM_WEB_HOSTS"])

        pods = Pods(start, service.directory)
        scaled = Scaled(Release(cluster, one_helm, namespace), pods)
        with pods.served(), keda(cluster, tool, namespace, pods):
            scaled.install(values)
            scaled.comes_to(0)  # the first pod made the topics, and has nothing to do

            service.feed(200)
            scaled.comes_to(1)
            scaled.comes_to(0)
            assert len(read(service.servers, [service.seen])[service.seen]) == 200, "it went before it was through"

            pods.lose_volumes()
            with open_transaction(service.servers, f"{service.name}-counts-changelog"):
                service.feed(1000)
                scaled.comes_to(2)
                little = {"kafka": 1, "metric": 2}
                cluster.until(lambda: scaled.replicas() == 2 and scaled.asks() == little, "the lag stays", 300)
                begin = pods.asked

                def ten_looks() -> bool:
                    assert scaled.replicas() == 2, "taken away while one restores"
                    return pods.asked >= begin + 10

                cluster.until(ten_looks, "KEDA does not look", 300)
                assert scaled.asks() == little
                scaled.patch("json", [{"op": "remove", "path": "/spec/triggers/2"}])
                scaled.comes_to(1)  # so it is the trigger that held it
                cluster.until(scaled.holds, "nothing is restored any more")

            scaled.comes_to(0)
            assert len(read(service.servers, [service.seen])[service.seen]) == service.fed
            scaled.release.run("uninstall", "air")
            cluster.until(lambda: not cluster.all("scaledobject", namespace), "KEDA does not let go")
