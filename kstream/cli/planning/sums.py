"""The arithmetic of a plan as lines that can be followed by hand."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kstream.cli import human
from kstream.cli.planning.arithmetic import (
    CHANGELOG_FACTOR,
    DISK_FACTOR,
    HEAD_ROOM,
    MEMORY_MARGIN,
    REPLICATION,
    RESTORE_BYTES,
    RESTORE_RECORDS,
    SUPERVISOR_MEMORY,
    UTILISATION,
    Cost,
    GroupPlan,
    Plan,
    Target,
)


class Line(msgspec.Struct, frozen=True):
    """What, how it was reckoned, what came out."""

    what: str
    sum: str
    result: str


def lines(cost: Cost, target: Target, plan: Plan) -> list[Line]:
    return [
        *(line for group in plan.groups for line in _group(group, cost, target, plan)),
        *_state(plan),
        *_brokers(cost, target, plan),
    ]


def _group(group: GroupPlan, cost: Cost, target: Target, plan: Plan) -> Iterator[Line]:
    of = "" if len(plan.groups) == 1 else f" of {group.name}"
    parts = [part for part in cost.parts if part.group == group.name]
    rate = human.rate(target.rate)
    terms = [f"{part.records:.3g} x {small(part.time)}" for part in parts]
    # what `as_seen` made of it
    slow = group.time > 0 and abs(group.time - UTILISATION * cost.passed.get(group.name, 0.0)) < 1e-6 * group.time
    terms[-1] += ", as slow as was seen" if slow else ""
    yield Line(f"a record's time{of}", " + ".join(terms), small(group.time))
    yield Line(f"load{of}", f"{rate} x {small(group.time)}", f"{group.load:.3g} workers, busy all the time")
    yield Line(f"workers{of}", _workers(group, target), human.plural(group.needed, "worker"))
    if target.partitions is None:
        yield Line(f"partitions{of}", f"{group.needed:,} x {HEAD_ROOM}: workers may double", f"{group.partitions:,}")
    else:
        yield Line(f"partitions{of}", "as given", f"{group.partitions:,}")
    yield Line(
        f"cores{of}",
        f"{rate} x {small(group.cpu)} / {UTILISATION:g}, librdkafka's threads included{_hurried(target)}",
        f"{group.wanted_cores:.3g}",
    )
    why = {
        "nothing": "all of it fits",
        "spare": "all of it fits into fewer; one may fail, and upgrades do not stop the app",
        "cores": f"{group.wanted_cores:.3g} cores / {target.cores}",
        "memory": "workers / those that fit into the memory",
        "partitions": "one for each worker: there are too few partitions for more",
    }
    yield Line(f"instances{of}", why[group.bound_by], human.plural(group.instances, "instance"))
    yield Line(
        f"workers each{of}",
        f"{group.needed:,} / {group.instances:,}, rounded up",
        f"{group.workers_per_instance:,}, {group.workers:,} in all",
    )
    if target.memory is None:
        yield Line(
            f"memory{of}",
            f"{group.workers_per_instance:,} x {human.size(plan.worker_memory)} (the setting, or {MEMORY_MARGIN:g} x "
            f"{human.size(cost.memory)} measured) + {human.size(SUPERVISOR_MEMORY)}",
            f"{human.size(group.memory_per_instance)} an instance",
        )
    yield Line(f"carries{of}", f"the worker with most partitions at {UTILISATION:.0%}", human.rate(group.capacity))
    yield Line(
        f"recovers{of}", "a restore, and the records of an hour down, all workers busy", human.span(group.recovery)
    )


def _hurried(target: Target) -> str:
    within = target.recover_within
    return "" if within is None else f", or as many as recover in {human.span(within)}"


def _workers(group: GroupPlan, target: Target) -> str:
    reckoned = f"{group.load:.3g} / {UTILISATION:g}"
    reckoned += _hurried(target)
    if target.partitions is not None:
        return f"{reckoned}, shared out as whole partitions of {target.partitions:,}"
    return f"{reckoned}, up to a number that 2, 3 and 5 make"


def _state(plan: Plan) -> Iterator[Line]:
    state = plan.state
    if not state.entries:
        return
    told = " (as in the sample: give --keys)" if state.assumed else ""
    yield Line("state", f"{human.count(state.entries)} entries{told}, keys and values", human.size(int(state.bytes)))
    yield Line("state disk", f"{DISK_FACTOR:g} x the share of an instance", f"{human.size(state.disk)} an instance")
    yield Line("state per task", "the largest, keys and values", human.size(int(state.per_task)))
    yield Line(
        "restore",
        f"{CHANGELOG_FACTOR:g} x a worker's share: {human.rate(RESTORE_RECORDS)}, and {RESTORE_BYTES / 1e6:.0f} MB/s",
        human.span(state.restore),
    )


def _brokers(cost: Cost, target: Target, plan: Plan) -> Iterator[Line]:
    rate = human.rate(target.rate)
    yield Line(
        "brokers write",
        f"{rate} x ({cost.input_bytes:.0f} B in + {cost.written_bytes:.0f} B out) x {REPLICATION} replicas",
        f"{_megabytes(plan.brokers.on_disks)}, uncompressed",
    )
    yield Line(
        "brokers send",
        f"{rate} x {cost.read_bytes:.0f} B to the app + {REPLICATION - 1} x what is written, to followers",
        f"{_megabytes(plan.brokers.read)}, uncompressed",
    )


def _megabytes(rate: float) -> str:
    return f"{rate / 1e6:,.3g} MB/s" if rate < 1e9 else f"{rate / 1e6:,.0f} MB/s"


def small(seconds: float) -> str:
    """12.3 µs, 4.56 ms, 1.2 s."""
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.3g} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
