"""The state directory of instances that are stopped: which tasks lie there, and their stores.

It is claimed meanwhile, so that no instance starts on it, and opened for reading only. Of a task that several workers
have had, the latest is taken.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kstream.errors import IdentityInUse, StateDirectoryError, UsageError
from kstream.runtime.cluster.naming import whole_name
from kstream.runtime.instance.owned import open_own
from kstream.runtime.worker.global_copy import GLOBAL
from kstream.state.rocksdb import RocksMemory, RocksReader

_CACHE = 16 << 20


@dataclass(frozen=True)
class Local:
    """A task's part of a store. `at` is how current it is, seconds since the epoch; `reader` is open."""

    task: str
    partition: int
    worker: str
    at: float
    reader: RocksReader


@contextmanager
def stopped(state_dir: Path, app: str, otherwise: str) -> Iterator[Stopped]:
    """The state that lies there.

    Args:
        otherwise: what to do where an instance runs on it, besides stopping it.

    Raises:
        StateDirectoryError: there is no such directory, or it is another app's.
        IdentityInUse: an instance runs on it.
        StateError: what lies there is damaged.
    """
    owner = state_dir / "app"
    try:
        whose = owner.read_text().strip()
    except OSError:
        raise StateDirectoryError(f"there is no state in {state_dir}: give another --state-dir") from None
    if whose != app:
        raise StateDirectoryError(f"state directory {state_dir} belongs to app {whose!r}, this is {app!r}")
    with ExitStack() as held:
        for lock in sorted((state_dir / "instances").glob("*.lock")):
            _claim(lock, held, otherwise)
        memory = RocksMemory(_CACHE, _CACHE)
        readers: list[tuple[str, int, str, RocksReader]] = []
        for current in sorted(state_dir.glob("*/*/*/CURRENT")):
            directory = current.parent
            if not directory.name.isdecimal() or directory.parent.name == GLOBAL:
                continue
            reader = RocksReader(directory, memory)
            held.callback(reader.close)
            part = whole_name(directory.parent)
            readers.append((part, int(directory.name), directory.parent.parent.name, reader))
        yield Stopped(state_dir, readers)


def _claim(lock: Path, held: ExitStack, otherwise: str) -> None:
    descriptor = open_own(lock, os.O_WRONLY)
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise IdentityInUse(
            f"instance {lock.stem!r} runs on {lock.parent.parent}: {otherwise}, or stop it first"
        ) from None


class Stopped:
    def __init__(self, state_dir: Path, readers: Sequence[tuple[str, int, str, RocksReader]]) -> None:
        self._state_dir, self._readers = state_dir, readers

    @property
    def stores(self) -> list[str]:
        readers = [reader for *_, reader in self._readers]
        return sorted({store for one in readers for store in one.stores if one.mark(store) is not None})

    def parts_of(self, store: str) -> list[Local]:
        """By partition; each from the worker that had it last.

        Raises:
            UsageError: nothing of the store lies there.
        """
        newest: dict[int, Local] = {}
        for part, partition, worker, reader in self._readers:
            mark = reader.mark(store) if store in reader.stores else None
            if mark is None:
                continue
            known = newest.get(partition)
            if known is None or mark.wall_time > known.at:
                newest[partition] = Local(f"{part}/{partition}", partition, worker, mark.wall_time, reader)
        if not newest:
            raise UsageError(
                f"nothing of store {store} lies in {self._state_dir}; there is: {', '.join(self.stores) or 'nothing'}"
            )
        return [newest[partition] for partition in sorted(newest)]
