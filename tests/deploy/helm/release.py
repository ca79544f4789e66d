"""A release of the chart on the cluster: what its users do with helm."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.helm.chart import BASE, CHART, Helm, Object, Values, merged
from deploy.helm.cluster import Cluster

QUICK: Values = {"minReadySeconds": 1, "probes": {"startup": {"periodSeconds": 1}}}


@dataclass(frozen=True)
class Release:
    """`air`, in a namespace of its own."""

    cluster: Cluster
    helm: Helm
    namespace: str
    name: str = "air-kstream"

    @property
    def is_helm4(self) -> bool:
        return "helm4" in str(self.helm.program)

    def run(self, *arguments: str, values: Values | None = None) -> str:
        there = ["--kubeconfig", str(self.cluster.kubeconfig), "--namespace", self.namespace]
        return self.helm.run(*arguments, *there, values=values)

    def install(self, *values: Values) -> str:
        """Install and wait until all is available."""
        given = merged(BASE, QUICK, *values)
        said = self.run("install", "air", str(CHART), "--wait", "--timeout", "90s", values=given)
        self.available()
        return said

    def upgrade(self, *values: Values, wait: bool = True, more: tuple[str, ...] = ()) -> str:
        given = merged(BASE, QUICK, *values)
        waits = ("--wait", "--timeout", "90s") if wait else ()
        said = self.run("upgrade", "air", str(CHART), *waits, *more, values=given)
        if wait:
            self.available()
        return said

    def rollback(self, revision: int, *more: str) -> str:
        said = self.run("rollback", "air", str(revision), "--wait", "--timeout", "90s", *more)
        self.available()
        return said

    def available(self) -> None:
        """Wait until pods were ready for `minReadySeconds`. Helm's `--wait` ends before that, and Kubernetes takes pods
        that are not available yet all at once in the next update."""

        def is_so() -> bool:
            sets = self.cluster.all("statefulset", self.namespace)
            return all(one["status"].get("availableReplicas", 0) == one["spec"]["replicas"] for one in sets)

        self.cluster.until(is_so, "pods do not get available")

    def statefulset(self, name: str = "") -> Object:
        return self.cluster.get("statefulset", name or self.name, self.namespace)

    def replicas(self) -> int:
        """What the StatefulSet asks for."""
        wanted: int = self.statefulset()["spec"]["replicas"]
        return wanted

    def images(self) -> set[str]:
        """Tags that its pods run."""
        pods = self.cluster.pods(self.namespace).values()
        return {one["spec"]["containers"][0]["image"].rpartition(":")[2] for one in pods}

    def scale(self, replicas: int) -> None:
        """As an autoscaler does it, or somebody with kubectl."""
        self.cluster.kubectl("-n", self.namespace, "scale", f"statefulset/{self.name}", f"--replicas={replicas}")
        self.settled(replicas)

    def settled(self, replicas: int) -> None:
        """Wait until so many pods are available, and no others are left."""

        def is_so() -> bool:
            status = self.statefulset()["status"]
            return (status.get("replicas", 0), status.get("availableReplicas", 0)) == (replicas, replicas)

        self.cluster.until(is_so, f"{self.name} does not come to {replicas} pods")
