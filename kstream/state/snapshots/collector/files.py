"""Files that no manifest names: of snapshots that are gone, and of uploads that came to nothing."""

from __future__ import annotations

from collections.abc import Iterator

from kstream.state.snapshots.collector.view import GRACE, Garbage, View


def garbage(view: View) -> Iterator[Garbage]:
    """None where a manifest of a later version lies: who knows which files it names."""
    if view.later:
        return
    named = {file.at for manifest in view.kept for file in manifest.files}
    for entry, note in view.notes:
        if note is None:
            if not view.old(entry):  # an upload that nobody can read of is under way
                return
        elif view.now <= note.until + GRACE:
            named.update(note.files)
    for at, entry in view.files.items():
        if at not in named and view.old(entry):
            yield Garbage(entry, "a file of no snapshot")
