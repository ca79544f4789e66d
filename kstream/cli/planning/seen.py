"""No worker is taken to be faster than one was seen to be."""

from __future__ import annotations

import msgspec

from kstream.cli.planning.arithmetic import UTILISATION, Cost


def as_seen(cost: Cost) -> Cost:
    """The cost with times of records at which a worker, busy for its share of the time, does no more records than one
    did in the measurement, where brokers, the sender and others had their part of the machine."""
    factors = {name: _factor(cost, name, passed) for name, passed in cost.passed.items()}
    parts = [msgspec.structs.replace(part, time=part.time * factors.get(part.group, 1.0)) for part in cost.parts]
    return msgspec.structs.replace(cost, parts=parts)


def _factor(cost: Cost, group: str, passed: float) -> float:
    time = sum(part.records * part.time for part in cost.parts if part.group == group)
    return max(1.0, UTILISATION * passed / time) if time else 1.0


def slowed(cost: Cost) -> list[str]:
    """The groups whose workers are taken to be slower than their own time says."""
    return [name for name, passed in cost.passed.items() if _factor(cost, name, passed) > 1.0]
