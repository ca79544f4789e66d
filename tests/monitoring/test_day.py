"""A day in the life of a service: real instances on a real Kafka, a real Prometheus and a real Alertmanager.

It is deployed and loaded, a worker is killed, an instance freezes, a volume is lost, a bad record comes, a version is
rolled out and back. Exactly the alerts that a person should get come, in order. Each leads to the section of the
runbook of which a sentence is what is done here to mend it. `make day` shows it while it goes, and writes
monitoring/DAY.md.

All waits of the rules and of Alertmanager, and thresholds that are seconds, are divided by one number. The machine's
own times (a process starts, a session ends) are what they are.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.day import EACH, KEYS, MINUTE, PERIOD, SPEED, TARGET, Day, Step, Told
from monitoring.stack import Stack
from support.kafka import Reader, ends
from support.running import kill, until

ENTRY = 440
"""Bytes of a customer's entry, about: it has the note of an order."""

RESTORED = 20 * MINUTE
"""The long restore is about so long: RestoreSlow tells of one of a quarter of an hour."""

ENDED, STARTED, WAITED, SET_ASIDE, GIVEN_UP = STEPS = (
    Step(
        "InstanceDown",
        "End it first where it is frozen, and its workers (`kill -KILL` each; `pgrep -P PID` lists them).",
    ),
    Step("InstanceDown", "Start it again under the same name and with the same state directory,"),
    Step("RestoreSlow", "If it moves, wait;"),
    Step(
        "TaskFailed",
        "The record is wrong: give the app a [policy](failures.md#getting-past-a-record) and start it again. "
        "`on_error=[kstream.DeadLetter()]` sets it aside, and those behind it are processed.",
    ),
    Step(
        "DeadLetters",
        "If the records are wrong: have the producer send right ones, and `kstream dlq purge MODULE:ATTRIBUTE --reason "
        "CLASS`.",
    ),
)

HEAD = """\
# A day

What `make day` saw when it was run last: a service of two instances with two workers each, on a real broker, with a
real Prometheus and a real Alertmanager on the files of this folder. Waits of the rules and of Alertmanager, and
thresholds that are seconds, are divided by 12; "as of a day" is the time times 12, in hours and minutes. Nothing else
came to pager or tickets. The test is `tests/monitoring/test_day.py`.
"""


# ---- what happens, one after the other


def is_deployed(day: Day) -> None:
    day.orders.send(KEYS)
    for one in day.instances:
        one.start("1")
    until(lambda: all(one.answers() for one in day.instances), "the instances to answer", 120)
    day.diary.write("two instances are deployed")


def is_loaded(day: Day) -> None:
    day.ready(*day.instances)
    day.orders.start()
    day.diary.write(f"load: {EACH / PERIOD:.0f} orders a second, without an end")
    day.passes(6)


def loses_a_worker(day: Day) -> None:
    pids = [worker["pid"] for worker in day.a.status()["workers"]]
    kill(pids[0])
    day.diary.write("a worker of a is killed (SIGKILL)")
    day.wait(
        lambda: all(worker["pid"] not in (None, pids[0]) for worker in day.a.status()["workers"]), "another worker"
    )
    day.ready(*day.instances)
    day.diary.write(mends="its supervisor starts it again: nobody is told")
    day.passes(6)


def freezes(day: Day) -> None:
    for pid in day.b.pids:
        kill(pid, signal.SIGSTOP)
    day.diary.write("b freezes (SIGSTOP, all of its processes)")
    day.hears(Told("firing", "InstanceDown", "tickets"), seconds=12 * MINUTE + 30)
    assert day.told[-1].labels["instance"] == day.b.address
    day.mends(ENDED)
    day.b.kill()
    day.mends(STARTED)
    day.b.start("1")
    day.wait(day.b.ready, "b to be ready")
    day.hears(Told("resolved", "InstanceDown", "tickets"), seconds=12 * MINUTE + 30)


def restores_for_long(day: Day) -> None:
    """Its volume is lost, and what it may read of Kafka is bounded."""
    records = max(end - start for start, end in ends(day.servers, f"{day.name}-customers-changelog"))
    day.b.stop()
    shutil.rmtree(day.b.state)
    day.b.start("1", restore_rate=max(1024, round(records * ENTRY / RESTORED)))
    day.diary.write("b loses its volume, and may restore slowly (restore_rate)")
    day.wait(lambda: day.b.answers() and "restoring" in day.b.task_states(), "b to restore")
    day.hears(Told("firing", "RestoreSlow", "tickets"), seconds=25 * MINUTE + 60)
    assert day.told[-1].labels["instance"] == day.b.address
    day.mends(WAITED)
    day.wait(day.b.ready, "b to be ready", 4 * RESTORED)
    day.hears(Told("resolved", "RestoreSlow", "tickets"), seconds=12 * MINUTE + 30)


def gets_a_bad_record(day: Day) -> None:
    day.orders.send(1, good=False)
    day.diary.write("an order without an amount comes; the app has no policy")
    day.hears(Told("firing", "TaskFailed", "pager"), seconds=12 * MINUTE + 30)
    day.mends(SET_ASIDE)
    for one in day.instances:
        one.stop()
        one.start("1+policy")
        until(one.ready, f"{one.name} to be ready", 120, each=lambda: time.sleep(0.1))
    day.hears(
        Told("resolved", "TaskFailed", "pager"), Told("firing", "DeadLetters", "tickets"), seconds=16 * MINUTE + 60
    )
    day.mends(GIVEN_UP)
    day.orders.send(1)
    assert "1 " in day.command("dlq", "purge", TARGET, "--reason", "ValueError", "--yes")
    day.hears(Told("resolved", "DeadLetters", "tickets"), seconds=20 * MINUTE + 60)


def is_upgraded(day: Day) -> None:
    day.diary.write("version 2 is rolled out, one instance after the other")
    day.rolled("2+policy")


def is_rolled_back(day: Day) -> None:
    day.diary.write("it is rolled back to version 1")
    day.rolled("1+policy")
    day.passes(6)


ACTS = (
    is_loaded, loses_a_worker, freezes, restores_for_long, gets_a_bad_record, is_upgraded, is_rolled_back,
)  # fmt: skip
FIRED = ["InstanceDown", "RestoreSlow", "TaskFailed", "DeadLetters"]


@pytest.fixture
def day(bootstrap_servers: str, tmp_path: Path) -> Iterator[Day]:
    made = Day(bootstrap_servers, tmp_path, f"day-{uuid.uuid4().hex[:8]}")
    yield made
    made.end()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.alert)
def test_the_runbook_says_what_is_done(step: Step) -> None:
    assert step.said()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_exactly_the_alerts_that_a_person_should_get(day: Day) -> None:
    is_deployed(day)  # before Prometheus looks: an app without any target is down
    targets = [one.address for one in day.instances]
    with Stack(targets, day.directory / "stack", SPEED, thresholds=True) as day.stack:
        for act in ACTS:
            act(day)
        day.orders.stop()
        totals = Reader(day.servers, [f"{day.name}.totals"])
        rows = totals.rows[f"{day.name}.totals"]
        day.wait(lambda: len(rows) >= day.orders.sent or totals.poll(), "all orders to be counted")
        assert [one.name for one in day.told if one.status == "firing"] == FIRED
        assert sorted(one.name for one in day.told if one.status == "resolved") == sorted(FIRED)
        assert not day.news()
    totals.close()
    counts: defaultdict[bytes, list[int]] = defaultdict(list)
    releases = set()
    for row in rows:
        said = json.loads(row.value or b"")
        counts[row.key].append(said["orders"])
        releases.add(said["release"])
    assert len(rows) == day.orders.sent and releases == {"1", "2"}
    assert all(found == list(range(1, len(found) + 1)) for found in counts.values())
    day.diary.write("the day is over: each order was counted once, in order")
    if page := os.environ.get("KSTREAM_TEST_DAY"):
        Path(page).write_text(day.diary.page(HEAD))
