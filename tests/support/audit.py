"""The oracle: what the service of tests/faults/service.py must have put out for the input as it lies in Kafka.

It shares no code with the engine or with the service's functions. Every committed record counts, in its place.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kstream.state.rocksdb import RocksBackend, RocksMemory
from support.kafka import Row, read

THRESHOLD = 500
OUTPUTS = ("counts", "alerts", "groups", "latest")

Line = tuple[str, dict[str, int]]
"""A key and its value."""


class Demand:
    """What the input demands."""

    def __init__(self, events: Iterable[Row]) -> None:
        self.counts: dict[int, list[Line]] = defaultdict(list)
        self.alerts: dict[int, list[Line]] = defaultdict(list)
        self.history: dict[str, list[dict[str, int]]] = defaultdict(list)
        self.spent: dict[str, int] = defaultdict(int)
        self.groups: dict[str, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for row in sorted(events, key=lambda row: (row.partition, row.offset)):
            key, event = row.key.decode(), json.loads(row.value or b"")
            number, amount = event["number"], event["amount"]
            before = self.spent[key]
            after = self.spent[key] = before + amount
            value = {"count": len(self.history[key]) + 1, "total": after, "last": number}
            self.history[key].append(value)
            self.counts[row.partition].append((key, value))
            if after // THRESHOLD > before // THRESHOLD:
                self.alerts[row.partition].append((key, {"number": number, "spent": after}))
            self.groups[event["group"]][row.partition].append((number, amount))


def audit(servers: str, app: str, *, duplicates: bool = False) -> Demand:
    """Compares every committed output record with what the input demands.

    Args:
        duplicates: at least once: nothing may be missing, but more may be there.
    """
    rows = read(servers, [f"{app}.{topic}" for topic in ("events", *OUTPUTS)])
    demand = Demand(rows[f"{app}.events"])
    counts, alerts, groups, latest = (rows[f"{app}.{topic}"] for topic in OUTPUTS)
    if duplicates:
        _check_at_least(demand, counts, groups)
        return demand
    _check_partitions("counts", demand.counts, counts)
    _check_partitions("alerts", demand.alerts, alerts)
    _check_groups(demand, groups)
    _check_latest(demand, latest)
    return demand


def _lines(rows: Iterable[Row]) -> dict[int, list[Line]]:
    found: dict[int, list[Line]] = defaultdict(list)
    for row in rows:
        found[row.partition].append((row.key.decode(), json.loads(row.value or b"")))
    return found


def _check_partitions(topic: str, wanted: Mapping[int, list[Line]], rows: Iterable[Row]) -> None:
    """The whole of each partition, record by record: the input's order is the output's, for both go by the same key."""
    found = _lines(rows)
    for partition in wanted.keys() | found.keys():
        want, have = wanted.get(partition, []), found.get(partition, [])
        for index, (one, other) in enumerate(zip(want, have, strict=False)):
            assert one == other, f"{topic}[{partition}], record {index}: {other}, but the input demands {one}"
        assert len(want) == len(have), f"{topic}[{partition}]: {len(have)} records of {len(want)}"


def _check_groups(demand: Demand, rows: Iterable[Row]) -> None:
    """Behind a repartition the inputs' partitions mix, each in its own order; totals must be of that mixture."""
    found: dict[str, list[dict[str, int]]] = defaultdict(list)
    homes: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        found[row.key.decode()].append(json.loads(row.value or b""))
        homes[row.key.decode()].add(row.partition)
    assert found.keys() == demand.groups.keys()
    assert all(len(home) == 1 for home in homes.values()), f"groups in several partitions: {homes}"
    for group, values in found.items():
        check_mixture(f"groups {group!r}", values, demand.groups[group])


def check_mixture(
    what: str, values: Iterable[Mapping[str, int]], sources: Mapping[int, Sequence[tuple[int, int]]]
) -> None:
    """Counts and totals as events of several partitions were folded in, each partition's in their order, each once.

    Args:
        sources: number and amount of each event, by partition.
    """
    left = {partition: list(reversed(events)) for partition, events in sources.items()}
    total = 0
    for index, value in enumerate(values):
        source = next((events for events in left.values() if events and events[-1][0] == value["last"]), None)
        assert source is not None, f"{what}, record {index}: event {value['last']} is not next: {value}"
        total += source.pop()[1]
        assert value == {"count": index + 1, "total": total, "last": value["last"]}, f"{what}: {value}"
    missing = sum(map(len, left.values()))
    assert not missing, f"{what}: {missing} events are missing"


def _check_latest(demand: Demand, rows: Iterable[Row]) -> None:
    """Once per key and commit: some of the key's values, in their order, and the last one at the end."""
    found: dict[str, list[dict[str, int]]] = defaultdict(list)
    for row in rows:
        found[row.key.decode()].append(json.loads(row.value or b""))
    assert found.keys() == demand.history.keys()
    for key, values in found.items():
        numbers = [value["count"] for value in values]
        assert numbers == sorted(set(numbers)), f"latest {key!r} goes back or repeats: {numbers}"
        for value in values:
            assert value == demand.history[key][value["count"] - 1], f"latest {key!r}: {value}"
        assert numbers[-1] == len(demand.history[key]), f"latest {key!r} ends at {numbers[-1]}"


def _check_at_least(demand: Demand, counts: Sequence[Row], groups: Sequence[Row]) -> None:
    """Each event was counted, and no count goes back by more than was repeated: the last of each key is its highest."""
    seen = {(row.key.decode(), json.loads(row.value or b"")["last"]) for row in counts}
    wanted = {(key, value["last"]) for key, values in demand.history.items() for value in values}
    assert wanted <= seen, f"{len(wanted - seen)} events are missing in counts"
    seen_by_group = {json.loads(row.value or b"")["last"] for row in groups}
    assert {last for _, last in wanted} <= seen_by_group


# ---- state


def stores(app: str) -> dict[str, str]:
    """The sub-topology of each store."""
    return {
        "per-key": f"{app}.events",
        "latest": f"{app}.events",
        "spent": f"{app}.events",
        "per-group": f"{app}-by-group-repartition",
    }


def audit_state(servers: str, app: str, demand: Demand, state_dirs: Iterable[Path]) -> None:
    """Compares the changelogs with the input, and every copy of each local store with its changelog.

    The newest copy must have all of the changelog; a copy that a worker left behind when its partition moved on must be
    the changelog as of its mark, or as of a later offset. Call it after a clean stop.
    """
    changelogs = {store: f"{app}-{store}-changelog" for store in stores(app)}
    rows = read(servers, list(changelogs.values()))
    wanted: dict[str, dict[bytes, Any]] = {
        "per-key": {key.encode(): values[-1] for key, values in demand.history.items()},
        "latest": {key.encode(): values[-1] for key, values in demand.history.items()},
        "spent": {key.encode(): spent for key, spent in demand.spent.items()},
    }
    groups = {
        group.encode(): {
            "count": sum(map(len, sources.values())),
            "total": sum(amount for events in sources.values() for _, amount in events),
        }
        for group, sources in demand.groups.items()
    }
    memory = RocksMemory(8 << 20, 8 << 20)
    for store, topic in changelogs.items():
        final = {key: json.loads(value) for key, value in compacted(rows[topic]).items()}
        if store == "per-group":
            assert {key: {**value, "last": 0} for key, value in final.items()} == {
                key: {**value, "last": 0} for key, value in groups.items()
            }
        else:
            assert final == wanted[store], f"changelog of {store}"
        for partition in {row.partition for row in rows[topic]}:
            log = [row for row in rows[topic] if row.partition == partition]
            marks = [
                _check_copy(directory, store, log, memory)
                for state_dir in state_dirs
                for directory in state_dir.glob(f"*/{quote(stores(app)[store], safe='+')}/{partition}")
            ]
            if list(state_dirs):
                assert max(marks) > log[-1].offset, f"{store}[{partition}]: no copy has all of the changelog: {marks}"


def _check_copy(directory: Path, store: str, log: Sequence[Row], memory: RocksMemory) -> int:
    """Returns how far the copy went: its mark, or further. A report of a delivery may come without an offset, where the
    client had to send again: then the mark stays behind, and a restore replays a little more than it needs."""
    backend = RocksBackend(directory, [store], memory)
    try:
        mark = backend.mark(store)
        offset = 0 if mark is None else mark.offset
        have = dict(backend.scan(store))
    finally:
        backend.close()
    ends = [offset, *(row.offset + 1 for row in log if row.offset >= offset)]
    reached = [end for end in ends if have == compacted(row for row in log if row.offset < end)]
    assert reached, f"{directory}: {store} is not its changelog as of {offset}, nor as of any later offset"
    return reached[-1]


def compacted(rows: Iterable[Row]) -> dict[bytes, bytes]:
    last: dict[bytes, bytes | None] = {}
    for row in rows:
        last[row.key] = row.value
    return {key: value for key, value in last.items() if value is not None}
