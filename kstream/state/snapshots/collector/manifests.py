"""Manifests of snapshots that are not to be kept: all but the newest, and those that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator

from kstream.state.snapshots.collector.view import Garbage, View


def garbage(view: View) -> Iterator[Garbage]:
    for entry, _ in view.snapshots[view.retained :]:
        yield Garbage(entry, f"of a snapshot that is older than the newest {view.retained}")
    for entry, why in view.lacking:
        yield Garbage(entry, why)
    for entry in view.damaged:
        if view.old(entry):
            yield Garbage(entry, "a manifest that cannot be read")
