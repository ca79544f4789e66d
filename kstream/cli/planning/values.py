"""A plan as values of the Helm chart: what `helm install -f` takes beside the image and the brokers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import ceil

from kstream.cli import human
from kstream.cli.planning.answer import Answer
from kstream.cli.planning.arithmetic import GroupPlan

_DISK_LEAST = 1 << 30


def helm_values(answer: Answer, target: str, groups: Sequence[str]) -> Iterator[str]:
    """Lines of YAML.

    Args:
        target: `module:attribute` of the app. groups: all that it has; a group that was not measured is left at the
            chart's defaults.
    """
    plan = answer.plan
    yield f"# kstream plan: {answer.app} at {human.rate(answer.target.rate)}; it carries {human.rate(plan.capacity)}"
    for limit in answer.limits:
        if limit.state == "binds":
            yield f"# BINDS {limit.name}: {limit.text}"
    for topic, count in plan.partitions.items():
        yield f"# partitions of {topic}: {count}"
    yield f"app: {json.dumps(target)}"
    yield "settings:"
    yield f"  memory: {_mebibytes(plan.worker_memory)}MiB"
    yield "groups:"
    if "default" not in groups:
        yield "  default: null"
    planned = {group.name: group for group in plan.groups}
    group_of = {part.name: part.group for part in answer.measured.parts}
    stateful = {group_of[store.part] for store in answer.measured.stores}
    for name in groups:
        if name in planned:
            yield from _group(planned[name], answer.target.cores, plan.state.disk if name in stateful else 0)
        else:
            yield f"  {name}: {{}}  # the sample has no records for it"


def _group(group: GroupPlan, cores: int, disk: int) -> Iterator[str]:
    cpu = min(cores * 1000, max(100, ceil(1000 * group.wanted_cores / group.instances)))
    memory = _mebibytes(group.memory_per_instance)
    yield f"  {group.name}:"
    yield f"    replicas: {group.instances}"
    yield f"    workers: {group.workers_per_instance}"
    yield "    resources:"
    yield f"      requests: {{cpu: {cpu}m, memory: {memory}Mi}}"
    yield f"      limits: {{memory: {memory}Mi}}"
    if disk:
        yield "    persistence:"
        yield f"      size: {ceil(max(disk, _DISK_LEAST) / 2**30)}Gi"


def _mebibytes(size: int) -> int:
    return ceil(size / 2**20)
