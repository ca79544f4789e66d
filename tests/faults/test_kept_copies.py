"""A changelog is deleted, or made anew, under an app whose worker is killed in the restores that find that out.

What the worker has on disk is the only copy then. No kill may cost it: it is exported, imported, and the app goes on
exactly once.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from faults.test_kill_steps import SESSION
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.kafka import KafkaOptions
from kstream.runtime.kafka.members import remove_members
from support.running import Command, kill, until
from support.scenario import Scenario, Scenarios

pytestmark = pytest.mark.timeout(400)

PHASE = 800
STORE = "per-key"


class Kept:
    """A service that has processed something, its state flushed to disk, and will be killed at a fault."""

    def __init__(self, service: Scenario, fault: str) -> None:
        self.service, self.admin = service, AdminClient({"bootstrap.servers": service.servers})
        self.changelog = f"{service.app}-{STORE}-changelog"
        service.order(fault)
        service.feed(PHASE)
        self.instance = service.start()
        service.processed()
        service.settled()
        service.flushed()

    def delete(self) -> None:
        self.admin.delete_topics([self.changelog])[self.changelog].result(60)
        until(lambda: self.changelog not in self.admin.list_topics(timeout=60).topics, "the changelog to be gone")

    def create(self) -> None:
        topic = NewTopic(
            self.changelog, self.service.partitions[self.changelog], 1, config={"cleanup.policy": "compact"}
        )
        until(lambda: self.admin.create_topics([topic])[self.changelog].exception(60) is None, "it to be made anew")

    def kill(self) -> None:
        """The worker dies, and is started again: the fault is for its next restore."""
        self.service.arm()
        kill(self.instance.pids[0])

    def stopped(self, why: str) -> None:
        """The tasks whose changelog it was say so after the kill, again and again; the others run."""
        said: set[str] = set()

        def told() -> bool:
            tasks = [task for report in self.instance.reports for task in report.tasks]
            said.update(task.name for task in tasks if why in str(task.error))
            running = [task for task in tasks if task.state == "running"]
            known = len(said) == len(running) == self.service.partitions[self.changelog]
            return known and self.instance.restarts == 2  # killed by the test, and by the fault

        self.service.until(lambda: self.service.struck, "the fault to strike")
        self.service.until(told, f"the tasks to say {why!r}")

    def command(self, *words: object) -> str:
        place, servers = (
            self.service.directory / f"said-{words[0]}",
            ("--bootstrap-servers", self.service.servers),
        )
        said = Command(place, "state", words[0], self.service.target, STORE, *words[1:], *servers)
        status = said.wait(120)
        assert status == 0, said.err.read_text()
        return said.out.read_text()

    def brought_back(self) -> None:
        """From the only copy; all that comes after it is exact."""
        self.service.stop()
        out: Path = self.service.directory / "exported"
        (self.service.state_dir("a") / "app").write_text(self.service.app)  # as `kstream run` does
        self.command("export", "--to", out, "--state-dir", self.service.state_dir("a"))
        member = Identity(self.service.app, "a", 0).member  # a group that has members is not given state
        remove_members(self.service.servers, KafkaOptions(), self.service.app, [member], 60)
        self.command("import", out / STORE, "--replace", "--yes")
        self.service.start()
        self.service.feed(PHASE)
        self.service.processed()
        self.service.settled()
        self.service.stop()
        self.service.check()


@pytest.mark.parametrize(
    "fault", ["restore_described:after:9", pytest.param("restore_described:before:1", marks=pytest.mark.more)]
)
def test_killed_while_it_waits_for_a_changelog_that_is_not_there(scenario: Scenarios, fault: str) -> None:
    kept = Kept(scenario(session_timeout=SESSION), fault)
    kept.delete()
    kept.kill()
    kept.stopped("does not exist any more")
    kept.brought_back()


@pytest.mark.parametrize(
    "fault",
    [
        "restore_described:after:9",  # of 8 tasks: it looks once more, for the ids were others
        pytest.param("restore_ids:before:1", marks=pytest.mark.more),
        pytest.param("restore_ids:after:1", marks=pytest.mark.more),
        pytest.param("restore_ids:after:4", marks=pytest.mark.more),
    ],
)
def test_killed_where_a_changelog_was_made_anew_between_two_looks_at_it(scenario: Scenarios, fault: str) -> None:
    """The restore has seen the old one, and waits before it asks for the ends, which are the new one's."""
    service = scenario(session_timeout=SESSION)
    kept = Kept(service, fault)
    wait = service.directory / "no-ends"
    wait.touch()
    kept.kill()
    service.until(lambda: len(list(service.directory.glob("held-*"))) == 8, "all tasks to wait before the ends")
    kept.delete()
    kept.create()
    wait.unlink()
    kept.stopped("was deleted and created again")
    kept.brought_back()
