"""The shipped Dockerfile and compose file, unmodified, on a real Docker daemon.

The tests go on from each other's state, in this order.
"""

from __future__ import annotations

import json
import os
import signal

import pytest

from deploy.docker.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TASKS = sorted(f"{topic}/{number}" for topic in ("flights", "flights-by-carrier-repartition") for number in range(4))


def spread_over(stack: Stack, instances: int) -> dict[str, list[str]]:
    """Waits until each task of flights runs on exactly one of so many instances; the tasks, by instance."""

    def found() -> dict[str, list[str]] | None:
        running = stack.running("flights")
        tasks = sorted(name for names in running.values() for name in names)
        return running if len(running) == instances and tasks == TASKS else None

    return stack.wait_for(found, f"all tasks on {instances} instances")


def test_all_are_healthy_and_started_in_order(stack: Stack) -> None:
    happened = stack.events()

    def first(service: str, what: str) -> float:
        return next(at for at, whose, event in happened if whose == service and event.startswith(what))

    for earlier, later in (("alert-receiver", "alertmanager"), ("alertmanager", "prometheus"), ("kafka", "topics")):
        assert first(earlier, "health_status: healthy") < first(later, "start")
    assert stack.containers("topics")[0]["State"]["ExitCode"] == 0
    for service in ("flights", "airports", "feeder"):
        assert first("topics", "die") < first(service, "start") < first(service, "health_status: healthy")
    assert not [event for _, _, event in happened if "unhealthy" in event]


def test_nothing_runs_as_root_or_can_write_to_its_root(stack: Stack) -> None:
    for service in ("kafka", "flights", "airports", "feeder", "prometheus", "alertmanager", "alert-receiver"):
        for container in stack.containers(service):
            host = container["HostConfig"]
            assert host["ReadonlyRootfs"], service
            assert host["CapDrop"] == ["ALL"], service
            assert host["SecurityOpt"] == ["no-new-privileges:true"], service
            assert host["Memory"] > 0, service
            assert container["Config"]["User"] not in ("", "root", "0"), service
    assert stack.compose("exec", "-T", "flights", "id", "-u").strip() == "10001"
    with pytest.raises(AssertionError, match="Read-only file system"):
        stack.compose("exec", "-T", "flights", "touch", "/app/here")


def test_records_flow_through_both_services(stack: Stack) -> None:
    def through() -> bool:
        found = stack.counted()
        return found["carrier_updates"] > 100 and found["airport_updates"] > 0

    stack.wait_for(through, "flights and alerts that came through")


def test_scaled_to_three_the_partitions_are_spread(stack: Stack) -> None:
    stack.up("--scale", "flights=3")
    found = spread_over(stack, 3)
    assert sorted(map(len, found.values())) == [2, 2, 4]  # 4 partitions of two topics over three
    ports = [one["NetworkSettings"]["Ports"]["8010/tcp"][0]["HostPort"] for one in stack.containers("flights")]
    assert len(set(ports)) == 3
    assert {int(port) for port in ports} <= set(range(8010, 8020))


def test_prometheus_scrapes_every_instance_with_the_projects_rules(stack: Stack) -> None:
    def up() -> list[dict[str, object]] | None:
        found = stack.query('up{job="kstream"} == 1')
        return found if len(found) == 4 else None

    for sample in stack.wait_for(up, "4 targets that are up"):
        assert "app" not in sample["metric"]  # type: ignore[operator]
    assert {rule["name"] for rule in stack.rules()} >= {"JobDown", "NotReady", "TaskStalled"}
    assert all(rule["health"] in ("ok", "unknown") for rule in stack.rules())
    apps = {sample["metric"]["app"] for sample in stack.query("count by (app) (kstream_build_info)")}
    assert apps == {"flights", "airports"}


def test_alerts_go_from_prometheus_to_the_receiver(stack: Stack) -> None:
    (manager,) = stack.prometheus("alertmanagers")["activeAlertmanagers"]
    assert manager["url"].startswith("http://alertmanager:9093/")
    alert = json.dumps([{"labels": {"alertname": "Rehearsal"}, "annotations": {"summary": "nothing is wrong"}}])
    post = ["wget", "-q", "-O", "-", "--header=Content-Type: application/json", f"--post-data={alert}"]
    stack.compose("exec", "-T", "prometheus", *post, manager["url"])

    def received() -> bool:
        return "firing\tRehearsal\tnothing is wrong" in stack.compose("logs", "--no-color", "alert-receiver")

    stack.wait_for(received, "the alert, which Alertmanager keeps for group_wait (30 s)")


def test_an_instance_that_is_stopped_leaves_at_once(stack: Stack) -> None:
    before = set(spread_over(stack, 3))
    stopped = stack.containers("flights")[2]
    stack.daemon.docker("stop", "--time", "60", stopped["Id"])

    def others() -> bool:
        owners = stack.owners("flights")
        return None not in owners and len(owners) == 2 and owners < before

    stack.wait_for(others, "two that own everything, sooner than the session of the third ends (10 s)", 8)
    stack.up("--scale", "flights=3")
    assert set(spread_over(stack, 3)) == before


def test_others_take_over_from_an_instance_that_was_killed(stack: Stack) -> None:
    before = set(stack.running("flights"))
    killed = stack.containers("flights")[2]
    stack.daemon.docker("kill", killed["Id"])  # Docker does not restart what was killed by order
    found = spread_over(stack, 2)
    assert set(found) < before
    stack.up("--scale", "flights=3")
    found = spread_over(stack, 3)
    assert set(found) == before  # it has found its name, and its state, in the volume again


def test_an_instance_whose_process_dies_comes_back(stack: Stack) -> None:
    dies = stack.containers("flights")[0]
    os.kill(dies["State"]["Pid"], signal.SIGKILL)  # process ids are the machine's own

    def back() -> bool:
        (now,) = [one for one in stack.containers("flights") if one["Id"] == dies["Id"]]
        return now["RestartCount"] == 1 and now["State"]["Health"]["Status"] == "healthy"

    stack.wait_for(back, "a restart by Docker")
    spread_over(stack, 3)


def test_each_record_counted_once_in_spite_of_all_that(stack: Stack) -> None:
    stack.compose("stop", "feeder")
    assert stack.containers("feeder")[0]["State"]["ExitCode"] == 0
    for app in ("flights", "airports"):
        stack.wait_for(lambda app=app: stack.lag(app) == 0, f"the end of the records of {app}")  # type: ignore[misc]
    found = stack.counted()
    assert found["flights"] > 1000
    assert found["carrier_updates"] == found["carrier_sum"] == found["flights"]
    assert found["alerts"] > 10
    assert found["airport_updates"] == found["airport_sum"] == found["alerts"]


def test_down_is_orderly(stack: Stack) -> None:
    stack.compose("stop")
    for service in ("flights", "airports", "alertmanager", "alert-receiver", "prometheus"):
        for container in stack.containers(service):
            assert container["State"]["ExitCode"] == 0, container["Name"]
    (kafka,) = stack.containers("kafka")
    assert kafka["State"]["ExitCode"] == 143  # so a JVM ends that was told to and closed everything; 137 is a kill
    assert "Traceback" not in stack.compose("logs", "--no-color", "flights", "airports", "feeder")
