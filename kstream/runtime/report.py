"""What a worker tells its supervisor, about twice a second: one JSON line each."""

from __future__ import annotations

from typing import Any

import msgspec


class TaskReport(msgspec.Struct):
    name: str
    state: str
    records: int
    lag: int
    error: str | None = None


class Report(msgspec.Struct):
    """Counts since the worker started. `stopped_by` is set in the last one, when an error ended the worker.

    Attributes:
        usage: the error is the user's to mend: restarting would not help.
        fenced: another process took over this worker's identity, or Kafka took it for another.
    """

    records: int = 0
    produced: int = 0
    commits: int = 0
    aborts: int = 0
    lag: int = 0
    restoring: int = 0
    restore_remaining: int = 0
    restored: int = 0
    restored_bytes: int = 0
    restore_seconds_left: float | None = None
    tasks: list[TaskReport] = []
    stopped_by: str | None = None
    usage: bool = False
    fenced: bool = False


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Report).decode


class Handover(msgspec.Struct):
    """What the supervisor hands a worker on its standard input, in one line."""

    target: str
    path: list[str]
    settings: msgspec.Raw
    app: str
    instance: str
    index: int
    partitions: dict[str, int]
    report_fd: int


encode_handover = msgspec.json.Encoder().encode
decode_handover: Any = msgspec.json.Decoder(Handover).decode
