"""What values take of memory, beside what Python says that was allocated for them."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Callable
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from kstream.codecs.sketches import HyperLogLog
from kstream.dsl.quantiles import ranging
from kstream.specs.schema import schema
from kstream.specs.store import StoreSpec
from kstream.state.memory import MemoryBackend
from kstream.state.store import Store
from kstream.state.weighing import MOST, weight_of


class Line(msgspec.Struct):
    item: str
    price: float
    tags: list[str]


class Untracked(msgspec.Struct, gc=False):
    name: str


class Status(StrEnum):
    NEW = "new"
    PAID = "paid"


class Order(msgspec.Struct):
    id: UUID | None
    status: Enum | None


class Odd(dict[str, int]):
    """Nothing that its class says of it can be relied on."""

    def __sizeof__(self) -> int:
        raise RuntimeError("odd")

    def __iter__(self) -> Any:
        raise RuntimeError("odd")

    values = __iter__


def text(letters: int) -> str:
    return "".join(random.choices("abcdefgh", k=letters))


def ranges() -> Any:
    fold, made = ranging(lambda value: value, 0.01), None
    for _ in range(3000):
        made = fold(made, random.lognormvariate(0, 2))
    return made


MADE: dict[str, Callable[[], Any]] = {
    "text": lambda: text(1000),
    "numbers": lambda: [random.randrange(1000, 1 << 40) for _ in range(1000)],
    "few": lambda: [random.randrange(1000, 1 << 40) for _ in range(3)],
    "a set": lambda: {text(10) for _ in range(500)},
    "a dict": lambda: {text(8): random.random() for _ in range(700)},
    "a struct": lambda: Line(text(30), random.random(), [text(12) for _ in range(4)]),
    "structs": lambda: [Line(text(30), random.random(), [text(12) for _ in range(4)]) for _ in range(200)],
    "dicts": lambda: [{text(5): {text(5): [text(5)]}} for _ in range(100)],
    "untracked": lambda: [Untracked(text(50)) for _ in range(100)],
    "times": lambda: [datetime.fromtimestamp(random.randrange(1 << 30)) for _ in range(300)],
    "ranges of quantiles": ranges,
}


@pytest.mark.parametrize("what", MADE)
def test_it_is_about_what_was_allocated(what: str) -> None:
    random.seed(7)
    make = MADE[what]
    make()
    gc.collect()
    tracemalloc.start()
    try:
        values = [make() for _ in range(10)]
        allocated = tracemalloc.get_traced_memory()[0] / len(values)
    finally:
        tracemalloc.stop()
    weights = [weight_of(value) for value in values]
    assert 0.6 * allocated < sum(weights) / len(weights) < 1.7 * allocated, (weights, allocated)


def test_what_is_there_several_times_counts_once_and_functions_do_not_count() -> None:
    shared = text(1000)
    assert weight_of([shared] * 5) < 1200
    assert weight_of([len, Line, lambda: MADE]) < 200
    endless: list[Any] = []
    endless.append(endless)
    assert weight_of(endless) < 200


def test_members_of_enumerations_are_everybodys() -> None:
    """They do not come with each value, and neither does what a UUID says of its making."""
    assert weight_of(Order(None, Status.NEW)) == weight_of(Order(None, None))
    assert weight_of(Order(uuid4(), None)) < 200
    assert weight_of([Status.NEW, Status.PAID] * 500) < 9000


def test_odd_values_weigh_something() -> None:
    """They are weighed once they are committed, when it is too late to say anything against them."""
    half = Order(None, None)
    del half.status
    for one in (Odd(a=1), half, [Odd(), half]):
        assert 30 < weight_of(one) < 500


def test_it_looks_at_a_bounded_number_of_objects() -> None:
    deep: Any = 1.5
    for _ in range(10 * MOST):
        deep = [deep]
    assert weight_of(deep) < 100 * MOST


def test_a_sketch_has_the_memory_of_its_library() -> None:
    sketch = HyperLogLog(12)
    assert weight_of(sketch) < 300
    for number in range(20_000):
        sketch.add(str(number))
    assert weight_of(sketch) > len(sketch.written()) * 0.8


def test_the_first_transaction_is_weighed_before_its_end() -> None:
    spec = StoreSpec("lists", schema(str, "key"), schema(list[int], "value"))
    store: Store[list[int]] = Store(spec, MemoryBackend(["lists"]), cache_bytes=1 << 20)
    for number in range(100):
        store.put(b"%d" % number, [100_000 + at for at in range(500)])
    assert 1_500_000 < store.overlay_bytes < 4_000_000


def test_one_large_value_of_a_key_that_comes_often_is_not_taken_for_all() -> None:
    """A thousand small ones counted as gigabytes, and each batch was committed for itself."""
    spec = StoreSpec("lists", schema(str, "key"), schema(list[int], "value"))
    backend = MemoryBackend(["lists"])
    store: Store[list[int]] = Store(spec, backend, cache_bytes=1 << 20)
    for turn in range(20):
        store.put(b"often", [100_000 + at for at in range(50_000)])
        for number in range(1000):
            store.put(b"%d" % number, [number])
        assert store.overlay_bytes < 10_000_000
        assert not turn or store.overlay_bytes > 1_000_000, "it is 1.8 MB"
        backend.write({name: list(entries) for name, entries in store.local_changes().items()}, {})
        store.committed()


@pytest.mark.parametrize("how", ["written", "read"])
def test_the_cache_of_a_store_takes_what_it_may(how: str) -> None:
    """It went by the bytes: 20,000 numbers are 100 KB of JSON, and 700 KB of memory."""
    spec = StoreSpec("lists", schema(str, "key"), schema(list[int], "value"))
    backend, most = MemoryBackend(["lists"]), 1 << 20
    written: Store[list[int]] = Store(spec, backend, cache_bytes=most)
    for start in range(0, 400, 20):
        for number in range(start, start + 20):
            written.put(b"%d" % number, [100_000 + at for at in range(500)])
        changes = written.local_changes()
        backend.write({name: list(entries) for name, entries in changes.items()}, {})
        written.committed()
    store = written
    if how == "read":
        store = Store(spec, backend, cache_bytes=most)
        for start in range(0, 400, 20):
            store.load([b"%d" % number for number in range(start, start + 20)])
            store.committed()
    kept = [*store.live.values(), *store._older.values()]
    assert 0.3 * most < sum(map(weight_of, kept)) < 1.5 * most
    assert store.cached_bytes < 1.5 * most
