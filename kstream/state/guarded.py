"""Live objects of a store, each remembered as it was before it was first used: what one batch did to them can be taken
back without an abort.

Any object that is read may be changed in place: reading counts as using. Loading an entry does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

CLEAN: Final = object()
"""Nothing was assigned since the last commit: what the entry was is what the backend has."""
LOST: Final = object()
"""What the entry was is not known."""


class Guarded(dict[bytes, Any]):
    """See the module's text.

    Args:
        before: takes the entries as they were, by key.
        form: of an entry that is about to be used, given its key and value.
    """

    def __init__(self, content: dict[bytes, Any], before: dict[bytes, Any], form: Callable[[bytes, Any], Any]) -> None:
        super().__init__(content)
        self._before, self._form = before, form

    def __getitem__(self, key: bytes) -> Any:
        value = super().__getitem__(key)
        if key not in self._before:
            self._before[key] = self._form(key, value)
        return value

    def __setitem__(self, key: bytes, value: Any) -> None:
        if key not in self._before:
            self._before[key] = self._form(key, self.get(key))
        super().__setitem__(key, value)
