"""What `kstream plan` promises beyond a rate: no more than was seen, an instance to spare, a time to catch up in; and a
plan as values of the chart."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kstream.cli.plan import form_of, target_of
from kstream.cli.planning.answer import Answer
from kstream.cli.planning.arithmetic import Cost, PartCost, Plan, StoreCost, Target, make_plan, restore_work
from kstream.cli.planning.limits import limits
from kstream.cli.planning.recovery import DOWN, duration
from kstream.cli.planning.seen import as_seen, slowed
from kstream.cli.planning.sums import lines
from kstream.cli.planning.values import helm_values
from kstream.errors import ConfigError

MIB = 1 << 20


def cost(time: float = 10e-6, cpu: float = 8e-6, passed: float = 0.0, entries: int = 0, **more: PartCost) -> Cost:
    parts = [PartCost("clicks", "default", ["clicks"], ["out"], 1.0, time, cpu), *more.values()]
    return Cost(
        records=500_000, seconds=5.0, sample=1000, keys=500, hottest=0.0, input_bytes=100.0, read_bytes=150.0,
        written_bytes=200.0, written=2.0, changelog=0.5, waiting=0.1, others=0.0, memory=170 * MIB, parts=parts,
        stores=[StoreCost("seen", "clicks", entries, 100.0)] if entries else [],
        passed={"default": passed} if passed else {},
    )  # fmt: skip


times = st.floats(1e-6, 0.01)
rates = st.floats(1.0, 1e6)


@given(times, times, times, rates, st.integers(1, 5))
def test_no_worker_is_promised_to_do_more_than_one_did(
    time: float, cpu: float, passed: float, rate: float, instances: int
) -> None:
    plan = make_plan(as_seen(cost(time, cpu, passed)), Target(rate, 4, instances=instances))
    assert plan.capacity <= plan.workers / passed * (1 + 1e-9)
    assert plan.capacity >= rate * (1 - 1e-9)
    again = as_seen(as_seen(cost(time, cpu, passed)))
    assert again.parts[0].time == pytest.approx(as_seen(cost(time, cpu, passed)).parts[0].time)


def test_a_worker_that_was_slower_than_its_time_by_hand() -> None:
    """62,500/s were seen, 16 µs each; at 10 µs and 70% it would be 70,000/s."""
    measured = cost(passed=16e-6)
    assert slowed(measured) == ["default"] and slowed(cost(passed=14e-6)) == []
    assert make_plan(measured, Target(50_000, 4)).capacity == pytest.approx(70_000)
    assert make_plan(as_seen(measured), Target(50_000, 4)).capacity == pytest.approx(62_500)


@given(times, rates, st.integers(1, 9), st.none() | st.integers(1, 40))
def test_as_many_instances_as_are_asked_for(time: float, rate: float, least: int, partitions: int | None) -> None:
    plan = make_plan(cost(time, time), Target(rate, 4, None, partitions, instances=least))
    (group,) = plan.groups
    assert group.instances >= (least if partitions is None else min(least, partitions))
    assert group.partitions >= group.instances
    if group.bound_by == "spare":
        assert group.instances == least > 1


def test_two_instances_are_the_default() -> None:
    (group,) = make_plan(cost(), target_of("5k", 4, None, None, [])).groups
    assert (group.instances, group.workers_per_instance, group.partitions, group.bound_by) == (2, 1, 4, "spare")
    (group,) = make_plan(cost(), target_of("5k", 4, None, None, [], instances=1)).groups
    assert (group.instances, group.bound_by) == (1, "nothing")


@given(times, times, st.none() | times, rates, st.floats(60, 86_400), st.integers(0, 10_000_000), st.integers(1, 64))
def test_what_is_to_recover_in_time_does(
    time: float, cpu: float, passed: float | None, rate: float, within: float, entries: int, cores: int
) -> None:
    measured = as_seen(cost(time, cpu, passed or 0.0, entries))
    target = Target(rate, cores, recover_within=within)
    plan = make_plan(measured, target)
    (group,) = plan.groups
    assert group.recovery <= within * (1 + 1e-6)
    # told by hand: the state, the hour's records, and those that come meanwhile
    work = restore_work(measured, target).get("default", 0.0)
    each = max(measured.parts[0].time, passed or 0.0)
    assert group.workers * within >= (work + rate * each * (DOWN + within)) * (1 - 1e-6)
    assert all(limit.state != "binds" for limit in limits("app", measured, target, plan) if limit.name == "recovery")
    assert any(line.what == "recovers" for line in lines(measured, target, plan))
    without = make_plan(measured, Target(rate, cores))
    # more instances may do with fewer workers in all, where these share cores
    assert plan.capacity >= without.capacity * (1 - 1e-9)


def test_recovery_by_hand() -> None:
    """100,000/s x 10 µs keep one worker busy. An hour's records are 3600 s of work, 10 M entries of 100 B 60 s: two
    workers do that beside what comes in 3660 s; in half an hour it takes 1 + 3660 / 1800 = 3.03 of them."""
    measured = cost(entries=500)
    target = Target(100_000, 8, keys={"": 10_000_000})
    plan = make_plan(measured, target)
    assert plan.workers == 2 and plan.groups[0].recovery == pytest.approx(3660)
    assert told(plan, measured, target) == [
        ("ok", "after an hour down group default has its state and has caught up in 1 h 1 min")
    ]
    soon = Target(100_000, 8, keys={"": 10_000_000}, recover_within=1800)
    assert make_plan(measured, soon).workers == 4
    few = Target(100_000, 8, None, 2, keys={"": 10_000_000}, recover_within=1800)
    ((state, text),) = told(make_plan(measured, few), measured, few)
    assert state == "binds" and "1 h 1 min, not in 30 min" in text


def test_one_that_never_catches_up_is_told() -> None:
    measured = as_seen(cost(time=10e-6, passed=20e-6))
    target = Target(50_000, 4)
    plan = make_plan(measured, target)
    assert plan.groups[0].recovery == inf == duration(1.0, 1.0, 0.0)
    ((state, text),) = told(plan, measured, target)
    assert state == "warning" and "never catches up" in text and "--recover-within" in text


def told(plan: Plan, measured: Cost, target: Target) -> list[tuple[str, str]]:
    return [(one.state, one.text) for one in limits("app", measured, target, plan) if one.name == "recovery"]


@pytest.mark.parametrize("text", ["soon", "0", "-5m", "5 fortnights"])
def test_bad_times(text: str) -> None:
    with pytest.raises(ConfigError, match="--recover-within"):
        target_of("5k", 4, None, None, [], recover_within=text)


def test_forms() -> None:
    assert (form_of(None, False), form_of(None, True), form_of("json", True)) == ("text", "json", "json")
    with pytest.raises(ConfigError, match="--format yaml: there is text, json, helm-values"):
        form_of("yaml", False)
    with pytest.raises(ConfigError, match="--json and --format helm-values: give one of them"):
        form_of("helm-values", True)


def values(measured: Cost, target: Target, groups: list[str]) -> Any:
    plan = make_plan(measured, target)
    found = limits("shop", measured, target, plan)
    answer = Answer("shop", target, measured, plan, [], found, [], [])
    return yaml.safe_load("\n".join(helm_values(answer, "shop.app:app", groups)))


def test_values_of_the_chart() -> None:
    heavy = PartCost("clicks@heavy", "heavy", ["clicks"], ["again"], 1.0, 1e-3, 1e-3)
    target = Target(10_000, 4, keys={"": 100_000_000}, instances=2)
    found = values(cost(entries=500, heavy=heavy), target, ["default", "heavy", "quiet"])
    assert found["app"] == "shop.app:app" and found["settings"] == {"memory": "512MiB"}
    assert found["groups"] == {
        "default": {
            "replicas": 2,
            "workers": 1,
            "resources": {"requests": {"cpu": "100m", "memory": "640Mi"}, "limits": {"memory": "640Mi"}},
            "persistence": {"size": "10Gi"},
        },
        "heavy": {
            "replicas": 4,
            "workers": 4,
            "resources": {"requests": {"cpu": "3572m", "memory": "2176Mi"}, "limits": {"memory": "2176Mi"}},
        },
        "quiet": {},
    }
    assert values(cost(), Target(1000, 4), ["heavy"])["groups"] == {"default": None, "heavy": {}}
