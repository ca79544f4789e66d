"""Snapshots as an app declares them: `App(..., snapshots=kstream.Snapshots("s3://bucket/prefix"))`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from kstream.config import about
from kstream.config.hiding import shown
from kstream.errors import ConfigError

_SETTINGS: Final = {
    "url": "snapshots",
    "interval": "snapshot_interval",
    "timeout": "snapshot_timeout",
    "min_pause": "snapshot_min_pause",
    "max_concurrent": "snapshot_max_concurrent",
    "tolerable_failures": "snapshot_tolerable_failures",
    "retain": "snapshots_retained",
    "incremental": "snapshot_incremental",
}
"""The setting that each field is."""


@dataclass(frozen=True)
class Snapshots:
    """Where snapshots of state are kept, and when they are taken. Durations are seconds, or a timedelta. The meanings
    are those of Flink's `execution.checkpointing.*`; here they are of each task by itself.

    Args:
        url: a directory that all instances see, or `s3://bucket/prefix`, `gs://...`, `az://...` (kstream[objects]).
        interval: between the beginnings of two snapshots of a task.
        timeout: after which a snapshot that is not complete is given up, and counts as failed.
        min_pause: between the end of a snapshot of a task and its next one, at least.
        max_concurrent: snapshots that a worker takes at the same time.
        tolerable_failures: that may come one after the other; with one more the task fails. None is no limit.
        retain: snapshots of each task that are kept.
        incremental: they share the files that did not change.

    Raises:
        ConfigError: a value is not acceptable.
    """

    url: str
    interval: float = 60.0
    timeout: float = 300.0
    min_pause: float = 30.0
    max_concurrent: int = 1
    tolerable_failures: int | None = 3
    retain: int = 3
    incremental: bool = True

    def __post_init__(self) -> None:
        for one in fields(self):
            value, setting = getattr(self, one.name), _SETTINGS[one.name]
            try:
                object.__setattr__(self, one.name, about()[setting].parse(value))
            except ValueError as error:
                raise ConfigError(f"Snapshots({one.name}={shown(setting, value)}): {one.name} {error}") from None
        if self.url is None:
            raise ConfigError("Snapshots(url=None): say where they are kept, or leave snapshots= out")

    def settings(self) -> dict[str, Any]:
        """As settings of kstream, by name."""
        return {_SETTINGS[one.name]: getattr(self, one.name) for one in fields(self)}


def overrides_of(snapshots: object, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of `App(..., snapshots=snapshots, **settings)`; a URL alone is fine, too.

    Raises:
        ConfigError: it is neither, or is given twice.
    """
    if isinstance(snapshots, str):
        return {**settings, "snapshots": snapshots}
    if not isinstance(snapshots, Snapshots):
        raise ConfigError(f"snapshots: {snapshots!r} is neither kstream.Snapshots(...) nor a URL")
    twice = [name for name in settings if name in _SETTINGS.values()]
    if twice:
        raise ConfigError(f"snapshots: {', '.join(twice)} beside snapshots=Snapshots(...): give the App one of them")
    return {**snapshots.settings(), **settings}
