"""A worker is killed around every step of the checkpoint, during processing, during restore and during rebalances.

Each time the supervisor starts it again, everything comes out exactly once, local state and changelogs agree with it,
and only the tail of the changelogs since the last flush was replayed: a crash never wipes state.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from faults.injection import STEPS
from support.kafka import read
from support.running import kill
from support.scenario import Scenario, Scenarios

PHASE = 1200

SESSION = 60.0
"""Seconds. A worker that is killed and started again has its own partitions, however long the start takes: others would
have to replay changelogs from their beginnings."""

ATTEMPTS = 4
"""How often a scenario is tried whose fault must meet an open transaction, where the moment is not the test's."""


def begin(service: Scenario, workers: int = 1) -> int:
    """Processes a part and sees it flushed to disk; nothing is flushed after that. Returns the changelogs' length."""
    service.feed(PHASE)
    service.start(workers=workers)
    service.processed()
    service.flushed()
    service.stop_flushing()
    return service.changelog_records()


def strike(service: Scenario) -> dict[str, Any]:
    """Lets the fault strike while input comes, and waits until everything is processed all the same."""
    service.arm()
    service.feed_until(lambda: service.struck, "the fault to strike")
    service.feed(PHASE // 3)
    service.processed()
    service.settled()
    assert service.struck is not None
    return service.struck


@pytest.mark.parametrize("step", [*STEPS, "processing"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_a_step_of_the_checkpoint(scenario: Scenarios, step: str, when: str) -> None:
    service = scenario(session_timeout=SESSION)
    service.order(f"{step}:{when}:{333 if step == 'processing' else 2}")
    flushed = begin(service, workers=2)
    told = strike(service)

    assert (told["step"], told["when"]) == (step, when)
    committed = (step, when) == ("commit_transaction", "after") or step == "apply_to_state"
    if committed:
        assert told["transaction"] == "idle"
    else:
        assert told["transaction"] == "open"
        if step != "processing":  # within a batch: its outputs are on their way when it is through
            assert told["records"] > 0
            assert aborted_records(service) > 0, "Kafka never had the open transaction's records"
    (killed,) = [worker for worker in service.instances[0].supervisor.workers if worker.restarts]
    assert (killed.index, killed.restarts) == (told["worker"], 1)
    restored = killed.report.restored
    assert restored <= service.changelog_records() - flushed, "more than the tail was replayed"
    if committed:
        assert restored > 0, "what was committed and not flushed is replayed"
    service.stop()
    service.check()


BULK = [
    "restore_apply:after:4", "bulk:before:1", "bulk:after:1", "restore_apply:before:9", "restore_end:after:1",
    "bulk:before:3", "bulk:after:3",
]  # fmt: skip
"""In it, before it begins and after, when a store is through, and around its end: a database is opened anew there."""


@pytest.mark.parametrize("fault", BULK)
def test_killed_in_a_bulk_load(scenario: Scenarios, fault: str) -> None:
    """Without its local state a worker loads whole changelogs, and RocksDB flushes what it likes meanwhile."""
    service = scenario(
        1, session_timeout=SESSION, poll_batch=60, **{"rocksdb": {"write_buffer_size": "65536"}}
    )  # fmt: skip
    service.setenv("KSTREAM_TEST_MUCH", "1000")
    service.order(fault)
    service.feed(3 * PHASE, keys=2 * PHASE)
    service.start()
    service.processed()
    service.stop()
    shutil.rmtree(service.state_dir("a"))
    service.arm()
    instance = service.start()
    service.until(lambda: service.struck, "the fault to strike")
    service.feed(PHASE // 3, keys=2 * PHASE)
    service.processed()
    service.settled()
    assert service.struck is not None and instance.restarts == 1
    assert service.struck["loaded"] > 0 or fault.startswith("bulk")
    service.stop()
    service.check()


def aborted_records(service: Scenario) -> int:
    """Outputs that no reader of committed ones sees. Which of them a transaction had depends on its tasks."""
    topics = [f"{service.app}.{name}" for name in ("counts", "alerts", "groups", "latest")]
    everything, committed = (
        sum(map(len, read(service.servers, topics, isolation).values()))
        for isolation in ("read_uncommitted", "read_committed")
    )
    return everything - committed


@pytest.mark.parametrize(
    ("step", "when"),
    [
        ("restore_apply", "after"),
        ("restore_end", "before"),
        ("restore_finish", "after"),
        ("restore_described", "before"),
        ("restore_ids", "after"),
        pytest.param("restore_offsets", "before", marks=pytest.mark.more),
        pytest.param("restore_offsets", "after", marks=pytest.mark.more),
        pytest.param("restore_described", "after", marks=pytest.mark.more),
        pytest.param("restore_ends", "before", marks=pytest.mark.more),
        pytest.param("restore_ends", "after", marks=pytest.mark.more),
        pytest.param("restore_ids", "before", marks=pytest.mark.more),
        pytest.param("restore_apply", "before", marks=pytest.mark.slow),
        pytest.param("restore_end", "after", marks=pytest.mark.slow),
        pytest.param("restore_finish", "before", marks=pytest.mark.slow),
    ],
)
def test_killed_during_a_restore(scenario: Scenarios, step: str, when: str) -> None:
    """The worker is killed, and killed again while it replays what the first kill made it lose."""
    service = scenario(session_timeout=SESSION)
    service.order(f"{step}:{when}:3")
    flushed = begin(service)
    service.feed(PHASE)
    service.processed()
    tail = service.changelog_records() - flushed
    service.arm()
    (instance,) = service.instances
    (pid,) = instance.pids
    kill(pid)
    service.until(lambda: service.struck, "the fault to strike")
    service.feed(PHASE // 3)
    service.processed()
    service.settled()

    told = service.struck
    assert told and told["step"] == step and told["restoring"] > 0
    assert instance.restarts == 2
    assert 0 < instance.reports[0].restored <= tail
    service.stop()
    service.check()


JOINING = [
    "revoked:before:1@a",
    "assigned:after:1@a",
    "assigned:after:1@b",
    pytest.param("revoked:after:1@a", marks=pytest.mark.slow),
    pytest.param("assigned:before:1@a", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("fault", JOINING)
def test_killed_while_a_second_instance_joins(scenario: Scenarios, fault: str) -> None:
    for _ in range(ATTEMPTS):
        # with work to do, a transaction is open nearly all the time
        service = scenario(commit_interval=1.0, session_timeout=SESSION)
        service.order(fault)
        begin(service)
        service.arm()
        second = service.start("b")
        told = strike(service)
        open_one = told["transaction"] == "open" and told["records"] > 0
        if fault != "revoked:before:1@a" or open_one:
            break
        service.stop()  # the revoke came right after a commit: not what is to be tested
    else:
        pytest.fail("the fault never struck an open transaction")

    assert told["instance"] == fault[-1]
    first = service.instances[0]
    service.until(lambda: len(first.tasks()) == len(second.tasks()) == 4, "the tasks to be shared")
    assert first.restarts + second.restarts == 1
    service.feed(PHASE // 3)
    service.processed()
    service.stop()
    service.check()


@pytest.mark.parametrize("fault", ["revoked:before:1@a", "assigned:after:1@a"])
def test_killed_while_a_second_instance_leaves(scenario: Scenarios, fault: str) -> None:
    """The second is gone for good; the first is killed when it takes over."""
    service = scenario()
    service.order(fault)
    second = service.start("b")
    begin(service)
    first = service.instances[1]
    service.until(lambda: len(first.tasks()) == len(second.tasks()) == 4, "the tasks to be shared")
    second.stop()
    told = strike(service)

    assert told["instance"] == "a"
    service.until(lambda: len(first.tasks()) == 8, "all tasks")
    assert first.restarts == 1
    service.feed(PHASE // 3)
    service.processed()
    service.stop()
    service.check()
