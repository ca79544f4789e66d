"""Alerts arrive at a webhook through a real Prometheus and a real Alertmanager.

What is scraped here is text made up for the purpose; test_real_app.py does it with a service.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from monitoring.shortened import MONITORING, shortened_rules, shorter, write_shortened
from monitoring.stack import Stack

pytestmark = pytest.mark.timeout(400)

BUILD = """\
kstream_build_info{app="clicks",name="a",version="0.1.0"} 1
kstream_start_time_seconds{app="clicks"} 1
"""


class Target:
    """Serves metrics as an instance would, until it is killed."""

    def __init__(self, metrics: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = metrics().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: a line a second would only clutter the tests' output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def kill(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


Serve = Callable[[Callable[[], str]], Target]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes targets, which are gone after the test."""
    with ExitStack() as targets:

        def start(metrics: Callable[[], str]) -> Target:
            target = Target(metrics)
            targets.callback(target.kill)
            return target

        yield start


def test_targets_that_die_or_vanish_reach_the_webhook_and_so_does_their_return(serve: Serve, tmp_path: Path) -> None:
    lives, dies = serve(lambda: BUILD), serve(lambda: BUILD)
    leaves = serve(lambda: BUILD.replace("clicks", "orders"))
    with Stack([lives.address, dies.address, leaves.address], tmp_path) as stack:
        stack.wait_for_data("count(kstream_build_info) == 3")
        stack.wait_for_data('count(up{job="kstream"} == 1) == 3')
        told = stack.alerts
        assert told == [] or not all(stack.answered_always(one.address) for one in (lives, dies, leaves))

        dies.kill()
        alert = stack.wait_for_alert("InstanceDown", after=len(told), severity="warning", instance=dies.address)
        assert alert.annotations["runbook_url"].endswith("docs/runbook.md#instancedown")
        assert alert.labels["app"] == "clicks" and alert.receiver == "tickets"

        stack.set_targets([lives.address])  # clicks was scaled in and goes on elsewhere, orders is gone
        stack.wait_for_alert("InstanceDown", status="resolved", instance=dies.address)
        alert = stack.wait_for_alert("JobDown", app="orders")
        assert alert.annotations["summary"] == "no instance of orders answers"
        assert alert.receiver == "pager"
        false = [
            one
            for one in stack.alerts
            if lives.address in one.labels.values() or (one.name, one.labels.get("app")) == ("JobDown", "clicks")
        ]
        assert false == [] or not stack.answered_always(lives.address)


def test_growing_backpressure_reaches_the_webhook(serve: Serve, tmp_path: Path) -> None:
    began = time.monotonic()

    def metrics() -> str:
        waited = time.monotonic() - began
        return BUILD + "".join(
            f'kstream_worker_backpressured_seconds_total{{app="clicks",worker="{worker}"}} {share * waited}\n'
            for worker, share in enumerate((0.9, 0.2))
        )

    target = serve(metrics)
    with Stack([target.address], tmp_path) as stack:
        alert = stack.wait_for_alert("HighBackpressure")
        assert (alert.labels["worker"], alert.labels["severity"]) == ("0", "warning")
        told = stack.alerts
        if not stack.answered_always(target.address):
            told = [one for one in told if one.name not in ("JobDown", "InstanceDown")]
        assert {(one.name, one.labels["worker"]) for one in told} == {("HighBackpressure", "0")}


@pytest.mark.more
def test_a_critical_alert_of_an_app_silences_its_warnings_and_no_others(serve: Serve, tmp_path: Path) -> None:
    slow = threading.Event()
    began = time.monotonic()

    def metrics() -> str:
        waited = 0.9 * (time.monotonic() - began) if slow.is_set() else 0.0
        return 'kstream_tasks{app="clicks",state="failed"} 1\n' + "".join(
            BUILD.replace("clicks", app)
            + f'kstream_worker_backpressured_seconds_total{{app="{app}",worker="0"}} {waited}\n'
            for app in ("clicks", "orders")
        )

    target = serve(metrics)
    with Stack([target.address], tmp_path) as stack:
        assert stack.wait_for_alert("TaskFailed", app="clicks").receiver == "pager"
        slow.set()
        assert stack.wait_for_alert("HighBackpressure", app="orders").receiver == "tickets"
        stack.wait_for_inhibited("HighBackpressure")
        told = [one.labels["app"] for one in stack.alerts if one.name == "HighBackpressure"]
        assert set(told) == {"orders"}


def test_an_expression_that_prometheus_refuses_is_told(tmp_path: Path) -> None:
    with Stack([], tmp_path) as stack, pytest.raises(AssertionError, match="parse error"):
        stack.query("sum by (")


# ---- the shortened files


def test_durations_are_divided_and_have_a_floor() -> None:
    assert shorter("1h30m", 1.0) == "90000ms"
    assert shorter("5m", 1.0) == "5000ms"
    assert shorter("15s", 1.0) == "1000ms"


def test_only_waits_and_addresses_are_changed(tmp_path: Path) -> None:
    rules = yaml.safe_load((MONITORING / "rules/kstream.yml").read_text())
    short = shortened_rules(yaml.safe_load((MONITORING / "rules/kstream.yml").read_text()))
    for group, shorter_group in zip(rules["groups"], short["groups"], strict=True):
        for rule, other in zip(group["rules"], shorter_group["rules"], strict=True):
            changed = {key for key in rule if rule[key] != other[key]}
            assert changed <= {"expr", "for", "keep_firing_for"}
            assert rule.keys() == other.keys()
    waits = {rule["alert"]: rule.get("for") for group in short["groups"] for rule in group["rules"] if "alert" in rule}
    assert (waits["JobDown"], waits["HighBackpressure"], waits["RestoreSlow"]) == ("2000ms", "5000ms", "15000ms")

    slower = shortened_rules(rules, 10, thresholds=True)
    (behind,) = (rule for group in slower["groups"] for rule in group["rules"] if rule.get("alert") == "TimeBehind")
    assert (behind["for"], behind["expr"].count(" 1440 # catchUpSeconds")) == ("60000ms", 2)
    assert "> 30 # timeBehindSeconds" in behind["expr"] and "[30000ms]" in behind["expr"]

    prometheus, manager = write_shortened(tmp_path / "short", "here:1", "http://here:2")
    assert yaml.safe_load(prometheus.read_text())["rule_files"] == ["rules/*.yml"]
    assert "http://here:2/pager" in manager.read_text()
