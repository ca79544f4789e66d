"""An input topic that is deleted while an instance runs, or while it is stopped: what an operator sees of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from kstream.errors import TopicError
from support.observing import Service, Services, running, services
from support.running import Command, until
from support.serving import Served

SETTINGS = {"kafka": {"topic.metadata.refresh.interval.ms": "500"}, "session_timeout": 10.0}


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    yield from services(bootstrap_servers, tmp_path, monkeypatch)


def delete(one: Service, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": one.servers})
    admin.delete_topics([topic])[topic].result(60)


def create(one: Service, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": one.servers})
    until(lambda: admin.create_topics([NewTopic(topic, 4, 1)])[topic].exception(60) is None, "the topic to be made")


def lost(one: Service, served: Served) -> bool:
    """Whether all tasks of the events are shown as failed, and as nobody's."""
    tasks = [task for task in served.status().tasks if task.part == one.events]
    return len(tasks) == 4 and all(task.state == "failed" and task.worker == "-" for task in tasks)


def others_run(one: Service, served: Served) -> bool:
    return all(task.state == "running" for task in served.status().tasks if task.part != one.events)


def why_not_ready(one: Service, served: Served, said: str) -> str:
    """The one reason of a red /ready, once all tasks of the events are failed: they are tried again meanwhile."""

    def seen() -> str | None:
        ok, reasons = served.probe("ready")
        whole = len(reasons) == 1 and reasons[0].startswith(f"4 tasks failed: {one.events}/0") and said in reasons[0]
        return reasons[0] if whole and not ok else None

    return until(seen, f"/ready to say {said}")


def test_deleted_while_it_runs(service: Services, tmp_path: Path) -> None:
    one = service()
    served = one.start(workers=2, lost_offsets="continue", **SETTINGS)
    running(served)
    one.feed(200)
    one.all_done(served)
    delete(one, one.events)
    until(lambda: not served.probe("ready")[0], "the probe to be red")
    until(lambda: lost(one, served), "the tasks to be shown")
    until(lambda: others_run(one, served), "the other tasks to run, after the group has shared out anew")
    reason = why_not_ready(one, served, "does not exist")
    status = served.status()
    for task in status.tasks:
        if task.part == one.events:
            assert f"task {task.name}: topic {one.events} does not exist" in (task.error or "")
            assert "create the topic" in (task.error or "")
        else:
            assert (task.part, task.state, task.error) == (one.repartition, "running", None)
    assert (status.ready, status.state, status.reasons) == (False, "degraded", [reason])
    until(lambda: served.metrics()("kstream_tasks", state="failed") == 4, "the metric")
    assert served.metrics()("kstream_ready") == 0

    # whatever the app's workers go through meanwhile, it stays to be seen, and the others go on
    os.kill(served.pids[0], signal.SIGKILL)
    until(lambda: served.status().workers[0].restarts == 1, "the kill to be noticed")
    until(
        lambda: (
            sum(task.state == "running" for task in served.status().tasks) == 4
            and all(worker.state == "running" for worker in served.status().workers)
            and lost(one, served)
        ),
        "the worker to be back",
    )
    assert not served.probe("ready")[0]
    command = Command(tmp_path / "said", "status", "--app", one.name, "--once", "--bootstrap-servers", one.servers)
    assert command.wait(60) == 1
    said = " ".join(command.out.read_text().split())
    assert f"{one.events}/3" in said and f"topic {one.events} does not exist" in said, said

    create(one, one.events)
    until(lambda: not lost(one, served), "the new topic to be seen")
    running(served)
    one.feed(200)
    until(lambda: one.committed(served) == 400, "the new topic to be read")


def test_deleted_while_it_is_stopped(service: Services) -> None:
    """It does not begin without the topic; where it may make topics, the tasks with state are failed, and say why."""
    one = service()
    served = one.start(**SETTINGS)
    running(served)
    one.feed(200)
    one.all_done(served)
    served.stop()
    delete(one, one.events)
    with pytest.raises(TopicError, match=f"topics are missing: .*{one.events}.*; create them"):
        one.start(auto_create_topics=False, **SETTINGS)
    served = one.start(**SETTINGS)
    why_not_ready(one, served, "lost_offsets")
