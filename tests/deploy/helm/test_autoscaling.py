"""What KEDA and the HPA make of the rendered objects: how many pods they want, by their rules.

Those of KEDA 2.21 (its scaler of Kafka) and of the HPA (averages, the largest of all
metrics). Without the HPA's windows, in which it takes the largest of what it wanted: what they add is patience.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy.helm.chart import KEDA, Helm, Object, Values, merged
from kstream.observe.status import TaskStatus
from kstream.runtime.view.held import held

PARTITIONS = 12
ONE_TOPIC: Values = merged(KEDA, {"autoscaling": {"topics": ["flights"]}})


@dataclass
class World:
    """What there is to be seen: committed and last offsets of the topic, pods, and how many of them restore."""

    pods: int
    committed: list[int] = field(default_factory=lambda: [1000] * PARTITIONS)
    ends: list[int] = field(default_factory=lambda: [1000] * PARTITIONS)
    restoring: int = 0

    def instances_held(self, group: str) -> int:
        """As the pods' own metric says."""
        states = ["restoring"] * self.restoring + ["running"] * (self.pods - self.restoring)
        tasks = [[TaskStatus(f"flights/{number}", "0", state)] for number, state in enumerate(states)]
        return held([group], [([group], each) for each in tasks])[group]


class Autoscaler:
    """One look after the other."""

    def __init__(self, objects: Object) -> None:
        self.spec = objects["spec"]
        self._before: list[int] | None = None

    def wants(self, world: World) -> int:
        """Pods, after a look at the world and one a polling interval later, at which nothing has moved."""
        self._look(world)
        return self._look(world)

    def _look(self, world: World) -> int:
        values, active, failed = [], False, False
        for trigger in self.spec["triggers"]:
            found = self._value(trigger["type"], trigger["metadata"], world)
            if found is None:
                failed = True
                continue
            value, threshold, is_active = found
            active = active or is_active
            values.append(average(value, threshold, world.pods))
        least, most = self.spec["minReplicaCount"], self.spec["maxReplicaCount"]
        if world.pods == 0:
            return max(least, 1) if active else 0
        if not active and not failed and least == 0:
            return 0
        wanted = max(values, default=world.pods)
        if failed:  # where a metric is missing, the HPA does not go down
            wanted = max(wanted, world.pods)
        return min(max(wanted, least, 1), most)

    def _value(self, kind: str, said: Mapping[str, str], world: World) -> tuple[float, float, bool] | None:
        """Value, threshold, and whether it is active; None where nobody answers."""
        if kind == "kafka":
            lag, with_persistent = self._lag(said, world)
            return lag, int(said["lagThreshold"]), with_persistent > int(said["activationLagThreshold"])
        if kind == "metrics-api":
            if world.pods == 0:
                return None
            match = re.fullmatch(r'kstream_instances_held\{group="(.*)"\}', said["valueLocation"])
            assert match is not None and said["format"] == "prometheus"
            value = world.instances_held(match[1])
            return value, float(said["targetValue"]), value > 0
        assert kind == "prometheus" and said["query"].startswith("max(kstream_instances_held{")
        value = world.instances_held("default")
        return value, float(said["threshold"]), value > 0

    def _lag(self, said: Mapping[str, str], world: World) -> tuple[int, int]:
        lags = [end - at for end, at in zip(world.ends, world.committed, strict=True)]
        before, self._before = self._before, list(world.committed)
        counted = lags
        if said["excludePersistentLag"] == "true" and before is not None:
            counted = [0 if at == then else lag for lag, at, then in zip(lags, world.committed, before, strict=True)]
        threshold, total = int(said["lagThreshold"]), sum(counted)
        if said["ensureEvenDistributionOfPartitions"] == "true":
            even = [count for count in range(1, PARTITIONS + 1) if PARTITIONS % count == 0]
            total = next((count for count in even if count * threshold >= total), PARTITIONS) * threshold
        return min(total, PARTITIONS * threshold), sum(lags)


def average(value: float, threshold: float, pods: int) -> int:
    """How many pods have `threshold` each; a tenth more or less is left alone."""
    if pods and abs(value / (threshold * pods) - 1) <= 0.1:
        return pods
    return math.ceil(value / threshold)


def scaler(helm: Helm, *values: Values) -> Autoscaler:
    return Autoscaler(helm.template(ONE_TOPIC, *values).one("ScaledObject"))


def shows_nothing_held() -> Values:
    return {"autoscaling": {"keda": {"holdWhileRestoring": False}}}


STANDS: dict[str, Any] = {"ends": [3000] * PARTITIONS}  # 24,000 records wait, and offsets do not move: all is restored


def test_all_restore_and_much_waits(one_helm: Helm) -> None:
    """Nobody is taken away; more may come. With excludePersistentLag, as it was, all would go but one."""
    world = World(pods=4, restoring=4, **STANDS)
    assert scaler(one_helm).wants(world) >= 4
    was = {"autoscaling": {"keda": {"excludePersistentLag": True, "holdWhileRestoring": False}}}
    assert scaler(one_helm, was).wants(world) == 1


@pytest.mark.parametrize("more", [{}, {"prometheus": "http://prometheus:9090"}])
def test_one_restores_and_little_waits(one_helm: Helm, more: dict[str, str]) -> None:
    """By the lag alone one pod would do, and its end would begin the restore anew elsewhere."""
    world = World(pods=4, restoring=1, ends=[1010] * PARTITIONS)
    asks: Values = {"autoscaling": {"keda": more}}
    assert scaler(one_helm, asks).wants(world) == 4
    assert scaler(one_helm, asks, shows_nothing_held()).wants(world) == 1
    world.restoring = 0
    assert scaler(one_helm, asks).wants(world) == 1, "when it is over it goes down"


def test_much_waits_and_nobody_restores(one_helm: Helm) -> None:
    assert scaler(one_helm).wants(World(pods=2, **STANDS)) == 6


@pytest.mark.parametrize("more", [{}, {"prometheus": "http://prometheus:9090"}])
def test_from_zero_and_back(one_helm: Helm, more: dict[str, str]) -> None:
    """No pod can be asked while there is none."""
    autoscaler = scaler(one_helm, {"autoscaling": {"minReplicas": 0, "keda": more}})
    assert autoscaler.wants(World(pods=0)) == 0
    assert autoscaler.wants(World(pods=0, ends=[1000] * 11 + [1001])) == 1
    assert autoscaler.wants(World(pods=1, restoring=1)) == 1, "not while it restores"
    assert autoscaler.wants(World(pods=1)) == 0


def test_marks_of_time_are_no_work(one_helm: Helm) -> None:
    """Windows behind a repartition are told again and again that the tasks before are idle, by a record and its
    transaction's marker in each partition: KEDA takes them for lag. As many are allowed for, the last pod goes."""
    world = World(pods=1, ends=[1002] * PARTITIONS)
    zero: Values = {"autoscaling": {"minReplicas": 0}}
    assert scaler(one_helm, zero).wants(world) == 1
    assert scaler(one_helm, merged(zero, {"autoscaling": {"activationLagThreshold": 2 * PARTITIONS}})).wants(world) == 0


def test_pods_that_cannot_be_asked_are_not_taken_away(one_helm: Helm) -> None:
    """A network policy that does not let KEDA in, say."""

    class Unasked(Autoscaler):
        def _value(self, kind: str, said: Mapping[str, str], world: World) -> tuple[float, float, bool] | None:
            return None if kind == "metrics-api" else super()._value(kind, said, world)

    rendered = one_helm.template(ONE_TOPIC).one("ScaledObject")
    assert Unasked(rendered).wants(World(pods=4, ends=[1010] * PARTITIONS)) == 4


def test_an_hpa_by_the_apps_own_metrics(one_helm: Helm) -> None:
    values: Values = {"autoscaling": {"kind": "hpa", "hpa": {"source": "kstream"}}}
    metrics = [
        one["external"] for one in one_helm.template(KEDA, values).one("HorizontalPodAutoscaler")["spec"]["metrics"]
    ]
    asked = [(one["metric"]["name"], one["metric"]["selector"]["matchLabels"]) for one in metrics]
    assert asked == [
        ("kstream_consumer_lag_records", {"app": "flights", "topic": "flights"}),
        ("kstream_consumer_lag_records", {"app": "flights", "topic": "flights-by-carrier"}),
        ("kstream_instances_held", {"app": "flights", "group": "default"}),
    ]
    assert [one["target"]["averageValue"] for one in metrics] == ["1000", "1000", "1"]
