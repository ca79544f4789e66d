"""The arithmetic of `kstream plan`: what must hold of every plan, and figures reckoned by hand."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.cli.planning.arithmetic import (
    SUPERVISOR_MEMORY,
    UTILISATION,
    Cost,
    PartCost,
    Plan,
    StoreCost,
    Target,
    make_plan,
    regular,
    rule_of_thumb,
)
from kstream.cli.planning.limits import MANY_MEMBERS, group_record, limits
from kstream.cli.planning.sums import lines, small
from kstream.errors import ConfigError

MIB = 1 << 20


def part(name: str = "clicks", group: str = "default", *, writes: str = "out", **given: float) -> PartCost:
    measured = {"records": 1.0, "time": 10e-6, "cpu": 8e-6, **given}
    return PartCost(name, group, name.split("@", maxsplit=1)[0].split("+"), [writes], **measured)


def cost(*parts: PartCost, stores: list[StoreCost] | None = None, **given: float) -> Cost:
    measured = {
        "records": 500_000, "seconds": 5.0, "sample": 1000, "keys": 500, "hottest": 0.01, "input_bytes": 100.0,
        "read_bytes": 150.0, "written_bytes": 200.0, "written": 2.0, "changelog": 0.5, "waiting": 0.1, "others": 0.0,
        "memory": 170 * MIB, **given,
    }  # fmt: skip
    return Cost(parts=list(parts) or [part()], stores=stores or [], **measured)  # type: ignore[arg-type]


seconds = st.floats(1e-7, 0.1)
rates = st.floats(1.0, 100e6)
a_part = st.builds(
    lambda records, time, cpu, group: part("p", group, records=records, time=time, cpu=cpu),
    st.floats(0.01, 20), seconds, seconds, st.sampled_from(["default", "heavy"]),
)  # fmt: skip
some_parts = st.lists(a_part, min_size=1, max_size=4).map(
    lambda found: [
        PartCost(f"p{n}", one.group, [f"p{n}"], ["out"], one.records, one.time, one.cpu) for n, one in enumerate(found)
    ]
)
memories = st.none() | st.integers(1 << 30, 64 << 30)


def of(parts: list[PartCost], rate: float, cores: int = 4, memory: int | None = None, **given: int) -> Plan:
    return make_plan(cost(*parts), Target(rate, cores, memory, **given))


@given(some_parts, rates, st.integers(1, 64), memories)
def test_a_plan_carries_its_rate(parts: list[PartCost], rate: float, cores: int, memory: int | None) -> None:
    plan = of(parts, rate, cores, memory)
    assert plan.capacity >= rate * (1 - 1e-9)
    for group in plan.groups:
        time = sum(one.records * one.time for one in parts if one.group == group.name)
        cpu = sum(one.records * one.cpu for one in parts if one.group == group.name)
        # the worker with most partitions, and the processors of all instances, are busy for 70% at most
        most = ceil(group.partitions / group.workers) / group.partitions
        assert rate * time * most <= UTILISATION * (1 + 1e-9)
        assert rate * cpu <= UTILISATION * group.instances * cores * (1 + 1e-9)


@given(some_parts, rates, st.integers(1, 64), memories)
def test_partitions_suffice_and_divide(parts: list[PartCost], rate: float, cores: int, memory: int | None) -> None:
    plan = of(parts, rate, cores, memory)
    for group in plan.groups:
        assert group.partitions >= 2 * group.needed
        assert group.partitions >= group.workers >= group.needed >= group.instances >= 1
        assert group.partitions % group.needed == 0
        assert group.workers < group.needed + group.instances, "no more than rounding takes"
    for one in plan.parts:
        assert one.partitions >= one.least


@given(some_parts, rates, st.floats(1.0, 10.0), st.integers(1, 64), memories)
def test_more_is_never_less(parts: list[PartCost], rate: float, factor: float, cores: int, memory: int | None) -> None:
    less, more = of(parts, rate, cores, memory), of(parts, rate * factor, cores, memory)
    for one, other in zip(less.groups, more.groups, strict=True):
        assert one.needed <= other.needed and one.partitions <= other.partitions and one.instances <= other.instances
    assert less.brokers.on_disks <= more.brokers.on_disks
    assert rule_of_thumb(rate, cores) <= rule_of_thumb(rate * factor, cores)


@given(some_parts, rates, st.integers(1, 5000))
def test_given_partitions_are_kept_and_what_they_carry_is_told(
    parts: list[PartCost], rate: float, partitions: int
) -> None:
    target = Target(rate, 64, None, partitions)
    measured = cost(*parts)
    plan = make_plan(measured, target)
    for group in plan.groups:
        assert group.partitions == partitions and 1 <= group.needed <= partitions
    short = [one for one in limits("app", measured, target, plan) if one.name == "capacity"]
    assert bool(short) == (plan.capacity < rate * (1 - 1e-9))
    assert all(one.state == "binds" for one in short)


def test_too_few_partitions_are_told_with_how_many_do() -> None:
    measured, target = cost(hottest=0.0), Target(1e6, 16, None, 4)
    plan = make_plan(measured, target)
    assert plan.capacity == pytest.approx(0.7 * 4 / 10e-6)
    found = limits("app", measured, target, plan)[0]
    assert (found.name, found.state) == ("capacity", "binds")
    assert found.text.startswith("4 partitions carry 280k/s, not 1.0M/s") and "have 30," in found.text
    enough = make_plan(measured, Target(1e6, 16, None, 30))
    assert enough.capacity >= 1e6


def test_regular_numbers_in_order() -> None:
    found = sorted({regular(n) for n in range(61)})
    assert found == [1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 15, 16, 18, 20, 24, 25, 27, 30, 32, 36, 40, 45, 48, 50, 54, 60]


@given(st.floats(0, 1e9))
def test_regular_numbers(number: float) -> None:
    found = regular(number)
    assert max(1, number) <= found <= max(1, ceil(number)) * 1.25 + 1
    assert pow(30, 64, found) == 0, "no other prime factor than 2, 3 and 5"


@given(some_parts, rates)
def test_it_can_always_be_shown(parts: list[PartCost], rate: float) -> None:
    measured, target = cost(*parts, stores=[StoreCost("s", "p0", 100, 50.0)]), Target(rate, 4)
    plan = make_plan(measured, target)
    assert all(line.result for line in lines(measured, target, plan))
    states = [one.state for one in limits("app", measured, target, plan)]
    assert states == sorted(states, key=("binds", "warning", "ok").index)


# ---- by hand


def test_fifty_thousand_a_second() -> None:
    """10 µs + 1 x 10 µs: 50,000/s keep one worker busy all the time, and 1 / 0.7 = 1.43 workers for 70%."""
    plan = of([part("clicks", writes="again"), part("again")], 50_000)
    (group,) = plan.groups
    assert group.load == pytest.approx(1.0)
    assert (group.needed, group.partitions, group.instances, group.workers_per_instance) == (2, 4, 1, 2)
    assert group.capacity == pytest.approx(0.7 * 2 / 20e-6)
    assert group.memory_per_instance == 2 * 512 * MIB + SUPERVISOR_MEMORY
    assert plan.partitions == {"clicks": 4, "again": 4}
    assert plan.rule_of_thumb == 8
    assert [one.least for one in plan.parts] == [1, 1]
    assert plan.brokers.on_disks == pytest.approx(50_000 * 300 * 3)
    assert plan.brokers.read == pytest.approx(50_000 * (150 + 2 * 300))


def test_a_hundred_million_a_second() -> None:
    """100 M x 10 µs / 0.7 = 1428.6 workers, 1440 by 2, 3 and 5: more than one group bears."""
    measured, target = cost(part()), Target(100e6, 16)
    plan = make_plan(measured, target)
    (group,) = plan.groups
    assert group.needed == 1440 and group.partitions == 2880
    assert group.instances == ceil(100e6 * 8e-6 / 0.7 / 16) == 72 and group.workers_per_instance == 20
    (members,) = [one for one in limits("app", measured, target, plan) if one.name == "group default"]
    assert members.state == "binds" and group.workers > MANY_MEMBERS
    assert "1,440 members" in members.text and "divide the app into 2" in members.text


def test_the_groups_record_grows_past_a_message() -> None:
    names = ["a-topic-with-a-very-long-name-" + "x" * 200 + str(n) for n in range(10)]
    wide = PartCost("wide", "default", names, ["out"], 1.0, 1e-3, 1e-3)
    measured, target = cost(wide, hottest=0.0), Target(400_000, 16)
    plan = make_plan(measured, target)
    (group,) = plan.groups
    assert group.workers < MANY_MEMBERS and group_record("app", measured, group) > MIB
    assert "divide the app" in next(one.text for one in limits("app", measured, target, plan) if one.state == "binds")


def test_memory_decides_where_it_is_scarce() -> None:
    plan = of([part()], 1e6, cores=64, memory=2 << 30)  # 3 workers of 512 MiB fit beside the supervisor
    (group,) = plan.groups
    assert group.needed == 15 and group.bound_by == "memory"
    assert of([part()], 1e6, cores=2).groups[0].bound_by == "cores"
    assert of([part()], 1e6, cores=64).groups[0].bound_by == "nothing"
    assert of([part()], 1e6, cores=2, partitions=3).groups[0].bound_by == "partitions"
    assert (group.instances, group.workers_per_instance) == (5, 3)
    with pytest.raises(ConfigError, match="too little for one worker"):
        of([part()], 1e6, memory=512 * MIB)


def test_isolation_groups_are_planned_apart_and_share_what_both_read() -> None:
    light = PartCost("clicks", "default", ["clicks"], ["out"], 1.0, 1e-6, 1e-6)
    heavy = PartCost("clicks@heavy", "heavy", ["clicks"], ["again"], 1.0, 1e-3, 1e-3)
    behind = PartCost("again", "default", ["again"], ["out"], 0.1, 1e-6, 1e-6)
    plan = of([light, heavy, behind], 10_000)
    assert [(group.name, group.needed) for group in plan.groups] == [("default", 1), ("heavy", 15)]
    assert plan.partitions == {"clicks": 30, "again": 2}
    assert [one.partitions for one in plan.parts] == [30, 30, 2]


def test_inputs_of_one_part_have_equal_counts() -> None:
    both = PartCost("a+b", "default", ["a", "b"], ["out"], 1.0, 1e-6, 1e-6)
    heavy = PartCost("b@heavy", "heavy", ["b"], ["out"], 1.0, 1e-3, 1e-3)
    third = PartCost("a+c", "default", ["a", "c"], ["out"], 1.0, 1e-6, 1e-6)
    assert of([both, third, heavy], 10_000).partitions == {"a": 30, "b": 30, "c": 30}


def test_state_disk_and_restore() -> None:
    """10 M entries of 100 B: 1 GB, over 2 workers; each restores 2 x 5 M records in 20 s and 2 x 0.5 GB in 10 s."""
    measured = cost(stores=[StoreCost("seen", "clicks", 500, 100.0)])
    assert make_plan(measured, Target(50_000, 4)).state.assumed
    plan = make_plan(measured, Target(100_000, 4, keys={"": 5, "seen": 10_000_000}))
    assert plan.workers == 2 and not plan.state.assumed
    assert plan.state.bytes == 1e9 and plan.state.per_task == 1e9 / 4
    assert plan.state.disk == 2e9
    assert plan.state.restore == pytest.approx(20 + 10)


def test_a_hot_key_binds_whatever_the_partitions() -> None:
    measured, target = cost(hottest=0.5), Target(1e6, 16)
    found = limits("app", measured, target, make_plan(measured, target))
    assert found[0].name == "hot key" and found[0].state == "binds" and "beyond 140k/s" in found[0].text
    calm = cost(hottest=0.0001)
    assert all(one.name != "hot key" for one in limits("app", calm, target, make_plan(calm, target)))


@pytest.mark.parametrize(("rate", "workers"), [(999, 2), (1000, 4), (9999, 4), (10_000, 8), (100e6, 8)])
def test_rule_of_thumb(rate: float, workers: int) -> None:
    assert rule_of_thumb(rate, 4) == workers
    assert rule_of_thumb(1, 1) == 1


@pytest.mark.parametrize(
    ("given", "shown"), [(4.216e-6, "4.22 µs"), (0.000999, "999 µs"), (0.00123, "1.23 ms"), (1.5, "1.5 s"), (0, "0 µs")]
)
def test_small_times(given: float, shown: str) -> None:
    assert small(given) == shown
