"""A disk that is really full: a small tmpfs, in a mount namespace of its own, where this user may make one."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kstream.errors import StateDirectoryError
from support.running import TESTS
from unit.runtime.harness import Counting, Fleet

SIZE = 24 << 20
COUNTING = Counting("full-disk")


def fill(filler: Path) -> str | None:
    """Takes all room that there is. Returns what the system says then."""
    with filler.open("ab", buffering=0) as out:
        try:
            while True:
                out.write(bytes(1 << 16))
        except OSError as error:
            return error.strerror


def stand_full(disk: Path) -> None:
    """Runs within the namespace, with the disk mounted. Prints what the worker ended with."""
    filler, keys = disk / "filler", [f"k{number}" for number in range(200)]
    fleet = Fleet(COUNTING.app, disk / "state", partitions=2, backend="rocksdb", flush_interval=1.0)
    fleet.send(COUNTING.source, keys)
    fleet.start("a")
    fleet.settle()
    for task in fleet.workers["a"].tasks.values():
        task.backend.flush()
    flushed = fleet.workers["a"].restorer.replay.records
    print(fill(filler))
    for life in range(2):  # started again while there is no room, it ends again
        try:
            fleet.send(COUNTING.source, keys)
            if life:
                fleet.start("a")
            for _ in range(200):
                fleet.step(seconds=0.5)
                fill(filler)  # what RocksDB has removed meanwhile
                for task in fleet.workers["a"].tasks.values():
                    task.backend.flush()
        except StateDirectoryError as error:
            print(error)
        fleet.crash("a")
        gc.collect()  # its process would have ended: nothing of it may be left
    filler.unlink()
    worker = fleet.start("a")
    fleet.settle()
    COUNTING.check(fleet)
    assert worker.restorer.replay.records - flushed < 2 * 3 * len(keys), "it was rebuilt from its changelogs"
    fleet.close()
    print("exact")


def test_the_worker_ends_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    namespace = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else [])]
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)]
    if not shutil.which("unshare") or subprocess.run([*namespace, *mount], capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    program = f"from pathlib import Path; from {__name__} import stand_full; stand_full(Path({str(disk)!r}))"
    script = '"$@" && exec "$PYTHON" -c "$PROGRAM"'
    done = subprocess.run(
        [*namespace, "sh", "-c", script, "sh", *mount], capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHON": sys.executable, "PROGRAM": program, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *ended, last = done.stdout.splitlines()
    assert first == "No space left on device" and last == "exact"
    assert len(ended) == 2, done.stdout
    assert all(line.startswith("the state directory") and "the disk is full" in line for line in ended), done.stdout
