"""Whether the partitions of a sub-topology's inputs are those of its state.

A key's state is in the changelog's partition of the same number as the key's records. Kafka can add partitions to a
topic, never take them away, and from then on producers hash keys elsewhere: the state of a key would be begun anew in
another partition. So a sub-topology with state runs only while these counts are equal.
"""

from __future__ import annotations

from collections.abc import Mapping

from kstream.topology import SubTopology, Topology


def misfit(topology: Topology, part: SubTopology, counts: Mapping[str, int]) -> str | None:
    """Why the tasks of a sub-topology cannot run, and what to do; None where they can.

    Args:
        counts: partitions of its inputs and changelogs, as far as they are known.
    """
    state = {name: counts[name] for store in part.stores if (name := topology.changelog(store)) in counts}
    inputs = {name: counts[name] for name in part.topics if name in counts}
    if not state or len({*state.values(), *inputs.values()}) <= 1:
        return None
    kept = min(state.values())
    wrong = [name for name, count in inputs.items() if count != kept]
    advice = f"copy {' and '.join(wrong)} into a topic with {kept} partitions and read that, or " if wrong else ""
    if len(set(inputs.values())) == 1:
        advice = f"move the state to as many: kstream rescale --partitions {max(inputs.values())}; or {advice}"
    return (
        f"sub-topology {part.name} reads {_shown(inputs)}, its state has {_shown(state)}: the records of a key are in "
        f"another partition than its state; {advice}build the state anew: kstream reset"
    )


def misfits(topology: Topology, counts: Mapping[str, int]) -> dict[str, str]:
    """Such a line for each sub-topology that cannot run, by its name."""
    lines = {part.name: misfit(topology, part, counts) for part in topology.parts}
    return {name: line for name, line in lines.items() if line is not None}


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count} partition{'' if count == 1 else 's'})" for name, count in counts.items())
