"""What the dashboard shows, row by row; make_dashboard.py makes Grafana's JSON of it.

Names of metrics are looked up in kstream/observe/catalogue.py, so a slip is an error here and no empty panel there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kstream.observe.catalogue import CATALOGUE, PREFIX

OF_APP = 'namespace=~"$namespace", app=~"$app"'
SELECTED = f'{OF_APP}, instance=~"$instance"'
RUNBOOK = "https://github.com/kstream-py/kstream/blob/main/docs/runbook.md"
GREEN, YELLOW, RED = "green", "#EAB839", "red"


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        unit: one of Grafana's ("s", "bytes", "cps" ...).
        queries: PromQL by legend, which may hold labels as {{label}}.
        text: what it shows, where the catalogue's words for the first metric do not say it.
        levels: (value, colour): from this value on.
        limits: of the axis, (least, greatest).
        names: what is shown for a value.
        columns: of a table: what it shows, in order, by its name in the answer: the title, and its unit.
        links: of a table: where a column leads, by its title.
    """

    title: str
    unit: str
    queries: Mapping[str, str]
    text: str = ""
    kind: Literal["timeseries", "stat", "heatmap", "state-timeline", "table"] = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    levels: tuple[tuple[float, str], ...] = ()
    limits: tuple[float, float | None] = (0, None)
    names: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


def tile(title: str, unit: str, query: str, text: str = "", levels: tuple[tuple[float, str], ...] = ()) -> Panel:
    """One number."""
    return Panel(title, unit, {title: query}, text, kind="stat", width=4, height=4, levels=levels)


# ---- PromQL


def of(name: str, matchers: str = "", suffix: str = "") -> str:
    """The selected series of a metric of the catalogue. `suffix`: of a histogram, "_bucket", "_sum" or "_count"."""
    assert bool(suffix) == (CATALOGUE[name].kind == "histogram"), name
    return f"{PREFIX}{name}{suffix}{{{SELECTED}{', ' if matchers else ''}{matchers}}}"


def total(name: str, by: str = "", matchers: str = "") -> str:
    """Sum of the levels."""
    return grouped(of(name, matchers), by)


def rate(name: str, by: str = "", suffix: str = "") -> str:
    """Sum of the rates, per second."""
    return grouped(f"rate({of(name, suffix=suffix)}[$__rate_interval])", by)


def increase(name: str, by: str = "", suffix: str = "", window: str = "$__rate_interval") -> str:
    """Sum of what was added within a window."""
    return grouped(f"increase({of(name, suffix=suffix)}[{window}])", by)


def grouped(expression: str, by: str, how: str = "sum") -> str:
    return f"{how} by ({by}) ({expression})" if by else f"{how}({expression})"


def quantile(q: float, name: str, by: str = "") -> str:
    return f"histogram_quantile({q}, {rate(name, f'le, {by}' if by else 'le', '_bucket')})"


def quantiles(name: str) -> dict[str, str]:
    return {f"p{q * 100:g}": quantile(q, name) for q in (0.5, 0.95, 0.99)}


def share(name: str, by: str = "") -> str:
    """Mean over the workers, of counters of seconds: between 0 and 1."""
    return grouped(f"rate({of(name)}[$__rate_interval])", by, "avg")


def age(name: str) -> str:
    return f"time() - {of(name)}"


def seldom(expression: str, label: str) -> str:
    """For counters that begin with what they count: 0, called "none", until there is something."""
    return f'{expression} or on () label_replace(vector(0), "{label}", "none", "", "")'


def in_state(state: str) -> str:
    """How many tasks are."""
    matchers = f'state="{state}"'
    return f"{total('tasks', matchers=matchers)} or vector(0)"


def mean_so_far(name: str) -> str:
    """Of a histogram of what happens seldom: since the instances were started."""
    return f"{grouped(of(name, suffix='_sum'), '')} / {grouped(of(name, suffix='_count'), '')}"


def firing(sections: Mapping[str, str]) -> str:
    """Since when (ms since the epoch) each alert is active that fires now.

    Args:
        sections: of the runbook, by alert. PromQL has no lower case, so each is written out.
    """
    of_ours = f'job="kstream", {OF_APP}'
    found = f'ALERTS_FOR_STATE{{{of_ours}}} * 1000 and ignoring (alertstate) ALERTS{{alertstate="firing", {of_ours}}}'
    for alert, section in sections.items():
        found = f'label_replace({found}, "section", "{section}", "alertname", "{alert}")'
    return found


# ---- what is shown, row by row

INSTANCE = "{{app}} {{instance}}"
WORKER = "{{app}} {{instance}} worker {{worker}}"
PROCESS = "{{app}} {{instance}} {{process}}"
NONE_IS_GOOD = ((0.0, GREEN), (0.001, RED))

WANTED = f"app_workload:kstream_replicas_wanted:max{{{OF_APP}}}"
HEARD_OF = f"sum(max by (namespace, app) ({of('instances')}))"
READY_AND_WANTED = {"ready": total("ready"), "wanted": f"sum({WANTED}) or {HEARD_OF}"}
WANTED_IS = "Wanted is what Kubernetes is told, where its metrics are here; else the instances that were heard of."
BEHIND = f"topk(10, max by (namespace, app, instance, topic, partition) ({of('consumer_lag_seconds')}))"


def now(sections: Mapping[str, str]) -> list[Panel]:
    """The row that is open: what somebody asks who was called."""
    where = {name: (name, "") for name in ("namespace", "app", "instance", "topic", "partition")}
    return [
        Panel(
            "Alerts firing: since when, and what to do",
            "short",
            {"": firing(sections)},
            "Click on an alert: its section of the runbook.",
            kind="table",
            width=11,
            columns={
                "alertname": ("alert", ""), "severity": ("severity", ""), "app": ("app", ""),
                "instance": ("instance", ""), "task": ("task", ""), "topic": ("topic", ""),
                "Value": ("since", "dateTimeFromNow"),
            },
            links={"alert": f"{RUNBOOK}#${{__data.fields.section}}"},
        ),
        Panel(
            "Instances ready, and wanted", "none", READY_AND_WANTED, WANTED_IS, kind="stat", width=4,
        ),
        Panel(
            "Furthest behind, and since when",
            "s",
            {"behind": BEHIND, "since": f"(time() - ({BEHIND})) * 1000"},
            "How long the next record has waited, of the ten partitions where it is longest.",
            kind="table",
            width=9,
            columns={**where, "Value #A": ("behind", "s"), "Value #B": ("since", "dateTimeAsIso")},
        ),
    ]  # fmt: skip


STATUS = [
    tile("Instances scraped", "none", f"count({of('build_info')})", "Instances whose metrics Prometheus has."),
    tile("Instances ready", "none", total("ready")),
    tile("Shortest uptime", "s", f"min({age('start_time_seconds')})", "Time since an instance was started last."),
    tile("Lag", "short", total("consumer_lag_records")),
    tile(
        "Latency, p99",
        "s",
        f"({quantile(0.99, 'record_delay_seconds')} >= 0) or vector(0)",  # NaN when nothing is committed
    ),
    tile(
        "Failed tasks",
        "none",
        in_state("failed"),
        "Tasks that stand still at a record that cannot be processed.",
        NONE_IS_GOOD,
    ),
    Panel(
        "Ready",
        "none",
        {INSTANCE: of("ready")},
        kind="state-timeline",
        width=12,
        levels=((0, RED), (1, GREEN)),
        names={"0": "not ready", "1": "ready"},
    ),
    Panel("Versions", "none", {"": of("build_info")}, "What runs where.", kind="table", width=12),
    Panel("Instances wanted and ready", "none", READY_AND_WANTED, WANTED_IS),
    Panel("Uptime", "s", {INSTANCE: age("start_time_seconds")}, "Time since each instance was started."),
    Panel("Workers", "none", {"{{state}}": total("workers", "state")}, stacked=True),
    Panel("Tasks", "none", {"{{state}}": total("tasks", "state")}, stacked=True),
]

THROUGHPUT = [
    Panel("Records in", "cps", {"{{topic}}": rate("records_consumed_total", "topic")}),
    Panel("Records committed", "cps", {"{{topic}}": rate("records_committed_total", "topic")}),
    Panel("Records out", "cps", {"{{topic}}": rate("records_produced_total", "topic")}),
    Panel("Bytes in", "Bps", {"{{topic}}": rate("consumed_bytes_total", "topic")}),
    Panel("Bytes out", "Bps", {"{{topic}}": rate("produced_bytes_total", "topic")}),
    Panel("Out of operators", "cps", {"{{part}} {{operator}}": rate("operator_records_total", "part, operator")}),
]

LATENCY = [
    Panel("Latency, end to end", "s", quantiles("record_e2e_latency_seconds")),
    Panel(
        "Records by latency, end to end",
        "s",
        {"{{le}}": increase("record_e2e_latency_seconds", "le", "_bucket")},
        kind="heatmap",
    ),
    Panel(
        "Latency by topic, p99",
        "s",
        {"{{topic}}": quantile(0.99, "record_e2e_latency_seconds", "topic")},
    ),
    Panel(
        "Delay by topic, p99",
        "s",
        {
            "{{topic}}": quantile(0.99, "record_delay_seconds", "topic"),
            "objective": f"max({of('latency_objective_seconds')})",
        },
        "How long records waited until they were committed; old timestamps do not count, nor what was there before.",
    ),
    Panel("Processing of a record, p50", "s", {"{{part}}": quantile(0.5, "record_processing_seconds", "part")}),
    Panel("Processing of a record, p99", "s", {"{{part}}": quantile(0.99, "record_processing_seconds", "part")}),
    Panel("Batches with a slow record", "cps", {"{{part}}": seldom(rate("slow_batches_total", "part"), "part")}),
]

LAG = [
    Panel("Lag by topic", "short", {"{{topic}}": total("consumer_lag_records", "topic")}),
    Panel(
        "Lag of the ten partitions most behind",
        "short",
        {"{{topic}}[{{partition}}]": f"topk(10, {of('consumer_lag_records')})"},
    ),
    Panel("The ten tasks with most lag", "short", {"{{task}}": f"topk(10, {of('task_lag_records')})"}),
    Panel("Fetched and waiting", "short", {"{{part}}": total("buffered_records", "part")}),
    Panel(
        "Time behind",
        "s",
        {"{{topic}}[{{partition}}] {{instance}}": f"topk(10, {of('consumer_lag_seconds')})"},
    ),
    Panel(
        "Event time behind the clock",
        "s",
        {"{{task}}": f"topk(10, time() - {of('event_time_seconds')})"},
        "Of the ten tasks most behind, of those that have windows, timers or joins by time: what ends later is open. "
        "kstream_input_event_time_seconds says which input holds it back: the least, of those that are not idle.",
        width=8,
    ),
    Panel(
        "Lag in time of work",
        "s",
        {"lag / rate": f"{total('consumer_lag_records')} / clamp_min({rate('records_consumed_total')}, 1)"},
        "How long the lag takes at the present speed, if nothing new came. At least a record a second is assumed.",
        width=8,
    ),
]

CHECKPOINTS = [
    Panel("Checkpoints", "cps", {"checkpoints": rate("checkpoints_total")}),
    Panel("Duration of checkpoints", "s", quantiles("checkpoint_duration_seconds")),
    Panel(
        "Failed checkpoints",
        "cps",
        {"{{reason}}": seldom(rate("checkpoint_failures_total", "reason"), "reason")},
        levels=NONE_IS_GOOD,
    ),
    Panel(
        "Age of the last checkpoint",
        "s",
        {WORKER: age("checkpoint_last_success_timestamp_seconds")},
        "Time since all that was done was committed, or there was nothing to commit.",
        levels=((0, GREEN), (120, RED)),
    ),
    Panel(
        "Aborts and new producers",
        "cps",
        {"aborts": rate("transaction_aborts_total"), "new producers": rate("producer_restarts_total")},
        "Transactions aborted, and producers replaced because the outcome of a commit was unknown.",
    ),
    Panel("Not yet committed", "short", {"records": total("uncommitted_records")}),
]

BACKPRESSURE = [
    Panel(
        "Time of workers",
        "percentunit",
        {what: share(f"worker_{what}_seconds_total") for what in ("busy", "backpressured", "idle")},
        "Share of the workers' time, on average. Backpressured: waiting for the producer, or for what agents wait for.",
        stacked=True,
        limits=(0, 1),
    ),
    Panel(
        "Backpressured workers",
        "percentunit",
        {WORKER: share("worker_backpressured_seconds_total", "app, instance, worker")},
        levels=((0, GREEN), (0.5, RED)),
        limits=(0, 1),
    ),
    Panel(
        "Busy workers",
        "percentunit",
        {WORKER: share("worker_busy_seconds_total", "app, instance, worker")},
        limits=(0, 1),
    ),
    *(
        Panel(
            f"The ten most {what} tasks",
            "percentunit",
            {"{{task}}": f"topk(10, {rate(f'{what}_seconds_total', 'task')})"},
            width=12,
            limits=(0, 1),
        )
        for what in ("busy", "backpressured")
    ),
]

HITS, MISSES = (rate(f"state_cache_{what}_total", "store") for what in ("hits", "misses"))

STATE = [
    Panel("Size of stores", "bytes", {"{{store}}": total("state_size_bytes", "store")}),
    Panel("Entries of stores", "short", {"{{store}}": total("state_entries", "store")}),
    Panel("Size of an entry, p99", "bytes", {"{{store}}": quantile(0.99, "state_entry_bytes", "store")}),
    Panel(
        "Keys found in the cache",
        "percentunit",
        {"{{store}}": f"{HITS} / ({HITS} + {MISSES})"},
        "Share of the keys looked up for a batch that were found live; the others were fetched from the backend.",
        limits=(0, 1),
    ),
    Panel("Uncommitted changes", "bytes", {"{{store}}": total("state_overlay_bytes", "store")}),
    Panel("Memory used of each share", "bytes", {"{{share}}": total("memory_used_bytes", "share")}),
    Panel("RocksDB's memory", "bytes", {"{{use}}": total("rocksdb_memory_bytes", "use")}),
    Panel("Large entries", "cps", {"{{store}}": seldom(rate("state_large_entries_total", "store"), "store")}),
    Panel(
        "Age of snapshots",
        "s",
        {"{{task}}": f"topk(10, time() - ({of('snapshot_last_success_timestamp_seconds')} > 0)) or vector(0)"},
        "Of the ten tasks whose newest snapshot is oldest, of those that have one.",
    ),
]

RESTORES = [
    Panel("Left to restore", "short", {INSTANCE: total("restore_remaining_records", "app, instance")}),
    Panel(
        "Left to restore, by task",
        "short",
        {"{{task}}": f"topk(10, {of('task_restore_remaining_records')}) or vector(0)"},
        "Changelog records, of the ten tasks that have most of them left.",
    ),
    Panel("Bytes left to restore", "bytes", {INSTANCE: total("restore_remaining_bytes", "app, instance")}),
    Panel("Time left", "s", {"longest": f"max({of('restore_remaining_seconds')}) or vector(0)"}),
    Panel(
        "Tasks being restored",
        "none",
        {"tasks": in_state("restoring")},
        "Their partitions are not processed meanwhile.",
    ),
    Panel(
        "Warm copies behind",
        "short",
        {INSTANCE: total("warm_behind_records", "app, instance")},
        "Changelog records that copies of other instances' tasks have not applied yet: what a takeover replays.",
    ),
    Panel(
        "Global tables behind",
        "short",
        {"furthest": f"max({of('global_table_lag_records')}) or vector(0)"},
        "Records of their topics that the worker which is furthest behind has not read yet.",
    ),
    Panel("Records restored", "cps", {"records": rate("restored_records_total")}),
    Panel("Bytes restored", "Bps", {"bytes": rate("restored_bytes_total")}),
    Panel("Duration of a restore, mean since the start", "s", {"a task": mean_so_far("restore_duration_seconds")}),
]

REBALANCES = [
    Panel("Rebalances", "none", {INSTANCE: increase("rebalances_total", "app, instance")}, width=6),
    Panel(
        "Duration, mean since the start",
        "s",
        {"a rebalance": mean_so_far("rebalance_duration_seconds")},
        width=6,
    ),
    Panel("Partitions owned", "none", {INSTANCE: total("assigned_partitions", "app, instance")}, width=6, stacked=True),
    Panel(
        "Instances heard of",
        "none",
        {"{{app}}": f"max by (app) ({of('instances')})"},
        "Through Kafka, by the instance that hears of most. More than are scraped: Prometheus does not see them all.",
        width=6,
    ),
]

DEAD_LETTERS = f"rate({PREFIX}dead_letters_total{{{SELECTED}}}[$__rate_interval])"

ERRORS = [
    Panel(
        "Errors",
        "cps",
        {"{{phase}} {{class}}": seldom(rate("errors_total", "phase, class"), "phase")},
        levels=NONE_IS_GOOD,
    ),
    Panel("Retries of failed tasks", "cps", {"{{part}}": seldom(rate("task_retries_total", "part"), "part")}),
    Panel(
        "Restarts of workers",
        "none",
        {"{{reason}}": seldom(increase("worker_restarts_total", "reason"), "reason")},
    ),
    Panel("Log lines", "cps", {"{{level}}": seldom(rate("log_lines_total", "level"), "level")}),
    Panel("Records left out", "cps", {"{{reason}}": seldom(rate("records_dropped_total", "reason"), "reason")}),
    Panel(
        "Dead letters",
        "cps",
        {"{{topic}} {{reason}}": seldom(grouped(DEAD_LETTERS, "topic, reason"), "topic")},
        "Records that could not be processed and were set aside, by topic of dead letters and reason.",
        levels=NONE_IS_GOOD,
    ),
]

BY_PROCESS = "app, instance, process"

SYSTEM = [
    Panel("Processors in use", "none", {PROCESS: rate("process_cpu_seconds_total", BY_PROCESS)}),
    Panel("Resident memory", "bytes", {PROCESS: total("process_resident_memory_bytes", BY_PROCESS)}),
    Panel("Time in the garbage collector", "percentunit", {PROCESS: rate("process_gc_seconds_total", BY_PROCESS)}),
    Panel("Open files", "none", {PROCESS: total("process_open_fds", BY_PROCESS)}),
    Panel("Threads", "none", {PROCESS: total("process_threads", BY_PROCESS)}),
    Panel("Runs of the garbage collector", "cps", {PROCESS: rate("process_gc_collections_total", BY_PROCESS)}),
]

TROUBLE = {"errors": "failed", "retries": "sent again", "timeouts": "timed out"}

CLIENTS = [
    Panel("Requests", "reqps", {"{{client}}": rate("kafka_requests_total", "client")}),
    Panel(
        "Requests in trouble",
        "reqps",
        {legend: rate(f"kafka_request_{what}_total") for what, legend in TROUBLE.items()},
        "Requests to the brokers that failed, were sent again, or timed out.",
    ),
    Panel("Connections attempted", "cps", {"{{client}}": rate("kafka_connects_total", "client")}),
    Panel("Round trip", "s", {"{{client}}": grouped(of("kafka_broker_rtt_seconds"), "client", "max")}),
    Panel("Throttled by the brokers", "s", {"{{client}}": grouped(of("kafka_throttle_seconds"), "client", "max")}),
    Panel("Queued in the clients", "short", {"{{client}}": total("kafka_queued_records", "client")}),
]

ROWS: Mapping[str, list[Panel]] = {
    "Status": STATUS,
    "Throughput": THROUGHPUT,
    "Latency": LATENCY,
    "Lag": LAG,
    "Checkpoints": CHECKPOINTS,
    "Backpressure": BACKPRESSURE,
    "State": STATE,
    "Restores": RESTORES,
    "Rebalances": REBALANCES,
    "Errors": ERRORS,
    "System": SYSTEM,
    "Kafka clients": CLIENTS,
}
