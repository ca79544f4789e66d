"""How settings are declared: each is a field of `Settings` that knows its parser, unit and meaning."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from kstream.config import kinds
from kstream.config.kinds import Setting


def setting(default: Any, parse: kinds.Parser, doc: str, unit: str = "", *, secret: bool = False) -> Any:
    table = isinstance(default, dict)
    metadata = {"setting": Setting(doc, parse, unit, secret, table)}
    if table:
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def path(doc: str) -> Any:
    return setting(None, kinds.optional(kinds.path), doc)
