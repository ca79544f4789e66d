"""Keys in URLs: every key that a table may have is written in one way and read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.codecs.keys import ENCODINGS, Encoding, after_prefix, check_ordered, key_bytes, shown_key
from kstream.errors import UsageError
from kstream.specs.schema import schema


@dataclass(frozen=True)
class Seat:
    row: int
    letter: str


def codec(kind: Any) -> Any:
    return schema(kind, "a key", key=True).codec


@pytest.mark.parametrize(
    ("kind", "text", "key"),
    [
        (str, "a/b ü", "a/b ü".encode()),
        (int, "-7", b"-7"),
        (bytes, "_-8", b"\xff\xef"),
        (UUID, "12345678-1234-5678-1234-567812345678", b'"12345678-1234-5678-1234-567812345678"'),
        (Seat, '{"letter":"a","row":3}', b'{"row":3,"letter":"a"}'),
    ],
    ids=["str", "int", "bytes", "uuid", "dataclass"],
)
def test_a_key_is_written_as_its_type_is(kind: Any, text: str, key: bytes) -> None:
    assert key_bytes(codec(kind), text, "json", "base64url", "the key") == key


@given(st.binary(max_size=40), st.sampled_from(ENCODINGS[:2]))
def test_bytes_come_back_in_either_encoding(key: bytes, encoding: Encoding) -> None:
    shown = shown_key(codec(bytes), key, encoding)
    assert key_bytes(codec(bytes), shown, "json", encoding, "the key") == key


@given(st.integers() | st.text(max_size=20) | st.builds(Seat, st.integers(-9, 9), st.text(max_size=3)))
def test_what_is_shown_is_read_back(key: Any) -> None:
    of = codec(type(key))
    raw = of.encode(key)
    shown = shown_key(of, raw, "base64url")
    text = shown if isinstance(shown, str) else json.dumps(shown)
    assert key_bytes(of, text, "json", "base64url", "the key") == raw


@pytest.mark.parametrize(
    ("kind", "text"), [(int, "seven"), (bytes, "no base64!"), (Seat, "{")], ids=["int", "bytes", "json"]
)
def test_what_is_no_key_is_refused_in_words(kind: Any, text: str) -> None:
    with pytest.raises(UsageError, match="the key"):
        key_bytes(codec(kind), text, "json", "base64url", "the key")


@given(st.binary(max_size=6), st.binary(max_size=6))
def test_a_prefix_ends_where_the_first_key_without_it_is(prefix: bytes, key: bytes) -> None:
    behind = after_prefix(prefix)
    assert (key >= prefix and (behind is None or key < behind)) == key.startswith(prefix)


def test_only_keys_that_lie_in_their_order_have_ranges() -> None:
    check_ordered(codec(str), "it")
    check_ordered(codec(bytes), "it")
    with pytest.raises(UsageError, match="keys of type int, which do not lie in their order"):
        check_ordered(codec(int), "it")  # 10 lies before 9
