"""What `benchmarks.recovery` starts and watches: instances of its service, and what is committed of their output."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from benchmarks.recovery_service import PARTITIONS

ROOT = Path(__file__).parent.parent
SECONDS = 900.0
SESSION = 6.0


def until(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.02)
    return found


class Instance:
    """`kstream run` of the service, in a process of its own."""

    def __init__(self, folder: Path, app: str, name: str, bootstrap: str, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.disk, self.log = folder / f"state-{name}", folder / f"{name}-{uuid.uuid4().hex[:4]}.log"
        given = {
            "instance": name, "bootstrap_servers": bootstrap, "state_dir": self.disk, "workers": 1, "web_port": 0,
            "log_format": "json", "session_timeout": SESSION, "announce_interval": 0.5, "on_stop": "stay", **settings,
        }  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {f"KSTREAM_{setting.upper()}": str(value) for setting, value in given.items()}
        environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")  # as an installed package has its modules
        self.began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kstream.cli", "run", "benchmarks.recovery_service:app"],
                cwd=ROOT, env={**environment, "KSTREAM_BENCH_RECOVERY": app},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def workers(self) -> list[int]:
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def lines(self, words: str) -> list[str]:
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [str(line["message"]) for line in found if words in str(line.get("message"))]

    def restored(self, times: int = 1) -> float:
        """Seconds that the latest restore took, from being assigned to being fed, once there were so many."""
        line = until(lambda: (found := self.lines("restored ")) and len(found) >= times and found[-1], "a restore")
        return float(re.findall(r"([\d.]+) s", line)[-1])

    def cpu(self) -> float:
        """Seconds of processor time of its worker, its start included."""
        fields = Path(f"/proc/{self.workers[0]}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str) -> float:
        url = self.lines("status page: ")[0].split()[2].rstrip("/")
        try:
            text = urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode()
        except OSError:
            return float("nan")
        return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(rf"kstream_{name}[ {{]", line))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(SECONDS):
            raise RuntimeError(f"it ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        if self.process.poll() is None:
            for pid in (self.process.pid, *self.workers):
                os.kill(pid, signal.SIGKILL)
            self.process.wait()


class Outputs:
    """The output, on a thread: by partition, when each record came (monotonic) and its latency.

    Args:
        committed: as readers of committed records have it; otherwise as it is written.
    """

    def __init__(self, bootstrap: str, topic: str, *, committed: bool = True) -> None:
        self.came: list[tuple[float, int, float]] = []
        isolation = "read_committed" if committed else "read_uncommitted"
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "watch", "isolation.level": isolation})
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending:
            for message in self._consumer.consume(500, 0.01):
                if message.error() is None:
                    partition = message.partition()
                    assert partition is not None
                    sent = float(message.value() or b"0")
                    self.came.append((time.monotonic(), partition, time.time() - sent))

    def close(self) -> None:
        self._ending = True
        self._thread.join()
        self._consumer.close()

    def first(self, partition: int, since: float) -> float:
        """When the first output of a partition came, after a moment."""
        return float(
            until(lambda: next((at for at, where, _ in self.came if where == partition and at > since), None), "output")
        )

    def latencies(self, partition: int, since: float, to: float) -> list[float]:
        return [late for at, where, late in self.came if where == partition and since <= at <= to]
