"""Every metric that kstream itself exposes: the one list behind /metrics, docs/metrics.md, rules and dashboard.

Names follow Prometheus' conventions: base units, `_total` for counters, the prefix `kstream_`; labels never hold keys
or offsets. All series also have the label `app`. A metric is added here together with what feeds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

PREFIX: Final = "kstream_"

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max", "min"]

LATENCIES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""Seconds, for what takes from milliseconds to an hour."""
DURATIONS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds, for operations on Kafka."""
PER_RECORD: Final = (1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 2.5e-3, 0.01, 0.1, 1.0, 10.0)
"""Seconds, for one record in user code."""
SIZES: Final = (64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 1048576.0, 16777216.0, 104857600.0)
"""Bytes, for entries of state."""


class Metric(msgspec.Struct, frozen=True):
    """What is known of one metric.

    Attributes:
        name: without the prefix for kstream's own, in full for a user's.
        unit: in words, for the table.
        doc: its meaning, one sentence.
        labels: besides `app`.
        merge: what a gauge of several workers is for the instance. Counters and histograms are added up.
        bounds: of a histogram's buckets, without the last one (infinity).
    """

    name: str
    kind: Kind
    unit: str
    doc: str
    labels: tuple[str, ...] = ()
    merge: Merge = "sum"
    bounds: tuple[float, ...] = ()


class Series(msgspec.Struct, array_like=True):
    """One series of a metric as a worker reports it.

    `value` is the count, the level, or a histogram's sum; `buckets` are a histogram's counts, each bucket for itself,
    infinity the last.
    """

    name: str
    labels: tuple[str, ...]
    value: float
    buckets: tuple[int, ...] | None = None


def _counter(name: str, unit: str, doc: str, *labels: str) -> Metric:
    return Metric(name, "counter", unit, doc, labels)


def _gauge(name: str, unit: str, doc: str, *labels: str, merge: Merge = "sum") -> Metric:
    return Metric(name, "gauge", unit, doc, labels, merge)


def _histogram(name: str, unit: str, doc: str, bounds: tuple[float, ...], *labels: str) -> Metric:
    return Metric(name, "histogram", unit, doc, labels, "sum", bounds)


SECTIONS: Final[Mapping[str, tuple[Metric, ...]]] = {
    "Instance": (
        _gauge("build_info", "1", "Always 1; the labels say what runs.", "name", "version", "python", "librdkafka"),
        _gauge("start_time_seconds", "seconds since the epoch", "When the instance was started."),
        _gauge("live", "0 or 1", "Whether /live is green."),
        _gauge("ready", "0 or 1", "Whether /ready is green."),
        _gauge(
            "ready_besides_restores",
            "0 or 1",
            "Whether /ready is green but for tasks that are being restored: they only need time.",
        ),
        _gauge(
            "latency_objective_seconds",
            "seconds",
            "How long a record may wait until it is committed: commit_interval and latency_objective together.",
        ),
        _gauge("instances", "instances", "Instances of the app that were heard of through Kafka lately."),
        _gauge(
            "instances_held",
            "instances",
            "Instances of an isolation group that autoscaling must leave: all of them while a task of it is restored "
            "anywhere, else 0.",
            "group",
        ),
        _gauge("workers", "processes", "Worker processes, by what they do.", "state"),
        _counter("worker_restarts_total", "restarts", "Workers that ended and were started again.", "reason"),
        _counter(
            "worker_scalings_total",
            "changes",
            "Workers added (up) and taken away (down) because of the load, where their number follows it.",
            "group",
            "direction",
        ),
    ),
    "Records": (
        _counter(
            "records_consumed_total",
            "records",
            "Records processed, by input topic; what is processed again after an abort counts again.",
            "topic",
        ),
        _counter("task_records_total", "records", "Records processed, by task.", "task"),
        _counter(
            "records_committed_total", "records", "Records processed and committed: each counts once.", "topic"
        ),
        _counter(
            "records_produced_total",
            "records",
            "Records handed to the producer, by topic, changelogs included; aborted ones count too.",
            "topic",
        ),
        _counter("consumed_bytes_total", "bytes", "Received from Kafka, keys and values, by topic.", "topic"),
        _counter("produced_bytes_total", "bytes", "Sent to Kafka, keys and values, by topic.", "topic"),
        _counter("operator_records_total", "records", "Records that left an operator.", "part", "operator"),
        _counter(
            "operator_failures_total", "records", "Records that failed at an operator, each time one did.",
            "part", "operator",
        ),
        _histogram(
            "record_processing_seconds",
            "seconds",
            "Time in operators and user code per record: the mean of its batch.",
            PER_RECORD,
            "part",
        ),
        _histogram(
            "record_e2e_latency_seconds",
            "seconds",
            "At commit: now minus the record's timestamp in Kafka (within a batch, by interpolation).",
            LATENCIES,
            "topic",
        ),
        _histogram(
            "record_delay_seconds",
            "seconds",
            "At commit: the same, but no longer than the record can have lain there since this instance looks: old "
            "timestamps do not count, nor do records that were there before.",
            LATENCIES,
            "topic",
        ),
        _counter("slow_batches_total", "batches", "Batches in which a record took too long.", "part"),
        _counter("records_dropped_total", "records", "Left out: no key or value, late, or there before.", "reason"),
        _gauge("buffered_records", "records", "Fetched and not yet processed.", "part"),
        _gauge("consumer_lag_records", "records", "In the input, not yet processed here.", "topic", "partition"),
        _gauge(
            "consumer_lag_seconds",
            "seconds",
            "How long the next record of an input has waited, 0 where there is none: since it came; of records that "
            "were there before the instance looked, how old the last one processed is.",
            "topic",
            "partition",
            merge="max",
        ),
        _gauge(
            "consumed_timestamp_seconds",
            "seconds since the epoch",
            "Timestamp in Kafka of the last record processed.",
            "topic",
            "partition",
            merge="max",
        ),
        _gauge(
            "event_time_seconds",
            "seconds since the epoch",
            "What time it is in a task that has windows, timers or joins by time: what ends before is closed.",
            "task",
            merge="max",
        ),
        _gauge(
            "input_event_time_seconds",
            "seconds since the epoch",
            "The time of an input of such a task: the input that is least, of those that are not idle, holds it back.",
            "part",
            "topic",
            "partition",
            merge="max",
        ),
    ),
    "Time": (
        _counter("worker_busy_seconds_total", "seconds", "Time a worker worked.", "worker"),
        _counter("worker_idle_seconds_total", "seconds", "Time a worker had nothing to do.", "worker"),
        _counter(
            "worker_backpressured_seconds_total",
            "seconds",
            "Time a worker had records but waited for what comes after it: room in the producer's queue, the brokers' "
            "word on a commit, or agents that wait for something outside.",
            "worker",
        ),
        _counter("busy_seconds_total", "seconds", "As for the worker, of one task.", "task"),
        _counter("idle_seconds_total", "seconds", "The rest; its worker may be busy with other tasks.", "task"),
        _counter("backpressured_seconds_total", "seconds", "As for the worker, of one task.", "task"),
    ),
    "Checkpoints": (
        _counter("checkpoints_total", "checkpoints", "Transactions committed."),
        _histogram("checkpoint_duration_seconds", "seconds", "From draining the agents to local state.", DURATIONS),
        _counter("checkpoint_failures_total", "checkpoints", "Commits that failed.", "reason"),
        _gauge(
            "checkpoint_last_success_timestamp_seconds",
            "seconds since the epoch",
            "When all that was done was committed last (or there was nothing to commit).",
            "worker",
            merge="max",
        ),
        _counter("transaction_aborts_total", "transactions", "Aborted, for any reason."),
        _counter("producer_restarts_total", "producers", "New producers after a commit of unknown outcome."),
        _gauge("uncommitted_records", "records", "Processed since the last commit."),
    ),
    "Group": (
        _counter("rebalances_total", "rebalances", "Assignments received, the first included."),
        _histogram(
            "rebalance_duration_seconds", "seconds", "From giving up the partitions to the new assignment.", DURATIONS
        ),
        _gauge("assigned_partitions", "partitions", "Owned, internal topics included."),
        _gauge("tasks", "tasks", "By state.", "state"),
        _gauge(
            "task_state", "1", "Always 1, for the state that a task is in.", "task", "state", merge="max",
        ),
        _gauge("task_lag_records", "records", "In a task's inputs, due and not yet processed.", "task"),
        _gauge(
            "input_held",
            "1",
            "Always 1, for an input whose task does not run: what the task does instead (restoring, failed, ...).",
            "topic",
            "partition",
            "state",
            merge="max",
        ),
    ),
    "Failures": (
        _counter(
            "errors_total",
            "errors",
            "By phase (decode, process, encode, produce, timer, commit, restore, state, report) and class.",
            "phase",
            "class",
        ),
        _counter(
            "dead_letters_total", "records", "Records committed as dead letters, by their topic and reason (class).",
            "topic", "reason",
        ),
        _counter(
            "records_skipped_total",
            "records",
            "Records that a policy skipped, by their topic (of a result: its step) and reason (class).",
            "topic", "reason",
        ),
        _counter(
            "records_retried_total", "attempts",
            "Failed records that were tried again, by their topic (of a result: its step) and reason.",
            "topic", "reason",
        ),
        _counter("task_retries_total", "retries", "Failed tasks that were tried again.", "part"),
        _counter("log_lines_total", "lines", "Log lines from WARNING up, by level; suppressed ones too.", "level"),
    ),
    "State": (
        _gauge(
            "state_entries",
            "entries",
            "Entries of a store: counted while a task has no more than 1000, else estimated, as of the last flush.",
            "store",
        ),
        _gauge("state_size_bytes", "bytes", "Size of a store, about.", "store"),
        _gauge("task_state_entries", "entries", "As state_entries, of one task.", "store", "partition"),
        _gauge("task_state_size_bytes", "bytes", "As state_size_bytes, of one task.", "store", "partition"),
        _gauge(
            "state_hottest_key_ratio",
            "ratio",
            "Share of a worker's sampled records that have the key that comes most often.",
            "store",
            merge="max",
        ),
        _histogram("state_entry_bytes", "bytes", "Sizes of entries written, a sample of each commit.", SIZES, "store"),
        _counter(
            "state_large_entries_total", "entries",
            "Entries with more than large_entry bytes that were stored, each time one was.", "store",
        ),
        _counter("state_cache_hits_total", "keys", "Keys of records that needed no fetch, each time.", "store"),
        _counter("state_cache_misses_total", "keys", "Keys that had to be fetched from the backend.", "store"),
        _counter("state_expired_total", "entries", "Removed because they had expired (TTL).", "store"),
        _gauge("state_overlay_bytes", "bytes", "Uncommitted changes, about.", "store"),
        _counter("state_queries_total", "queries", "Queries of state that workers answered, where they are on."),
        _counter("state_query_entries_total", "entries", "Keys looked up and entries read for them."),
        _counter("state_query_busy_seconds_total", "seconds", "Processor time that this took, beside the loops."),
        _gauge("rocksdb_memory_bytes", "bytes", "Memory of RocksDB, by use.", "use"),
    ),
    "Memory": (
        _gauge(
            "memory_budget_bytes", "bytes",
            "What a worker may take: all of it (the setting `memory`), which process_resident_memory_bytes is to be "
            "compared with, and its shares (state, fetch, producer, overlay).", "worker", "share",
        ),
        _gauge(
            "memory_used_bytes", "bytes", "What a worker takes of each share, as far as it is known; objects about.",
            "worker", "share",
        ),
    ),
    "Global tables": (
        _gauge(
            "global_table_rows", "rows", "Rows of a global table in a worker, about; each has all of them.", "table",
            merge="max",
        ),
        _gauge(
            "global_table_lag_records", "records", "In the topic of a global table, not read yet by the worker that is "
            "furthest behind.", "table", merge="max",
        ),
        _counter("global_table_records_total", "records", "Read from the topic of a global table.", "table"),
    ),
    "Restore": (
        _gauge("restore_remaining_records", "records", "Changelog records left to replay."),
        _gauge("restore_remaining_bytes", "bytes", "Values left to replay, by their mean size so far."),
        _gauge("restore_remaining_seconds", "seconds", "Time left, by the speed so far.", merge="max"),
        _gauge(
            "task_restoring", "1",
            "Always 1, for a task that is being restored, or is queued for its snapshot behind others (stage).",
            "task", "stage", merge="max",
        ),
        _gauge("task_restore_remaining_records", "records", "As restore_remaining_records, of one task.", "task"),
        _gauge("task_restore_fetched_bytes", "bytes", "Fetched so far of the snapshot a task begins with.", "task"),
        _counter("restored_records_total", "records", "Changelog records replayed."),
        _counter("restored_bytes_total", "bytes", "Values replayed."),
        _gauge("warm_copies", "tasks", "Tasks of other instances whose state is followed here."),
        _gauge("warm_behind_records", "records", "Changelog records that these copies have not applied yet."),
        _counter("warm_records_total", "records", "Changelog records applied to them."),
        _histogram("restore_duration_seconds", "seconds", "From being assigned to being fed, a task.", LATENCIES),
    ),
    "Snapshots": (
        _counter("snapshots_total", "snapshots", "Snapshots of tasks that were completed."),
        _counter("snapshots_unchanged_total", "snapshots", "Left out: nothing had changed since the one before."),
        _counter(
            "snapshot_failures_total", "snapshots", "Snapshots that failed (storage, timeout, state, disk, other).",
            "reason",
        ),
        _histogram("snapshot_duration_seconds", "seconds", "From the flush to the manifest, a task.", LATENCIES),
        _counter("snapshot_uploaded_bytes_total", "bytes", "Stored for snapshots."),
        _gauge(
            "snapshot_last_success_timestamp_seconds",
            "seconds since the epoch",
            "As of when a task's newest snapshot has all that was committed; 0 where it has had none here.",
            "task",
            merge="max",
        ),
        _gauge("snapshot_size_bytes", "bytes", "Size of a task's newest snapshot.", "task", merge="max"),
        _counter("snapshots_restored_total", "snapshots", "Snapshots that tasks or warm copies began with."),
        _counter("snapshot_fetched_bytes_total", "bytes", "Fetched for restores."),
        _counter(
            "snapshots_refused_total",
            "snapshots",
            "Snapshots that were there and not used for a restore (damaged, misfit, storage, disk).",
            "reason",
        ),
    ),
    "Processes": (
        _counter("process_cpu_seconds_total", "seconds", "Processor time.", "process"),
        _gauge("process_resident_memory_bytes", "bytes", "Resident memory.", "process"),
        _gauge("process_open_fds", "files", "Open file descriptors.", "process"),
        _gauge("process_threads", "threads", "Threads.", "process"),
        _counter("process_gc_seconds_total", "seconds", "Time in Python's garbage collector.", "process"),
        _counter("process_gc_collections_total", "collections", "Runs of the garbage collector.", "process"),
    ),
    "Kafka clients (from librdkafka's statistics)": (
        _counter("kafka_requests_total", "requests", "Requests sent.", "client"),
        _counter("kafka_request_errors_total", "requests", "Requests that failed.", "client"),
        _counter("kafka_request_retries_total", "requests", "Requests sent again.", "client"),
        _counter("kafka_request_timeouts_total", "requests", "Requests that timed out.", "client"),
        _counter("kafka_connects_total", "connections", "Connections attempted.", "client"),
        _gauge("kafka_broker_rtt_seconds", "seconds", "Mean round trip of the slowest broker.", "client", merge="max"),
        _gauge("kafka_throttle_seconds", "seconds", "Mean throttling by the brokers.", "client", merge="max"),
        _gauge("kafka_queued_records", "records", "Waiting in the client: to be sent, or to be polled.", "client"),
        _gauge("kafka_queued_bytes", "bytes", "The same in bytes.", "client"),
    ),
}  # fmt: skip

CATALOGUE: Final[Mapping[str, Metric]] = {metric.name: metric for section in SECTIONS.values() for metric in section}


def full_name(metric: Metric) -> str:
    """The name that is exposed: kstream's own have the prefix."""
    return PREFIX + metric.name if metric.name in CATALOGUE and CATALOGUE[metric.name] is metric else metric.name


def rows() -> Iterator[tuple[str, Metric]]:
    """Section and metric, in the order of the list."""
    for section, metrics in SECTIONS.items():
        for metric in metrics:
            yield section, metric
