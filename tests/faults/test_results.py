"""Workers are killed around the steps of commits with which results fail that no record is behind, under each policy:
each good result is told once, each bad one is one letter (under `Skip`: none), and the state of those behind them is
that of the good ones. Read with plain clients."""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from faults import results_service
from faults.results_service import AFTER_MS, GAP_MS, PARTITIONS, WINDOW_MS, Seen, add, in_session, kind, make_app
from kstream.config import Settings
from kstream.partitioning import partition_of
from support.kafka import SECONDS, Reader, Row, ends, write
from support.running import Instance, prepare, until
from support.scenario import QUICK

BEGAN, STEP_MS, RECORDS = 1_700_000_000_000, 60, 150
"""Records of each partition, and the ms of event time between them."""
TOLD = "__streams.errors.exception", "kstream.result", "kstream.result.step", "kstream.result.key", "kstream.attempts"
"""Headers that are compared."""
COMMITS = "the result of 'commits'"
TOPICS = "plain", "careful", "sessions", "commits", "rings"
AT = {
    "dead letter": [
        "commit_transaction:before:1", "commit_transaction:after:1", "write_changelogs:after:1", "send_offsets:after:1",
        "flush_operators:after:1", "apply_to_state:before:1", "write_changelogs:after:2", "commit_transaction:before:3",
        "commit_transaction:after:3", "result:before:1", "result:before:4", "search:before:1", "search:after:1",
    ],
    "skip": [
        "commit_transaction:before:1", "commit_transaction:after:2", "write_changelogs:after:3",
        "apply_to_state:before:1", "result:before:2", "search:after:1",
    ],
    "retry": [
        "commit_transaction:before:1", "commit_transaction:after:1", "send_offsets:after:2", "result:before:2",
        "flaky:before:2", "again:before:1", "again:before:4", "search:after:1",
    ],
}  # fmt: skip
"""By policy: in commits of transactions with dead letters (under `Skip`, with what windows behind an agent tell), at
results that fail, and that are tried again, and while those at fault are looked for."""

Told = tuple[bytes, bytes, int]
"""Key, value, and time; of what the wall clock says, 0."""
Letter = tuple[bytes, bytes, int, str, str, str, str, str]


def keys_in(partition: int) -> list[str]:
    return [key for key in map(str, range(100)) if partition_of(key.encode(), PARTITIONS) == partition][:3]


def windows_of(times: list[int], size: int) -> list[tuple[int, int, Seen]]:
    """Start, last millisecond, and what is in it."""
    found: dict[int, Seen] = {}
    for at in times:
        for start in range(at // WINDOW_MS * WINDOW_MS, at - size, -WINDOW_MS if size > WINDOW_MS else -size):
            found[start] = add(found.get(start, Seen()), at)
    return [(start, start + size - 1, seen) for start, seen in sorted(found.items())]


def sessions_of(times: list[int]) -> list[tuple[int, int, Seen]]:
    times = list(filter(in_session, times))
    breaks = [at for before, at in pairwise(times) if at - before > GAP_MS]
    found = []
    for start, stop in zip([times[0], *breaks], [*breaks, times[-1] + 1], strict=True):
        inside = [at for at in times if start <= at < stop]
        found.append((start, inside[-1], Seen(len(inside), inside[-1])))
    return found


def expected(
    of_key: dict[str, list[int]], attempts: str
) -> tuple[dict[str, list[Told]], list[Letter], dict[str, dict[str, int]]]:
    """What is told by topic, the letters, and how many good results each key has, by topic; but of `commits`, which
    tell what is there when they come."""
    told: dict[str, list[Told]] = {one: [] for one in TOPICS if one != "commits"}
    letters: list[Letter] = []
    good = {name: dict.fromkeys(of_key, 0) for name in ("careful", "sessions")}
    for key, times in of_key.items():
        for number, at in enumerate(times, 1):
            for one in ((key.encode(), b"%d" % number, at + AFTER_MS), (key.encode(), b"%d" % -number, 0)):
                if number % 5:
                    told["rings"].append(one)
                else:
                    what = "the result of a timer of processor 'rings'", "process rings", repr(key)
                    letters.append((*one, "builtins.ValueError", *what, attempts))
        for name, found in (
            ("plain", windows_of(times, WINDOW_MS)),
            ("careful", windows_of(times, 2 * WINDOW_MS)),
            ("sessions", sessions_of(times)),
        ):
            for start, end, seen in found:
                text, fails = f"{seen.count} {seen.last}", kind(seen)
                full, shown, what = start.to_bytes(8, "big"), f"Windowed({key=}, {start=})", "window"
                if name == "sessions":
                    full, what = end.to_bytes(8, "big") + full, "session"
                    shown = f"WindowedSpan({key=}, {start=}, {end=})"
                full = key.encode() + full
                if fails == 0 or (fails in (1, 7) and name != "plain"):
                    value = json.dumps({"count": seen.count, "last": seen.last}, separators=(",", ":")).encode()
                    why = "kstream.errors.RecordRefused" if fails else "builtins.ValueError"
                    about = f"the result of a {what} of '{name}'", f"aggregate {name}", shown
                    letters.append((full, value, end, why, *about, attempts))
                elif name == "plain":
                    told[name].append((full, text.encode(), end))
                else:
                    good[name][key] += 1
                    told[name].append((key.encode(), f"{good[name][key]} {start} {text}".encode(), end))
    return told, letters, good


def timeless(row: Row) -> int:
    """Its time; 0 where the wall clock has said it."""
    return 0 if (row.value or b"").startswith(b"-") else row.timestamp


def letter(row: Row) -> Letter:
    headers = {name: (value or b"").decode() for name, value in row.headers}
    assert not [name for name in headers if name.startswith("__streams.errors.") and "offset" in name]
    why, what, step, key, attempts = (headers[name] for name in TOLD)
    return (row.key, row.value or b"", timeless(row), why, what, step, key, attempts)


def check_commits(of_key: dict[str, list[int]], rows: list[Row], letters: list[Letter], policy: str) -> None:
    """Each told a higher count of its key, the last of them all records: the good counts in the topic, numbered, and
    the bad ones in letters. A key is tried again, whatever its count is then: so one that would pass the second time
    may be the second to fail."""
    bad_kinds = (0, 2) if policy == "retry" else (0,)
    for key, times in of_key.items():
        good = [(row.value or b"").decode().split() for row in rows if row.key == key.encode()]
        counts = [int(count) for _, count in good]
        assert [int(number) for number, _ in good] == list(range(1, len(good) + 1))
        assert counts == sorted(set(counts)) and all(count % 5 for count in counts), (key, counts)
        bad = [int(one[1]) for one in letters if one[4] == COMMITS and one[0] == key.encode()]
        assert len({*counts, *bad}) == len(counts) + len(bad) and all(n % 5 in bad_kinds for n in bad), (key, bad)
        if policy != "skip":
            assert max(counts + bad) == len(times)


@pytest.mark.parametrize(("policy", "at"), [(policy, at) for policy in AT for at in AT[policy]])
def test_killed_around_a_commit_with_results_that_failed(
    policy: str, at: str, bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, skips = f"results-{uuid.uuid4().hex[:8]}", policy == "skip"
    events, letters = f"{name}.events", f"{name}-dead-letters"
    monkeypatch.setattr(results_service, "POLICY", policy)
    monkeypatch.setenv("KSTREAM_TEST_POLICY", policy)
    monkeypatch.setenv("KSTREAM_TEST_APP", name)
    monkeypatch.setenv("KSTREAM_TEST_DIR", str(tmp_path))
    monkeypatch.setenv("KSTREAM_TEST_KILL", at)
    if not at.startswith(("result", "flaky", "again", "search")):
        monkeypatch.setenv("KSTREAM_TEST_WITH", f"{name}.careful" if skips else letters)
    quick = QUICK | {"max_uncommitted_records": 80, "poll_batch": 40}
    settings = Settings(bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path / "state"), instance="a", **quick)
    partitions = prepare(make_app(name), settings)
    open_ones = [f"{name}-{one}-changelog" for one in ("plain", "careful", "sessions")]
    numbers = {one: f"{name}-{one}-changelog" for one in ("careful-numbers", "sessions-numbers", "tells", "commits")}
    timers = f"{name}-rings-timers-changelog"
    topics = {one: f"{name}.{one}" for one in TOPICS}
    now, last = round(time.time() * 1000), BEGAN + RECORDS * STEP_MS + 10 * WINDOW_MS
    sent = [(keys_in(partition)[n % 3], BEGAN + n * STEP_MS) for partition in range(PARTITIONS) for n in range(RECORDS)]
    moves = [(keys_in(partition)[0], -last) for partition in range(PARTITIONS)]
    of_key: defaultdict[str, list[int]] = defaultdict(list)
    for key, when in sent:
        of_key[key].append(when)
    told, set_aside, good = expected(of_key, "2" if policy == "retry" else "1")
    if skips:
        set_aside = []

    read = [*topics.values(), *open_ones, *numbers.values(), timers]
    output = Reader(bootstrap_servers, read if skips else [*read, letters])
    instance = Instance("faults.results_service:app", name, "a", settings, partitions)
    rows = output.rows

    def latest(topic: str) -> dict[bytes, bytes | None]:
        return {row.key: row.value for row in rows[topic]}

    def poll() -> None:
        instance.poll()
        output.poll(0.0)

    def through() -> bool:
        return (
            all(len(rows[topics[one]]) >= len(told[one]) for one in told)
            and (skips or len(rows[letters]) >= len(set_aside))
            and sum(int(count or b"") for count in latest(numbers["commits"]).values()) == len(sent) + len(moves)
            and not any(latest(timers).values())
        )

    try:
        (tmp_path / "armed").touch()
        write(bootstrap_servers, events, ((key, str(value).encode(), now) for key, value in [*sent, *moves]))
        until(through, "the results", 120, each=poll)
        instance.stop()
        until(lambda: output.at_end, "the ends of the topics", each=output.poll)
        assert (tmp_path / "struck").exists()
        for one in told:
            assert sorted((row.key, row.value, timeless(row)) for row in rows[topics[one]]) == sorted(told[one])
        found = [] if skips else [letter(row) for row in rows[letters]]
        assert sorted(one for one in found if one[4] != COMMITS) == sorted(set_aside)
        for key, _ in moves:
            of_key[key].append(last)
        check_commits(of_key, rows[topics["commits"]], found, policy)

        # offsets and state
        consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": name})
        asked = [TopicPartition(events, partition) for partition in range(PARTITIONS)]
        committed = [one.offset for one in consumer.committed(asked, timeout=SECONDS)]
        consumer.close()
        assert committed == [end for _, end in ends(bootstrap_servers, events)]
        stored = {one: {key.decode(): int(n or b"") for key, n in latest(numbers[one]).items()} for one in numbers}
        assert stored["careful-numbers"] == good["careful"] and stored["sessions-numbers"] == good["sessions"]
        assert stored["commits"] == {key: len(times) for key, times in of_key.items()}
        tells = [row.key.decode() for row in rows[topics["commits"]]]
        assert stored["tells"] == {key: tells.count(key) for key in tells}
        still_open = [sum(value is not None for value in latest(changelog).values()) for changelog in open_ones]
        assert still_open == [PARTITIONS, 2 * PARTITIONS, PARTITIONS]  # those of the last records
        assert 1 <= instance.restarts <= 2  # fenced by what the dead one had under way, it is started once more
    finally:
        output.close()
        instance.kill()
