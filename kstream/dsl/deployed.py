"""What things are called where the app runs: the code's names, with what the environment says of this deployment.

So staging and production share a cluster without a change of code (docs/tenants.md).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from kstream.config.deployment import FROM_ENVIRONMENT, variable_of
from kstream.errors import ConfigError

if TYPE_CHECKING:
    from kstream.config import Settings
    from kstream.specs.topic import Topic

_renamed: Final[dict[str, str]] = {}
"""App's name of the environment -> the one app of this process that it was given to, as the code calls it."""


class Names:
    """The names of one app.

    Attributes:
        app: what it is called in Kafka, with the prefix. prefix: of all its names; "" without one.
    """

    def __init__(self, app: str, prefix: str = "", shared: Collection[str] = ()) -> None:
        self.prefix, self._shared = prefix, frozenset(shared)
        self.app = prefix + app

    def topic(self, name: str) -> str:
        """What a topic of the code is called in Kafka."""
        return name if name in self._shared else self.prefix + name

    def declared(self, topic: Topic[Any, Any]) -> str:
        """What the code calls a topic. What keeps data is named after this, so that it has one name everywhere. What
        the app makes for itself is named after the app."""
        if topic.internal or topic.name in self._shared:
            return topic.name
        return topic.name.removeprefix(self.prefix)

    def typed(self, name: str, among: Collection[str]) -> str:
        """The topic that a person means, who may call it as the code does."""
        return name if name in among or self.topic(name) not in among else self.topic(name)

    def check(self, settings: Settings) -> None:
        """Raises ConfigError where the settings say something else than what the app was declared with."""
        if settings.topic_prefix not in ("", self.prefix):
            raise ConfigError(
                f"topic_prefix: {settings.topic_prefix!r} comes too late, the app is declared with {self.prefix!r}: "
                f"set {variable_of('topic_prefix')} before the app is imported"
            )
        if settings.app_name is not None and self.prefix + settings.app_name != self.app:
            raise ConfigError(
                f"app_name: {settings.app_name!r} comes too late, the app is declared as {self.app!r}: set "
                f"{variable_of('app_name')} before the app is imported"
            )


def names_of(app: str, given: Mapping[str, Any]) -> Names:
    """The names of an app that is declared so, in this environment.

    Args:
        given: the settings in `App(...)`.

    Raises:
        ConfigError: a variable says what cannot be, or one of these settings is in the code.
    """
    for name in FROM_ENVIRONMENT:
        if given.get(name) is not None:
            raise ConfigError(f"App({name}=...): this is for what differs between deployments: set {variable_of(name)}")
    found = {name: text for name in FROM_ENVIRONMENT if (text := os.environ.get(variable_of(name)))}
    if not found:
        return Names(app)
    from kstream.config.given import Given, parsed  # most programs do without

    said = {name: parsed(Given(name, text, f"environment {variable_of(name)}")) for name, text in found.items()}
    renamed = said.get("app_name")
    if renamed is not None and _renamed.setdefault(renamed, app) != app:
        raise ConfigError(
            f"{variable_of('app_name')}={renamed} is the name of app {_renamed[renamed]!r} already, and app {app!r} is "
            f"declared in this process too: set {variable_of('topic_prefix')} instead, which is for all apps"
        )
    return Names(renamed or app, said.get("topic_prefix", ""), said.get("shared_topics", "").split(","))
