"""Fetches that are seen otherwise than they were read."""

from __future__ import annotations

from kstream.types import Fetch, Headers, TopicPartition


class Wrapping:
    """A `types.Fetch` that is as another one, but for what a subclass says; which must say how it is cut."""

    __slots__ = ("_fetch",)

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    @property
    def at(self) -> TopicPartition:
        return self._fetch.at

    @property
    def first_offset(self) -> int:
        return self._fetch.first_offset

    @property
    def last_offset(self) -> int:
        return self._fetch.last_offset

    @property
    def first_timestamp(self) -> int:
        return self._fetch.first_timestamp

    @property
    def last_timestamp(self) -> int:
        return self._fetch.last_timestamp

    def __len__(self) -> int:
        return len(self._fetch)

    def keys(self) -> list[bytes | None]:
        return self._fetch.keys()

    def values(self) -> list[bytes | None]:
        return self._fetch.values()

    def timestamps(self) -> list[int]:
        return self._fetch.timestamps()

    def offsets(self) -> list[int]:
        return self._fetch.offsets()

    def headers(self) -> list[Headers | None]:
        return self._fetch.headers()
