"""Kafka's settings of topics, as declarations give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kstream.config.kinds import GUARANTEED
from kstream.errors import TopologyError


def check_config(config: Mapping[Any, Any], what: str) -> None:
    """Raises TopologyError unless all of it is text, as Kafka's settings are.

    Args:
        what: whose it is, for the message: "topic 'a': config".
    """
    if not all(isinstance(text, str) for pair in config.items() for text in pair):
        raise TopologyError(f"{what}={config!r}: Kafka's settings and their values are text")


def check_changelog(config: Mapping[Any, Any], what: str) -> None:
    """The same of a changelog's. Raises TopologyError too where it has what kstream guarantees of changelogs."""
    check_config(config, what)
    for name in config:
        if name in GUARANTEED:
            raise TopologyError(f"{what} may not hold {name}: {GUARANTEED[name]}; leave it out")
