"""The life of a release on a real API server, with both helms, where Pod Security `restricted` is enforced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from deploy.helm.chart import KEDA, MATRIX, MONITORING, TWO_GROUPS, Helm, Refused, merged
from deploy.helm.cluster import Cluster, is_ready
from deploy.helm.release import Release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the first test may wait for the cluster's tools


def fewest_ready(events: list[dict[str, Any]], of: int) -> int:
    """The least number of ready pods at any time, from when all `of` were."""
    ready: dict[str, bool] = {}
    counts = []
    for event in events:
        pod = event["object"]
        ready[pod["metadata"]["name"]] = event["type"] != "DELETED" and is_ready(pod)
        counts.append(sum(ready.values()))
    return min(counts[counts.index(of) :])


def replaced(events: list[dict[str, Any]]) -> list[str]:
    """Pods in the order in which they were deleted."""
    return [one["object"]["metadata"]["name"] for one in events if one["type"] == "DELETED"]


def test_life(release: Release) -> None:
    """Install, test, upgrade, rollback, scale out and in, uninstall."""
    cluster, namespace = release.cluster, release.namespace
    notes = release.install({"replicas": 3})
    assert f"kubectl -n {namespace} rollout status statefulset/air-kstream" in notes
    assert sorted(cluster.pods(namespace)) == [f"air-kstream-{n}" for n in range(3)]
    assert "Phase:          Succeeded" in release.run("test", "air")
    assert sorted(cluster.pods(namespace)) == [f"air-kstream-{n}" for n in range(3)]  # its pod is gone

    with cluster.watched(namespace) as events:
        release.upgrade({"replicas": 3, "image": {"tag": "1.5.0"}})
        release.settled(3)
    assert release.images() == {"1.5.0"}
    assert fewest_ready(events, of=3) == 2, "an upgrade takes one pod at a time"
    assert replaced(events) == ["air-kstream-2", "air-kstream-1", "air-kstream-0"]

    with cluster.watched(namespace) as events:
        release.rollback(1)
        release.settled(3)
    assert release.images() == {"1.4.0"}
    assert fewest_ready(events, of=3) == 2, "a rollback takes one pod at a time"

    release.upgrade({"replicas": 5})
    release.settled(5)
    release.upgrade({"replicas": 2})
    release.settled(2)
    claims = {f"state-air-kstream-{n}" for n in range(5)}
    assert {one["metadata"]["name"] for one in cluster.all("pvc", namespace)} == claims, "claims outlive a scale-in"

    release.run("uninstall", "air", "--wait")
    for kind in ("statefulset", "service", "configmap", "poddisruptionbudget", "networkpolicy"):
        left = [one["metadata"]["name"] for one in cluster.all(kind, namespace)]
        assert left in ([], ["kube-root-ca.crt"]), kind
    cluster.until(lambda: not cluster.all("pods", namespace), "pods stay after uninstall")
    assert {one["metadata"]["name"] for one in cluster.all("pvc", namespace)} == claims, "claims outlive the release"


def test_a_change_of_settings_moves_one_pod_at_a_time(release: Release) -> None:
    release.install({"replicas": 3})
    with release.cluster.watched(release.namespace) as events:
        release.upgrade({"replicas": 3, "settings": {"linger": "7ms"}})
        release.settled(3)
    assert len(replaced(events)) == 3 and fewest_ready(events, of=3) == 2


def test_an_upgrade_that_changes_nothing_moves_no_pod(release: Release) -> None:
    release.install({"replicas": 2})
    before = {name: pod["metadata"]["uid"] for name, pod in release.cluster.pods(release.namespace).items()}
    release.upgrade({"replicas": 2})
    assert {n: pod["metadata"]["uid"] for n, pod in release.cluster.pods(release.namespace).items()} == before


def test_an_upgrade_that_is_not_ready_stops_at_its_first_pod_and_a_rollback_gets_out(release: Release) -> None:
    release.install({"replicas": 3})
    broken = {"replicas": 3, "image": {"tag": "broken"}, "podAnnotations": {"restoring": "yes"}}
    release.upgrade(broken, wait=False)
    cluster = release.cluster

    def first_is_broken() -> bool:
        pods = cluster.pods(release.namespace)
        return sorted(name for name, pod in pods.items() if not is_ready(pod)) == ["air-kstream-2"] and len(pods) == 3

    cluster.until(first_is_broken, "the last pod is not replaced by the broken one")
    status = release.statefulset()["status"]
    assert (status["readyReplicas"], status["updatedReplicas"]) == (2, 1)
    release.rollback(1)
    release.settled(3)
    assert release.images() == {"1.4.0"}


def test_the_namespace_is_strict(release: Release) -> None:
    """Else that pods start there says nothing: one that may escalate is refused, so none appears."""
    loose = {"securityContext": {"allowPrivilegeEscalation": True}, "replicas": 1}
    release.upgrade(loose, wait=False, more=("--install",))

    def refused() -> bool:
        events = release.cluster.all("events", release.namespace)
        return any("violates PodSecurity" in one["message"] for one in events)

    release.cluster.until(refused, "a pod that may escalate was not refused")
    assert not release.cluster.pods(release.namespace)


def test_topics_are_made_before_anything_is_installed_or_upgraded(release: Release) -> None:
    """The Job of `topicsJob`: while it fails nothing else is touched, and when it is done it is gone."""
    cluster, namespace = release.cluster, release.namespace
    job, fails = {"topicsJob": {"enabled": True, "backoffLimit": 0}, "replicas": 2}, {"podLabels": {"fails": "yes"}}

    def done() -> int:
        told = cluster.all("events", namespace)
        return sum(one["reason"] == "Completed" and one["involvedObject"]["kind"] == "Job" for one in told)

    with pytest.raises(Refused, match="pre-install"):
        release.install(job, fails)
    assert not cluster.all("statefulset", namespace) and not cluster.all("configmap", namespace)[1:] and done() == 0
    release.upgrade(job, more=("--install",))
    release.settled(2)
    assert done() == 1 and not cluster.all("job", namespace)
    release.upgrade(job, {"image": {"tag": "1.5.0"}})
    release.settled(2)
    assert done() == 2 and release.images() == {"1.5.0"}
    with pytest.raises(Refused, match="pre-upgrade"):
        release.upgrade(job, fails, {"image": {"tag": "1.6.0"}})
    (container,) = release.statefulset()["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(":1.5.0") and done() == 2
    release.upgrade(job, {"image": {"tag": "1.6.0"}})
    release.settled(2)
    assert done() == 3 and release.images() == {"1.6.0"}


def test_a_group_that_comes_later_renames_nothing(release: Release) -> None:
    release.install({"replicas": 2})
    before = release.statefulset()["metadata"]["uid"]
    release.upgrade(TWO_GROUPS)
    assert release.statefulset()["metadata"]["uid"] == before
    names = {one["metadata"]["name"] for one in release.cluster.all("statefulset", release.namespace)}
    assert names == {"air-kstream", "air-kstream-cpu-intensive"}
    release.upgrade({"replicas": 2})
    names = {one["metadata"]["name"] for one in release.cluster.all("statefulset", release.namespace)}
    assert names == {"air-kstream"}


def test_claims_can_be_given_up_and_taken_again(release: Release) -> None:
    """StatefulSet to Deployment and back; the claims wait."""
    release.install({"replicas": 2})
    release.upgrade({"replicas": 2, "persistence": {"enabled": False}})
    deployment = release.cluster.get("deployment", "air-kstream", release.namespace)
    assert deployment["status"]["readyReplicas"] == 2
    assert not release.cluster.all("statefulset", release.namespace)
    release.upgrade({"replicas": 2})
    release.settled(2)
    assert len(release.cluster.all("pvc", release.namespace)) == 2


def test_claims_are_deleted_where_that_is_wanted(release: Release) -> None:
    wanted = {"persistence": {"retention": {"whenDeleted": "Delete", "whenScaled": "Delete"}}}
    release.install({"replicas": 3}, wanted)
    release.upgrade({"replicas": 1}, wanted)
    release.cluster.until(
        lambda: len(release.cluster.all("pvc", release.namespace)) == 1, "claims stay after a scale-in"
    )


@pytest.fixture(scope="module")
def strict(cluster: Cluster) -> Iterator[Callable[[str], str]]:
    """Gives objects to the API server, which checks them and makes nothing. Warnings (Pod Security's) are errors."""
    with cluster.namespace("prod"):
        command = ("-n", "prod", "apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-")
        yield lambda text: cluster.kubectl(*command, stdin=text)


@pytest.mark.parametrize("name", MATRIX)
def test_strict_validation_by_the_server(strict: Callable[[str], str], one_helm: Helm, name: str) -> None:
    """Unknown, doubled and ill-typed fields, of custom resources too; and what the API server checks beyond schemas."""
    assert "(server dry run)" in strict(one_helm.text(MATRIX[name]))


def test_the_server_refuses_what_is_wrong(strict: Callable[[str], str], one_helm: Helm) -> None:
    """So that the test above says something."""
    rendered = one_helm.template(MONITORING, KEDA)
    for kind in ("PodMonitor", "ServiceMonitor", "PrometheusRule", "ScaledObject", "StatefulSet"):
        wrong = rendered.one(kind)
        wrong["spec"]["unheardOf"] = 1
        with pytest.raises(AssertionError, match="unknown field"):
            strict(yaml.safe_dump(wrong))
    with pytest.raises(AssertionError, match="violate"):
        strict(one_helm.text({"securityContext": {"allowPrivilegeEscalation": True}}))


def test_custom_resources_are_installed(release: Release) -> None:
    release.install(MONITORING, KEDA)
    for kind in ("podmonitor", "servicemonitor", "prometheusrule", "scaledobject"):
        assert [one["metadata"]["name"] for one in release.cluster.all(kind, release.namespace)] == ["air-kstream"], (
            kind
        )
    rules = release.cluster.get("prometheusrule", "air-kstream", release.namespace)["spec"]["groups"]
    summaries = [one["annotations"]["summary"] for group in rules for one in group["rules"] if "annotations" in one]
    assert any("{{ $labels.app }}" in one for one in summaries)


def test_refusals_come_before_anything_is_made(release: Release) -> None:
    with pytest.raises(Refused, match="maxReplicas is 13, but 12 partitions"):
        release.install(merged(KEDA, {"autoscaling": {"maxReplicas": 13}}))
    assert not release.cluster.all("statefulset", release.namespace)
