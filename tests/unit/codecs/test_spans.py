"""Keys of windows with a start and an end: in the form of Kafka Streams' sessions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.codecs import WindowedSpan, resolve
from kstream.codecs.text import decoded, from_text
from kstream.errors import CodecError, UsageError

SPANS = resolve(WindowedSpan[str], what="a key", key=True)
times = st.integers(-(1 << 63), (1 << 63) - 1)


def test_in_topics_they_have_the_form_of_kafka_streams() -> None:
    """SessionKeySchema.toBinary: the key, the end, the start."""
    assert SPANS.encode(WindowedSpan("ann", 258, 515)) == (
        b"ann\x00\x00\x00\x00\x00\x00\x02\x03\x00\x00\x00\x00\x00\x00\x01\x02"
    )


@given(st.text(), times, times)
def test_they_come_back(key: str, start: int, end: int) -> None:
    one = WindowedSpan(key, start, end)
    assert SPANS.decode(SPANS.encode(one)) == one


def test_people_write_them_as_they_are_shown() -> None:
    one = WindowedSpan("ann", 60_000, 61_000)
    shown = decoded(SPANS, SPANS.encode(one), key=True)
    assert shown.plain == {"key": "ann", "start": 60_000, "end": 61_000}
    assert from_text(SPANS, shown.text, "the key") == SPANS.encode(one)
    with pytest.raises(UsageError, match="the key is not WindowedSpan"):
        from_text(SPANS, '{"key": "ann", "start": 5}', "the key")


def test_bytes_that_are_too_short() -> None:
    with pytest.raises(CodecError, match="at least 16 bytes"):
        SPANS.decode(b"ann")
