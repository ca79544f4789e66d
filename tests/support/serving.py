"""Whole instances with their web servers, run by threads of the test, asked over HTTP as anybody would."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

import kstream
from kstream.config import Settings
from kstream.observe.status import InstanceStatus
from kstream.runtime.instance.supervisor import Supervisor
from kstream.runtime.view.observer import Observer

Labels = frozenset[tuple[str, str]]


class Served:
    """`app.supervisor(...)`, polled by a thread until `stop`. Its page has any free port: of those from 8010 on, the
    first that is free may be one on which another test's instance has just stopped, and is still asked."""

    def __init__(self, app: kstream.App, target: str, settings: Settings, workers: int = 1) -> None:
        settings = replace(settings, web_port=0) if settings.web_port is None else settings
        self.settings, self.name = settings, str(settings.instance)
        self._context = app.supervisor(workers=workers, settings=settings, target=target)
        self.supervisor: Supervisor = self._context.__enter__()
        self.observer: Any = next(one for one in self.supervisor.watchers if isinstance(one, Observer))
        self.url: str = self.observer.url
        self._token = settings.web_token or (Path(settings.state_dir) / "web-token").read_text().strip()
        self._ending = threading.Event()
        self.supervisor.start()
        self._thread = threading.Thread(target=self._run, name=f"instance {self.name}")
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            self.supervisor.poll(0.05)
        self.supervisor.stop()
        self.supervisor.wait()

    def stop(self) -> None:
        if not self._ending.is_set():
            self._ending.set()
            self._thread.join(60)
            self._context.__exit__(None, None, None)

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self.supervisor.workers if worker.pid]

    # ---- over HTTP

    def ask(self, path: str, body: Mapping[str, Any] | None = None, *, token: bool = True) -> tuple[int, bytes]:
        """Status and body; a POST when there is a body to send."""
        headers = {"Authorization": f"Bearer {self._token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {**headers, "Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def link(self) -> str:
        """The page's address with the token, as it is printed in a terminal."""
        return f"{self.url}/#token={self._token}"

    def probe(self, name: str) -> tuple[bool, list[str]]:
        code, body = self.ask(f"/{name}", token=False)
        assert code in (200, 503)
        return code == 200, json.loads(body)["reasons"]

    def status(self) -> InstanceStatus:
        code, body = self.ask("/api/status")
        assert code == 200, body
        return msgspec.json.decode(body, type=InstanceStatus)

    def metrics(self) -> Metrics:
        code, body = self.ask("/metrics", token=False)
        assert code == 200
        return Metrics(body.decode())


class Metrics:
    """What /metrics said. Who waits asks for one or two of some hundreds of names, again and again: no more is read."""

    def __init__(self, text: str) -> None:
        self._text = text

    @property
    def names(self) -> set[str]:
        """Of all series, read from the lines themselves: the parser takes twenty times as long, of the processor on
        which the instance runs too."""
        return {re.split(r"[{ ]", line, maxsplit=1)[0] for line in self._text.splitlines() if line[:1] not in ("", "#")}

    def _read(self, text: str) -> dict[str, dict[Labels, float]]:
        found: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        return found

    def __call__(self, name: str, **labels: str) -> float:
        """The sum over the series with these labels."""
        return sum(value for _, value in self.series(name, **labels))

    def series(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        wanted = set(labels.items())
        lines = [line for line in self._text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        found = self._read("\n".join([*lines, ""]))
        return [(dict(have), value) for have, value in found.get(name, {}).items() if wanted <= have]
