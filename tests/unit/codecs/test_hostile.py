"""Bytes that are meant to do harm: each codec refuses them with an error, or reads them soon and in little memory."""

from __future__ import annotations

import datetime
import time
import tracemalloc
import uuid
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest

from kstream.codecs import ColumnError, decode_column, decode_keys, resolve

DEEP = 100_000
DIGITS = b"7" * 10_000_000


class Leaf(msgspec.Struct):
    n: int


class Chain(msgspec.Struct):
    next: Chain | None = None
    kids: list[Chain] = []
    extra: Any = None


KINDS: dict[str, Any] = {
    "dict": dict, "list": list, "any": Any, "int": int, "float": float, "bool": bool, "Decimal": Decimal,
    "list of int": list[int], "dict of int": dict[int, int], "dict of Any": dict[str, Any], "struct": Leaf,
    "recursive struct": Chain, "nullable": int | None, "datetime": datetime.datetime, "timedelta": datetime.timedelta,
    "UUID": uuid.UUID, "text": str, "bounded text": Annotated[str, msgspec.Meta(max_length=100)], "bytes": bytes,
}  # fmt: skip

HOSTILE: dict[str, bytes] = {
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "open lists": b"[" * DEEP,
    "deep objects": b'{"next":' * DEEP + b"null" + b"}" * DEEP,
    "deep lists of objects": b'{"kids":[' * DEEP + b"]}" * DEEP,
    "deep inside any": b'{"extra":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep where nobody reads": b'{"unknown":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "integer": DIGITS,
    "negative integer": b"-" + DIGITS,
    "integer in a list": b"[" + DIGITS + b"]",
    "integer in a record": b'{"n":' + DIGITS + b"}",
    "integer as a key": b'{"' + DIGITS + b'":1}',
    "fraction": b"0." + DIGITS,
    "exponent": b"1e" + DIGITS,
    "text of digits": b'"' + DIGITS + b'"',
    "no text": b"\xff" * 10_000_000,
}

UNREADABLE = {
    ("any", "deep lists"): "maximum recursion depth exceeded",
    ("recursive struct", "deep objects"): "maximum recursion depth exceeded",
    ("recursive struct", "deep lists of objects"): "maximum recursion depth exceeded",
    ("recursive struct", "deep inside any"): "maximum recursion depth exceeded",
    ("any", "integer"): "Integer value out of range",
    ("int", "integer"): "Integer value out of range",
    ("int", "negative integer"): "Integer value out of range",
    ("struct", "integer in a record"): "Integer value out of range",
    ("float", "integer"): "out of range",
    ("text", "no text"): "can't decode byte 0xff",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_every_codec_takes_no_harm(kind: Any, data: bytes) -> None:
    """An error of one line, or the value; neither takes long, nor memory beyond some times the bytes."""
    codec = resolve(kind, what="x")
    tracemalloc.start()
    began = time.process_time()
    try:
        decode_column(codec, [data])
    except ColumnError as error:
        assert error.index == 0
        assert len(str(error)) < 500 and str(error).isprintable()
    finally:
        seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert seconds < 5
    assert peak < 10 * len(data) + 1_000_000


@pytest.mark.parametrize(("kind", "data"), UNREADABLE, ids=[f"{kind}, {data}" for kind, data in UNREADABLE])
def test_the_error_says_what_it_is(kind: str, data: str) -> None:
    with pytest.raises(ColumnError, match=UNREADABLE[kind, data]):
        decode_column(resolve(KINDS[kind], what="x"), [HOSTILE[data]])


def test_of_a_column_the_record_is_named_in_values_and_keys() -> None:
    good, bad = b"[1]", HOSTILE["deep lists"]
    for decode in (decode_column, decode_keys):
        with pytest.raises(ColumnError, match="recursion") as caught:
            decode(resolve(list, what="x", key=decode is decode_keys), [good, good, bad, good])
        assert caught.value.index == 2


@pytest.mark.parametrize("digits", [4300, 4301])
@pytest.mark.parametrize("kind", [int, Any], ids=["int", "any"])
def test_whole_numbers_have_up_to_4300_digits(kind: Any, digits: int) -> None:
    """Python's own limit (sys.set_int_max_str_digits), which msgspec keeps."""
    codec, data = resolve(kind, what="x"), b"7" * digits
    if digits > 4300:
        with pytest.raises(ColumnError, match="Integer value out of range"):
            decode_column(codec, [data])
    else:
        assert decode_column(codec, [data]) == [int(data)]
