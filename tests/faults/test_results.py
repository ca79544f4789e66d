"""Workers are killed around the steps of commits with which results fail that no record is behind, under `DeadLetter`:
each good result is told once, each bad one is one letter, and the state of those behind them is that of the good ones.
Read with plain clients."""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from faults.results_service import AFTER_MS, PARTITIONS, WINDOW_MS, Seen, add, kind, make_app
from kstream.config import Settings
from kstream.partitioning import partition_of
from support.kafka import SECONDS, Reader, Row, ends, write
from support.running import Instance, prepare, until
from support.scenario import QUICK

BEGAN, STEP_MS, RECORDS = 1_700_000_000_000, 60, 300
"""Records of each partition, and the ms of event time between them."""
TOLD = "__streams.errors.exception", "kstream.result", "kstream.result.step", "kstream.result.key"
"""Headers that are compared."""
AT = [
    "commit_transaction:before:1", "commit_transaction:after:1", "write_changelogs:after:1", "send_offsets:after:1",
    "flush_operators:after:1", "apply_to_state:before:1", "write_changelogs:after:2", "commit_transaction:before:3",
    "commit_transaction:after:3", "result:before:1", "result:before:4", "search:before:1", "search:after:1",
]  # fmt: skip
"""In commits of transactions with dead letters, at results that fail, and while those at fault are looked for."""

Told = tuple[bytes, bytes, int]
"""Key, value, and time."""
Letter = tuple[bytes, bytes, int, str, str, str, str]


def keys_in(partition: int) -> list[str]:
    return [key for key in map(str, range(100)) if partition_of(key.encode(), PARTITIONS) == partition][:3]


def expected(sent: Iterable[tuple[str, int]]) -> tuple[dict[str, list[Told]], list[Letter], dict[str, int]]:
    """What is told by topic, the letters, and how many good results of `careful` each key has."""
    told: dict[str, list[Told]] = {"plain": [], "careful": [], "rings": []}
    letters: list[Letter] = []
    of_key: defaultdict[str, list[int]] = defaultdict(list)
    for key, at in sent:
        of_key[key].append(at)
    numbers = dict.fromkeys(of_key, 0)
    for key, times in of_key.items():
        for number, at in enumerate(times, 1):
            one = key.encode(), b"%d" % number, at + AFTER_MS
            if number % 5:
                told["rings"].append(one)
            else:
                what = "the result of a timer of processor 'rings'", "process rings", repr(key)
                letters.append((*one, "builtins.ValueError", *what))
        for name, size in (("plain", WINDOW_MS), ("careful", 2 * WINDOW_MS)):
            seen: dict[int, Seen] = {}
            for at in times:
                for start in range(at // WINDOW_MS * WINDOW_MS, at - size, -WINDOW_MS if size > WINDOW_MS else -size):
                    seen[start] = add(seen.get(start, Seen()), at)
            for start, one_seen in sorted(seen.items()):
                full, end = key.encode() + start.to_bytes(8, "big"), start + size - 1
                text, fails = f"{one_seen.count} {one_seen.last}", kind(one_seen)
                if fails == 0 or (fails in (1, 7) and name == "careful"):
                    value = json.dumps({"count": one_seen.count, "last": one_seen.last}, separators=(",", ":")).encode()
                    why = "kstream.errors.RecordRefused" if fails else "builtins.ValueError"
                    what = f"the result of a window of '{name}'", f"aggregate {name}", f"Windowed({key=}, {start=})"
                    letters.append((full, value, end, why, *what))
                elif name == "plain":
                    told[name].append((full, text.encode(), end))
                else:
                    numbers[key] += 1
                    told[name].append((key.encode(), f"{numbers[key]} {start} {text}".encode(), end))
    return told, letters, numbers


def letter(row: Row) -> Letter:
    headers = {name: (value or b"").decode() for name, value in row.headers}
    assert not [name for name in headers if name.startswith("__streams.errors.") and "offset" in name]
    why, *what = (headers[name] for name in TOLD)
    return (row.key, row.value or b"", row.timestamp, why, what[0], what[1], what[2])


@pytest.mark.parametrize("at", AT)
def test_killed_around_a_commit_with_results_that_failed(
    at: str, bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"results-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    monkeypatch.setenv("KSTREAM_TEST_DIR", str(tmp_path))
    monkeypatch.setenv("KSTREAM_TEST_KILL", at)
    if not at.startswith(("result", "search")):
        monkeypatch.setenv("KSTREAM_TEST_WITH", f"{name}-dead-letters")
    quick = QUICK | {"max_uncommitted_records": 80, "poll_batch": 40}
    settings = Settings(bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path / "state"), instance="a", **quick)
    partitions = prepare(make_app(name), settings)
    events, letters = f"{name}.events", f"{name}-dead-letters"
    open_ones, numbers = [f"{name}-{one}-changelog" for one in ("plain", "careful")], f"{name}-numbers-changelog"
    timers = f"{name}-rings-timers-changelog"
    topics = {one: f"{name}.{one}" for one in ("plain", "careful", "rings")}
    now, last = round(time.time() * 1000), BEGAN + RECORDS * STEP_MS + 10 * WINDOW_MS
    sent = [(keys_in(partition)[n % 3], BEGAN + n * STEP_MS) for partition in range(PARTITIONS) for n in range(RECORDS)]
    moves = [(keys_in(partition)[0], -last) for partition in range(PARTITIONS)]
    told, set_aside, good = expected(sent)

    output = Reader(bootstrap_servers, [*topics.values(), letters, *open_ones, numbers, timers])
    instance = Instance("faults.results_service:app", name, "a", settings, partitions)
    rows = output.rows

    def poll() -> None:
        instance.poll()
        output.poll(0.0)

    def through() -> bool:
        return len(rows[letters]) >= len(set_aside) and all(len(rows[topics[one]]) >= len(told[one]) for one in told)

    try:
        (tmp_path / "armed").touch()
        write(bootstrap_servers, events, ((key, str(value).encode(), now) for key, value in [*sent, *moves]))
        until(through, "the results", 120, each=poll)
        instance.stop()
        until(lambda: output.at_end, "the ends of the topics", each=output.poll)
        assert (tmp_path / "struck").exists()
        for one, topic in topics.items():
            assert sorted((row.key, row.value, row.timestamp) for row in rows[topic]) == sorted(told[one])
        assert sorted(map(letter, rows[letters])) == sorted(set_aside)

        # offsets and state
        consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": name})
        asked = [TopicPartition(events, partition) for partition in range(PARTITIONS)]
        committed = [one.offset for one in consumer.committed(asked, timeout=SECONDS)]
        consumer.close()
        assert committed == [end for _, end in ends(bootstrap_servers, events)]
        left = {topic: {row.key: row.value for row in rows[topic]} for topic in (*open_ones, numbers, timers)}
        assert {key.decode(): int(value or b"") for key, value in left[numbers].items()} == good
        assert not any(left[timers].values())
        still_open = [sum(value is not None for value in left[changelog].values()) for changelog in open_ones]
        assert still_open == [PARTITIONS, 2 * PARTITIONS]  # those of the last records
        assert instance.restarts == 1
    finally:
        output.close()
        instance.kill()
