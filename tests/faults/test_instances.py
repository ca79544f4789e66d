"""Whole instances: signals to supervisor and workers, a frozen worker, a broker that dies, two with one name."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.devbroker import DevBroker
from support.kafka import Reader, read, stable
from support.running import Command, alive, kill, until
from support.scenario import Scenario, Scenarios, scenarios

PHASE = 1200


def workers_of(command: Command, count: int) -> list[int]:
    return until(lambda: len(command.children) == count and command.children, "the workers")


def committed_records(service: Scenario) -> int:
    """Offsets in all outputs and changelogs: records and markers."""
    return service.changelog_records() + service.output_records()


# ---- the end of an instance


def test_sigterm_drains_commits_and_leaves(scenario: Scenarios) -> None:
    """A restart processes nothing twice and replays nothing: the state was flushed, the offsets are committed. The
    session lasts, so that each worker gets what it had, however long the start takes."""
    service = scenario(flush_interval=60, session_timeout=120)
    command = service.command(workers=2)
    workers = workers_of(command, 2)
    shared = "assigned 4 partitions, 4 tasks"
    service.until(lambda: command.err.read_text().count(shared) >= 2, "both to have their share")
    service.feed(PHASE)
    service.until(lambda: service.output.rows[f"{service.app}.counts"], "the first output")
    command.process.send_signal(signal.SIGTERM)
    assert command.wait() == 0
    assert not any(map(alive, workers))
    assert "Traceback" not in command.err.read_text()
    done = committed_records(service)
    instance = service.start(workers=2)
    service.processed()
    service.settled()
    assert [report.restored for report in instance.reports] == [0, 0]
    service.stop()
    service.check()
    assert committed_records(service) >= done


def test_sigterm_in_the_middle_of_a_transaction(scenario: Scenarios) -> None:
    """Faust #47: the next recovery hung. It is committed on the way out, and the restart goes on at once: it waits
    neither for the transaction's end nor for the session's."""
    service = scenario(commit_interval=4, transaction_timeout=120, session_timeout=120)
    command = service.command()
    service.feed(PHASE)
    open_transaction(service)
    command.process.send_signal(signal.SIGTERM)
    assert command.wait() == 0
    assert len(read(service.servers, [f"{service.app}.counts"])[f"{service.app}.counts"]) > 0
    instance = service.start()
    service.until(lambda: len(instance.tasks()) == 8, "the tasks to run")
    service.processed()
    service.stop()
    service.check()


def open_transaction(service: Scenario) -> None:
    """Waits until Kafka has records in the output that nobody may read yet."""
    topic = f"{service.app}.counts"
    reader = Reader(service.servers, [topic], "read_uncommitted")
    service.until(lambda: reader.poll() or len(reader.rows[topic]) > len(service.output.rows[topic]), "a transaction")
    reader.close()


SHUTDOWN = 60.0
"""Seconds after which workers that do not stop are killed (the setting's default)."""


def test_a_second_sigterm_ends_it_at_once(scenario: Scenarios) -> None:
    """The first one is held up by an agent that takes its time; nothing is lost."""
    service = scenario(commit_interval=4, transaction_timeout=300)  # the agent is waited for a third of that
    service.setenv("KSTREAM_TEST_PAUSE", "0.5")
    service.feed(800)
    command = service.command()
    (worker,) = workers_of(command, 1)
    service.says(command, "all of them run")
    command.process.send_signal(signal.SIGTERM)
    service.says(command, "stopping")
    began = time.monotonic()
    command.process.send_signal(signal.SIGTERM)
    command.wait(SHUTDOWN)
    assert time.monotonic() - began < SHUTDOWN / 2, "the agent was waited for"
    assert not alive(worker)
    assert not read(service.servers, [f"{service.app}.counts"])[f"{service.app}.counts"], "it was to be cut short"
    service.setenv("KSTREAM_TEST_PAUSE", "0")
    service.start()
    service.processed()
    service.stop()
    service.check()


def test_workers_stop_by_themselves_when_the_supervisor_is_killed(scenario: Scenarios) -> None:
    """They drain, commit and leave; an instance started at once waits for them and takes over."""
    service = scenario()
    command = service.command(workers=2)
    workers = workers_of(command, 2)
    service.feed(PHASE)
    service.until(lambda: service.output.rows[f"{service.app}.counts"], "the first output")
    command.process.kill()
    command.process.wait()
    successor = service.command(workers=2)
    service.until(lambda: not any(map(alive, workers)), "the orphans' end")
    service.feed(PHASE)
    service.processed()
    assert successor.process.poll() is None
    successor.process.send_signal(signal.SIGTERM)
    assert successor.wait() == 0
    service.check()


@pytest.mark.parametrize("step", ["processing:after:333", "send_offsets:after:2"])
def test_those_who_are_left_end_the_transaction_of_an_instance_that_died(scenario: Scenarios, step: str) -> None:
    """With outputs in it, or in its commit. The brokers would give it up after ten minutes."""
    service = scenario(commit_interval=1.0, transaction_timeout=600, restart_initial=900, restart_max=900)
    service.order(f"{step}@a")
    first, second = service.start("a"), service.start("b")
    service.until(lambda: len(first.tasks()) == len(second.tasks()) == 4, "the tasks to be shared")
    service.feed(PHASE)
    service.processed()
    service.arm()
    service.feed_until(lambda: service.struck, "the instance to die")
    assert service.struck is not None and service.struck["transaction"] == "open"
    service.feed(PHASE)
    service.processed()
    service.until(lambda: len(second.tasks()) == 8, "all tasks, as the other instance reports them")
    assert first.restarts == 1, "it is not to come back meanwhile"
    service.stop()
    service.check()


# ---- one worker of an instance


def test_a_frozen_worker_is_fenced_when_it_thaws(scenario: Scenarios) -> None:
    """SIGSTOP past the session's end, in a transaction; another instance owns its partitions meanwhile, and has ended
    the transaction, long before the brokers would. The worker gets over it."""
    service = scenario(commit_interval=1.5, transaction_timeout=600)
    first = service.start("a")
    service.feed(PHASE)
    service.processed()
    second = service.start("b")
    service.until(lambda: len(first.tasks()) == len(second.tasks()) == 4, "the tasks to be shared")
    service.feed(PHASE)
    open_transaction(service)
    (frozen,) = first.pids
    os.kill(frozen, signal.SIGSTOP)
    service.until(lambda: len(second.tasks()) == 8, "the second instance to own everything")
    service.feed(PHASE)
    service.processed()
    os.kill(frozen, signal.SIGCONT)
    service.until(lambda: len(first.tasks()) == len(second.tasks()) == 4, "the tasks to be shared again")
    service.feed(PHASE)
    service.processed()
    assert first.pids == [frozen], "it was taken for one of two with one name"
    service.stop()
    service.check()


@pytest.mark.parametrize("times", [1, 2])
def test_an_instance_that_stood_still_rejoins(scenario: Scenarios, times: int) -> None:
    """SIGSTOP of all its processes, in a transaction, past the session's and the transaction's time. The worker gets
    over it: one line says that the transaction was lost, and nobody is taken for another instance."""
    service = scenario(commit_interval=1.0, transaction_timeout=3.0)
    command = service.command()
    (worker,) = workers_of(command, 1)
    service.feed(PHASE)
    service.processed()
    for _ in range(times):
        service.feed(PHASE)
        open_transaction(service)
        for process in (command.process.pid, worker):
            os.kill(process, signal.SIGSTOP)
        began = time.monotonic()
        service.until(lambda: stable(service.servers, f"{service.app}.counts"), "the broker to end the transaction")
        service.until(lambda: time.monotonic() > began + 4, "the session to end")  # noqa: B023  # called at once
        for process in (worker, command.process.pid):
            os.kill(process, signal.SIGCONT)
        service.feed(PHASE)
        service.processed()
    assert command.children == [worker], "the worker was started again"
    said = command.err.read_text()
    for raw in ("Traceback", "KafkaException", "another instance", "another process"):
        assert raw not in said, said
    # of the second time perhaps not: of lines alike there is one in ten seconds
    lost = "transaction aborted: |making a new producer and restoring the tasks that were in the transaction: "
    assert re.search(lost, said), said
    command.process.send_signal(signal.SIGTERM)
    assert command.wait() == 0
    service.check()


def test_restarts_back_off_and_the_others_go_on(scenario: Scenarios) -> None:
    service = scenario(restart_jitter=0.0, restart_initial=0.2, restart_multiplier=3.0, restart_max=1.0)
    instance = service.start(workers=2)
    service.feed(PHASE)
    service.processed()
    pauses, other = [], instance.supervisor.workers[1].pid
    worker = instance.supervisor.workers[0]
    for life in range(3):
        pid = service.until(lambda: worker.pid, "the worker to be back")
        kill(pid)
        service.until(lambda: worker.restarts > life, "its end to be noticed")  # noqa: B023  # called at once
        pauses.append(worker.pauses.pause)
    assert pauses == pytest.approx([0.2, 0.6, 1.0])
    service.feed(PHASE)
    service.processed()
    assert instance.supervisor.workers[1].pid == other
    service.stop()
    service.check()


# ---- two instances with one identity


def test_the_second_of_two_with_one_identity_fences_the_first(scenario: Scenarios) -> None:
    """On two machines (here: state directories), where no lock can tell. The first ends with one line and status 2."""
    service = scenario()
    first = service.command("twin")
    service.feed(PHASE)
    service.processed()
    second = service.command("twin", state_dir=service.directory / "state-elsewhere")
    assert first.wait(180) == 2  # it tries to take over, as does the second: four starts of workers
    lines = first.err.read_text().strip().splitlines()
    assert lines[-1].startswith("kstream: ") and "'twin'" in lines[-1]
    assert "Traceback" not in first.err.read_text()
    service.feed(PHASE)
    service.processed()
    assert second.process.poll() is None
    second.process.send_signal(signal.SIGTERM)
    assert second.wait() == 0
    service.check()


# ---- the broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[DevBroker]:
    with DevBroker(data_dir=tmp_path / "broker", start_timeout=180) as started:
        yield started
        started.kill()


@pytest.fixture
def mortal(broker: DevBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenarios]:
    """Scenarios on a broker of their own."""
    yield from scenarios(broker.bootstrap_servers, tmp_path, monkeypatch)


def test_the_broker_dies_and_comes_back(mortal: Scenarios, broker: DevBroker) -> None:
    """robinhood/faust #736: after a reset of the broker it processed and never committed again."""
    service = mortal()
    instance = service.start(workers=2)
    service.feed(PHASE)
    service.processed()
    service.feed(PHASE)
    restart = threading.Thread(target=broker.restart, kwargs={"kill": True})
    restart.start()
    service.until(lambda: not restart.is_alive(), "the broker to be back", 180)
    service.processed()
    service.feed(PHASE)
    service.processed()
    service.until(lambda: sum(report.commits for report in instance.reports) > 0, "the commits to be reported")
    service.stop()
    service.check()
