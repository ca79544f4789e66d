"""The one typed list of settings, which environment, file, command line and the reference page come from.

`Settings` is resolved once, in the process that starts an app (sources.py, the only importer of pydantic here), and
handed to the workers as JSON. loading.py finds an app by `module:attribute`. units.py and kinds.py read values,
together.py says which do not go together, hiding.py what of them may be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from kstream.config import kinds
from kstream.config import rocksdb as _rocksdb
from kstream.config.budget import share
from kstream.config.declaring import path as _path
from kstream.config.declaring import setting as _setting
from kstream.config.deployment import DeploymentSettings
from kstream.config.kinds import SECRET, Setting
from kstream.config.measuring import MeasuringSettings
from kstream.config.restarts import RestartSettings
from kstream.config.snapshots import SnapshotSettings
from kstream.config.together import check_together
from kstream.errors import ConfigError

__all__ = ["SECRET", "Setting", "Settings", "about"]

_SECONDS, _BYTES = "seconds", "bytes"
_most = kinds.optional(kinds.size(1), "unlimited")


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings(DeploymentSettings, MeasuringSettings, SnapshotSettings, RestartSettings):
    """Everything that can be set. Durations are stored in seconds, sizes in bytes; both may be given with a unit.

    Raises:
        ConfigError: a value is not acceptable; one line that names the setting and what is accepted.
    """

    # the cluster
    bootstrap_servers: str = _setting("localhost:9092", kinds.servers, "Kafka brokers to ask first, host:port.")
    kafka: Mapping[str, str] = _setting({}, kinds.client_keys, "librdkafka settings, passed to every client unchanged.")
    kafka_tokens: str | None = _setting(
        None,
        kinds.optional(kinds.text(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", "of the form MODULE:FUNCTION")),
        "Function that gives tokens for SASL OAUTHBEARER, MODULE:FUNCTION: returns the token and when it ends.",
    )
    auto_create_topics: bool = _setting(True, kinds.flag, "Create topics that are missing at start.")
    default_partitions: int = _setting(4, kinds.integer(1), "Partitions of created topics that do not say how many.")
    replication_factor: int = _setting(
        -1, kinds.integer(1, also=-1), "Replicas of created topics; -1 is the broker's default."
    )
    changelog: Mapping[str, str] = _setting(
        {}, kinds.changelog_keys, "Kafka's topic settings that changelogs are created with."
    )

    # this instance
    instance: str | None = _setting(
        None,
        kinds.optional(kinds.text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", "a name of letters, digits, '.', '_' and '-'")),
        "Stable name of this instance; without one, a name kept in the state directory.",
    )
    state_dir: str = _setting("./.kstream", kinds.path, "Where local state lies.")
    workers: int | str | None = _setting(
        None,
        kinds.optional(kinds.workers, "cores", "auto"),
        "Worker processes of each isolation group; MIN..MAX follows the load; 0 runs in this process; without a "
        "number, one for each core.",
    )
    groups: str = _setting(
        "",
        kinds.names(kinds.GROUP_NAME, "a list of isolation groups with commas"),
        "Isolation groups that this instance runs; empty: all of the app's.",
    )
    on_stop: Literal["auto", "leave", "stay"] = _setting(
        "auto",
        kinds.choice("auto", "leave", "stay"),
        "Whether workers that stop leave their group at once, or keep their partitions until their session ends, to "
        "have them again when they are back; auto: stay when the instance was given a name.",
    )

    # workers that follow the load (workers = MIN..MAX)
    autoscale_up: float = _setting(
        0.8, kinds.number(0.05, 1), "Busy or backpressured share of the workers' time above which one is added."
    )
    autoscale_down: float = _setting(0.2, kinds.number(0, 0.9), "Share below which a worker is taken away.")
    autoscale_window: float = _setting(
        30.0, kinds.duration(1), "Time over which it is measured; all workers must run undisturbed in it.", _SECONDS
    )
    autoscale_cooldown: float = _setting(120.0, kinds.duration(), "Least time between two changes.", _SECONDS)

    # processing
    processing_guarantee: Literal["exactly_once", "at_least_once"] = _setting(
        "exactly_once", kinds.choice("exactly_once", "at_least_once"), "How often each record counts after a crash."
    )
    commit_interval: float = _setting(0.2, kinds.duration(0.001), "Time between commits.", _SECONDS)
    max_uncommitted_records: int = _setting(1_000_000, kinds.integer(1), "Records after which to commit early.")
    max_record_bytes: int = _setting(
        16 * 2**20, kinds.size(1), "Key, value and headers of an input record at most; a larger one fails.", _BYTES
    )
    max_json_depth: int = _setting(
        250,
        kinds.integer(1, most=kinds.DEEPEST_JSON),
        "Levels of lists and objects in the JSON of an input record at most; a deeper one fails.",
    )
    max_number_length: int = _setting(
        kinds.LONGEST_NUMBER,
        kinds.integer(kinds.SHORTEST_NUMBER, most=kinds.LONGEST_NUMBER),
        "Characters of a number in the JSON of an input record at most; a longer one fails.",
    )
    max_event_time_ahead: float = _setting(
        86_400.0,
        kinds.duration(),
        "How far an event time may be ahead of the clock where TTL, windows or timers go by it; one further fails.",
        _SECONDS,
    )
    poll_batch: int = _setting(2000, kinds.integer(1), "Records taken by one poll at most.")
    max_task_idle: float = _setting(
        0.0, kinds.duration(), "How long a task with several inputs waits for the empty ones.", _SECONDS
    )
    idle_timeout: float = _setting(5.0, kinds.duration(), "How long an input is at its end until it is idle.", _SECONDS)
    auto_offset_reset: Literal["earliest", "latest", "error"] = _setting(
        "earliest",
        kinds.choice("earliest", "latest", "error"),
        "Where to start in a topic without committed offsets; error stops with a message.",
    )
    lost_offsets: Literal["stop", "continue"] = _setting(
        "stop",
        kinds.choice("stop", "continue"),
        "What a task does that has state and lost committed offsets, an input that lost records it had processed, or "
        "an input or changelog that was deleted and created again: stop with a message, or continue (records may count "
        "twice, or their counts be lost).",
    )
    changed_types: Literal["stop", "continue"] = _setting(
        "stop",
        kinds.choice("stop", "continue"),
        "What a start does when the type of a store was changed so that it cannot read what the store may hold: stop "
        "with a message, or continue (an entry that cannot be read fails at its record).",
    )
    check_keys: Literal["always", "sample", "off"] = _setting(
        "sample", kinds.choice("always", "sample", "off"), "How often a table's key is checked to be of its partition."
    )
    check_values: Literal["always", "sample"] = _setting(
        "sample",
        kinds.choice("always", "sample"),
        "Of how many values that are written each type inside is compared with what a reader gets.",
    )

    # state and memory
    backend: Literal["rocksdb", "memory", "file"] = _setting(
        "rocksdb",
        kinds.choice("rocksdb", "memory", "file"),
        "Where stores keep what is committed; file: see snapshots.",
    )
    rocksdb_preset: Literal["default", "flash", "spinning-disk", "low-memory"] = _setting(
        "default",
        kinds.choice(*_rocksdb.PRESETS),
        "How RocksDB is set up: for many reads and compactions at a time (flash), few long ones (spinning-disk), or "
        "small buffers (low-memory).",
    )
    rocksdb: Mapping[str, str] = _setting(
        {}, _rocksdb.keys, "RocksDB's own options by its names, over those of the preset."
    )
    memory: int = _setting(512 * 2**20, kinds.size(16 * 2**20), "Memory budget of one worker.", _BYTES)
    memory_state_fraction: float = _setting(
        0.4,
        kinds.number(0, 1),
        "Share of the budget for state: half for RocksDB's caches and write buffers, half for live objects.",
    )
    memory_state_min: int = _setting(0, kinds.size(), "That share at least.", _BYTES)
    memory_state_max: int | None = _setting(None, _most, "That share at most; without a number, no limit.", _BYTES)
    memory_fetch_fraction: float = _setting(
        0.125, kinds.number(0, 1), "Share for records fetched ahead; half as much again is for restores."
    )
    memory_fetch_min: int = _setting(0, kinds.size(), "That share at least.", _BYTES)
    memory_fetch_max: int | None = _setting(None, _most, "That share at most; without a number, no limit.", _BYTES)
    memory_producer_fraction: float = _setting(0.125, kinds.number(0, 1), "Share for records on their way out.")
    memory_producer_min: int = _setting(0, kinds.size(), "That share at least.", _BYTES)
    memory_producer_max: int | None = _setting(None, _most, "That share at most; without a number, no limit.", _BYTES)
    memory_overlay_fraction: float = _setting(
        0.25, kinds.number(0, 1), "Share for changes not yet committed; beyond it a commit comes early."
    )
    memory_overlay_min: int = _setting(0, kinds.size(), "That share at least.", _BYTES)
    memory_overlay_max: int | None = _setting(None, _most, "That share at most; without a number, no limit.", _BYTES)
    memory_backend_limit: int = _setting(
        100 * 2**20, kinds.size(1), "What the memory backend may hold per worker.", _BYTES
    )
    flush_interval: float = _setting(
        30.0, kinds.duration(0.1), "Time between background flushes of local state to disk.", _SECONDS
    )

    restore_share: float = _setting(
        0.5,
        kinds.number(0.01, 1),
        "Share of a worker's time that restores take at most while other tasks have records.",
    )
    restore_rate: int | None = _setting(
        None,
        kinds.optional(kinds.size(1024), "unlimited"),
        "Bytes a second that a worker's restores take at most.",
        _BYTES,
    )
    warm: int = _setting(
        0, kinds.integer(0), "Other instances that follow the changelogs of each task, so that taking it over is quick."
    )
    large_entry: int = _setting(
        100 * 2**20, kinds.size(1), "Bytes of an encoded value of state from which its key is named in the log.", _BYTES
    )
    state_cleanup_delay: float = _setting(
        86_400.0, kinds.duration(60), "How long the local state of a task that runs elsewhere is kept.", _SECONDS
    )

    savepoints: str | None = _setting(
        None,
        kinds.optional(kinds.path),
        "Where savepoints lie, a place that all instances and commands share: a path, s3://..., gs://..., az://...; "
        "without one, `savepoints` in the state directory.",
    )

    # the group and its clients
    session_timeout: float = _setting(
        10.0, kinds.duration(1), "Silence after which the group gives a worker's partitions to others.", _SECONDS
    )
    max_poll_interval: float = _setting(
        300.0, kinds.duration(1), "Longest time between two polls before a worker counts as stuck.", _SECONDS
    )
    transaction_timeout: float = _setting(
        10.0, kinds.duration(1), "Age at which the broker aborts an open transaction.", _SECONDS
    )
    linger: float = _setting(0.005, kinds.duration(), "How long the producer waits for a batch to fill.", _SECONDS)
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = _setting(
        "lz4", kinds.choice("none", "gzip", "snappy", "lz4", "zstd"), "Compression of what is produced."
    )

    # start, stop, restart
    shutdown_timeout: float = _setting(
        60.0, kinds.duration(), "How long a clean stop may take before workers are killed.", _SECONDS
    )

    # logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = _setting(
        "INFO", kinds.choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "Lowest level that is logged."
    )
    log_format: Literal["auto", "console", "json"] = _setting(
        "auto", kinds.choice("auto", "console", "json"), "Form of log lines; auto is console in a terminal, else JSON."
    )
    log_file: str | None = _path(
        "Log into files beside standard error: this name, with each worker's number before the suffix."
    )
    log_file_size: int = _setting(100 * 2**20, kinds.size(1024), "Size at which a log file is rolled.", _BYTES)
    log_file_age: float = _setting(86_400.0, kinds.duration(1), "Age at which a log file is rolled.", _SECONDS)
    log_file_keep: int = _setting(7, kinds.integer(0), "Rolled log files that are kept, of each process.")
    slow_record: float = _setting(
        1.0, kinds.duration(), "Time in user code from which a record is logged as slow; 0 never.", _SECONDS
    )

    # what can be seen from outside
    web: bool = _setting(True, kinds.flag, "Serve health, metrics, API and status page.")
    web_host: str = _setting("127.0.0.1", kinds.text(accepted="an address"), "Address they are served on.")
    web_port: int | None = _setting(
        None,
        kinds.optional(kinds.integer(0), "auto"),
        "Port they are served on; 0 is any free one; without a number, the first free one from 8010 on.",
    )
    web_hosts: str = _setting(
        "",
        kinds.names(r"\*|(\*\.)?[A-Za-z0-9]([A-Za-z0-9._-]{0,252})", "a list of host names with commas, or *"),
        "Host names under which it may be asked, besides addresses, localhost, the host's own name and that of "
        "web_url; *.example.com is all below it, * is any.",
    )
    web_token: str | None = _setting(
        None,
        kinds.optional(kinds.text(r"[!-~]+", "a token: letters, digits and signs of ASCII, without spaces")),
        "Bearer token for all but health and metrics; without one, one is made and kept in the state directory.",
        secret=True,
    )
    web_tls_certificate: str | None = _path(
        "File of the certificate, and those that lead to its authority, with which it is served over TLS (PEM)."
    )
    web_tls_key: str | None = _path(
        "File of that certificate's key, without a password (PEM); without one, it is in the certificate's file."
    )
    web_tls_ca: str | None = _path(
        "File of authorities that commands trust when they ask an instance over TLS; without one, the system's."
    )
    web_url: str | None = _setting(
        None,
        kinds.optional(kinds.text(r"https?://\S+", "a URL")),
        "Where others reach this instance's page; without one, made of the host's name and the port.",
    )
    state_queries: bool = _setting(
        False, kinds.flag, "Answer queries of committed state at /state, with the token. All instances of an app alike."
    )
    announce_interval: float = _setting(
        5.0,
        kinds.duration(),
        "Time between announcements to the app's other instances, through Kafka; 0 never.",
        _SECONDS,
    )
    trace_sample: float = _setting(
        0.0, kinds.number(0, 1), "Share of records that start a trace (OpenTelemetry; kstream[traces])."
    )

    def __post_init__(self) -> None:
        for name, setting in about().items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, setting.parse(value))
            except ValueError as error:
                from kstream.config.hiding import shown

                raise ConfigError(f"{name}: {shown(name, value)} {error}") from None
        check_together(self)

    @property
    def worker_range(self) -> tuple[int, int] | None:
        """Fewest and most workers, where they follow the load."""
        least, dots, most = str(self.workers).partition("..")
        return (int(least), int(most)) if dots else None

    @property
    def group_names(self) -> tuple[str, ...]:
        """The isolation groups that are chosen; none for all of the app's."""
        return tuple(name for name in self.groups.split(",") if name)

    @property
    def savepoint_place(self) -> str:
        """Where savepoints lie, unless a command is told another place."""
        return self.savepoints or f"{self.state_dir}/savepoints"

    @property
    def leaves_on_stop(self) -> bool:
        """Whether workers that stop with their instance leave their groups at once."""
        return self.on_stop == "leave" or (self.on_stop == "auto" and self.instance is None)

    @property
    def state_memory(self) -> int:
        """Bytes of one worker for RocksDB's caches and write buffers."""
        return share(self, "state")

    @property
    def fetch_memory(self) -> int:
        """Bytes of one worker for prefetched records."""
        return share(self, "fetch")

    @property
    def producer_memory(self) -> int:
        """Bytes of one worker for the producer's queue."""
        return share(self, "producer")

    @property
    def overlay_memory(self) -> int:
        """Bytes of one worker for uncommitted changes."""
        return share(self, "overlay")

    def redacted(self) -> dict[str, Any]:
        """Every setting by name, secrets hidden: the form for logs, pages and reports."""
        from kstream.config.hiding import redact

        return {name: redact(name, getattr(self, name)) for name in about()}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.redacted().items())})"

    def to_json(self) -> bytes:
        """For handing over to a worker. Secrets are in it: never log it or put it on a command line."""
        import msgspec

        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Settings:
        import msgspec

        return msgspec.json.decode(data, type=cls)


_about: dict[str, Setting] = {
    one.name: one.metadata["setting"]
    for one in sorted(fields(Settings), key=lambda one: one.name not in Settings.__annotations__)  # its bases' last
}


def about() -> Mapping[str, Setting]:
    """What is known about each setting, by name, in the order of the reference page."""
    return _about
