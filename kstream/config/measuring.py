"""The settings of what is measured, and of what counts as late or as standing still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kstream.config import kinds
from kstream.config.declaring import setting as _setting

_SECONDS: Final = "seconds"


@dataclass(frozen=True, kw_only=True)
class MeasuringSettings:
    """A part of `kstream.config.Settings`."""

    latency_objective: float = _setting(
        1.0,
        kinds.duration(0.001),
        "How long 99 of 100 records may wait beyond commit_interval; the alert HighLatency goes by it.",
        _SECONDS,
    )
    stall_timeout: float = _setting(
        60.0, kinds.duration(1), "Time without progress after which a task with lag counts as stalled.", _SECONDS
    )
    stall_restart: float | None = _setting(
        600.0,
        kinds.optional(kinds.duration(1), "never"),
        "Time for which a worker may have a stalled task, not commit what it has done, or be without a place in its "
        "group (max_poll_interval at least), until it is killed and its restart strategy applies. never: it is not.",
        _SECONDS,
    )
    system_metrics_interval: float = _setting(
        30.0, kinds.duration(0.5), "Time between measurements of processor, memory and open files.", _SECONDS
    )
    kafka_statistics_interval: float = _setting(
        5.0, kinds.duration(), "Time between librdkafka's statistics, which tell of lost brokers; 0 never.", _SECONDS
    )
