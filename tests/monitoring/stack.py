"""A real Prometheus and a real Alertmanager on the files of monitoring/, with a webhook at the end.

    with Stack(["127.0.0.1:8010"], tmp_path) as stack:
        stack.wait_for_data('up{job="kstream"} == 1')
        stack.query("sum(rate(kstream_records_consumed_total[10s]))")
        stack.wait_for_alert("JobDown", seconds=30)

Targets are scraped once a second, and every wait is shortened (shortened.py).
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import yaml

from monitoring.shortened import MONITORING, SPEED, write_shortened
from support.tools import tool

T = TypeVar("T")


class Sample(NamedTuple):
    """One series of an answer: its labels with `__name__`, and its value, which may be NaN."""

    labels: Mapping[str, str]
    value: float


class Alert(NamedTuple):
    """An alert as the webhook got it. `status` is firing or resolved, `receiver` that of its route."""

    name: str
    status: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    receiver: str = ""


class Expression(NamedTuple):
    """A query of the dashboard, its variables filled in."""

    panel: str
    text: str


class Stack:
    """Runs until the `with` ends.

    Args:
        targets: host:port of each instance to scrape.
        directory: an empty one for configuration, data and logs.
        speed, thresholds: as in shortened.py.
    """

    def __init__(
        self, targets: Iterable[str], directory: Path, speed: float = SPEED, *, thresholds: bool = False
    ) -> None:
        self._directory = directory
        self._webhook = Webhook()
        self._processes: list[Process] = []
        self._ports = [held_port(), held_port()]
        manager, prometheus = (int(port.getsockname()[1]) for port in self._ports)
        self.url, self._manager = f"http://127.0.0.1:{prometheus}", f"http://127.0.0.1:{manager}"
        configuration, manager_configuration = write_shortened(
            directory / "monitoring", f"127.0.0.1:{manager}", self._webhook.url, speed, thresholds=thresholds
        )
        self.set_targets(targets)
        self._commands = {
            self._manager: [
                tool("prometheus-alertmanager"),
                f"--config.file={manager_configuration}",
                f"--storage.path={directory / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{manager}",
                "--cluster.listen-address=",  # alone
            ],
            self.url: [
                tool("prometheus"),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={directory / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{prometheus}",
                "--log.level=warn",
            ],
        }

    def __enter__(self) -> Self:
        self._webhook.start()
        try:
            for url, command in self._commands.items():  # Alertmanager first: it must not miss an alert
                process = Process(command, self._directory)
                self._processes.append(process)
                process.wait_until_ready(f"{url}/-/ready")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            process.stop()
        self._webhook.stop()
        for port in self._ports:
            port.close()

    def set_targets(self, targets: Iterable[str]) -> None:
        """Scrapes these from now on; Prometheus notices by itself."""
        file = self._directory / "monitoring/targets/kstream.yml"
        aside = file.with_suffix(".new")
        aside.write_text(yaml.safe_dump([{"targets": list(targets)}]))
        aside.rename(file)  # never seen half written

    def query(self, expression: str) -> list[Sample]:
        """What Prometheus answers now, as a vector.

        Raises:
            AssertionError: it refuses the expression; the message says why.
        """
        result = self._get("query", query=expression)
        if result["resultType"] == "scalar":
            return [Sample({}, float(result["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in result["result"]]

    def wait_for_data(self, expression: str, seconds: float = 60.0) -> list[Sample]:
        """Asks until there is an answer that is not empty."""
        return _until(lambda: self.query(expression), seconds, lambda: f"data for {expression}")

    def wait_for_alert(
        self, name: str, seconds: float = 90.0, status: str = "firing", after: int = 0, **labels: str
    ) -> Alert:
        """Waits until the webhook was told of this alert, now or before, with at least these labels.

        Args:
            after: how many of `alerts` are too old to count.
        """

        def found() -> list[Alert]:
            return [
                alert
                for alert in self.alerts[after:]
                if (alert.name, alert.status) == (name, status) and labels.items() <= alert.labels.items()
            ]

        return _until(found, seconds, lambda: f"{name} ({status}) at the webhook; {self._told()}")[-1]

    def answered_always(self, target: str) -> bool:
        """Whether no scrape of a target has failed: where a busy machine missed one, JobDown is no false alarm."""
        return not self.query(f'min_over_time(up{{instance="{target}"}}[1h]) == 0')

    def wait_for_inhibited(self, name: str, seconds: float = 90.0) -> None:
        """Waits until Alertmanager has this alert and sends it to nobody, because of another."""

        def inhibited() -> bool:
            with urllib.request.urlopen(f"{self._manager}/api/v2/alerts", timeout=60) as answer:
                known = json.load(answer)
            return any(one["labels"]["alertname"] == name and one["status"]["inhibitedBy"] for one in known)

        _until(inhibited, seconds, lambda: f"{name} to be inhibited; {self._told()}")

    @property
    def alerts(self) -> list[Alert]:
        """All that the webhook was told, oldest first."""
        return list(self._webhook.alerts)

    def active(self) -> list[tuple[str, str]]:
        """The alerts of Prometheus, with their states: pending or firing."""
        return [(one["labels"]["alertname"], one["state"]) for one in self._get("alerts")["alerts"]]

    def _told(self) -> str:
        return f"Prometheus has {self.active()}, the webhook got {[(one.name, one.status) for one in self.alerts]}"

    def _get(self, what: str, **parameters: str) -> Any:
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}", timeout=60
            ) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{parameters}: {refused.read().decode()}") from None


class Process:
    """A program that serves HTTP; what it prints goes to a file."""

    def __init__(self, command: list[str], directory: Path) -> None:
        self._log = directory / f"{Path(command[0]).name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def wait_until_ready(self, url: str, seconds: float = 90.0) -> None:
        def answers() -> bool:
            assert self._process.poll() is None, f"it ended: {self._log.read_text()[-2000:]}"
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return bool(answer.status == 200)
            except OSError:  # not listening yet, or 503: not ready
                return False

        _until(answers, seconds, lambda: f"{url}: {self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Webhook:
    """Takes what Alertmanager posts."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        alerts = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver = self.path.rpartition("/")[2]
                for one in posted["alerts"]:
                    name = one["labels"]["alertname"]
                    alerts.append(Alert(name, one["status"], one["labels"], one["annotations"], receiver))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: a line for each post would only clutter the tests' output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def held_port() -> socket.socket:
    """A port that nobody is given by chance; Go's programs, which ask for it by its number, may listen on it."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def dashboard_expressions(app: str = ".*", instance: str = ".*", window: str = "10s") -> list[Expression]:
    """Every query of monitoring/dashboard.json, those of the marks in all panels too.

    Args:
        app, instance: regular expressions, as the dashboard's variables hold them.
        window: what stands for Grafana's intervals.
    """
    variables = {"namespace": ".*", "app": app, "instance": instance, "__rate_interval": window, "__interval": window}

    def filled(text: str) -> str:
        for name in sorted(variables, key=len, reverse=True):  # $__interval is not the start of $__interval_ms
            text = text.replace(f"${{{name}}}", variables[name]).replace(f"${name}", variables[name])
        return text

    board = json.loads((MONITORING / "dashboard.json").read_text())
    found = [Expression(one["name"], filled(one["expr"])) for one in board["annotations"]["list"]]
    for panel in panels_of(board):
        found += [Expression(panel["title"], filled(target["expr"])) for target in panel.get("targets", [])]
    return found


def panels_of(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows, and panels wherever they are."""
    for panel in board.get("panels", []):
        yield panel
        yield from panels_of(panel)  # a collapsed row holds its panels


def _until(condition: Callable[[], T], seconds: float, what: Callable[[], str]) -> T:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still waiting for {what()}"
        time.sleep(0.1)
    return found
