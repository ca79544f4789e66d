"""What commands ask before they do something, and what options say that several have."""

from __future__ import annotations

import sys
from typing import Final

from kstream.errors import ConfigError
from kstream.runtime.cluster.reset import Place

_PLACES: Final[dict[str, Place]] = {"earliest": "earliest", "latest": "latest"}


def agreed(question: str) -> bool:
    """Raises ConfigError where standard input is no terminal, so that nobody can answer."""
    if not sys.stdin.isatty():
        raise ConfigError(
            "this is asked before it is done, and standard input is no terminal: add --yes to do it without asking"
        )
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def place_named(option: str, given: str | None) -> Place | None:
    """Raises ConfigError for what is none."""
    if given is not None and given not in _PLACES:
        raise ConfigError(f"{option} {given}: is neither earliest nor latest")
    return None if given is None else _PLACES[given]
