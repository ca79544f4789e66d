"""Where the records of a batch come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kstream.errors import RecordTooLarge
from kstream.operators.bounds import NONE, Bounds, check_headers
from kstream.types import Fetch, Headers


class Origin:
    """The fetch behind a batch, its columns extracted once.

    `timestamps` (ms since the epoch) are given where the topic declares an event time; else those of the records.
    A record is within `bounds`. `at_fault` is the row that something failed on, where that is known. `singly`: keys or
    headers of one cannot be read, so those of each are read by themselves: only that one fails.
    `times` are the largest event times that the task had seen at each record, where somebody wants them; `watermarks`
    the time of the task, as windows have it.
    `leave_out` is asked about a row that failed: whether the batch goes on without it. `places` are those of its
    records in the order of what goes out, where they come with records of other inputs; None: as they are.
    `topic` is that of the source, wherever the records waited meanwhile.
    """

    __slots__ = (
        "_headers", "_offsets", "_timestamps", "at_fault", "bounds", "event_time", "fetch", "leave_out", "places",
        "singly", "times", "topic", "watermarks",
    )  # fmt: skip

    of_time = False  # results that are told without a record (told.py)
    timeless = False  # of those: no batch moved time to where they are told, so it has no times

    def __init__(
        self, fetch: Fetch, timestamps: list[int] | None = None, bounds: Bounds = NONE, topic: str | None = None
    ) -> None:
        self.fetch, self.bounds = fetch, bounds
        self.topic = fetch.at.topic if topic is None else topic
        self.at_fault: int | None = None
        self.singly = False
        self.leave_out: Callable[[int, BaseException], bool] | None = None
        self.places: Sequence[int] | None = None
        self.times: list[int] = []
        self.watermarks: list[int] = []
        self.event_time = timestamps is not None
        self._timestamps = timestamps
        self._offsets: list[int] | None = None
        self._headers: list[Headers | None] | None = None

    @property
    def timestamps(self) -> list[int]:
        if self._timestamps is None:
            self._timestamps = self.fetch.timestamps()
        return self._timestamps

    @property
    def offsets(self) -> list[int]:
        """Where the records lie; of those that were set aside, where they lay before."""
        if self._offsets is None:
            origins = getattr(self.fetch, "origins", None)  # of a delay topic (delayed.py), which most apps do without
            self._offsets = self.fetch.offsets() if origins is None else origins()
        return self._offsets

    @property
    def headers(self) -> list[Headers | None]:
        if self._headers is None:
            headers = self.fetch.headers()
            check_headers(self.fetch, headers, self.bounds.size)
            self._headers = headers
        return self._headers

    def places_of(self, rows: Sequence[int]) -> Sequence[int]:
        """Where these have their places in the order of what goes out: the records of the fetch."""
        return rows if self.places is None else [self.places[row] for row in rows]

    def alone(self, row: int) -> Origin:
        """That of this record by itself."""
        return Origin(self.fetch.cut(row, row + 1), bounds=self.bounds, topic=self.topic)

    def headers_of(self, row: int) -> Headers | None:
        """Of one record: it fails only where these are too large."""
        if self._headers is None and not self.singly:
            try:
                return self.headers[row]
            except RecordTooLarge:
                self.singly = True
        return self.alone(row).headers[0] if self._headers is None else self._headers[row]
