"""An instance's part in savepoints: what it passes on, and that it hears all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kstream.errors import KafkaUnavailable
from kstream.runtime.cluster.control import Answer, Control, Request, ensure_topic
from kstream.runtime.instance import savepoints
from kstream.runtime.instance.savepoints import Participant
from kstream.testing import MemoryCluster
from kstream.testing.clients import MemoryClients
from support.running import until


class Supervisor:
    """What the participant has of one: it is told, and stopped."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.stopped = False

    def tell(self, command: Any) -> None:
        self.told.append((command.savepoint.id, command.savepoint.phase))

    def stop(self, *, for_good: bool) -> None:
        """A restore waits for the groups to be empty."""
        assert for_good
        self.stopped = True


class Bench:
    def __init__(self) -> None:
        self.supervisor, self.cluster = Supervisor(), MemoryCluster()
        self.clients = MemoryClients(self.cluster)
        ensure_topic(self.clients.admin(), "app", 1)
        self.participant = Participant(self.supervisor, self.clients, "app", "one", 1)  # type: ignore[arg-type]
        self.control = Control(self.clients, self.clients.admin(), "app")

    def ask(self, id: str, phase: str, timeout: float = 60.0) -> None:
        self.control.write(Request(id, "first", phase, timeout))  # type: ignore[arg-type]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.participant.stop()


def started(bench: Bench) -> None:
    bench.participant.start()
    until(lambda: bench.participant._position is not None, "it to listen")


def test_words_of_the_first_are_passed_on_when_a_second_is_asked_for(bench: Bench) -> None:
    """The second is refused by the workers; the first goes on."""
    started(bench)
    asked = [("1", "hold"), ("1", "capture"), ("2", "hold"), ("2", "abort"), ("1", "resume")]
    for id, phase in asked:
        bench.ask(id, phase)
    until(lambda: bench.supervisor.told == asked, f"all of it to be passed on, not {bench.supervisor.told}")
    bench.ask("1", "stop")
    until(lambda: bench.supervisor.stopped, "the instance to stop")


def test_words_of_a_savepoint_whose_begin_it_did_not_hear_are_passed_over(bench: Bench) -> None:
    started(bench)
    bench.ask("1", "capture")
    bench.ask("1", "stop")
    bench.ask("2", "hold")
    until(lambda: bench.supervisor.told == [("2", "hold")], "the second to be passed on")
    assert not bench.supervisor.stopped


def test_after_a_lost_connection_it_hears_at_once_what_was_said_meanwhile(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, lost = Control.read, []

    def losing(control: Control, timeout: float) -> Iterator[Request | Answer]:
        if bench.supervisor.told and not lost:
            lost.append(True)
            bench.ask("1", "capture")
            bench.ask("1", "stop")
            raise KafkaUnavailable("all brokers are down")
        yield from read(control, timeout)

    monkeypatch.setattr(Control, "read", losing)
    started(bench)
    bench.ask("1", "hold")
    until(lambda: bench.supervisor.stopped, "what was said to be heard", savepoints.RETRY_SECONDS / 2)
    assert bench.supervisor.told == [("1", "hold"), ("1", "capture")]


@pytest.mark.parametrize(
    ("phases", "refused"),
    [(["hold"], 1), (["hold", "resume"], 1), (["hold", "abort"], 0), (["hold", "stop"], 0)],
    ids=lambda value: "-".join(value) if isinstance(value, list) else str(value),
)
def test_a_worker_that_ends_refuses_for_what_is_under_way(bench: Bench, phases: list[str], refused: int) -> None:
    class Ended:
        class identity:
            member = "one-default-0"

    for phase in phases:
        bench.participant._asked(Request("1", "first", phase))  # type: ignore[arg-type]
    bench.participant.ended(Ended(), "killed")  # type: ignore[arg-type]
    assert [(one.id, one.phase) for one in bench.participant._to_say] == [("1", "refused")] * refused
