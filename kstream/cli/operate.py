"""What the operators' commands share: which app on which cluster is looked at, and clients to look with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kstream.cli.run import load_app, resolve

if TYPE_CHECKING:
    from kstream.app import App
    from kstream.config import Settings
    from kstream.runtime.kafka import KafkaClients, KafkaOptions


@dataclass(frozen=True)
class Subject:
    """What a command looks at. `app` is None when only its name is known, or nothing of it."""

    app: App | None
    settings: Settings
    sources: dict[str, str]

    @property
    def servers(self) -> str:
        return self.settings.bootstrap_servers

    @property
    def options(self) -> KafkaOptions:
        from kstream.runtime.cluster.announce import quiet
        from kstream.runtime.kafka import options_from

        return quiet(options_from(self.settings, "kstream-command"))

    @property
    def clients(self) -> KafkaClients:
        from kstream.runtime.kafka import KafkaClients

        return KafkaClients(self.servers, self.options)


def subject(target: str | None, servers: str | None, assignments: Sequence[str], file: Path | None) -> Subject:
    """Loads the app, if any, and resolves the settings as `kstream run` would.

    Raises:
        AppLoadError, ConfigError.
    """
    # Errors come as exceptions here; what the clients log besides would only be in the way of the output.
    logging.getLogger("kstream").addHandler(logging.NullHandler())
    app = None if target is None else load_app(target)
    settings, sources = resolve(app, {"bootstrap_servers": servers}, assignments, file)
    return Subject(app, settings, sources)
