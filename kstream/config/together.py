"""Settings that each are fine, and not together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kstream.config import kinds
from kstream.config.budget import check_budget
from kstream.errors import ConfigError

if TYPE_CHECKING:
    from kstream.config import Settings


def check_together(settings: Settings) -> None:
    """Raises ConfigError: two values that do not go together."""
    foreign = kinds.foreign_protocol(
        settings.bootstrap_servers, settings.kafka.get("security.protocol", kinds.PROTOCOLS[0])
    )
    if foreign is not None:
        raise ConfigError(
            f"bootstrap_servers: {foreign[0]} has another protocol than the clients: set kafka security.protocol "
            f"to {foreign[1]}, or write the address without a protocol"
        )
    if settings.transaction_timeout <= 2 * settings.commit_interval:
        raise ConfigError(
            f"transaction_timeout: {settings.transaction_timeout:g}s is not more than twice "
            f"commit_interval ({settings.commit_interval:g}s): otherwise the broker aborts open transactions"
        )
    if settings.max_poll_interval < settings.session_timeout:
        raise ConfigError(
            f"max_poll_interval: {settings.max_poll_interval:g}s is less than "
            f"session_timeout ({settings.session_timeout:g}s)"
        )
    if settings.warm and not settings.announce_interval:
        raise ConfigError(
            f"warm: {settings.warm} instances cannot be chosen, for the instances do not know each other: "
            "announce_interval is 0"
        )
    if settings.autoscale_down * 2 >= settings.autoscale_up:
        raise ConfigError(
            f"autoscale_down: {settings.autoscale_down:g} is not less than half of autoscale_up "
            f"({settings.autoscale_up:g}): the group would be scaled up again at once"
        )
    if settings.restart_max < settings.restart_initial:
        raise ConfigError(
            f"restart_max: {settings.restart_max:g}s is less than restart_initial ({settings.restart_initial:g}s)"
        )
    if settings.backend == "file" and settings.snapshots is None:
        raise ConfigError("backend: file keeps state in memory and in snapshots: say where they are, with snapshots")
    check_budget(settings)
