"""What a snapshot takes, and what a restore from one takes, in a directory on this machine's disk: `python -m
benchmarks.snapshots [--keys N] [--bytes N]`.

It needs no Kafka. What it compares with is a restore from a changelog at its best: the same entries, in the order of a
changelog, written to RocksDB by the batch as a replay does, without the consumer that would bring them. `make bench`
measures the whole of that (row `restore`).
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kstream.clock import SystemClock
from kstream.state.backend import Mark
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.state.snapshots.manifest import Draft, StoredStore
from kstream.state.snapshots.storage import DirectoryStorage
from kstream.state.snapshots.transfer import Hashes, read_snapshot, write_snapshot

BATCH = 10_000
STORE = "totals"


def entries(keys: int, size: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """In batches, keys in no order."""
    chance = random.Random(1)
    order = list(range(keys))
    chance.shuffle(order)
    for first in range(0, keys, BATCH):
        yield [(b"key-%011d" % number, chance.randbytes(size)) for number in order[first : first + BATCH]]


class Spent:
    """Seconds of wall clock, and of processor time of all threads: on a busy machine the latter says more."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def on(self, do: Callable[[], object]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        do()
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu

    def told(self, what: str) -> None:
        print(f"{what:<44}{self.wall:8.2f} s{self.cpu:8.2f} s of processor", flush=True)


def timed(what: str, do: Callable[[], object]) -> Spent:
    spent = Spent()
    spent.on(do)
    spent.told(what)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=5_000_000)
    parser.add_argument("--bytes", type=int, default=185, help="of a value")
    given = parser.parse_args()
    memory, clock = RocksMemory(100 << 20, 100 << 20), SystemClock()
    with tempfile.TemporaryDirectory(prefix="kstream-bench-", dir=".") as folder:
        root = Path(folder)
        storage, hashes, replay = DirectoryStorage(root / "storage"), Hashes(), Spent()
        one = RocksBackend(root / "one", [STORE], memory)
        for number, batch in enumerate(entries(given.keys, given.bytes)):
            mark = Mark((number + 1) * BATCH, clock.time())
            replay.on(partial(one.write, {STORE: batch}, {STORE: mark}))
        replay.on(one.flush)
        replay.told("writes of a replay, without Kafka")

        def snapshot(number: int) -> None:
            one.flush()
            began = time.perf_counter()
            one.checkpoint(root / f"links-{number}")
            links.append(time.perf_counter() - began)
            mark = one.mark(STORE)
            assert mark is not None
            draft = Draft(
                app="bench", part="in", partition=0, number=number, taken=clock.time(), backend=one.kind,
                stores={STORE: StoredStore.of(mark)},
            )  # fmt: skip
            made.append(
                write_snapshot(storage, "place", root / f"links-{number}", draft, clock, patience=600, hashes=hashes)
            )

        made, links = [], []
        timed("first snapshot", lambda: snapshot(1))
        one.write({STORE: [(b"key-%011d" % number, bytes(given.bytes)) for number in range(1000)]}, {})
        timed("the next one, after 1,000 changes", lambda: snapshot(2))
        for manifest, seconds in zip(made, links, strict=True):
            size, stored = manifest.size / 1e6, manifest.uploaded / 1e6
            print(f"  {len(manifest.files)} files, {size:.0f} MB, {stored:.0f} stored; links {seconds * 1000:.1f} ms")
        other = RocksBackend(root / "other", [STORE], memory)

        def restore() -> None:
            read_snapshot(storage, "place", made[-1], root / "fetched")
            other.detach()
            other.attach(root / "fetched")
            assert other.multi_get(STORE, [b"key-%011d" % (given.keys - 1)])[0] is not None

        spent = timed("restore from the snapshot, checked", restore)
        wall, cpu = replay.wall / spent.wall, replay.cpu / spent.cpu
        print(f"{wall:.1f} times as fast as the writes of a replay, {cpu:.1f} times by the processor's time")
        one.close()
        other.close()


if __name__ == "__main__":
    main()
