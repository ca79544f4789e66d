"""Entries that have become too large: named in the log, counted, and trimmed by the app where it has a function for it.

Looked at in each commit, once an entry is encoded and before anything of it leaves: what a function makes of a value is
what is stored, exactly once, as the value itself would have been.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from kstream.config.units import show_size
from kstream.errors import TableError, text_of
from kstream.observe.throttle import Throttle

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

    def __init__(self, threshold: int, trim: Trim | None = None) -> None:
        self.threshold, self._trim = threshold, trim
        self.seen = 0

    def has_any(self, encoded: Sequence[bytes]) -> bool:
        return bool(encoded) and max(map(len, encoded)) > self.threshold

    def trimmed(
        self,
        entries: Sequence[tuple[bytes, Any, bytes]],
        entry: Callable[[bytes], str],
        decode: Callable[[bytes], Any],
        encode: Callable[[Any, bytes], bytes],
    ) -> list[tuple[bytes, Any, bytes]]:
        """Those of the entries (key, value, encoded value) that are stored otherwise.

        Args:
            entry: what messages call the entry of a key.
            decode: reads a key; encode: writes a value, given the key too, and raises CodecError where it is of another
                type.

        Raises:
            TableError: the app's function failed.
            CodecError: what it returned is no value of the store.
        """
        changed, named = [], 0
        for key, value, raw in entries:
            if len(raw) <= self.threshold:
                continue
            instead = None if self._trim is None else self._call(entry(key), decode(key), value)
            size = len(raw)
            if instead is not None:
                trimmed = encode(instead, key)
                changed.append((key, instead, trimmed))
                if (size := len(trimmed)) <= self.threshold:
                    continue
            self.seen += 1
            named += 1
            if named <= NAMED:
                advice = "" if self._trim is not None else "; on_large_state= may trim it"
                log.warning(
                    "%s is large: %s, more than large_entry (%s)%s", entry(key), show_size(size),
                    show_size(self.threshold), advice,
                )  # fmt: skip
        return changed

    def _call(self, entry: str, key: Any, value: Any) -> Any:
        assert self._trim is not None
        try:
            return self._trim(key, value)
        except Exception as error:
            raise TableError(f"{entry}: on_large_state failed: {type(error).__name__}: {text_of(error)}") from error
