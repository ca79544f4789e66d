"""The compose file on a daemon: its services, asked through their own containers."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from deploy import tools
from deploy.docker.daemon import Daemon, call

T = TypeVar("T")

COUNTED = Path(__file__).parent / "counted.py"
SERVICES = ("kafka", "flights", "airports", "feeder", "prometheus")
"""With what they depend on, these are all of the default profile but Grafana, whose image is not to be had."""


class Stack:
    """A project's folder and the daemon it runs on. `options`: those of `docker compose` itself."""

    def __init__(self, daemon: Daemon, folder: Path, *options: str) -> None:
        self.daemon, self.folder = daemon, folder
        self._began = time.time()
        self._compose = (str(tools.tool("docker-compose")), *options)

    def compose(self, *arguments: object, timeout: float = 300) -> str:
        """`docker compose ...`; its standard output.

        Raises:
            AssertionError: it failed; the message is what it said.
        """
        return call([*self._compose, *map(str, arguments)], self.daemon.environment, timeout, self.folder)

    def up(self, *options: object, services: Sequence[str] = SERVICES) -> None:
        """Starts what does not run; returns when all of it is healthy."""
        try:
            self.compose("up", "--detach", "--wait", "--wait-timeout", 240, *options, *services)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What `docker inspect` says of the containers of a service, by their numbers."""
        ids = self.compose("ps", "--all", "--quiet", service).split()
        found: list[dict[str, Any]] = json.loads(self.daemon.docker("inspect", *ids)) if ids else []
        return sorted(found, key=lambda one: str(one["Name"]))

    def events(self) -> list[tuple[float, str, str]]:
        """What has happened to the services' containers, oldest first: when, to which service, what."""
        service = '{{index .Actor.Attributes "com.docker.compose.service"}}'
        asked = ["--filter", "type=container", "--format", f"{{{{.TimeNano}}}}\t{service}\t{{{{.Action}}}}"]
        said = self.daemon.docker("events", "--since", int(self._began), "--until", int(time.time()) + 1, *asked)
        lines = (line.split("\t", 2) for line in said.splitlines())
        return [(int(at) / 1e9, whose, what) for at, whose, what in lines]

    def instances(self, app: str) -> list[dict[str, Any]]:
        """What the app's instances say of themselves, through Kafka, but for those that have fallen silent."""
        found: list[dict[str, Any]] = json.loads(self._ask(app, "kstream", "status", "--app", app, "--json"))
        return [one for one in found if one["state"] != "silent"]

    def running(self, app: str) -> dict[str, list[str]]:
        """The tasks that run, by instance."""
        return {
            one["instance"]: sorted(task["name"] for task in one["tasks"] if task["state"] == "running")
            for one in self.instances(app)
        }

    def lag(self, app: str) -> int:
        """Records that wait in the inputs of an app, by its committed offsets."""
        total: int = self._lag(app)["total"]
        return total

    def owners(self, app: str) -> set[str | None]:
        """The instances that own the app's partitions, as Kafka has it; None is nobody."""
        found = [one["owner"] for one in self._lag(app)["partitions"]]
        return {owner and owner.partition("/")[0] for owner in found}

    def counted(self) -> dict[str, int]:
        """What counted.py finds in the topics."""
        command = [*self._compose, "exec", "-T", "airports", "python", "-"]
        found: dict[str, int] = json.loads(
            call(command, self.daemon.environment, 60, self.folder, given=COUNTED.read_text())
        )
        return found

    def prometheus(self, what: str) -> dict[str, Any]:
        """What the stack's Prometheus says at this path of its API."""
        url = f"http://localhost:9090/api/v1/{what}"
        answer = json.loads(self.compose("exec", "-T", "prometheus", "wget", "-q", "-O", "-", url))
        data: dict[str, Any] = answer["data"]
        return data

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What the stack's Prometheus answers now, as a vector."""
        return list(self.prometheus(f"query?{urllib.parse.urlencode({'query': expression})}")["result"])

    def rules(self) -> list[dict[str, Any]]:
        """The alerts' rules that the stack's Prometheus has loaded."""
        return [rule for group in self.prometheus("rules")["groups"] for rule in group["rules"]]

    def wait_for(self, condition: Callable[[], T], what: str, seconds: float = 90) -> T:
        """Asks until the answer is not empty."""
        deadline, failed = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            try:
                if found := condition():
                    return found
                failed = None
            except AssertionError as error:  # a container that is just being started cannot be asked
                failed = error
            time.sleep(0.5)
        raise AssertionError(f"after {seconds:.0f} s still waiting for {what}") from failed

    def logs(self) -> str:
        """The end of what everything said, for the message of a test that fails."""
        return self.compose("logs", "--no-color", "--tail", 20)

    def _lag(self, app: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._ask(app, "kstream", "lag", f"services.{app}.app:app", "--json"))
        return found

    def _ask(self, service: str, *command: str) -> str:
        """Runs a command in whichever container of the service is up."""
        up = [one["Id"] for one in self.containers(service) if one["State"]["Running"]]
        assert up, f"no container of {service} is up"
        good = (0, 1)  # 1: not all are ready, which is often what is asked
        return self.daemon.docker("exec", up[0], *command, timeout=60, good=good)
