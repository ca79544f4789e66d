"""What a table has of the keys of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from kstream.codecs import copier
from kstream.state.store import Store


class Lookup:
    """Gives copies: what a joiner returns may hold what it was given, and state must not change by what others do to it
    later.

    Args:
        views: applied to each value, one after the other; None: the row is not there.
    """

    def __init__(self, store: Store[Any], views: Sequence[Callable[[Any], Any]] = ()) -> None:
        self.store, self._views = store, views
        self._copy = copier(store.value_codec)

    def __call__(self, keys: Sequence[bytes | None]) -> list[Any]:
        """The row of each key; None where there is none."""
        copy = self._copy
        found = [None if row is None else copy(row) for row in self._live(keys)]
        for view in self._views:
            found = [None if row is None else view(row) for row in found]
        return found

    def _live(self, keys: Sequence[bytes | None]) -> list[Any]:
        store = self.store
        if store.spec.ttl is not None:  # what has expired is not there
            return [None if key is None else store.get(key) for key in keys]
        store.load(keys)
        live = cast("dict[bytes | None, Any]", store.live)
        return [None if key is None else live[key] for key in keys] if None in keys else [live[key] for key in keys]
