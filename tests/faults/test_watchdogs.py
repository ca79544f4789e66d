"""Workers that report and do not do their work: red with the reason, then killed and started again. And those that
cannot help it: a broker that does not answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from faults.service import make_app
from kstream.devbroker import DevBroker
from kstream.runtime.view.observer import Observer
from support.running import Instance
from support.scenario import Scenario, Scenarios, scenarios

PHASE = 400

SOON: dict[str, Any] = {
    "session_timeout": 10.0, "max_poll_interval": 20.0, "stall_timeout": 2.0, "stall_restart": 8.0,
    "transaction_timeout": 5.0, "restart_jitter": 0.0,
}  # fmt: skip
"""A worker has twenty seconds to start in: where the machine has time it takes one."""

LONG = 150.0


def watched(service: Scenario, instance: Instance) -> Observer:
    """What /ready asks."""
    return Observer(instance.supervisor, make_app(service.app, 4).topology(), instance.settings, instance.name)


def becomes_red(service: Scenario, observer: Observer, *words: str) -> None:
    service.until(
        lambda: any(all(word in reason for word in words) for reason in observer.ready().reasons),
        f"red because of {words}",
        LONG,
    )


def is_killed(service: Scenario, instance: Instance, words: str) -> None:
    (worker,) = instance.supervisor.workers
    service.until(lambda: worker.restarts, "the worker to be started again", LONG)
    assert worker.last_error is not None and worker.last_error.startswith("killed: ") and words in worker.last_error


def goes_on(service: Scenario, observer: Observer) -> None:
    service.processed(LONG)
    service.until(lambda: observer.ready().ok, "readiness", LONG)
    service.stop()
    service.check()


def test_an_agent_that_waits_for_ever(scenario: Scenarios) -> None:
    service = scenario(**SOON)
    service.setenv("KSTREAM_TEST_PAUSE", "100000")
    instance = service.start()
    observer = watched(service, instance)
    service.feed(PHASE)
    becomes_red(service, observer, "has lag and has not moved", "agent 'watch' waits for something outside")
    service.setenv("KSTREAM_TEST_PAUSE", "0")
    is_killed(service, instance, "has lag and has not moved: agent 'watch' waits for something outside")
    goes_on(service, observer)


def test_user_code_that_does_not_return(scenario: Scenarios) -> None:
    """The loop stands: it is max_poll_interval that counts."""
    service = scenario(**SOON)
    service.setenv("KSTREAM_TEST_STAND", "1")
    instance = service.start()
    observer = watched(service, instance)
    service.feed(PHASE)
    becomes_red(service, observer, "has not reported for", "slow user code: make_app.<locals>.watch (service.py")
    service.setenv("KSTREAM_TEST_STAND", "")
    is_killed(service, instance, "has not reported for")
    goes_on(service, observer)


def test_commits_that_never_succeed(scenario: Scenarios) -> None:
    """Records are processed again and again, with a new producer each time. Kafka answers otherwise."""
    service = scenario(**SOON)
    none = service.directory / "no-commits"
    instance = service.start()
    observer = watched(service, instance)
    service.feed(PHASE)
    service.processed(LONG)
    none.touch()
    service.feed(PHASE)
    becomes_red(service, observer, "has processed records and has not committed", "the coordinator does not answer")
    is_killed(service, instance, "has processed records and has not committed: the coordinator does not answer")
    none.unlink()
    goes_on(service, observer)


def test_a_place_in_the_group_that_is_never_given(scenario: Scenarios) -> None:
    """Another member holds up the group: it joined, and does not poll."""
    service = scenario(**SOON)
    other = Consumer(
        {
            "bootstrap.servers": service.servers, "group.id": service.app, "session.timeout.ms": 60_000,
            "max.poll.interval.ms": 600_000, "partition.assignment.strategy": "range",
        }
    )  # fmt: skip
    assigned: list[object] = []
    other.subscribe([f"{service.app}.marks"], on_assign=lambda *_: assigned.append(1))
    service.until(lambda: other.poll(0.1) or assigned, "the other member")
    instance = service.start()
    observer = watched(service, instance)
    service.feed(PHASE)
    becomes_red(service, observer, "worker 0 has had no place in its consumer group")
    is_killed(service, instance, "has had no place in its consumer group")
    other.close()
    goes_on(service, observer)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[DevBroker]:
    with DevBroker(data_dir=tmp_path / "broker", start_timeout=180) as started:
        yield started
        started.kill()


@pytest.fixture
def mortal(broker: DevBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenarios]:
    """Scenarios on a broker of their own."""
    yield from scenarios(broker.bootstrap_servers, tmp_path, monkeypatch)


def test_while_the_broker_does_not_answer_everybody_waits(mortal: Scenarios, broker: DevBroker) -> None:
    """It stands for far longer than a worker may. No restart would help."""
    service = mortal(**SOON)
    instance = service.start()
    observer = watched(service, instance)
    service.feed(PHASE)
    service.processed()
    pids = instance.pids
    service.feed(PHASE)
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    began = time.monotonic()
    service.until(lambda: time.monotonic() - began > 25, "a long time")
    assert not observer.ready().ok, observer.ready().reasons
    assert instance.pids == pids and not instance.restarts, instance.supervisor.workers[0].last_error
    os.kill(broker.pid, signal.SIGCONT)
    goes_on(service, observer)
