"""Kafka's settings of topics, as declarations give them."""

from __future__ import annotations

from collections.abc import Mapping

from kstream.config.kinds import GUARANTEED
from kstream.errors import TopologyError


def check_config(config: object, what: str) -> dict[str, str]:
    """What is given, copied; of None nothing. Raises TopologyError unless all of it is text, as Kafka's settings are.

    Args:
        what: whose it is, for the message: "topic 'a': config".
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping) or not all(isinstance(text, str) for pair in config.items() for text in pair):
        raise TopologyError(f"{what}={config!r}: Kafka's settings and their values are text")
    return dict(config)


def check_changelog(config: object, what: str) -> dict[str, str]:
    """The same of a changelog's. Raises TopologyError too where it has what kstream guarantees of changelogs."""
    copied = check_config(config, what)
    for name in copied:
        if name in GUARANTEED:
            raise TopologyError(f"{what} may not hold {name}: {GUARANTEED[name]}; leave it out")
    return copied
