"""What the service of tests/faults/verified_service.py must have put out, for its input as it lies in Kafka.

Plain Python over what a plain consumer read: it shares no code with the engine or with the service. `audit` takes rows
by the name of their topic and gives what is wrong, one line each.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from support.audit import check_mixture, compacted
from support.kafka import Row

WINDOW_MS, ALERT_EVERY = 5_000, 3

INPUTS = ("readings", "limits")
EXACT = ("echo", "counts", "sums", "least", "greatest", "means", "alerts")
"""Topics of which each partition must be, record by record, what the input's partition demands."""
OUTPUTS = (*EXACT, "latest", "checked", "overview", "groups", "windows")
STORES = ("count", "spent")
"""Of which the changelogs are read, too."""

Rows = Mapping[str, Sequence[Row]]
Line = tuple[str, Any]
"""A key and its value."""


@dataclass
class Demand:
    """What the input demands.

    Attributes:
        exact: of each topic, the lines of each partition.
        last: of each store, the value of each key.
        tallies: of each key, all values of the aggregation that is told once a commit.
        groups: of each group and partition of the input, number and amount of each reading, in order.
        windows: how many readings of a group are in the window that begins then.
        limits: of each key, all its limits.
    """

    exact: dict[str, defaultdict[int, list[Line]]] = field(
        default_factory=lambda: {topic: defaultdict(list) for topic in EXACT}
    )
    last: dict[str, dict[str, int]] = field(default_factory=lambda: {store: {} for store in STORES})
    tallies: defaultdict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    groups: defaultdict[str, defaultdict[int, list[tuple[int, int]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    windows: Counter[tuple[str, int]] = field(default_factory=Counter)
    limits: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


def demanded(rows: Rows) -> Demand:
    """Reads the input once, each partition in its order."""
    demand = Demand()
    counts: defaultdict[str, int] = defaultdict(int)
    totals: defaultdict[str, int] = defaultdict(int)
    least: dict[str, int] = {}
    greatest: dict[str, int] = {}
    for row in in_order(rows["readings"]):
        key, reading = row.key.decode(), value_of(row)
        number, amount = reading["number"], reading["amount"]
        count = counts[key] = counts[key] + 1
        total = totals[key] = totals[key] + amount
        least[key], greatest[key] = min(amount, least.get(key, amount)), max(amount, greatest.get(key, amount))
        demand.last["count"][key], demand.last["spent"][key] = count, total
        lines: dict[str, Any] = {
            "echo": {**reading, "at": row.timestamp},
            "counts": count,
            "sums": total,
            "least": least[key],
            "greatest": greatest[key],
            "means": total / count,
        }
        if number % ALERT_EVERY == 0:
            lines["alerts"] = {"number": number, "spent": total}
        for topic, value in lines.items():
            demand.exact[topic][row.partition].append((key, value))
        demand.tallies[key].append({"count": count, "total": total, "last": number})
        demand.groups[reading["group"]][row.partition].append((number, amount))
        demand.windows[reading["group"], row.timestamp // WINDOW_MS * WINDOW_MS] += 1
    for row in in_order(rows["limits"]):
        demand.limits[row.key.decode()].append(value_of(row))
    return demand


def in_order(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.partition, row.offset))


def value_of(row: Row) -> Any:
    return None if row.value is None else json.loads(row.value)


def lines_of(rows: Iterable[Row]) -> dict[str, list[Any]]:
    """The values of each key, in their order."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for row in in_order(rows):
        found[row.key.decode()].append(value_of(row))
    return found


def audit(rows: Rows, closed: int) -> list[str]:
    """What is wrong, one line for each topic that differs; nothing where all is right.

    Args:
        rows: committed rows of INPUTS and OUTPUTS, and of the changelogs of STORES, by these names.
        closed: in ms since the epoch: windows that end by then must have closed, and others must not.
    """
    demand = demanded(rows)
    checks: dict[str, Callable[[], None]] = {
        **{topic: lambda topic=topic: _check_exact(topic, demand, rows[topic]) for topic in EXACT},
        "latest": lambda: _check_latest(demand, rows["latest"]),
        "groups": lambda: _check_groups(demand, rows["groups"]),
        "windows": lambda: _check_windows(demand, rows["windows"], closed),
        "checked": lambda: _check_joined(demand, rows["readings"], rows["checked"]),
        "overview": lambda: _check_overview(demand, rows["overview"]),
        **{store: lambda store=store: _check_store(store, demand, rows[store]) for store in STORES},
    }
    wrong = []
    for topic, check in checks.items():
        try:
            check()
        except AssertionError as error:
            wrong.append(str(error))
        except (LookupError, TypeError, ValueError) as error:
            wrong.append(f"{topic}: a row cannot be read: {error!r}")
    return wrong


def _check_exact(topic: str, demand: Demand, rows: Iterable[Row]) -> None:
    found: defaultdict[int, list[Line]] = defaultdict(list)
    for row in in_order(rows):
        value = value_of(row)
        found[row.partition].append((row.key.decode(), {**value, "at": row.timestamp} if topic == "echo" else value))
    wanted = demand.exact[topic]
    for partition in sorted(wanted.keys() | found.keys()):
        want, have = wanted[partition], found[partition]
        at = next((n for n, (one, other) in enumerate(zip(want, have, strict=False)) if one != other), None)
        if at is None and len(want) == len(have):
            continue
        at = min(len(want), len(have)) if at is None else at
        was, due = Counter(map(repr, have)), Counter(map(repr, want))
        raise AssertionError(
            f"{topic}[{partition}]: record {at} of {len(have)} is {have[at : at + 1]}, and {want[at : at + 1]} of "
            f"{len(want)} is due; {(due - was).total()} are missing, {(was - due).total()} too many"
        )


def _check_latest(demand: Demand, rows: Iterable[Row]) -> None:
    """Once per key and commit: some of the key's values, each once, in their order, and the last one at the end."""
    found = lines_of(rows)
    assert found.keys() == demand.tallies.keys(), f"latest: keys {found.keys() ^ demand.tallies.keys()}"
    for key, values in found.items():
        numbers = [value["count"] for value in values]
        assert numbers == sorted(set(numbers)), f"latest {key!r} goes back or repeats: {numbers}"
        for value in values:
            assert value in demand.tallies[key][value["count"] - 1 : value["count"]], f"latest {key!r}: {value}"
        assert numbers[-1] == len(demand.tallies[key]), f"latest {key!r} ends at {numbers[-1]}"


def _check_groups(demand: Demand, rows: Iterable[Row]) -> None:
    """Behind a repartition: 1, 2, 3, ... for each group, each reading once, those of a partition in their order."""
    found = lines_of(rows)
    assert found.keys() == demand.groups.keys(), f"groups: {found.keys() ^ demand.groups.keys()}"
    for group, values in found.items():
        check_mixture(f"groups {group!r}", values, demand.groups[group])


def _check_windows(demand: Demand, rows: Iterable[Row], closed: int) -> None:
    """Each window once, with all of its readings: none was late, whatever was killed."""
    found = [((row.key[:-8].decode(), int.from_bytes(row.key[-8:], "big")), value_of(row)) for row in rows]
    due = {window: count for window, count in demand.windows.items() if window[1] + WINDOW_MS <= closed}
    twice = [window for window, times in Counter(window for window, _ in found).items() if times > 1]
    assert not twice, f"windows: {len(twice)} closed more than once, such as {twice[0]}"
    wrong = sorted(set(found) ^ set(due.items()))
    assert not wrong, f"windows: {len(found)} closed of {len(due)}; {len(wrong)} differ, such as {wrong[:4]}"


def _check_joined(demand: Demand, readings: Iterable[Row], rows: Iterable[Row]) -> None:
    """Each reading once, in its place. The limit that it found is one of its key's, and never an older one than a
    reading before it found; the last reading comes when all limits are there."""
    wanted: defaultdict[int, list[Line]] = defaultdict(list)
    found: defaultdict[int, list[Line]] = defaultdict(list)
    for row in in_order(readings):
        wanted[row.partition].append((row.key.decode(), value_of(row)["number"]))
    limits: dict[str, list[int]] = defaultdict(list)
    for row in in_order(rows):
        number, limit = value_of(row)
        found[row.partition].append((row.key.decode(), number))
        limits[row.key.decode()].append(limit)
    assert found == wanted, "checked: not each reading was joined once, in its place: " + ", ".join(
        f"[{at}] {len(found[at])} of {len(wanted[at])}" for at in sorted(wanted.keys() | found.keys())
    )
    for key, those in limits.items():
        known = [-1, *demand.limits[key]]
        assert set(those) <= set(known), f"checked {key!r}: {set(those) - set(known)} were never its limits"
        places = [known.index(limit) for limit in those]
        assert places == sorted(places), f"checked {key!r}: a limit that was there is gone again: {those}"
        assert places[-1] == len(known) - 1, f"checked {key!r}: the last reading found {those[-1]}, not {known[-1]}"


def _check_overview(demand: Demand, rows: Iterable[Row]) -> None:
    """Each change of a count or of a limit gives one row: so from one to the next the count or the limit is the next
    one, never both and never neither."""
    found = lines_of(rows)
    assert found.keys() == demand.tallies.keys(), f"overview: keys {found.keys() ^ demand.tallies.keys()}"
    for key, values in found.items():
        known = [-1, *demand.limits[key]]
        steps = [(count, known.index(limit) if limit in known else -9) for count, limit in values]
        assert steps[0][0] == 1 and steps[0][1] >= 0, f"overview {key!r} begins with {values[0]}"
        for number in range(1, len(steps)):
            (count, place), now = steps[number - 1], steps[number]
            assert now in ((count + 1, place), (count, place + 1)), (
                f"overview {key!r}: from {values[number - 1]} to {values[number]}"
            )
        end = (len(demand.tallies[key]), len(known) - 1)
        assert steps[-1] == end, f"overview {key!r} ends at {values[-1]}, after {end[0]} readings and {end[1]} limits"


def _check_store(store: str, demand: Demand, rows: Iterable[Row]) -> None:
    kept = {key.decode(): json.loads(value) for key, value in compacted(in_order(rows)).items()}
    wrong = sorted(
        key for key in kept.keys() | demand.last[store].keys() if kept.get(key) != demand.last[store].get(key)
    )
    assert not wrong, f"changelog of {store}: {len(wrong)} keys differ, such as {wrong[0]}: {kept.get(wrong[0])}"


# ---- around it

Fate = Literal["committed", "aborted", "unknown"]


@dataclass
class Chunk:
    """Readings that were written together. Unknown: nobody was told whether they were committed."""

    numbers: range
    fate: Fate


_TIMES: Mapping[Fate, Sequence[set[int]]] = {"committed": [{1}], "aborted": [{0}], "unknown": [{0}, {1}]}
"""How often the readings of a chunk may be there."""


def wrong_input(chunks: Iterable[Chunk], rows: Iterable[Row]) -> list[str]:
    """What is wrong with the readings as they can be read: then the app can do nothing for it."""
    seen = Counter(value_of(row)["number"] for row in rows)
    return [
        f"input: readings {chunk.numbers} were {chunk.fate}, and are there {Counter(seen[n] for n in chunk.numbers)}"
        for chunk in chunks
        if {seen[number] for number in chunk.numbers} not in _TIMES[chunk.fate]
    ]


def wrong_offsets(
    offsets: Mapping[tuple[str, int], int], rows: Rows, lengths: Mapping[str, Sequence[int]]
) -> list[str]:
    """Committed offsets that are not behind the last record of their partition, or are beyond its end.

    Args:
        rows: of topics that were read to their ends. `lengths`: the end of each partition, markers included.
    """
    last = {(topic, row.partition): row.offset for topic in rows for row in in_order(rows[topic])}
    return [
        f"{topic}[{partition}]: offset {offsets.get((topic, partition))} is committed, its last record is "
        f"{last.get((topic, partition))}, its end {end}"
        for topic in rows
        for partition, end in enumerate(lengths[topic])
        if not last.get((topic, partition), -1) < offsets.get((topic, partition), 0) <= end
    ]
