"""The settings as they may be seen, by the page's API and `kstream config`: in people's units, without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kstream.config import Settings, about
from kstream.config.hiding import redact
from kstream.config.units import show_seconds, show_size
from kstream.observe.status import SettingStatus

BY_SINK = "timeout= of a sink"
"""The source of a `commit_interval` that is shorter than it was set."""


def setting_rows(
    settings: Settings, sources: Mapping[str, str], within: Mapping[str, float] | None = None
) -> list[SettingStatus]:
    """Every setting, in the order of the reference page; each key of a table (`kafka.<key>`) is a row of its own.

    Args:
        sources: where each came from, by name (`resolve_settings`); those not in it count as defaults.
        within: seconds within which each isolation group is to commit on account of its sinks (`Topology`).
    """
    rows = []
    for name, setting in about().items():
        value = redact(name, getattr(settings, name))
        if setting.table and value:
            for key, one in value.items():
                inner = f"{name}.{key}"
                rows.append(SettingStatus(inner, str(one), sources.get(inner, "default"), setting.doc))
        elif name == "commit_interval":
            shown, source = _commit_interval(value, within or {}, sources.get(name, "default"))
            rows.append(SettingStatus(name, shown, source, setting.doc))
        else:
            rows.append(SettingStatus(name, _shown(value, setting.unit), sources.get(name, "default"), setting.doc))
    return rows


def _commit_interval(given: float, within: Mapping[str, float], source: str) -> tuple[str, str]:
    """How often the workers commit, and why."""
    shorter = {group: seconds for group, seconds in within.items() if seconds < given}
    if not shorter:
        return show_seconds(given), source
    if len(shorter) == len(within) and len(set(shorter.values())) == 1:
        return show_seconds(min(shorter.values())), BY_SINK
    others = [f"{show_seconds(seconds)} in isolation group {group}" for group, seconds in shorter.items()]
    return ", ".join([show_seconds(given), *others]), f"{source}, {BY_SINK}"


def _shown(value: Any, unit: str) -> str:
    """As it may be given again; nothing for what is not set."""
    if value is None or value == {}:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if unit == "seconds":
        return show_seconds(value)
    return show_size(value) if unit == "bytes" else str(value)
