"""A Docker daemon for the tests alone, in a network and a mount namespace of its own.

It sees no network but loopback: nothing can be pulled, and nothing of the machine is changed. Its images stay in the
user's cache, so that the second run is quick; containers, networks and volumes do not.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Container
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from deploy.tools import CACHE

# When this process dies, however that may be, the daemon is told to end: it stops its containers first.
SET_UP = "ip link set lo up && exec setpriv --pdeathsig TERM dockerd"


class Daemon:
    """Runs until the `with` ends; one at a time for each cache.

    Attributes:
        host: what DOCKER_HOST must be for its clients.
        log: what it says.
    """

    def __init__(self) -> None:
        self.data = CACHE / "docker"
        self.run = Path(tempfile.mkdtemp(prefix="kstream-docker-"))
        self.host = f"unix://{self.run}/docker.sock"
        self.log = self.run / "dockerd.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """For clients. An empty configuration: neither the user's credentials nor plug-ins play a part."""
        (self.run / "client").mkdir(exist_ok=True)
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COMPOSE_"))},
            "DOCKER_HOST": self.host,
            "DOCKER_CONFIG": str(self.run / "client"),
        }

    def __enter__(self) -> Self:
        self.data.mkdir(parents=True, exist_ok=True)
        self._lock = (self.data.parent / "docker.lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        options = {
            "data-root": self.data,
            "exec-root": self.run / "exec",
            "pidfile": self.run / "dockerd.pid",
            "host": self.host,
            "storage-driver": "overlay2",
        }
        command = [SET_UP, *(f"--{name}={value}" for name, value in options.items())]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["unshare", "--net", "--mount", "sh", "-c", " ".join(command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the tests': containers are stopped first
            )
        try:
            self._wait_until_it_answers()
            self._forget_containers()  # of a run that was killed
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None and self._lock is not None
        if self._process.poll() is None:
            self._forget_containers()
            self.docker("image", "prune", "--force")  # what later builds took the names from
            self.docker("builder", "prune", "--force", "--keep-storage", "2GB")
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._lock.close()
        shutil.rmtree(self.run, ignore_errors=True)  # the namespaces end with the last process in them

    def docker(self, *arguments: object, timeout: float = 600, good: Container[int] = (0,), **options: str) -> str:
        """Debian's `docker`, whose builder is in the daemon; its standard output.

        Raises:
            AssertionError: it failed; the message is what it said.
        """
        return call(["/usr/bin/docker", *map(str, arguments)], {**self.environment, **options}, timeout, good=good)

    def _wait_until_it_answers(self, seconds: float = 30.0) -> None:
        assert self._process is not None
        deadline = time.monotonic() + seconds
        asked = ["/usr/bin/docker", "version"]
        while subprocess.run(asked, env=self.environment, capture_output=True, check=False).returncode != 0:
            assert self._process.poll() is None, f"dockerd ended: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"dockerd does not answer: {self.log.read_text()[-2000:]}"
            time.sleep(0.1)

    def _forget_containers(self) -> None:
        if found := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", *found)
        self.docker("network", "prune", "--force")
        self.docker("volume", "prune", "--force")


def call(
    command: list[str],
    environment: dict[str, str],
    timeout: float = 600,
    cwd: Path | None = None,
    given: str = "",
    good: Container[int] = (0,),
) -> str:
    """Runs a program to its end, with `given` on its standard input, and returns its standard output.

    Raises:
        AssertionError: its status is not one of `good`, or it took longer than `timeout` seconds. The message is what
            it said.
    """
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=cwd,
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"`{' '.join(command)}` took more than {timeout:.0f} s: {late.stderr!r}") from None
    assert done.returncode in good, (
        f"`{' '.join(command)}`: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout
