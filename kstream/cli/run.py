"""`kstream run` and the loading of apps for all commands."""

from __future__ import annotations

import difflib
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kstream.config.loading import load_target
from kstream.errors import AppLoadError, ConfigError

if TYPE_CHECKING:
    from kstream.app import App
    from kstream.config import Settings


def run(target: str, options: Mapping[str, str | None], assignments: Sequence[str], file: Path | None) -> int:
    """Loads the app, resolves its settings and runs it; returns the exit status."""
    from kstream.observe.logs import configure_from

    app = load_app(target)
    settings, sources = resolve(app, options, assignments, file)
    configure_from(settings, app=app.name)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what the app prints, as in workers
    return app.run(settings=settings, target=target, sources=sources)


def resolve(
    app: App | None, options: Mapping[str, str | None], assignments: Sequence[str], file: Path | None
) -> tuple[Settings, dict[str, str]]:
    """The settings in force and where each came from; without an app, those that do not come from one.

    Raises:
        ConfigError: a value or a name is bad.
    """
    from kstream.config.sources import resolve_settings

    given = {**parse_assignments(assignments), **{name: value for name, value in options.items() if value is not None}}
    return resolve_settings({} if app is None else app.overrides, given, file)


def load_app(target: str) -> App:
    """The App that `target` names.

    Raises:
        AppLoadError: it cannot be found or imported, or is something else.
    """
    found = load_target(target)
    from kstream.app import App

    if isinstance(found, App):
        return found
    module, _, attribute = target.partition(":")
    apps = [name for name, value in vars(sys.modules[module]).items() if isinstance(value, App)]
    near = difflib.get_close_matches(attribute, apps, n=1, cutoff=0.0)
    hint = f"; did you mean {module}:{near[0]}?" if near else ""
    raise AppLoadError(f"{target} is not an App but {_described(found)}{hint}")


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """`name=value` pairs of `--set`.

    Raises:
        ConfigError: one has no `=`.
    """
    pairs = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.strip():
            raise ConfigError(
                "--set: one has no '=' (not shown, it may be a secret): write --set NAME=VALUE, such as "
                "--set commit_interval=1s"
            )
        pairs[name.strip()] = value.strip()
    return pairs


def _described(found: object) -> str:
    name = type(found).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
