"""Entries that have become too large: named in the log, counted, and trimmed by the app where it has a function for it.

Looked at in each commit, once an entry is encoded and before anything of it leaves: what a function makes of a value is
what is stored, exactly once, as the value itself would have been.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from kstream.config.units import show_size
from kstream.errors import TableError, text_of
from kstream.observe.throttle import Throttle

if TYPE_CHECKING:
    from kstream.state.store import Store

log = logging.getLogger(__name__)
log.addFilter(Throttle())

Trim = Callable[[Any, Any], Any]
"""Given key and value of an entry that is too large: the value to store instead, or None to leave it as it is."""

NAMED: Final = 5
"""Keys of one commit that are named in the log."""


class Large:
    """What is done about large entries of one store.

    Args:
        threshold: bytes of an encoded value from which it is large.
        trim: the app's function; None: they are named only.

    Attributes:
        seen: large values that were stored, each time one was.
    """

    def __init__(self, threshold: int = sys.maxsize, trim: Trim | None = None) -> None:
        self.threshold, self._trim = threshold, trim
        self.seen = 0

    def look(
        self, store: Store[Any], keys: Iterable[bytes], values: list[Any], encoded: list[bytes]
    ) -> dict[bytes, bytes | None]:
        """Looks at what a commit is to store: keys, their live values, and these encoded. What is trimmed replaces
        them, in the store's live entries too. Returns the encoded values that are others now.

        Raises:
            TableError: the app's function failed.
            CodecError: what it returned is no value of the store.
        """
        if not encoded or max(map(len, encoded)) <= self.threshold:
            return {}
        changed: dict[bytes, bytes | None] = {}
        named = 0
        for at, key in enumerate(keys):
            if len(encoded[at]) <= self.threshold:
                continue
            instead = self._call(store, key, values[at])
            if instead is not None:
                store.live[key] = values[at] = instead
                changed[key] = encoded[at] = store.encode_exactly(instead, key)
                store.mutations.trimmed(key, encoded[at])
            if len(encoded[at]) <= self.threshold:
                continue
            self.seen += 1
            named += 1
            if named <= NAMED:
                advice = "" if self._trim is not None else "; on_large_state= may trim it"
                log.warning(
                    "%s is large: %s, more than large_entry (%s)%s", store.entry(key), show_size(len(encoded[at])),
                    show_size(self.threshold), advice,
                )  # fmt: skip
        return changed

    def _call(self, store: Store[Any], key: bytes, value: Any) -> Any:
        if self._trim is None:
            return None
        try:
            return self._trim(store.key_codec.decode(key), value)
        except Exception as error:
            why = f"{type(error).__name__}: {text_of(error)}"
            raise TableError(f"{store.entry(key)}: on_large_state failed: {why}") from error
