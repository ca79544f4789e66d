"""Settings as they are given, by name: which there are, and what their values say.

Standard library only: `sources.py`, which reads environment and file, is for the process that starts an app.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from kstream.config import about
from kstream.config.hiding import shown
from kstream.errors import ConfigError

TABLES: Final = tuple(name for name, setting in about().items() if setting.table)
"""Settings that hold keys of Kafka's, or options of RocksDB's."""


IN_CODE: Final = "on_error"
"""What users look for among the settings, and do not find there."""
DECLARED: Final = "policies are declared in the code, as in App(on_error=[kstream.DeadLetter()])"


class Given(NamedTuple):
    """One value and where it was found."""

    name: str
    value: Any
    source: str


def parsed(given: Given) -> Any:
    """The value as `Settings` has it. Raises ConfigError, as `overrides`."""
    try:
        return about()[given.name].parse(given.value)
    except ValueError as error:
        raise ConfigError(f"{given.name}: {shown(given.name, given.value)} {error} (from {given.source})") from None


def overrides(values: Mapping[str, Any], source: str) -> Iterator[Given]:
    """Names with values, `kafka.<key>` and `changelog.<key>` too; None counts as not given.

    Raises:
        ConfigError: one line that names the setting and its source; what is wrong, and what is accepted.
    """
    for key, value in values.items():
        if value is None:
            continue
        table, dot, inner = key.partition(".")
        if dot and table in TABLES:
            yield Given(table, {inner: value}, source)
        else:
            yield Given(_known(key.replace("-", "_"), key, source), value, source)


def _known(name: str, as_written: str, source: str) -> str:
    if name in about():
        return name
    if name == IN_CODE:
        raise ConfigError(f"{name} is no setting (from {source}): {DECLARED}")
    near = difflib.get_close_matches(name, about(), n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; the settings are {', '.join(about())}"
    raise ConfigError(f"{as_written}: there is no such setting (from {source}){hint}")


def checked(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The settings of one source, as `Settings` has them. Raises ConfigError, as `overrides`."""
    settings: dict[str, Any] = {}
    for given in overrides(values, source):
        value = parsed(given)
        settings[given.name] = {**settings.get(given.name, {}), **value} if given.name in TABLES else value
    return settings
