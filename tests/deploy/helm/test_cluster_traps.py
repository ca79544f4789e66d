"""What goes wrong with StatefulSets on a real API server, each a case: what the chart prevents, and what its README and
notes say where it cannot."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from deploy.helm.chart import KEDA, Refused
from deploy.helm.cluster import NODES, Cluster, is_ready
from deploy.helm.release import Release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


# ---- pods and who decides how many


def test_switching_autoscaling_on_keeps_the_pods(release: Release) -> None:
    """Replicas that are no longer rendered fall back to 1, at once: two of three pods would go."""
    release.install({"replicas": 3})
    uids = {name: pod["metadata"]["uid"] for name, pod in release.cluster.pods(release.namespace).items()}
    release.upgrade(KEDA, {"replicas": 3})
    assert release.replicas() == 3
    release.scale(4)
    release.upgrade(KEDA, {"replicas": 3})  # nor in the next one
    assert release.replicas() == 4
    now = {name: pod["metadata"]["uid"] for name, pod in release.cluster.pods(release.namespace).items()}
    assert uids.items() <= now.items()


def test_what_was_autoscaled_from_the_beginning_is_left_to_the_autoscaler(release: Release) -> None:
    release.install(KEDA)
    assert release.replicas() == 1
    release.scale(4)
    release.upgrade(KEDA, {"settings": {"linger": "7ms"}})
    assert release.replicas() == 4
    release.rollback(1)
    assert release.replicas() == 4  # no revision has a number that could come back


def test_switching_autoscaling_off_is_the_values_word(release: Release) -> None:
    release.install(KEDA)
    release.scale(4)
    more = ("--force-conflicts",) if release.is_helm4 else ()  # the number is the autoscaler's by then
    release.upgrade({"replicas": 2}, more=more)
    release.settled(2)
    release.upgrade(KEDA)
    assert release.replicas() == 2


def test_after_kubectl_scale(release: Release) -> None:
    """As the README says: Helm 3 sets the number back, Helm 4 refuses until it is told to force."""
    release.install({"replicas": 2})
    release.scale(4)
    if release.is_helm4:
        with pytest.raises(Refused, match="conflict"):
            release.upgrade({"replicas": 3})
        release.upgrade({"replicas": 3}, more=("--force-conflicts",))
    else:
        release.upgrade({"replicas": 3})
    release.settled(3)


def test_a_rollback_after_kubectl_scale(release: Release) -> None:
    release.install({"replicas": 2})
    release.upgrade({"replicas": 3})
    release.scale(5)
    if release.is_helm4:
        with pytest.raises(Refused, match="conflict"):
            release.rollback(1)
        release.rollback(1, "--force-conflicts")
    else:
        release.rollback(1)
    release.settled(2)


def test_an_update_ends_that_finds_a_pod_not_ready(release: Release) -> None:
    """Kubernetes 1.37 replaces such a pod first. Made anew in the old revision it would be deleted at once, for ever:
    so it is where the strategy has a type and no partition."""
    release.install({"replicas": 3})
    broken = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    patch = ("patch", "pod", f"{release.name}-0", "--subresource=status", "-p", yaml.safe_dump(broken))
    release.cluster.kubectl("-n", release.namespace, *patch)
    release.cluster.until(lambda: release.statefulset()["status"]["readyReplicas"] == 2, "the pod is still ready")
    release.upgrade({"replicas": 3, "image": {"tag": "1.5.0"}})
    release.settled(3)
    assert release.images() == {"1.5.0"}


# ---- claims


def test_a_claim_of_another_size_is_refused_and_the_readmes_way_works(release: Release) -> None:
    release.install({"replicas": 2})
    before = {name: pod["metadata"]["uid"] for name, pod in release.cluster.pods(release.namespace).items()}
    larger = {"replicas": 2, "persistence": {"size": "15Gi"}}
    with pytest.raises(Refused, match=r"have 10Gi, which Kubernetes cannot change to 15Gi; the chart's README"):
        release.upgrade(larger)
    release.upgrade({"replicas": 2, "persistence": {"size": "10240Mi"}})  # the same, in other words

    release.cluster.kubectl("-n", release.namespace, "delete", "statefulset", release.name, "--cascade=orphan")
    release.upgrade(larger)
    (claim,) = release.statefulset()["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "15Gi"
    now = {name: pod["metadata"]["uid"] for name, pod in release.cluster.pods(release.namespace).items()}
    assert now == before, "the pods went on meanwhile"


def test_another_class_is_refused(release: Release) -> None:
    release.install({"replicas": 1})
    with pytest.raises(Refused, match=r"immutable|cannot change|Forbidden|forbidden"):
        release.upgrade({"replicas": 1, "persistence": {"storageClass": "fast"}})


# ---- nodes


def drain(cluster: Cluster, node: str, seconds: int) -> subprocess.CompletedProcess[str]:
    """`kubectl drain`, as the upgrade of a node does it."""
    kubectl = [str(cluster.programs["kubectl"]), "--kubeconfig", str(cluster.kubeconfig)]
    return subprocess.run(
        [*kubectl, "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={seconds}s"],
        capture_output=True,
        text=True,
        check=False,
    )


def nodes_of(release: Release) -> dict[str, str]:
    """Pod -> node."""
    return {name: pod["spec"]["nodeName"] for name, pod in release.cluster.pods(release.namespace).items()}


@pytest.fixture
def all_nodes(cluster: Cluster) -> object:
    """Nodes are open again afterwards."""
    yield
    cluster.kubectl("uncordon", *NODES)


@pytest.mark.usefixtures("all_nodes")
def test_pods_are_spread_and_a_drain_takes_one_at_a_time(release: Release) -> None:
    release.install({"replicas": 6})
    on = nodes_of(release)
    assert sorted(list(on.values()).count(node) for node in NODES) == [2, 2, 2]
    with release.cluster.watched(release.namespace) as events:
        done = drain(release.cluster, NODES[0], 60)
        assert done.returncode == 0, done.stderr
        release.settled(6)
    away: set[str] = set()
    for event in events:
        pod = event["object"]
        ready = event["type"] != "DELETED" and is_ready(pod)
        away = away - {pod["metadata"]["name"]} if ready else away | {pod["metadata"]["name"]}
        if event["type"] == "DELETED":
            assert len(away) <= 1, f"{away} were away at a time"
    assert NODES[0] not in nodes_of(release).values()


@pytest.mark.usefixtures("all_nodes")
def test_a_pod_that_is_not_ready_leaves_its_node_and_holds_up_the_others(release: Release) -> None:
    """Kubernetes' default would keep a pod that cannot become ready on its node for ever."""
    release.install({"replicas": 3})
    release.upgrade({"replicas": 3, "podAnnotations": {"restoring": "yes"}}, wait=False)
    cluster = release.cluster

    def one_restores() -> bool:
        pods = cluster.pods(release.namespace)
        return [name for name, pod in pods.items() if not is_ready(pod) and "nodeName" in pod["spec"]] == [
            "air-kstream-2"
        ] and pods["air-kstream-2"]["status"]["phase"] == "Running"

    cluster.until(one_restores, "no pod restores")
    cluster.until(
        lambda: cluster.get("pdb", release.name, release.namespace)["status"]["disruptionsAllowed"] == 0,
        "the budget does not see the pod that restores",
    )
    on = nodes_of(release)
    ready_elsewhere = next(node for pod, node in on.items() if pod != "air-kstream-2" and node != on["air-kstream-2"])
    held_up = drain(cluster, ready_elsewhere, 3)
    assert held_up.returncode != 0 and "disruption budget" in held_up.stderr
    alone = [pod for pod, node in on.items() if node == on["air-kstream-2"]] == ["air-kstream-2"]
    assert alone, on
    done = drain(cluster, on["air-kstream-2"], 30)
    assert done.returncode == 0, done.stderr


def test_kubernetes_would_take_the_pods_away(release: Release) -> None:
    """The trap itself, without the chart's guard: so that the first test above says something."""
    release.install({"replicas": 3})
    # rendered without a cluster to look at, as by `helm template`
    statefulset = release.helm.template(KEDA, {"replicas": 3}).one("StatefulSet")
    assert "replicas" not in statefulset["spec"]
    statefulset["metadata"]["namespace"] = release.namespace
    file = release.helm.folder / "statefulset.yaml"
    file.write_text(yaml.safe_dump(statefulset))
    release.cluster.kubectl("-n", release.namespace, "replace", "-f", str(file))
    assert release.replicas() == 1
