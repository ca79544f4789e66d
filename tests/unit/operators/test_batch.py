"""Columns against a list of records: whatever is filtered, spread, picked and changed, each element keeps its own."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kstream.codecs import resolve
from kstream.operators.batch import Batch
from kstream.operators.origin import Origin
from kstream.testing.fetch import MemoryFetch
from kstream.testing.log import MemoryRecord

INT = resolve(int, what="value")
STR = resolve(str, what="key")

records = st.lists(
    st.tuples(st.one_of(st.none(), st.sampled_from("abc")), st.integers(0, 9), st.integers(1, 99)),
    min_size=1,
    max_size=8,
)

#: What is done, one after the other. Numbers choose among the elements that there are.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("where"), st.integers(0, 255)),
        st.tuples(st.just("at"), st.lists(st.integers(0, 20), max_size=9)),
        st.tuples(st.just("repeat"), st.lists(st.integers(0, 3), min_size=30, max_size=30)),
        st.tuples(st.just("values"), st.integers(1, 5)),
        st.tuples(st.just("encoded"), st.integers(1, 5)),
        st.tuples(st.just("keys"), st.sampled_from("xyz")),
        st.tuples(st.just("look"), st.sampled_from(["keys", "timestamps", "values"])),
    ),
    max_size=7,
)


def a_batch(rows: list[tuple[str | None, int, int]], event_time: bool) -> Batch:
    fetch = MemoryFetch(
        [
            MemoryRecord("t", 0, 10 + 2 * n, at, key and key.encode(), b"%d" % value, [("n", b"%d" % n)], n)
            for n, (key, value, at) in enumerate(rows)
        ]
    )
    origin = Origin(fetch, [at + 1000 for _, _, at in rows] if event_time else None)
    return Batch(len(fetch), STR, INT, origin=origin, raw_values=fetch.values())


@given(rows=records, steps=steps, event_time=st.booleans())
def test_a_batch_is_its_records(rows: list[tuple[str | None, int, int]], steps: Any, event_time: bool) -> None:
    batch = a_batch(rows, event_time)
    model = [
        {"row": n, "key": key, "value": value, "at": at + 1000 * event_time} for n, (key, value, at) in enumerate(rows)
    ]
    for step, argument in steps:
        size = len(model)
        if step == "where":
            mask = [bool(argument >> (n % 8) & 1) for n in range(size)]
            batch = batch.where(mask)
            model = [one for one, keep in zip(model, mask, strict=True) if keep]
        elif step == "at" and size:
            places = [n % size for n in argument]
            batch = batch.at(places)
            model = [model[n] for n in places]
            batch = batch.with_values([one["value"] for one in model], INT)  # `at` does not take values along
        elif step == "repeat":
            counts = [argument[n % 30] for n in range(size)]
            model = [{**one, "value": i} for one, count in zip(model, counts, strict=True) for i in range(count)]
            batch = batch.repeat(counts, [one["value"] for one in model], INT)
            if len(model) > 60:
                return
        elif step == "values":
            model = [{**one, "value": one["value"] + argument} for one in model]
            batch = batch.with_values([one["value"] for one in model], INT)
        elif step == "encoded":
            model = [{**one, "value": one["value"] * argument} for one in model]
            batch = batch.with_encoded_values([b"%d" % one["value"] for one in model], INT)
        elif step == "keys":
            model = [{**one, "key": f"{argument}{one['value']}"} for one in model]
            batch = batch.with_keys([one["key"] for one in model], STR)
        elif step == "look":
            getattr(batch, argument)  # columns that were made are taken along, not made anew
    assert len(batch) == batch.size == len(model)
    assert batch.keys == [one["key"] for one in model]
    assert batch.values == [one["value"] for one in model]
    assert batch.timestamps == [one["at"] for one in model]
    assert [batch.row(n) for n in range(len(batch))] == [one["row"] for one in model]
    assert batch.encoded_keys(STR) == [one["key"] and one["key"].encode() for one in model]
    assert batch.encoded_values(INT) == [b"%d" % one["value"] for one in model]
    assert batch.origin is not None
    assert [batch.origin.offsets[batch.row(n)] for n in range(len(batch))] == [10 + 2 * one["row"] for one in model]


@given(mask=st.lists(st.booleans(), min_size=4, max_size=4), counts=st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_changes_that_no_input_caused_carry_their_own_columns(mask: list[bool], counts: list[int]) -> None:
    keys, values, stamps = [b"a", b"b", b"c", b"d"], [b"1", b"2", b"3", b"4"], [5, 6, 7, 8]
    batch = Batch(4, STR, INT, raw_keys=list(keys), raw_values=list(values), timestamps=stamps)
    kept = batch.where(mask)
    assert kept.keys == [key.decode() for key, keep in zip(keys, mask, strict=True) if keep]
    assert kept.timestamps == [at for at, keep in zip(stamps, mask, strict=True) if keep]
    assert kept.size == sum(mask)
    spread = batch.repeat(counts, list(range(sum(counts))), INT)
    assert spread.keys == [key.decode() for key, count in zip(keys, counts, strict=True) for _ in range(count)]
    assert spread.timestamps == [at for at, count in zip(stamps, counts, strict=True) for _ in range(count)]
    picked = batch.at([3, 0, 0])
    assert (picked.keys, picked.timestamps) == (["d", "a", "a"], [8, 5, 5])


def test_bytes_that_came_encoded_pass_as_they_are() -> None:
    batch = a_batch([("a", 1, 1), (None, 2, 1)], event_time=False)
    raw = batch.encoded_values(INT)
    assert raw is batch.encoded_values(INT)
    assert batch.encoded_keys(STR) == [b"a", None]
