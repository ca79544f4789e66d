"""All that `kstream plan` says: what was measured, the proposal, how it was reckoned, what binds, what to mind."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import ceil
from typing import Final

import msgspec

from kstream.cli import human
from kstream.cli.planning.arithmetic import UTILISATION, Cost, Plan, Target, make_plan
from kstream.cli.planning.limits import Limit, limits
from kstream.cli.planning.sample import Sample, sources_of
from kstream.cli.planning.seen import as_seen, slowed
from kstream.cli.planning.sums import Line, lines
from kstream.topology import Topology

DISTURBED: Final = 0.2
"""Share of the machine that others may have before the measurement is doubted."""

OTHER_RATES: Final = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)


class OtherRate(msgspec.Struct, frozen=True):
    """The same app at another rate. `partitions` is the most that a topic has; `binds` names the limits that do."""

    rate: float
    workers: int
    instances: int
    partitions: int
    binds: list[str]


class Answer(msgspec.Struct, frozen=True):
    """All of it, as --json writes it. Seconds, bytes, records a second."""

    app: str
    target: Target
    measured: Cost
    plan: Plan
    arithmetic: list[Line]
    limits: list[Limit]
    other_rates: list[OtherRate]
    notes: list[str]


def answer_of(topology: Topology, cost: Cost, wanted: Target, sample: Sample) -> Answer:
    seen = as_seen(cost)
    plan = make_plan(seen, wanted)
    return Answer(
        app=topology.app,
        target=wanted,
        measured=cost,
        plan=plan,
        arithmetic=lines(seen, wanted, plan),
        limits=limits(topology.app, seen, wanted, plan),
        other_rates=[_at(rate, topology.app, seen, wanted) for rate in OTHER_RATES],
        notes=list(_notes(cost, wanted, plan, sample, sources_of(topology))),
    )


def _at(rate: float, app: str, cost: Cost, wanted: Target) -> OtherRate:
    wanted = msgspec.structs.replace(wanted, rate=rate)
    plan = make_plan(cost, wanted)
    bind = [one.name for one in limits(app, cost, wanted, plan) if one.state == "binds"]
    return OtherRate(rate, plan.workers, plan.instances, max(plan.partitions.values()), list(dict.fromkeys(bind)))


def _notes(cost: Cost, wanted: Target, plan: Plan, sample: Sample, sources: Collection[str]) -> Iterator[str]:
    if unsampled := [name for name in sources if name not in sample.topics]:
        yield f"the sample has no records of {', '.join(unsampled)}: what is done with them is left out"
    if cost.records > cost.sample:
        yield (
            f"sample: {sample.origin}, {cost.sample:,} records with {cost.keys:,} keys, said "
            f"{cost.records / cost.sample:.0f} times over: state has fewer keys than it would, and is warmer; values "
            "that grow with each record grow too far"
        )
    if plan.state.assumed:
        yield "state is that of the sample's keys: --keys N says how many entries stores will have, --keys STORE=N one"
    yield (
        f"times are of this machine ({cost.cores} cores, the broker beside the app): measure on one like production's, "
        "and leave the rest to workers that follow the load"
    )
    if cost.others > DISTURBED:
        least = max(1, ceil(sum(group.cores for group in plan.groups) / UTILISATION))
        yield (
            f"others had {cost.others:.0%} of this machine's processors meanwhile, so brokers answered late: measure "
            f"again in a quiet moment; by processor time alone it is {human.plural(least, 'worker')}"
        )
    for name in slowed(cost):
        yield (
            f"a worker of group {name} was seen to do {human.rate(1 / cost.passed[name])}, by its own time it could do "
            "more: the plan promises no more than was seen; measure where broker and app do not share processors"
        )
    if plan.workers > 1:
        yield f"one worker of each group was measured; {plan.workers:,} are taken to do as many times as much"
    if any(group.instances == 1 for group in plan.groups):
        yield "with one instance of a group, its failure and each upgrade stop the group"
    if len(plan.groups) > 1:
        yield "each isolation group has instances of its own here (kstream run --group NAME)"
    if wanted.cores > cost.cores:
        yield f"{wanted.cores} cores are taken to be as many times as fast as one"
