"""What is said of processes, held against real ones."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from kstream.observe.catalogue import CATALOGUE
from kstream.runtime.process.garbage import GarbageCollection, process_name
from kstream.runtime.view.system import Processes
from kstream.testing.clock import ManualClock
from support.running import until

CHILD = """
import sys, threading, time
held = bytearray(80 << 20)
files = [open("/dev/null") for _ in range(40)]
threading.Thread(target=threading.Event().wait, daemon=True).start()
began = time.process_time()
while time.process_time() - began < 0.3:
    pass
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process with 80 MiB, 40 files, 2 threads and 0.3 s of processor time; it ends with its standard input."""
    with start() as process:
        yield process
        if process.stdin and not process.stdin.closed:
            process.stdin.close()


def start() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def values(processes: Processes, pids: dict[str, int]) -> dict[tuple[str, str], float]:
    series = processes.collect(pids)
    assert all(CATALOGUE[one.name].labels == ("process",) for one in series)
    return {(one.name.removeprefix("process_"), one.labels[0]): one.value for one in series}


def test_a_process_is_seen_as_it_is(child: subprocess.Popen[str]) -> None:
    found = values(Processes(30.0), {"supervisor": os.getpid(), "worker-0": child.pid})
    assert 80 << 20 < found["resident_memory_bytes", "worker-0"] < 200 << 20
    assert 43 <= found["open_fds", "worker-0"] <= 60
    assert found["threads", "worker-0"] == 2
    assert 0.3 <= found["cpu_seconds_total", "worker-0"] < 10
    assert found["cpu_seconds_total", "supervisor"] == pytest.approx(time.process_time(), rel=0.2, abs=0.2)
    assert found["open_fds", "supervisor"] > 2


def test_it_is_looked_at_when_it_is_time(child: subprocess.Popen[str]) -> None:
    clock = ManualClock()
    processes = Processes(30.0, clock.monotonic)
    pids = {"supervisor": os.getpid(), "worker-0": child.pid}
    first = values(processes, pids)
    began = time.process_time()
    while time.process_time() - began < 0.1:
        pass
    clock.advance(29)
    assert values(processes, pids) == first
    clock.advance(1)
    assert values(processes, pids)["cpu_seconds_total", "supervisor"] >= first["cpu_seconds_total", "supervisor"] + 0.05


def test_processor_time_goes_on_with_a_workers_successor(child: subprocess.Popen[str]) -> None:
    processes = Processes(30.0)  # nothing is due: a new pid is looked at at once
    first = values(processes, {"worker-0": child.pid})["cpu_seconds_total", "worker-0"]
    child.kill()
    until(lambda: child.poll() is not None, "the child to be gone")
    found = values(processes, {})
    assert found == {("cpu_seconds_total", "worker-0"): first}
    with start() as successor:
        found = values(processes, {"worker-0": successor.pid})
        assert first + 0.3 <= found["cpu_seconds_total", "worker-0"] < first + 10
        assert found["threads", "worker-0"] == 2
        assert successor.stdin is not None
        successor.stdin.close()


def test_a_process_that_is_gone_and_not_yet_noticed_has_no_levels(child: subprocess.Popen[str]) -> None:
    clock = ManualClock()
    processes = Processes(1.0, clock.monotonic)
    first = values(processes, {"worker-0": child.pid})
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped: a zombie
    clock.advance(1)
    zombie = values(processes, {"worker-0": child.pid})
    assert set(zombie) == {("cpu_seconds_total", "worker-0")}
    assert zombie["cpu_seconds_total", "worker-0"] >= first["cpu_seconds_total", "worker-0"]
    child.wait()
    clock.advance(1)
    assert values(processes, {"worker-0": child.pid}) == zombie


def test_garbage_collections_are_counted_and_timed() -> None:
    collection = GarbageCollection()
    try:
        before = {one.name: one.value for one in collection.collect("worker-0")}
        rubbish = [[] for _ in range(300_000)]  # type: ignore[var-annotated]
        for one in rubbish:
            one.append(one)
        del rubbish, one
        began = time.thread_time()  # not what others had of the processor, just before and just after
        gc.collect()
        took = time.thread_time() - began
        series = collection.collect("worker-0")
    finally:
        collection.close()
    after = {one.name: one.value for one in series}
    assert {one.labels for one in series} == {("worker-0",)}
    assert after["process_gc_collections_total"] >= before["process_gc_collections_total"] + 1
    assert after["process_gc_seconds_total"] >= 0.8 * took > 0
    gc.collect()
    assert {one.name: one.value for one in collection.collect("worker-0")} == after  # closed


def test_names() -> None:
    assert (process_name(None), process_name("3")) == ("supervisor", "worker-3")


def test_without_a_free_descriptor_the_last_look_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil opens files of /proc: the error of a full table is no psutil.Error."""
    processes = Processes(0.0)
    processes.collect({"supervisor": os.getpid()})

    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("psutil.Process.num_fds", full)
    names = {one.name for one in processes.collect({"supervisor": os.getpid()})}
    assert "process_cpu_seconds_total" in names and "process_open_fds" not in names
