"""The settings of what is done about workers and tasks that fail, with Flink's names and meaning (specs/restart.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from kstream.config import kinds
from kstream.config.declaring import setting as _setting

_SECONDS: Final = "seconds"


@dataclass(frozen=True, kw_only=True)
class RestartSettings:
    """A part of `kstream.config.Settings`."""

    restart_strategy: Literal["exponential-delay", "fixed-delay", "failure-rate", "none"] = _setting(
        "exponential-delay",
        kinds.choice("exponential-delay", "fixed-delay", "failure-rate", "none"),
        "When a worker or a task that failed is started again, and when the instance stops instead.",
    )
    restart_initial: float = _setting(
        1.0, kinds.duration(), "exponential-delay: pause before the first restart of a worker or a task.", _SECONDS
    )
    restart_max: float = _setting(60.0, kinds.duration(), "exponential-delay: longest pause.", _SECONDS)
    restart_multiplier: float = _setting(2.0, kinds.number(1), "exponential-delay: factor by which the pause grows.")
    restart_reset_after: float = _setting(
        600.0,
        kinds.duration(),
        "exponential-delay: time since the last restart after which a failure counts as the first.",
        _SECONDS,
    )
    restart_jitter: float = _setting(
        0.1,
        kinds.number(0, 1),
        "exponential-delay: part of a pause by which it is longer or shorter at random, so that what failed together "
        "does not come back together.",
    )
    restart_attempts: int | None = _setting(
        None,
        kinds.optional(kinds.integer(0), "unlimited"),
        "exponential-delay, fixed-delay: restarts of one worker or task until the instance stops; without a number, "
        "no limit.",
    )
    restart_delay: float = _setting(
        1.0, kinds.duration(), "fixed-delay, failure-rate: pause before each restart.", _SECONDS
    )
    restart_max_failures: int = _setting(
        1, kinds.integer(0), "failure-rate: failures within restart_failure_interval; with one more the instance stops."
    )
    restart_failure_interval: float = _setting(
        60.0, kinds.duration(), "failure-rate: time in which failures are counted.", _SECONDS
    )
    max_error_rate: float | None = _setting(
        None, kinds.optional(kinds.number(0, 1)), "Share of a minute's records that may fail at one step."
    )
    tolerable_failed_checkpoints: int | None = _setting(
        None,
        kinds.optional(kinds.integer(0), "unlimited"),
        "Commits of a worker that may fail one after the other; with one more the worker ends, and its restart "
        "strategy applies. Without a number, no limit.",
    )
