"""What is known of a running instance, as the API, the status page, `kstream status` and the other instances see it.

Times are seconds since the epoch, durations seconds, rates per second, sizes bytes.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

NOBODY: Final = "-"

InstanceState = Literal["starting", "running", "restoring", "degraded", "paused", "stopping", "silent"]


class InputStatus(msgspec.Struct):
    """One input partition of a task. `lag` is None while it is not known. `behind` is for how many seconds the next
    record has waited (the metric `consumer_lag_seconds`), None where none waits. `timestamp` is that of the last record
    processed, in Kafka. Where the task keeps event time, `event_time` is that of the input, and `idle` whether it
    holds the time of the task back no longer."""

    topic: str
    partition: int
    position: int
    lag: int | None
    timestamp: float | None = None
    event_time: float | None = None
    idle: bool = False
    behind: float | None = None


class TaskStatus(msgspec.Struct):
    """One task. `why` says why it does not move, when it has lag and does not. `worker` is NOBODY where no worker can
    have it, because an input does not exist. `at_end`: it has read all that may
    be read.

    `busy` and `backpressured` are shares (0..1) of the last seconds. `retrying`: it waits until a record or timer that
    failed is tried again, as its policy says. `event_time` is what time it is for its windows, timers and joins, where
    it has any: the least of its inputs' that are not idle.
    """

    name: str
    worker: str
    state: str
    records: int = 0
    rate: float = 0.0
    lag: int = 0
    buffered: int = 0
    busy: float = 0.0
    backpressured: float = 0.0
    why: str | None = None
    error: str | None = None
    inputs: list[InputStatus] = []
    at_end: bool = False
    retrying: bool = False
    event_time: float | None = None

    @property
    def part(self) -> str:
        return self.name.rpartition("/")[0]

    @property
    def group(self) -> str:
        """Its isolation group, which the names of sub-topologies end with."""
        return self.part.partition("@")[2] or "default"

    @property
    def behind(self) -> float | None:
        """For how many seconds the next record has waited, where that is longest of its inputs."""
        return max((one.behind for one in self.inputs if one.behind is not None), default=None)

    @property
    def time(self) -> float | None:
        """How far it is in event time; where it keeps none, as Kafka's timestamps say: the earliest of its inputs."""
        if self.event_time is not None:
            return self.event_time
        return min((one.timestamp for one in self.inputs if one.timestamp is not None), default=None)


class WorkerStatus(msgspec.Struct):
    """One worker process. `state` is running, starting, restarting (in `restart_in` seconds), retiring (it makes its
    last commit: one fewer is needed), stopping (the same, with its instance) or stopped. `group` is its isolation
    group. `why` says what holds up one that runs. `memory` is resident, `budget` what it may take (the setting
    `memory`)."""

    name: str
    state: str
    group: str = "default"
    pid: int | None = None
    started: float | None = None
    restarts: int = 0
    last_error: str | None = None
    restart_in: float | None = None
    busy: float = 0.0
    idle: float = 0.0
    backpressured: float = 0.0
    rate: float = 0.0
    tasks: int = 0
    partitions: int = 0
    cpu: float | None = None
    memory: int | None = None
    budget: int | None = None
    why: str | None = None


class PartStatus(msgspec.Struct, array_like=True):
    """A task's part of a store. Entries are counted where they are few, else estimated; bytes always are."""

    partition: int
    entries: int
    size: int


class StoreStatus(msgspec.Struct):
    """One store over all tasks of the instance.

    Attributes:
        estimated: `entries` were not all counted. `size` is an estimate always.
        largest: the largest entries seen when written: key, bytes.
        hottest: the keys that records have most often: key, share (0..1) of those that were sampled.
        growth: bytes a second, over the last minutes; None while that is not known.
        tasks: its parts.
    """

    name: str
    part: str
    entries: int = 0
    size: int = 0
    hits: int = 0
    misses: int = 0
    largest: list[tuple[str, int]] = []
    estimated: bool = False
    hottest: list[tuple[str, float]] = []
    growth: float | None = None
    tasks: list[PartStatus] = []


class TableEntry(msgspec.Struct):
    """What is committed for a key, in the running tasks of an instance.

    Attributes:
        found: whether there is such a key in the table's `partitions` that this instance has; others have the others.
        value: as JSON has it; undecodable: why it could not be decoded, then `value` is its bytes as text.
    """

    table: str
    key: Any
    found: bool
    value: Any
    partitions: list[int]
    undecodable: str | None = None


class CheckpointStatus(msgspec.Struct):
    """One commit, or one that failed (`error` says how). `id` is that of the attempt, as listeners are told it."""

    at: float
    worker: str
    seconds: float
    tasks: int = 0
    records: int = 0
    error: str | None = None
    id: str = ""


class SnapshotStatus(msgspec.Struct):
    """One snapshot of a task, or one that failed (`error` says how). `number` is None then; `uploaded`: bytes that were
    stored for it, the rest of `size` was there already."""

    id: str
    at: float
    worker: str
    task: str
    seconds: float
    number: int | None = None
    size: int = 0
    uploaded: int = 0
    error: str | None = None


class SavepointStatus(msgspec.Struct):
    """A savepoint that was asked for on this instance's page. `steps` is what was done so far, `seconds` how long that
    took; `tasks` and `size` (bytes) are those of one that is there; `error` says why there is none."""

    name: str
    place: str
    at: float
    state: Literal["making", "made", "failed"] = "making"
    steps: list[str] = []
    seconds: float = 0.0
    tasks: int = 0
    size: int = 0
    error: str | None = None


class ErrorStatus(msgspec.Struct):
    """A line logged at ERROR, or a worker's end. `trace` is the traceback, when there is one."""

    at: float
    text: str
    worker: str | None = None
    task: str | None = None
    logger: str = ""
    trace: str | None = None


class RestoreStatus(msgspec.Struct):
    """What is being restored now, in sum. `stages` says by task what it waits for. `bytes_left` are about those of the
    values left; None where nothing was replayed yet. `warm`: tasks of other instances whose state is followed here,
    `warm_behind` changelog records behind."""

    tasks: int = 0
    remaining: int = 0
    restored: int = 0
    seconds_left: float | None = None
    bytes_left: int | None = None
    warm: int = 0
    warm_behind: int = 0
    stages: dict[str, str] = {}


class TableStatus(msgspec.Struct):
    """A global table in a worker, which has about so many `rows` of it, and `lag` records of its topic not applied yet.
    `there`: tasks can use it; `why` it cannot be read on, where that is so."""

    name: str
    topic: str
    worker: str
    rows: int = 0
    lag: int = 0
    there: bool = False
    why: str | None = None


class ScalingStatus(msgspec.Struct):
    """How many workers an isolation group has in an instance where they follow the load, and the last change of it.

    `share` is the busy-or-backpressured share (0..1) of its workers, None while it is not judged.
    """

    group: str
    workers: int
    least: int
    most: int
    share: float | None = None
    at: float | None = None
    reason: str | None = None


class Totals(msgspec.Struct):
    """Sums over the instance; records, rates and bytes are those of topics that are not kstream's own, counts since the
    instance was started. Latencies are ages at commit, from the record's time in Kafka, of what was committed in the
    last seconds: what a record waited is in them, and the age of history that is replayed. `processing_p99` is the time
    in operators and user code for a record (the mean of its batch). None when there were none."""

    consumed: int = 0
    committed: int = 0
    produced: int = 0
    rate_in: float = 0.0
    rate_out: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    lag: int = 0
    latency_p50: float | None = None
    latency_p99: float | None = None
    busy: float = 0.0
    idle: float = 0.0
    backpressured: float = 0.0
    checkpoints: int = 0
    checkpoint_failures: int = 0
    aborts: int = 0
    rebalances: int = 0
    restarts: int = 0
    errors: int = 0
    processing_p99: float | None = None


class InstanceStatus(msgspec.Struct):
    """An instance. What it announces through Kafka has no `checkpoints`, `snapshots`, `savepoints`, `stores`, `errors`
    and `edges`.

    Attributes:
        at: when this was put together.
        url: of its own status page, as others may reach it; None without one.
        edges: records/s through the edges of the graph, by `GraphEdge.id`.
        failing: records that failed within the last minute, each time one did, by `GraphNode.id`: an operator, or the
            topic where they could not be read or written. Only where some did.
    """

    app: str
    instance: str
    state: InstanceState
    at: float
    started: float
    version: str = ""
    host: str = ""
    pid: int = 0
    url: str | None = None
    ready: bool = False
    reasons: list[str] = []
    paused: bool = False
    log_level: str = "INFO"
    totals: Totals = msgspec.field(default_factory=Totals)
    restore: RestoreStatus = msgspec.field(default_factory=RestoreStatus)
    workers: list[WorkerStatus] = []
    scaling: list[ScalingStatus] = []
    tasks: list[TaskStatus] = []
    tables: list[TableStatus] = []
    stores: list[StoreStatus] = []
    checkpoints: list[CheckpointStatus] = []
    snapshots: list[SnapshotStatus] = []
    savepoints: list[SavepointStatus] = []
    errors: list[ErrorStatus] = []
    edges: dict[str, float] = {}
    failing: dict[str, int] = {}


class AppPoint(msgspec.Struct):
    """Sums over all instances that are heard of, as they announced themselves last."""

    rate_in: float
    rate_out: float
    lag: int


class Point(msgspec.Struct):
    """One second of history, for the curves. `app` is None where there is one instance only."""

    at: float
    rate_in: float
    rate_out: float
    lag: int
    latency_p50: float | None
    latency_p99: float | None
    busy: float
    backpressured: float
    checkpoint_seconds: float | None
    app: AppPoint | None = None
    state_bytes: int = 0
    state_entries: int = 0


class Health(msgspec.Struct):
    """The answer of a probe."""

    ok: bool
    reasons: list[str] = []


class GraphNode(msgspec.Struct):
    """A topic, or an operator inside a sub-topology (`part`). `stores` are the stores it uses."""

    id: str
    kind: str
    label: str
    part: str | None = None
    internal: bool = False
    stores: list[str] = []


class GraphEdge(msgspec.Struct):
    id: str
    source: str
    target: str


class Graph(msgspec.Struct):
    """The topology as it is drawn. Topics lie between the sub-topologies that write and read them."""

    app: str
    parts: list[str]
    nodes: list[GraphNode]
    edges: list[GraphEdge]


class SettingStatus(msgspec.Struct):
    """A setting as it may be seen: secrets are hidden."""

    name: str
    value: str
    source: str
    doc: str
