"""What a worker tells the C library, in a process of its own: it cannot be taken back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kstream.runtime.process import allocator

CODE = """
import ctypes, threading
from kstream.runtime.process import allocator

print(allocator.bound())
barrier = threading.Barrier(16)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
at = []

def allocate():
    at.append(libc.malloc(4096) >> 26)  # arenas of threads lie at multiples of 64 MiB
    barrier.wait(60)

threads = [threading.Thread(target=allocate) for _ in range(16)]
for one in threads:
    one.start()
for one in threads:
    one.join()
print(len(set(at)))
"""


FREED = """
import ctypes
from kstream.runtime.process import allocator

print(allocator.bound())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def resident():
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[1]) * 4096

begun = resident()
blocks = [libc.malloc(64 << 10) for _ in range(640)]
for block in blocks:
    ctypes.memset(block, 1, 64 << 10)
for block in blocks[:-1]:  # the last one is still in use: the heap does not shrink
    libc.free(block)
kept = resident() - begun
allocator.GiveBack()()
print(kept >> 20, resident() - begun >> 20)
"""
"""What memtables do: 40 MiB in blocks, free all at once."""


def run(code: str = CODE, **environment: str) -> list[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**plain, **environment}
    )
    return done.stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_threads_share_an_arena() -> None:
    done, arenas = run()
    assert done == "True" and int(arenas) <= allocator.ARENAS


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_who_has_decided_otherwise_is_left_alone() -> None:
    done, arenas = run(MALLOC_ARENA_MAX="16")
    assert done == "False" and int(arenas) > allocator.ARENAS


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_what_is_free_behind_something_that_is_used_goes_back() -> None:
    done, kept, left = run(FREED)
    assert done == "True" and int(kept) >= 30 and int(left) <= 5


def test_after_one_that_took_long_the_next_are_left_out() -> None:
    taken, read = iter([0.5, *[0.001] * 10]), []

    def clock() -> float:  # read twice by each that is not left out
        read.append(0.0 if len(read) % 2 == 0 else next(taken))
        return read[-1]

    give_back = allocator.GiveBack(clock)
    for _ in range(1 + allocator.LEFT_OUT):
        give_back()
    assert len(read) == 2, "the first alone"
    for _ in range(3):
        give_back()
    assert len(read) == 8, "short ones go on"
