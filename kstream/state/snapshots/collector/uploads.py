"""What uploads left that did not come to their end: their notes, and files that are not whole."""

from __future__ import annotations

from collections.abc import Iterator

from kstream.state.snapshots.collector.view import GRACE, Garbage, View


def garbage(view: View) -> Iterator[Garbage]:
    for entry, note in view.notes:
        over = view.old(entry) if note is None else view.now > note.until + GRACE
        if over:
            yield Garbage(entry, "of an upload that did not come to its end")
    running = max((note.until for _, note in view.notes if note is not None), default=0.0)
    for entry in view.unfinished:
        if view.old(entry) and view.now > running + GRACE:
            yield Garbage(entry, "a file that was not stored to its end")
