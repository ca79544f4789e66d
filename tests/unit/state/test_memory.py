"""The limit that the memory backends of a worker share."""

from __future__ import annotations

import pytest

from kstream.errors import StateTooLarge
from kstream.state.backend import Mark
from kstream.state.memory import ENTRY_OVERHEAD, MemoryBackend, MemoryLimit

ENTRY = 10 + ENTRY_OVERHEAD
"""What `entry` takes."""


def entry(number: int) -> tuple[bytes, bytes]:
    """A key of four bytes and a value of six."""
    return f"{number:04}".encode(), b"value!"


def test_entries_are_counted_with_their_objects() -> None:
    limit = MemoryLimit(10 * ENTRY)
    backend = MemoryBackend(["a", "b"], limit)
    backend.write({"a": [entry(1), entry(2)], "b": [entry(1)]}, {"a": Mark(3, 1.0)})
    assert limit.used == 3 * ENTRY
    backend.write({"a": [(entry(1)[0], None), (b"none", None)]}, {})
    assert limit.used == 2 * ENTRY
    backend.write({"b": [(entry(1)[0], b"a longer value")]}, {})
    assert limit.used == 2 * ENTRY + len(b"a longer value") - len(b"value!")
    backend.reset("b")
    assert limit.used == ENTRY
    backend.close()
    backend.close()
    assert limit.used == 0


def test_what_a_key_had_before_is_given_back_within_one_write() -> None:
    limit = MemoryLimit(ENTRY)
    backend = MemoryBackend(["a"], limit)
    for number in range(100):
        backend.write({"a": [entry(1), (entry(1)[0], None), entry(1), entry(1)]}, {"a": Mark(number, 1.0)})
    assert limit.used == ENTRY


def test_the_backends_of_a_worker_share_the_limit() -> None:
    limit = MemoryLimit(3 * ENTRY)
    one, other = MemoryBackend(["a"], limit), MemoryBackend(["a"], limit)
    one.write({"a": [entry(1), entry(2)]}, {})
    other.write({"a": [entry(3)]}, {})  # exactly the limit
    with pytest.raises(StateTooLarge, match=r"memory_backend_limit \(420B\): raise it, .*backend=rocksdb"):
        other.write({"a": [entry(4)]}, {})


def test_a_write_that_makes_it_smaller_is_no_error_though_it_is_too_large() -> None:
    limit = MemoryLimit(2 * ENTRY)
    backend = MemoryBackend(["a"], limit)
    with pytest.raises(StateTooLarge):
        backend.write({"a": [entry(number) for number in range(4)]}, {})
    backend.write({"a": [(entry(0)[0], None)]}, {})
    assert limit.used == 3 * ENTRY
    with pytest.raises(StateTooLarge):
        backend.write({"a": [entry(9)]}, {})


def test_closing_never_fails_for_the_limit() -> None:
    """A worker that ends because of it closes its tasks one by one: the others still hold too much."""
    limit = MemoryLimit(ENTRY)
    one, other = MemoryBackend(["a"], limit), MemoryBackend(["a"], limit)
    one.write({"a": [entry(1)]}, {})
    with pytest.raises(StateTooLarge):
        other.write({"a": [entry(number) for number in range(4)]}, {})
    one.close()
    other.reset("a")
    other.close()
    assert limit.used == 0
