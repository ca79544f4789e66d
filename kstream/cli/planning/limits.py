"""What Kafka, and the shape of the data, bear of a plan. Pure, as the arithmetic is; each figure has its source.

- Partitions: no more than 4,000 a broker and 200,000 a cluster, replicas included, is the recommendation that KIP-578
  quotes. Nothing enforces it. Amazon's for MSK are 1,000 to 4,000 a broker by its size, the same with KRaft, which only
  lets a cluster have more brokers.
- Members: in a rebalance every member joins again, and the slowest decides how long all of them wait; KIP-389 first
  proposed 250 as the largest group, then no limit. From `MANY_MEMBERS` on is our own advice.
- All of a group's metadata is one record of __consumer_offsets, and must fit into the largest message that the brokers
  take, 1 MiB by default (KAFKA-3810).
- A transaction's end is a marker in each partition it wrote to (KIP-98).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, inf
from typing import Final, Literal

import msgspec

from kstream.cli import human
from kstream.cli.planning.arithmetic import HEAD_ROOM, REPLICATION, UTILISATION, Cost, GroupPlan, Plan, Target, regular

PARTITIONS_PER_BROKER: Final = 4_000
PARTITIONS_PER_CLUSTER: Final = 200_000
LARGE_GROUP: Final = 250
MANY_MEMBERS: Final = 1_000
MESSAGE_BYTES: Final = 1_048_588
MEMBER_BYTES: Final = 200
"""Of one member in the group's record, besides the names of topics and the numbers of partitions: its own names three
times, its host, and times."""
FEW_RECORDS: Final = 10
"""For a partition and commit: with fewer the brokers are busy with batches and markers rather than records."""
LONG_RESTORE: Final = 600.0
SKEWED: Final = 1.5
WAITING: Final = 0.5

State = Literal["ok", "warning", "binds"]


class Limit(msgspec.Struct, frozen=True):
    """One limit: `binds` when the plan cannot be carried out as it stands."""

    name: str
    state: State
    text: str


def limits(app: str, cost: Cost, target: Target, plan: Plan) -> list[Limit]:
    """All limits that have something to say about this plan, those that bind first."""
    found = [
        *_capacity(target, plan),
        *_hot_key(cost, target),
        *(each for group in plan.groups for each in _members(app, cost, group)),
        _partitions(cost, plan),
        *_commits(cost, target, plan),
        *_restore(plan),
        *_recovery(target, plan),
        *_skew(cost),
        *_waiting(cost),
    ]
    return sorted(found, key=lambda one: ("binds", "warning", "ok").index(one.state))


def _capacity(target: Target, plan: Plan) -> Iterator[Limit]:
    for group in plan.groups:
        if group.capacity < target.rate * (1 - 1e-9):
            yield Limit(
                "capacity",
                "binds",
                f"{group.partitions:,} partitions carry {human.rate(group.capacity)}, not {human.rate(target.rate)}: a "
                f"partition is one worker's at most; have {_partitions_for(group, target):,}, or lead the records "
                "through a repartition with parallelism=",
            )


def _partitions_for(group: GroupPlan, target: Target) -> int:
    return max(group.partitions + 1, HEAD_ROOM * regular(target.rate * group.time / UTILISATION))


def _hot_key(cost: Cost, target: Target) -> Iterator[Limit]:
    first = [part for part in cost.parts if part.records and not _is_fed(part.topics, cost)]
    load = target.rate * cost.hottest * sum(part.time for part in first)
    if cost.hottest == 0 or cost.keys < 2 or load < 0.1 * UTILISATION:
        return
    told = (
        f"the sample's most frequent key has {cost.hottest:.2%} of the records, "
        f"{human.rate(target.rate * cost.hottest)}: {load:.2f} of a worker"
    )
    if load <= UTILISATION:
        yield Limit("hot key", "ok", f"{told}, which one task bears")
        return
    most = UTILISATION / (cost.hottest * sum(part.time for part in first))
    yield Limit(
        "hot key",
        "binds",
        f"{told}, and one key is one task's: beyond {human.rate(most)} no number of partitions helps; spread the key "
        "(the key and a number, put together behind a repartition)",
    )


def _is_fed(topics: list[str], cost: Cost) -> bool:
    """Whether a part reads what another one writes."""
    return any(topic in part.writes for topic in topics for part in cost.parts)


def _members(app: str, cost: Cost, group: GroupPlan) -> Iterator[Limit]:
    size = group_record(app, cost, group)
    name = f"group {group.name}"
    told = f"{human.plural(group.workers, 'member')}, {human.size(size)} of metadata in a record of 1 MiB at most"
    most = min(MANY_MEMBERS, int(MESSAGE_BYTES / max(size / group.workers, 1.0)))
    if group.workers > most:
        apps = ceil(group.workers / most)
        yield Limit(
            name,
            "binds",
            f"{told}: all of them join again at each rebalance, and wait for the slowest; divide the app into {apps}, "
            f"each with a name and input topics of its own, for {human.rate(group.capacity / apps)}",
        )
    elif group.workers > LARGE_GROUP:
        yield Limit(name, "warning", f"{told}: all of them join again at each rebalance, and wait for the slowest")
    else:
        yield Limit(name, "ok", told)


def group_record(app: str, cost: Cost, group: GroupPlan) -> int:
    """Bytes of the group's metadata: each member with its subscription, and its assignment."""
    topics = [topic for part in cost.parts if part.group == group.name for topic in part.topics]
    names = sum(len(topic) + 10 for topic in topics)
    member = MEMBER_BYTES + 3 * (len(app) + len(group.name) + 20) + 2 * names
    return group.workers * member + 4 * group.partitions * len(topics)


def _partitions(cost: Cost, plan: Plan) -> Limit:
    total = partitions_in_all(cost, plan)
    replicas = total * REPLICATION
    brokers = max(REPLICATION, ceil(replicas / PARTITIONS_PER_BROKER))
    told = f"{total:,} of all topics and changelogs, {replicas:,} replicas: {brokers} brokers or more"
    if replicas > PARTITIONS_PER_CLUSTER:
        return Limit(
            "partitions",
            "binds",
            f"{told}, and {PARTITIONS_PER_CLUSTER:,} a cluster at most: divide the app over "
            f"{ceil(replicas / PARTITIONS_PER_CLUSTER)} clusters, or give light parts fewer partitions",
        )
    return Limit("partitions", "ok", told)


def partitions_in_all(cost: Cost, plan: Plan) -> int:
    """Of the inputs, of what the app writes (as many as the part that writes it), and of the changelogs."""
    counts = dict(plan.partitions)
    by_part = {part.name: part.partitions for part in plan.parts}
    for part in cost.parts:
        for topic in part.writes:
            counts.setdefault(topic, by_part[part.name])
    return sum(counts.values()) + sum(by_part[store.part] for store in cost.stores)


def _commits(cost: Cost, target: Target, plan: Plan) -> Iterator[Limit]:
    """Records that are regrouped go from each worker to all partitions, so each commit ends in all of them."""
    by_name = {group.name: group for group in plan.groups}
    for part in cost.parts:
        group = by_name[part.group]
        for topic in part.writes:
            if topic not in plan.partitions:
                continue
            count = plan.partitions[topic]
            each = target.rate * part.records * target.commit_interval / group.workers / count
            if each < FEW_RECORDS and count > FEW_RECORDS * FEW_RECORDS:
                markers = group.workers / target.commit_interval * count
                yield Limit(
                    "commits",
                    "warning",
                    f"each commit of a worker has {each:.1f} records for each partition of {topic}, and a marker: "
                    f"{human.count(markers)} markers/s; a longer commit_interval makes them fewer",
                )


def _restore(plan: Plan) -> Iterator[Limit]:
    if plan.state.restore > LONG_RESTORE:
        yield Limit(
            "restore",
            "warning",
            f"an instance that lost its disk has its state again after {human.span(plan.state.restore)}: keep its "
            "volume, or have more and smaller instances",
        )


def _recovery(target: Target, plan: Plan) -> Iterator[Limit]:
    for group in plan.groups:
        told = f"after an hour down group {group.name} has its state and has caught up in {human.span(group.recovery)}"
        within = target.recover_within
        if within is not None and group.recovery > within * (1 + 1e-9):
            yield Limit(
                "recovery",
                "binds",
                f"{told}, not in {human.span(within)}: a partition is one worker's at most; have more of them",
            )
        elif group.recovery == inf:
            yield Limit(
                "recovery",
                "warning",
                f"after an hour down group {group.name} never catches up, as fast as a worker was seen to be: say how "
                "soon it must, with --recover-within",
            )
        else:
            yield Limit("recovery", "ok", told)


def _skew(cost: Cost) -> Iterator[Limit]:
    for part in cost.parts:
        if part.busiest > SKEWED and part.time:
            yield Limit(
                "skew",
                "warning",
                f"the busiest task of {part.name} has {part.busiest:.1f} times an even share: few keys, or a frequent "
                "one; the plan takes the load as even",
            )


def _waiting(cost: Cost) -> Iterator[Limit]:
    if cost.waiting > WAITING:
        yield Limit(
            "waiting",
            "warning",
            f"{cost.waiting:.0%} of the workers' time was waiting, for brokers or for what agents await: more workers "
            "than cores, and more partitions for each, cost little",
        )
