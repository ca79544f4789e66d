"""The facts of the machine and of what ran on it, for the head of RESULTS.md."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import confluent_kafka

from kstream.devbroker import KAFKA_VERSION


def facts(broker: str) -> dict[str, str]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": f"{os.cpu_count()}, shared with the broker",
        "CPU": _cpu(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "kstream": _commit(),
        "libraries": ", ".join(
            f"{name} {version(name)}" for name in ("confluent-kafka", "rocksdict", "msgspec", "orjson")
        )
        + f", librdkafka {confluent_kafka.libversion()[0]}",
        "broker": broker,
        "load before": " ".join(f"{one:.1f}" for one in os.getloadavg()) + " (1, 5, 15 minutes)",
    }


def development_broker() -> str:
    return f"Apache Kafka {KAFKA_VERSION}, the development broker (one node, -Xmx512m, this machine)"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        root = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()  # fmt: skip

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "../kstream")
        return git("rev-parse", "--short=12", "HEAD") + (" and changes on top" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return version("kstream")
