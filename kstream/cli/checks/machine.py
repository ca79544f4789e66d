"""This machine: versions, the state directory and its disk, open files, memory."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

from kstream.cli import human
from kstream.cli.checks import Check, State
from kstream.config import Settings
from kstream.config.units import show_size

LITTLE_DISK: Final = 1 << 30
"""Free bytes below which a disk is nearly full: compaction writes a level anew before it removes the old one."""
NO_DISK: Final = 100 << 20
FILES_BESIDE: Final = 200
"""Open files of a worker besides RocksDB's: libraries, logs, a connection or two to each broker."""
FILES_OF_A_TASK: Final = 30
"""RocksDB keeps all files of a task open: logs and lock, and tables in up to seven levels."""
NOFILE_ADVICE: Final = "raise it: ulimit -n 65536, LimitNOFILE= of a systemd unit, or --ulimit nofile= of a container"
_GROUPS: Final = Path("/sys/fs/cgroup")


def machine(settings: Settings, tasks: int | None, groups: int = 1) -> Iterator[Check]:
    """`tasks` is how many the app has, None when that is not known; `groups` how many isolation groups run here."""
    yield versions()
    yield state_directory(Path(settings.state_dir))
    yield disk(Path(settings.state_dir))
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0], tasks)
    yield memory(settings, available(), groups)


def versions() -> Check:
    from kstream.runtime.kafka import librdkafka_version

    parts = [
        f"kstream {version('kstream')}",
        f"Python {platform.python_version()}",
        f"librdkafka {librdkafka_version()}",
        f"rocksdict {version('rocksdict')}",
    ]
    return Check("versions", "ok", ", ".join(parts))


def state_directory(path: Path) -> Check:
    """Whether files can be made in it; where it is missing, in the nearest directory above it."""
    place = _existing(path)
    if place.is_dir():
        try:
            with tempfile.NamedTemporaryFile(dir=place, prefix=".doctor-"):
                pass
        except OSError as error:
            return Check(
                "state directory", "error", f"{path} cannot be written: {error.strerror}", "set state_dir to another"
            )
    else:
        return Check("state directory", "error", f"{place} is not a directory", "set state_dir to another")
    made = "" if place == path.absolute() else ", will be made"
    return Check("state directory", "ok", f"{path} can be written{made}")


def disk(path: Path) -> Check:
    usage = shutil.disk_usage(_existing(path))
    text = f"{human.size(usage.free)} of {human.size(usage.total)} free where the state lies"
    if usage.free < NO_DISK:
        return Check("disk", "error", text, "make room, or set state_dir to another disk")
    if usage.free < max(LITTLE_DISK, usage.total // 20):
        return Check("disk", "warning", text, "make room: RocksDB needs some for compaction")
    return Check("disk", "ok", text)


def open_files(limit: int, tasks: int | None) -> Check:
    """By the worst case, one worker with all tasks."""
    need = FILES_BESIDE + FILES_OF_A_TASK * (tasks or 0)
    if limit == resource.RLIM_INFINITY:
        return Check("open files", "ok", "no limit")
    if tasks is None:
        text = f"{limit:,} for each process"
        state: State = "ok" if limit >= 4096 else "warning"
    else:
        text = f"{limit:,} for each process; a worker with all {tasks:,} tasks needs about {need:,}"
        state = "ok" if limit >= 2 * need else "warning" if limit >= need else "error"
    return Check("open files", state, text, "" if state == "ok" else NOFILE_ADVICE)


def memory(settings: Settings, total: int, groups: int = 1) -> Check:
    most = (settings.worker_range or (0, settings.workers))[1]
    workers = groups * max(int(most if most is not None else (os.cpu_count() or 1) // groups), 1)
    budget = workers * settings.memory
    text = f"{workers} x {show_size(settings.memory)} for workers, the machine or container has {human.size(total)}"
    if budget > total:
        return Check("memory", "error", text, "set memory or workers lower, or give the container more")
    if budget > 0.8 * total:
        return Check("memory", "warning", text, "leave a fifth for Python itself, and for the page cache")
    return Check("memory", "ok", text)


def available() -> int:
    """Bytes of memory that this process and its children may use: the machine's, or its control group's limit."""
    limits = [psutil.virtual_memory().total]
    for file in _limit_files():
        if file.is_file() and (text := file.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits)


def _limit_files() -> Iterator[Path]:
    """Of our control group and those above it (version 2), or of version 1, where it lies under one name."""
    yield _GROUPS / "memory" / "memory.limit_in_bytes"
    known = Path("/proc/self/cgroup")
    lines = known.read_text().splitlines() if known.is_file() else []
    for line in lines:
        if line.startswith("0::/"):
            own = _GROUPS / line.removeprefix("0::/")
            yield from (place / "memory.max" for place in (own, *own.parents) if place.is_relative_to(_GROUPS))


def _existing(path: Path) -> Path:
    """The path, or the nearest above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())
