"""What a worker and its supervisor tell each other, a JSON line each: reports one way, commands the other."""

from __future__ import annotations

from typing import Any

import msgspec

from kstream.observe.catalogue import Metric, Series
from kstream.observe.status import (
    CheckpointStatus,
    ErrorStatus,
    PartStatus,
    SnapshotStatus,
    TableStatus,
    TaskStatus,
)
from kstream.runtime.cluster import control
from kstream.runtime.process.program import Program


class Lookup(msgspec.Struct):
    """A question for the committed value of a key in the tasks of a worker; its answer has the same number."""

    number: int
    store: str
    key: bytes


class Answer(msgspec.Struct):
    """`partitions` are those of the worker's running tasks that have the table, where the key was looked for."""

    number: int
    partitions: list[int] = []
    value: bytes | None = None


class Held(msgspec.Struct):
    """What holds up a worker, whose loop has not turned for `seconds`.

    Attributes:
        where: a function, its file and the line it is at: the user's (`user`) or kstream's own.
        task: whose records are worked on, where that is known; record: which of them, or those taken together.
    """

    seconds: float
    where: str
    task: str | None
    user: bool
    record: str | None = None

    def words(self, over: bool = False) -> str:
        """`over`: it goes on by now."""
        if self.user:
            took = "took" if over else "has not returned for"
            return f"slow user code: {self.where} {took} {self.seconds:.0f} s"
        return f"the worker's loop {'hung' if over else 'has hung'} for {self.seconds:.0f} s in {self.where}"


class Report(msgspec.Struct):
    """Counts since the worker started. `stopped_by` is set in the last one, when an error ended the worker.

    Attributes:
        joined: it was given an assignment, be it an empty one; member: it has one now; loading: it reads its global
            tables first.
        alone: for how many seconds it has had no connection to any broker; None while it has one.
        uncommitted: records processed since the last commit.
        elapsed, worked: seconds since the worker was made, and those in which it was busy or backpressured.
        gone: tasks that nobody can have, because an input does not exist; all workers of an isolation group say so.
        warm: tasks of other instances whose state it follows; warm_behind: changelog records not applied to it yet.
        tables: its global tables.
        estimated: stores whose entries are estimated.
        metrics: all series of the worker; `defined` are the metrics among them that are the user's.
        answers: to the look-ups that came since the report before.
        savepoint: what the worker says of its part in one, since the report before.
        checkpoints, snapshots, errors: those since the report before.
        largest: by store, the largest entries seen when written: key, bytes.
        hottest: by store, the keys used most: key, share of those that were sampled, and how many those were.
        parts: by store, what its tasks here have.
        usage: the error is the user's to mend: restarting would not help.
        exhausted: a task failed more often than its restart strategy allows: the instance is to stop.
        fenced: another process took over this worker's identity, or Kafka took it for another.
        held: said by the watchdog while the worker says nothing: then nothing else in this report counts.
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
    restore_bytes_left: int | None = None
    warm: int = 0
    warm_behind: int = 0
    partitions: int = 0
    joined: bool = False
    member: bool = False
    loading: bool = False
    alone: float | None = None
    uncommitted: int = 0
    paused: bool = False
    elapsed: float = 0.0
    worked: float = 0.0
    tasks: list[TaskStatus] = []
    gone: list[TaskStatus] = []
    tables: list[TableStatus] = []
    estimated: list[str] = []
    metrics: list[Series] = []
    defined: list[Metric] = []
    checkpoints: list[CheckpointStatus] = []
    snapshots: list[SnapshotStatus] = []
    errors: list[ErrorStatus] = []
    largest: dict[str, list[tuple[str, int]]] = {}
    hottest: dict[str, list[tuple[str, float, int]]] = {}
    parts: dict[str, list[PartStatus]] = {}
    answers: list[Answer] = []
    savepoint: list[control.Answer] = []
    stopped_by: str | None = None
    usage: bool = False
    exhausted: bool = False
    fenced: bool = False
    held: Held | None = None


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Report).decode


def encodable(report: Report) -> Report:
    """The report without what cannot be encoded."""

    def fits(value: Any) -> bool:
        try:
            encode(value)
        except Exception:
            return False
        return True

    fitting = Report()
    for name in report.__struct_fields__:
        value = getattr(report, name)
        if isinstance(value, list):
            value = [one for one in value if fits(one)]
        if fits(value):
            setattr(fitting, name, value)
    return fitting


def one_line(error: BaseException) -> str:
    """The text of an error as a line that any report can hold."""
    try:
        return " ".join(str(error).split()).encode(errors="backslashreplace").decode()
    except Exception:  # an exception of the user's whose text fails
        return f"{type(error).__name__} (its text cannot be had)"


def taken_over(instance: str, why: str) -> str:
    """What the user is told where another process has taken an identity over."""
    return f"another instance runs as {instance!r}: give each its own --instance ({why})"


class Command(msgspec.Struct):
    """What the supervisor tells a running worker: what is to change. `log_levels` are by logger, "" the root.

    `warm` are the tasks whose state it is to follow for other instances, by name.
    `stop` goes with SIGTERM: user code may have given that another handler. `savepoint` is what is asked of it for one.
    """

    paused: bool | None = None
    log_levels: dict[str, str] = {}
    lookups: list[Lookup] = []
    warm: list[str] | None = None
    stop: bool = False
    savepoint: control.Request | None = None


encode_command = msgspec.json.Encoder().encode
decode_command = msgspec.json.Decoder(Command).decode


class Handover(msgspec.Struct):
    """What the supervisor hands a worker over its commands, in one line. `command` is in force from the start."""

    program: Program
    path: list[str]
    settings: msgspec.Raw
    app: str
    instance: str
    group: str
    index: int
    partitions: dict[str, int]
    command: Command = msgspec.field(default_factory=Command)


encode_handover = msgspec.json.Encoder().encode
decode_handover: Any = msgspec.json.Decoder(Handover).decode
