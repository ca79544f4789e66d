"""The store of a declaration: what it holds decides which class it is."""

from __future__ import annotations

from typing import Any, Final, Unpack

from kstream.specs.store import Holds, StoreSpec
from kstream.state.backend import Reads
from kstream.state.buffers import BufferStore
from kstream.state.entries import EntriesStore
from kstream.state.sessions import SessionStore
from kstream.state.sliding import SlidingStore
from kstream.state.store import Store, StoreOptions
from kstream.state.time import TaskTime
from kstream.state.timed import TimedStore
from kstream.state.timers import TimerStore
from kstream.state.versions import VersionStore
from kstream.state.windows import WindowStore

_CLASSES: Final[dict[Holds, type[Store[Any]]]] = {
    "rows": Store,
    "windows": WindowStore,
    "windowed ids": WindowStore,
    "sessions": SessionStore,
    "recent": SlidingStore,
    "timers": TimerStore,
    "buffers": BufferStore,
    "versions": VersionStore,
    "subscriptions": Store,
}


def make_store(spec: StoreSpec, backend: Reads, time: TaskTime | None, **options: Unpack[StoreOptions]) -> Store[Any]:
    """`time`: of the task; only rows that expire ask for it."""
    if spec.ttl is None:
        return _CLASSES[spec.holds](spec, backend, **options)
    assert time is not None and spec.holds == "rows"
    expiring = EntriesStore if spec.ttl.per == "entry" else TimedStore
    return expiring(spec, backend, time, **options)
