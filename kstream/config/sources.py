"""Where settings come from: command line > environment > kstream.toml > App(...) > default.

pydantic-settings reads environment and file; its model is made from the one list, `Settings`. Values are judged by that
list, so that a bad one is the same single line wherever it came from. Only the process that starts an app imports
this module, when it does.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import create_model
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from kstream.config import Settings, about
from kstream.config.deployment import FROM_ENVIRONMENT, variable_of
from kstream.config.given import DECLARED, IN_CODE, TABLES, Given, overrides, parsed
from kstream.errors import ConfigError

PREFIX: Final = "KSTREAM_"
FILE: Final = "kstream.toml"
# Kubernetes puts such variables into every pod beside a Service named "kstream".
_NOT_OURS: Final = re.compile(r"SERVICE_|PORT(_|$)|TEST_")
# A key of librdkafka by its first word, with one underscore where two part it from its table. Not any word: a Service
# named "kstream-kafka" has variables of its own, too.
_ONE_UNDERSCORE: Final = re.compile(
    r"(kafka|changelog)_(sasl|ssl|security|password|username|consumer|producer|socket|client)(_|$)"
)


class _Base(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True)


_model: type[_Base] = create_model(
    "_Model",
    __base__=_Base,
    **{name: (dict[str, str] if name in TABLES else Any, None) for name in about()},  # type: ignore[call-overload]
)


def resolve_settings(
    app_overrides: Mapping[str, Any], cli_overrides: Mapping[str, Any], file: Path | None
) -> tuple[Settings, dict[str, str]]:
    """The settings in force, and where each came from (name -> "default", "environment KSTREAM_WORKERS", ...).

    Overrides map names to values; `kafka.<key>` and `changelog.<key>` name a single key of such a table; None counts
    as not given. `file` None means `kstream.toml` in the current directory, if there is one. Tables are merged over the
    sources, key by key, each with a source of its own under `<table>.<key>`.

    Raises:
        ConfigError: one line that names the setting, its source, what is wrong and what is accepted.
    """
    layers = (
        overrides(app_overrides, "App(...)"),
        _file(file),
        _environment(),
        overrides(cli_overrides, "command line"),
    )
    values: dict[str, Any] = {}
    sources = dict.fromkeys(about(), "default")
    for given in (one for layer in layers for one in layer):
        value = parsed(given)
        sources[given.name] = given.source
        if given.name not in TABLES:
            values[given.name] = value
        else:
            values[given.name] = {**values.get(given.name, {}), **value}
            sources.update({f"{given.name}.{key}": given.source for key in value})
    for name in FROM_ENVIRONMENT:
        if sources[name] not in ("default", f"environment {variable_of(name)}"):
            raise ConfigError(
                f"{name}: names are made when the app is imported, and this is read later (from {sources[name]}): set "
                f"the variable {variable_of(name)}"
            )
    settings = Settings(**values)
    return settings, sources


def _file(file: Path | None) -> Iterator[Given]:
    path = Path(FILE) if file is None else file
    if not path.is_file():
        if file is not None:
            raise ConfigError(f"{file}: there is no such file")
        return
    try:
        found = TomlConfigSettingsSource(_model, toml_file=path).toml_data
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    yield from overrides(found, str(path))


def _environment() -> Iterator[Given]:
    """Variables `KSTREAM_<SETTING>`, and `KSTREAM_<SETTING>_FILE` with the path of a file that holds the value."""
    variables = {name.upper(): name for name in os.environ if name.upper().startswith(PREFIX) and os.environ[name]}
    try:
        found = EnvSettingsSource(_model)()
    except SettingsError as error:  # only tables are parsed there; what it was caused by may quote a secret
        name = next(name for name in TABLES if f'"{name}"' in str(error))
        raise ConfigError(
            f'{name}: the value is not a JSON object like {{"key": "value"}} (from {PREFIX}{name.upper()})'
        ) from None
    for name, value in found.items():
        if name in TABLES and isinstance(value, dict):
            yield from _keys(name, value, variables)
        else:
            yield Given(name, value, f"environment {variables.get(PREFIX + name.upper(), name)}")
    for upper, variable in variables.items():
        name = upper.removeprefix(PREFIX).lower()
        if name in about() or name.partition("__")[0] in TABLES or _NOT_OURS.match(name.upper()):
            continue
        if name == IN_CODE:
            raise ConfigError(f"{name} is no setting (from environment {variable}): {DECLARED}")
        if name.endswith("_file") and (target := name.removesuffix("_file")) in about():
            if target in found:
                raise ConfigError(f"{target}: both {PREFIX}{target.upper()} and {variable} are set; use one")
            yield Given(target, _content(target, variable), f"file of {variable}")
        elif slip := _ONE_UNDERSCORE.match(name):
            table, rest = slip[1], variable[len(PREFIX) + len(slip[1]) + 1 :]
            raise ConfigError(
                f"{name}: there is no such setting (from environment {variable}); keys of {table} have two underscores "
                f"before them: {PREFIX}{table.upper()}__{rest}"
            )
        elif near := difflib.get_close_matches(name.removesuffix("_file"), about(), n=1, cutoff=0.85):
            # Other variables with our prefix may be anybody's; one that is nearly a setting is a slip.
            raise ConfigError(
                f"{name}: there is no such setting (from environment {variable}); did you mean {near[0]}?"
            )


def _keys(table: str, keys: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Given]:
    """Keys of a table: KSTREAM_KAFKA as JSON; KSTREAM_KAFKA__SASL_PASSWORD or ...__sasl.password; either with _FILE."""
    prefix = f"{PREFIX}{table.upper()}"
    for key, value in keys.items():
        variable = variables.get(f"{prefix}__{key.upper()}")
        if variable is None:
            yield Given(table, {key: value}, f"environment {prefix}")
            continue
        source = f"environment {variable}"
        if key.endswith(("_file", ".file")):
            value, key, source = _content(f"{table}.{key}", variable), key[:-5], f"file of {variable}"
        # no key of Kafka's has an underscore (all of RocksDB's have), and most shells allow no dots
        yield Given(table, {key if table == "rocksdb" else key.replace("_", "."): value}, source)


def _content(name: str, variable: str) -> str:
    try:
        content = Path(os.environ[variable]).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{name}: the file {os.environ[variable]} of {variable} cannot be read: {reason}") from None
    if not content:
        raise ConfigError(f"{name}: the file {os.environ[variable]} of {variable} is empty")
    return content
