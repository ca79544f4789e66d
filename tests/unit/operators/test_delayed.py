"""The header of a record in a delay topic, and how the record looks to the steps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kstream.operators.delayed import HEADER, Delayed, Note, note_of
from kstream.testing.fetch import MemoryFetch
from kstream.testing.log import MemoryRecord
from kstream.types import Headers

COUNTS = st.integers(0, 2**62)
NOTES = st.builds(
    Note, topic=st.text(min_size=1), partition=COUNTS, offset=COUNTS, moved=COUNTS, failed=COUNTS, due=COUNTS,
    timestamp=st.none() | st.integers(-1, 0),
)  # fmt: skip
HEADERS = st.lists(st.tuples(st.sampled_from(["a", "b", HEADER]), st.none() | st.binary(max_size=3)), max_size=3)


def fetch_of(*headers: Headers | None, timestamp: int = 7) -> Delayed:
    return Delayed(
        MemoryFetch([
            MemoryRecord("d", 0, offset, timestamp, b"k", b"v", one, offset) for offset, one in enumerate(headers)
        ])
    )  # fmt: skip


@given(NOTES, HEADERS)
def test_a_note_is_read_as_it_was_written_behind_whatever_headers(
    note: Note, own: list[tuple[str, bytes | None]]
) -> None:
    headers = [*own, note.header()]
    assert note_of(headers) == note
    fetch = fetch_of(headers)
    assert fetch.headers() == [own or None]
    assert fetch.origins() == [note.offset]
    assert fetch.timestamps() == [7 if note.timestamp is None else note.timestamp]


FORGED = [
    b'{"v":1,"topic":"a","partition":-1,"offset":0}',
    b'{"v":1,"topic":"a","partition":0,"offset":0,"timestamp":%d}' % (1 << 63),  # no client could write it on
    b'{"v":1,"topic":"a","partition":0,"offset":0,"timestamp":%d}' % -((1 << 63) + 1),
]


@given(st.binary(max_size=40) | st.sampled_from([b"{}", b"null", *FORGED]))
def test_what_others_wrote_is_a_record_as_it_is(content: bytes) -> None:
    headers = [("a", b"1"), (HEADER, content)]
    assert note_of(headers) is None
    fetch = fetch_of(headers, None, [("a", None)])
    assert fetch.headers() == [headers, None, [("a", None)]]
    assert fetch.origins() == [0, 1, 2]
    assert fetch.due(0) == 3


def test_more_may_be_in_it_than_this_version_knows() -> None:
    written = b'{"v":1,"topic":"a","partition":1,"offset":2,"moved":1,"failed":1,"due":9,"more":[1]}'
    assert note_of([(HEADER, written)]) == Note(topic="a", partition=1, offset=2, moved=1, failed=1, due=9)


def test_the_first_records_are_due() -> None:
    headers = [[Note(topic="a", partition=0, offset=n, due=due).header()] for n, due in enumerate((5, 6, 9, 6))]
    fetch = fetch_of(*headers)
    assert [fetch.due(now) for now in (4, 5, 6, 9)] == [0, 1, 2, 4]
    assert fetch.cut(1, 3).origins() == [1, 2]
