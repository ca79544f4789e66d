"""Fetched records of one partition, as columns."""

from __future__ import annotations

from collections.abc import Sequence

from kstream.testing.log import MemoryRecord
from kstream.types import Headers, TopicPartition


class MemoryFetch:
    """A `types.Fetch` over records of one partition; there is at least one."""

    __slots__ = ("_records",)

    def __init__(self, records: Sequence[MemoryRecord]) -> None:
        self._records = records

    @property
    def at(self) -> TopicPartition:
        return TopicPartition(self._records[0].topic, self._records[0].partition)

    @property
    def first_offset(self) -> int:
        return self._records[0].offset

    @property
    def last_offset(self) -> int:
        return self._records[-1].offset

    @property
    def first_timestamp(self) -> int:
        return self._records[0].timestamp

    @property
    def last_timestamp(self) -> int:
        return self._records[-1].timestamp

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"<{len(self)} records of {self.at} from {self.first_offset} to {self.last_offset}>"

    def keys(self) -> list[bytes | None]:
        return [record.key for record in self._records]

    def values(self) -> list[bytes | None]:
        return [record.value for record in self._records]

    def timestamps(self) -> list[int]:
        return [record.timestamp for record in self._records]

    def offsets(self) -> list[int]:
        return [record.offset for record in self._records]

    def headers(self) -> list[Headers | None]:
        return [record.headers for record in self._records]

    def cut(self, start: int, stop: int) -> MemoryFetch:
        return MemoryFetch(self._records[start:stop])
