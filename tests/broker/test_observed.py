"""A metric that lies is a defect: known input, and what /metrics, the API and the probes say of it, on a real Kafka
with real workers, across restarts and rebalances."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from kstream.observe.catalogue import CATALOGUE
from kstream.observe.status import Totals
from kstream.runtime.cluster import announce
from support.kafka import Reader, read
from support.observing import Services, running, services
from support.running import until
from support.serving import Metrics

SECONDS = 100.0
"""For what has some seconds of work in it, on a busy machine."""
STEADY = {"session_timeout": 30.0}
"""Where nothing is killed: a starved worker does not lose its partitions, nor does what it then does twice count."""


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    yield from services(bootstrap_servers, tmp_path, monkeypatch)


def unfed(metrics: Metrics) -> set[str]:
    """Metrics of the catalogue that have no series, of those that always come to have one."""
    names = metrics.names
    found = {name for name in CATALOGUE if not any(each.startswith(f"kstream_{name}") for each in names)}
    return found - {"log_lines_total"}  # of those there may be some


def test_nothing_waits_by_the_brokers_word_either(service: Services) -> None:
    """Committed offsets come to the ends of the logs, which is what autoscalers ask for: behind the last records of a
    repartition topic there are markers of transactions, in each partition of some runs."""
    one = service()
    served = one.start(flush_interval=0.5, **STEADY)
    group = Consumer({"bootstrap.servers": one.servers, "group.id": one.name})
    inputs = [TopicPartition(topic, number) for topic in (one.events, one.repartition) for number in range(4)]

    def waiting() -> int:
        at = {(each.topic, each.partition): each.offset for each in group.committed(inputs, timeout=SECONDS)}
        ends = {(each.topic, each.partition): group.get_watermark_offsets(each, timeout=SECONDS)[1] for each in inputs}
        return sum(end - max(0, at[name]) for name, end in ends.items())

    for _ in range(4):
        one.feed(20)
        one.all_done(served, seconds=SECONDS)
        until(lambda: waiting() == 0, "committed offsets at the ends of the logs", SECONDS)
    group.close()


def test_known_input_is_what_metrics_and_api_say(service: Services) -> None:
    one = service()
    # a commit each 0.5 s: the status has the latest 100 checkpoints, and all of them are looked at
    served = one.start(workers=2, commit_interval=0.5, **STEADY)
    running(served)
    one.feed(3000)
    one.all_done(served, seconds=SECONDS)
    missing = {
        "errors_total",  # none happened
        "dead_letters_total",  # no record failed
        "records_skipped_total",
        "records_retried_total",
        "worker_scalings_total",  # the number of workers is fixed
        "restore_remaining_seconds",  # nothing is being restored
        "task_restoring",
        "task_restore_remaining_records",
        "task_restore_fetched_bytes",
        "input_held",  # all tasks run
        "snapshot_failures_total",  # no snapshots are asked for
        "snapshot_last_success_timestamp_seconds",
        "snapshot_size_bytes",
        "snapshots_refused_total",
        "event_time_seconds",  # nothing goes by event time
        "input_event_time_seconds",
        "global_table_rows",  # it has none
        "global_table_lag_records",
        "global_table_records_total",
    }
    keys = sum(len(f"k{n % 97}") for n in range(3000))
    # librdkafka tells its own every 0.5 s, each client when it is its time
    metrics = until(
        lambda: (
            (found := served.metrics())("kstream_consumed_bytes_total", topic=one.events) >= keys
            and unfed(found) <= missing
            and found
        ),
        "what librdkafka tells",
        SECONDS,
    )
    for topic in (one.events, one.repartition):
        for name in ("records_consumed_total", "records_committed_total", "record_e2e_latency_seconds_count"):
            assert metrics(f"kstream_{name}", topic=topic) == 3000, name
    for topic in (one.repartition, one.seen, one.groups):
        assert metrics("kstream_records_produced_total", topic=topic) == 3000
    assert metrics("kstream_record_processing_seconds_count") == 6000
    assert metrics("kstream_operator_records_total", operator="agent see") == 3000
    assert metrics("kstream_task_records_total") == 6000
    assert metrics("seen_total") == 3000 and metrics("seen_total", group="g1") == 600
    assert 0 < metrics("kstream_record_e2e_latency_seconds_sum", topic=one.events) < 3000 * 30
    entries = {row.key for row in read(one.servers, [f"{one.name}-counts-changelog"])[f"{one.name}-counts-changelog"]}
    assert len(entries) == 97
    assert unfed(metrics) == missing
    assert metrics("kstream_assigned_partitions") == 8 and metrics("kstream_tasks", state="running") == 8
    assert metrics("kstream_transaction_aborts_total") == metrics("kstream_errors_total") == 0
    assert metrics("kstream_checkpoints_total") == metrics("kstream_checkpoint_duration_seconds_count") > 0
    assert metrics("kstream_workers", state="running") == 2 and metrics("kstream_ready") == 1
    until(lambda: served.metrics()("kstream_process_resident_memory_bytes", process="worker-1") > 1e7, "memory")
    for worker in ("0", "1"):
        shares = [metrics(f"kstream_worker_{share}_seconds_total", worker=worker) for share in ("busy", "idle")]
        assert all(share > 0 for share in shares)

    # totals are looked at once a second, /metrics whenever it is asked
    status = until(lambda: (found := served.status()).totals.produced == 6000 and found, "the page to follow")
    assert (status.totals.consumed, status.totals.committed) == (3000, 3000)
    assert (status.totals.lag, status.totals.errors, status.totals.aborts) == (0, 0, 0)
    assert sum(task.records for task in status.tasks) == 6000 and len(status.tasks) == 8
    assert sum(one.records for one in status.checkpoints) == 6000
    assert {store.name for store in status.stores} == {"counts", "per-group"}
    assert status.ready and status.state == "running"
    graph = json.loads(served.ask("/api/graph")[1])
    assert {edge["id"] for edge in graph["edges"]} == status.edges.keys()


def test_a_worker_that_is_killed_takes_no_counts_with_it(service: Services) -> None:
    """Faust's and Quix' gauges start over; a counter that goes back looks like a reset, and `increase` lies."""
    one = service()
    served = one.start(workers=2)
    running(served)
    one.feed(2000)
    one.all_done(served, seconds=SECONDS)
    for _ in range(2):
        before = served.metrics()
        os.kill(served.pids[0], signal.SIGKILL)
        until(lambda: not served.probe("ready")[0], "the kill to be noticed")
        assert served.probe("live")[0]
        one.feed(500)
        running(served)
        one.all_done(served, seconds=SECONDS)
        after = served.metrics()
        for name in ("records_consumed_total", "records_committed_total", "checkpoints_total", "task_records_total"):
            assert after(f"kstream_{name}") >= before(f"kstream_{name}"), name
    metrics = served.metrics()
    assert metrics("kstream_records_committed_total", topic=one.events) == one.fed == 3000
    assert metrics("kstream_records_committed_total", topic=one.repartition) == 3000
    assert metrics("kstream_worker_restarts_total", reason="killed") == 2
    status = served.status()
    assert [worker.restarts for worker in status.workers] == [2, 0] or sum(w.restarts for w in status.workers) == 2
    assert any("SIGKILL" in error.text for error in status.errors)


def test_a_kill_in_the_middle_of_the_work_is_counted_as_it_was(service: Services) -> None:
    """Committed records count once each; of the last commit before a kill the count may go down with the worker."""
    one = service()
    served = one.start(workers=1)
    running(served)
    one.feed(4000, work=0.0005)
    until(lambda: one.committed(served) > 200, "some of it")
    os.kill(served.pids[0], signal.SIGKILL)
    largest = max(checkpoint.records for checkpoint in served.status().checkpoints)
    until(lambda: served.status().workers[0].restarts == 1, "the kill to be noticed")
    running(served)
    reader = Reader(one.servers, [one.seen])
    until(lambda: len(reader.rows[one.seen]) >= 4000, "the rest", SECONDS, each=reader.poll)
    reader.close()
    # what is committed is in the next report
    until(lambda: one.committed(served) >= 4000 - 4 * largest, "the rest to be counted")
    until(lambda: served.metrics()("kstream_consumer_lag_records") == 0, "nothing to be left", SECONDS)
    metrics = served.metrics()
    counted = metrics("kstream_records_committed_total", topic=one.events)
    assert 4000 - 4 * largest <= counted <= 4000
    assert metrics("kstream_records_consumed_total", topic=one.events) >= counted
    assert len(read(one.servers, [one.seen])[one.seen]) == 4000


def test_an_instance_joins_and_leaves_and_the_sum_stays_true(
    service: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announce, "GOODBYE_SECONDS", 30.0)  # on a busy machine 1 s may not be enough
    one = service()
    first = one.start("a", on_stop="leave", **STEADY)
    running(first)
    one.feed(1000)
    one.all_done(first, seconds=SECONDS)
    second = one.start("b", on_stop="leave", **STEADY)
    until(lambda: len(second.status().tasks) == len(first.status().tasks) == 4, "the tasks to be shared")
    running(first, second)
    one.feed(1000)
    one.all_done(first, second, seconds=SECONDS)
    assert one.committed(first, second) == 2000
    assert one.committed(second) > 0
    lags = [
        labels for served in (first, second) for labels, _ in served.metrics().series("kstream_consumer_lag_records")
    ]
    places = [(labels["topic"], labels["partition"]) for labels in lags]
    assert len(places) == len(set(places)) == 8, "each partition has one owner"
    assert first.metrics()("kstream_rebalances_total") >= 2
    for served in (first, second):
        until(lambda of=served: len(json.loads(of.ask("/api/instances")[1])) == 2, "them to hear of each other")
    known = {found["instance"]: found for found in json.loads(second.ask("/api/instances")[1])}
    assert known.keys() == {"a", "b"} and known["a"]["url"] == first.url
    # 1.5 s without a word from the other make it silent for the time being
    until(lambda: first.metrics()("kstream_instances") == 2, "both to be counted")
    second.stop()
    until(lambda: first.metrics()("kstream_tasks", state="running") == 8, "the first to have everything again")
    one.feed(500)
    running(first)
    until(lambda: one.committed(first) + 1000 >= 2500 - 1000, "the rest to be committed")
    until(lambda: first.metrics()("kstream_consumer_lag_records") == 0, "nothing to be left")
    until(lambda: json.loads(first.ask("/api/instances")[1])[-1]["state"] in ("running", "stopping"), "its goodbye")


def test_a_record_that_fails_is_seen_everywhere(service: Services) -> None:
    one = service(partitions=1)
    served = one.start(restart_initial=5.0, restart_max=10.0)
    running(served)
    one.feed(10)
    one.feed(1, **{"raise": True})
    until(lambda: not served.probe("ready")[0], "readiness to turn red")
    # after 5 s the task is tried again, and fails again after 10
    status = until(
        lambda: (
            (found := served.status())
            and any(task.state == "failed" for task in found.tasks)
            and any("event 10 is bad" in error.text for error in found.errors)
            and found
        ),
        "the error",
    )
    (task,) = [task for task in status.tasks if task.state == "failed"]
    assert "event 10 is bad" in (task.error or "") and f"{one.events}[0] offset 10" in (task.error or "")
    error = next(error for error in status.errors if "event 10 is bad" in error.text)
    assert error.trace and "observed_service.py" in error.trace and error.worker == "0"
    reasons = until(
        lambda: "1 task failed" in (found := " ".join(served.probe("ready")[1])) and found, "readiness to say why"
    )
    assert "event 10 is bad" in reasons
    assert served.probe("live") == (True, [])
    metrics = until(
        lambda: (
            (found := served.metrics())("kstream_tasks", state="failed") == 1
            and found("kstream_records_committed_total", topic=one.events) == 10
            and found
        ),
        "the metrics to follow",
    )
    failures = 1 + metrics("kstream_task_retries_total")
    assert metrics("kstream_errors_total", phase="process") == failures
    assert metrics("kstream_errors_total", **{"class": "ValueError"}) == failures
    assert metrics("kstream_ready") == 0
    until(lambda: served.metrics()("kstream_task_retries_total") >= 1, "the retry")


def test_waiting_outside_is_backpressure_and_computing_is_work(service: Services) -> None:
    one = service(partitions=1)
    # commits wait for the brokers: with one every 0.1 s that may be most of the time on a busy machine
    served = one.start(commit_interval=0.5)
    running(served)
    one.feed(200, sleep=0.05)

    def waits() -> bool:
        status = served.status()
        (task,) = [task for task in status.tasks if task.name == f"{one.events}/0"]
        shares.append((status.totals, task.backpressured, task.busy))
        return status.totals.backpressured > 0.7 and task.backpressured > 0.7

    shares: list[tuple[Totals, float, float]] = []
    until(waits, "backpressure")
    totals, backpressured, busy = shares[-1]
    assert totals.busy < 0.3 and totals.idle < 0.3
    assert backpressured > 0.7 and busy < 0.3
    one.all_done(served, seconds=SECONDS)
    until(lambda: served.status().totals.idle > 0.8, "rest")
    one.feed(400, work=0.02)
    totals = until(lambda: (found := served.status().totals).busy > 0.6 and found, "work")
    assert totals.backpressured < 0.4


def test_paused_records_wait_over_a_restart_too(service: Services) -> None:
    one = service()
    served = one.start()
    running(served)
    one.feed(100)
    one.all_done(served)
    assert served.ask("/api/pause", {}, token=False)[0] == 401
    assert served.ask("/api/pause", {})[0] in (200, 204)
    until(lambda: all(task.why == "paused by an operator" for task in served.status().tasks), "the pause")
    one.feed(100)
    until(lambda: served.status().totals.lag == 100, "lag")
    until(
        lambda: served.probe("ready") == (True, ["paused by an operator: no records are processed"]),
        "readiness all the same",
    )
    os.kill(served.pids[0], signal.SIGKILL)
    until(lambda: served.status().workers[0].restarts == 1 and served.probe("ready")[0], "the restart")
    until(lambda: served.status().totals.lag == 100, "lag")
    assert one.committed(served) == 100 and served.status().state == "paused"
    assert served.ask("/api/resume", {})[0] in (200, 204)
    one.all_done(served, seconds=SECONDS)
    assert one.committed(served) == 200
    until(lambda: served.status().state == "running", "all to run")


def test_a_task_that_does_not_move_turns_readiness_red_and_says_why(service: Services) -> None:
    """A stall is visible (docs/exactly-once.md)."""
    one = service(partitions=1)
    served = one.start(stall_timeout=1.0, transaction_timeout=30.0)
    running(served)
    one.feed(1, sleep=4.0)
    one.feed(5)
    # with so short a time a starved worker is missed too: "has not reported for 1 s"
    stall = f"task {one.events}/0 has lag and has not moved"
    ready, reasons = until(
        lambda: (found := served.probe("ready")) and any(stall in reason for reason in found[1]) and found,
        "the stall to be seen",
    )
    assert not ready
    waits = f"waits for something outside, at {one.events}[0] from offset 0"
    assert any(stall in reason and waits in reason for reason in reasons), reasons
    assert served.probe("live")[0]
    one.all_done(served, seconds=SECONDS)
    running(served)


def test_user_code_that_does_not_return_is_named_then_its_worker_starts_again(
    service: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The watchdog names it in status and in /ready, a warning does at half of max_poll_interval. Nothing is lost or
    doubled."""
    one = service(partitions=1)
    served = one.start(stall_timeout=2.0, max_poll_interval=8.0)
    running(served)
    one.feed(20)
    one.feed(1, once=str(tmp_path / "done"), work=100.0)
    one.feed(20)
    code, task = "slow user code: ", f"{one.events}/0"
    _, reasons = until(
        lambda: (found := served.probe("ready")) and "has not returned" in " ".join(found[1]) and found,
        "/ready to name it",
        SECONDS,
    )
    assert any(code in reason and "see (observed_service.py, line " in reason for reason in reasons), reasons
    (why,) = [found.why for found in served.status().tasks if found.name == task]
    assert why is not None and code in why and "observed_service.py" in why
    until(lambda: served.supervisor.workers[0].restarts == 1, "the worker to be killed", SECONDS)
    said = caplog.text
    assert (
        said.count("half of max_poll_interval (slow user code: ") == 1
        and f"in task {task}, at {one.events}[0] offset 20)" in said
    )
    running(served)
    until(lambda: len(read(one.servers, [one.seen])[one.seen]) >= 41, "the rest", SECONDS)
    values = sorted(int(row.value or b"") for row in read(one.servers, [one.seen])[one.seen])
    assert values == [1] * 41, "each key once"


def test_levels_change_while_it_runs(
    service: Services, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.getLogger().level)  # the level of this process changes too: it is set back at the end
    one = service(partitions=1)
    served = one.start()
    running(served)
    assert served.ask("/api/log-level", {"level": "loud", "logger": None})[0] == 400
    assert served.ask("/api/log-level", {"level": "ERROR", "logger": None})[0] in (200, 204)
    assert served.status().log_level == "ERROR"
    os.kill(served.pids[0], signal.SIGKILL)  # its successor has the level too
    until(lambda: served.status().workers[0].restarts == 1, "the restart")
    capfd.readouterr()
    running(served)
    assert "assigned" not in capfd.readouterr().err
