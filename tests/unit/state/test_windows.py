"""What closes is taken from the store in the order of its windows, whatever was changed, taken back and committed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from kstream.codecs import windowed_codec
from kstream.codecs.windowed import Windowed, stored_start
from kstream.specs.schema import Schema, schema
from kstream.specs.store import StoreSpec
from kstream.state.memory import MemoryBackend
from kstream.state.windows import WindowStore

SPEC = StoreSpec(
    "w", Schema(Windowed[str], windowed_codec(schema(str, "", key=True).codec, stored=True)), schema(int, "")
)


class Watched(MemoryBackend):
    """Notes where scans begin."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.began: list[bytes] = []

    def scan(self, store: str, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        self.began.append(start)
        return super().scan(store, start, stop)


def opened() -> tuple[WindowStore[int], Watched]:
    backend = Watched(["w"])
    store = WindowStore[int](SPEC, backend, cache_bytes=1 << 20)
    store.guard(True)
    return store, backend


def assign(store: WindowStore[int], start: int, key: int, value: int) -> None:
    at = stored_start(start) + b"%d" % key
    store.load((at,))
    store.live[at] = value
    store.changed((at,))


def close(store: WindowStore[int], stop: int) -> dict[bytes, bytes]:
    taken = dict(store.before(stored_start(stop)))
    assert list(taken) == sorted(taken)
    for key in taken:
        store.delete(key)
    return taken


def commit(store: WindowStore[int], backend: Watched) -> None:
    backend.write(store.local_changes(), {})
    store.committed()


WINDOW = st.integers(0, 9)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("assign"), WINDOW, st.integers(0, 3)),
        st.tuples(st.just("close"), st.integers(0, 3), st.just(0)),
        st.tuples(st.sampled_from(["half", "keep", "back", "commit", "abort"]), st.just(0), st.just(0)),
        st.tuples(st.just("one back"), st.integers(0, 20), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
@example([("close", 1, 0), ("half", 0, 0), ("assign", 0, 0), ("commit", 0, 0)])
@example([("assign", 0, 0), ("close", 3, 0), ("half", 0, 0), ("assign", 0, 0), ("commit", 0, 0)])
@example([("half", 0, 0), ("assign", 0, 0), ("commit", 0, 0)])
def test_what_closes_is_what_was_assigned(steps: list[tuple[str, int, int]]) -> None:
    store, backend = opened()
    now: dict[bytes, int] = {}
    kept, committed = dict(now), dict(now)
    time = kept_time = committed_time = value = 0
    for what, first, second in steps:
        if what == "assign":
            value += 1
            assign(store, time + first, second, value)
            now[stored_start(time + first) + b"%d" % second] = value
        elif what == "close":
            time += first
            due = {key: b"%d" % each for key, each in sorted(now.items()) if key < stored_start(time)}
            assert close(store, time) == due
            now = {key: each for key, each in now.items() if key not in due}
        elif what == "half":  # what closes fails on its way
            found = store.before(stored_start(time + 5))
            if (one := next(found, None)) is not None:
                store.delete(one[0])
            assert store.take_back()
            now, time = dict(kept), kept_time
        elif what == "keep":
            store.keep()
            kept, kept_time = dict(now), time
        elif what == "back":
            assert store.take_back()
            now, time = dict(kept), kept_time
        elif what == "one back":  # a record is left out: its window is open, so it was not removed since
            open_ = sorted(key for key in store._before or () if key >= stored_start(time))
            if open_:
                key = open_[first % len(open_)]
                assert store.take_back([key])
                now.pop(key, None)
                if key in kept:
                    now[key] = kept[key]
        elif what == "commit":
            commit(store, backend)
            kept = committed = dict(now)
            kept_time = committed_time = time
            now = dict(now)
        else:
            store.aborted()
            now, kept = dict(committed), dict(committed)
            time = kept_time = committed_time
        assert store.first() == min(now, default=None)
    assert close(store, 1000) == {key: b"%d" % each for key, each in sorted(now.items())}


def test_a_close_looks_at_what_is_due() -> None:
    store, backend = opened()
    for start in range(100):
        assign(store, start, 0, start)
    commit(store, backend)
    for start in range(50):
        close(store, start + 1)
        assign(store, start + 2, 1, 0)
        store.keep()
        assign(store, start + 2, 2, 0)
        assert store.take_back([stored_start(start + 2) + b"2"])  # a record that was left out
    assert backend.began == [b"", *map(stored_start, range(1, 50))]  # and not again through what is gone


def test_a_close_does_not_go_through_what_closed_before() -> None:
    store, _ = opened()
    looked = 0

    class Counted(dict[bytes, Any]):
        def __iter__(self) -> Iterator[bytes]:
            nonlocal looked
            for key in super().__iter__():
                looked += 1
                yield key

        def __reversed__(self) -> Iterator[bytes]:
            nonlocal looked
            for key in super().__reversed__():
                looked += 1
                yield key

    store._dirty = Counted()
    for start in range(1000):
        assign(store, start, 0, start)
        store.keep()
        close(store, start)
    assert looked <= 1000  # each once, until the commit
