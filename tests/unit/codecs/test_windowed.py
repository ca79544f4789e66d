"""Keys of windows: in the form of Kafka Streams, and in that of stores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.codecs import Windowed, resolve, windowed_codec
from kstream.codecs.text import decoded, from_text
from kstream.codecs.windowed import StoredKeys, as_in_topics, start_in, stored_start
from kstream.errors import CodecError, UsageError

KEYS = resolve(str, what="a key", key=True)
IN_TOPICS = resolve(Windowed[str], what="a key", key=True)
STORED = windowed_codec(KEYS, stored=True)
times = st.integers(-(1 << 63), (1 << 63) - 1)


def test_in_topics_they_have_the_form_of_kafka_streams() -> None:
    assert IN_TOPICS.encode(Windowed("ann", 258)) == b"ann\x00\x00\x00\x00\x00\x00\x01\x02"


@given(st.text(), times)
def test_they_come_back(key: str, start: int) -> None:
    one = Windowed(key, start)
    assert IN_TOPICS.decode(IN_TOPICS.encode(one)) == STORED.decode(STORED.encode(one)) == one
    assert start_in(STORED.encode(one)) == start


@given(st.text(), times, st.text(), times)
def test_in_stores_they_lie_in_the_order_of_time(key: str, start: int, other: str, later: int) -> None:
    one, two = Windowed(key, start), Windowed(other, later)
    encoded = [STORED.encode(one), STORED.encode(two)]
    assert (encoded[0] < encoded[1]) == ((start, key.encode()) < (later, other.encode()))


def test_people_write_them_as_they_are_shown() -> None:
    one = Windowed("ann", 60_000)
    for codec in (IN_TOPICS, STORED):
        shown = decoded(codec, codec.encode(one), key=True)
        assert shown.plain == {"key": "ann", "start": 60_000}
        assert from_text(codec, shown.text, "the key") == codec.encode(one)
    with pytest.raises(UsageError, match="the key is not Windowed"):
        from_text(IN_TOPICS, '{"key": 5}', "the key")


def test_bytes_that_are_too_short() -> None:
    with pytest.raises(CodecError, match="at least 8 bytes"):
        IN_TOPICS.decode(b"ann")


@given(st.lists(st.tuples(st.text(), times)))
def test_from_a_store_to_a_topic_without_decoding(given_: list[tuple[str, int]]) -> None:
    ones = [Windowed(key, start) for key, start in given_]
    wanted = list(map(IN_TOPICS.encode, ones))
    made = StoredKeys([one.key.encode() for one in ones], [one.start for one in ones])
    assert list(made) == list(map(STORED.encode, ones))
    assert as_in_topics(STORED, IN_TOPICS, made) == as_in_topics(STORED, IN_TOPICS, list(made)) == wanted


def test_all_of_one_window() -> None:
    keys = StoredKeys([b"ann", b"bob"], -5)
    assert list(keys) == [stored_start(-5) + key for key in (b"ann", b"bob")]
    assert as_in_topics(STORED, IN_TOPICS, keys) == [IN_TOPICS.encode(Windowed(key, -5)) for key in ("ann", "bob")]


def test_keys_that_are_not_written_alike_are_decoded() -> None:
    column = [STORED.encode(Windowed("ann", 1))]
    assert as_in_topics(IN_TOPICS, STORED, column) is None
    assert as_in_topics(STORED, STORED, column) is None
    assert as_in_topics(STORED, KEYS, column) is None
    assert as_in_topics(STORED, resolve(Windowed[bytes], what="a key", key=True), column) is None
    assert as_in_topics(STORED, IN_TOPICS, [*column, None]) is None
